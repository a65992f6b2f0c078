"""The corpus folder: which files are documents, in which order, and what is said of the others."""

import pytest

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Source, Unreadable
from pdtrain.documents.library import READERS, document_paths, read_documents


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("The pier.")


def paths(folder):
    found = document_paths(CorpusConfig(documents=str(folder)))
    return [path.relative_to(folder).as_posix() for path in found]


def test_documents_are_found_below_the_folder_in_order(tmp_path, capsys):
    write(
        tmp_path,
        "b.txt",
        "a/z.MD",
        "a/b.html",
        ".hidden.txt",
        ".git/x.txt",
        "c.xyz",
        "Makefile",
    )
    assert paths(tmp_path) == ["a/b.html", "a/z.MD", "b.txt"]
    assert ".xyz Makefile" in capsys.readouterr().err


def test_a_hidden_folder_above_the_corpus_hides_nothing(tmp_path):
    write(tmp_path, ".cache/corpus/a.txt")
    assert paths(tmp_path / ".cache" / "corpus") == ["a.txt"]


def test_one_file_is_a_corpus(tmp_path):
    write(tmp_path, "a.txt", "b.txt")
    config = CorpusConfig(documents=str(tmp_path / "a.txt"))
    assert document_paths(config) == [tmp_path / "a.txt"]
    (document,) = read_documents(tmp_path / "a.txt", config)
    assert document.id == "a.txt"


def test_the_case_of_a_suffix_does_not_matter(tmp_path):
    write(tmp_path, "a.TXT")
    (document,) = read_documents(tmp_path / "a.TXT", CorpusConfig(documents=str(tmp_path)))
    assert document.text == "The pier."


def test_a_document_is_named_by_its_path_below_the_corpus(tmp_path):
    write(tmp_path, "deep/er/a.txt")
    config = CorpusConfig(documents=str(tmp_path))
    (document,) = read_documents(tmp_path / "deep/er/a.txt", config)
    assert document.id == "deep/er/a.txt"


@pytest.mark.parametrize(
    "name, message",
    [
        ("absent", r"absent' does not exist; expected a folder with .txt .md"),
        ("empty", r"empty' holds no document; expected files ending in .txt"),
        ("other", r"other' holds no document"),
    ],
)
def test_a_folder_without_documents_says_what_is_expected(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    write(tmp_path, "other/data.xyz", "other/.hidden.txt")
    with pytest.raises(ValueError, match=message):
        paths(tmp_path / name)


def test_a_corpus_that_is_not_set_is_asked_for():
    with pytest.raises(ValueError, match=r"corpus\.documents is not set"):
        document_paths(CorpusConfig())


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
