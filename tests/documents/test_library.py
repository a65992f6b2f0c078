"""The corpus folder: which files are documents, in which order, and what is said of the others."""

import pytest

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Source, Unreadable
from pdtrain.documents.ingest.listing import document_paths
from pdtrain.documents.library import READERS, read_documents


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("The pier.")


def test_the_case_of_a_suffix_does_not_matter(tmp_path):
    write(tmp_path, "a.TXT")
    (document,) = read_documents(tmp_path / "a.TXT", CorpusConfig(documents=str(tmp_path)))
    assert document.text == "The pier."


def test_a_document_is_named_by_its_path_below_the_corpus(tmp_path):
    write(tmp_path, "deep/er/a.txt")
    config = CorpusConfig(documents=str(tmp_path))
    (document,) = read_documents(tmp_path / "deep/er/a.txt", config)
    assert document.id == "deep/er/a.txt"


def test_a_format_is_added_by_one_entry_of_the_table(tmp_path, monkeypatch):
    """A reader gets the source and the corpus settings; nothing else need know of it."""
    seen = []
    monkeypatch.setitem(
        READERS, ".new", lambda source, config: iter([seen.append((source, config))])
    )
    write(tmp_path, "a.new")
    config = CorpusConfig(documents=str(tmp_path))
    (path,) = document_paths(config)
    list(read_documents(path, config))
    assert seen == [(Source("a.new", path), config)]


def test_a_member_of_an_archive_is_read_from_its_bytes_alone():
    source = Source("pages.zip/osk.md", data=b"# Osk\n\nThe pier.")
    (document,) = read_documents(source, CorpusConfig())
    assert (document.id, document.title, document.text) == ("pages.zip/osk.md", "Osk", "The pier.")


def test_a_file_above_the_limit_is_named_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr("pdtrain.documents.document.MAX_BYTES", 4)
    write(tmp_path, "a.txt")
    with pytest.raises(Unreadable) as error:
        list(read_documents(tmp_path / "a.txt", CorpusConfig(documents=str(tmp_path))))
    assert error.value.reason == "too large"
