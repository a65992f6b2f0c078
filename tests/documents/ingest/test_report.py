"""A report instead of a stop: every file is named with what became of it."""

import os

import pytest

from pdtrain.cli import main
from pdtrain.documents.document import REASONS, Unreadable
from pdtrain.documents.ingest import reading
from pdtrain.documents.records import tables


def unreadable(reason):
    def read(source, config):
        raise Unreadable(reason, f"this one is {reason}")
        yield

    return read


@pytest.fixture
def bad_files(corpus, monkeypatch):
    """Write one bad file of each kind, and return the reason for each."""
    from pdtrain.documents.library import READERS

    def broken(source, config):
        raise KeyError("a library's own error")
        yield

    wanted = {}
    for number, reason in enumerate(REASONS):
        monkeypatch.setitem(READERS, f".bad{number}", unreadable(reason))
        corpus.write(f"bad/{reason}.bad{number}")
        wanted[f"bad/{reason}.bad{number}"] = reason
    monkeypatch.setitem(READERS, ".odd", broken)
    corpus.write("bad/odd.odd")
    corpus.write("bad/blank.txt", " \n\n ")
    corpus.write("bad/copy.txt", "The pier of Osk, number 0.")
    corpus.write("bad/other.xyz")
    corpus.write("bad/excluded.txt")
    os.symlink("/nowhere", corpus.documents / "bad/gone.txt")
    os.symlink(corpus.folder, corpus.documents / "bad/away")
    return wanted | {
        "bad/odd.odd": "broken",
        "bad/blank.txt": "empty",
        "bad/copy.txt": "duplicate",
        "bad/other.xyz": "no reader",
        "bad/excluded.txt": "excluded",
        "bad/gone.txt": "broken",
        "bad/away": "link",
    }


def test_good_files_are_kept_and_each_bad_one_named(corpus, bad_files, capsys):
    for number in range(100):
        corpus.write(f"a/{number}.txt", f"The pier of Osk, number {number}.")
    passages = corpus.split(exclude=["excluded.txt"], workers=1)
    assert len(passages) == 100
    skipped = {n: e["reason"] for n, e in corpus.report.items() if e["state"] == "skipped"}
    assert skipped == bad_files
    assert corpus.summary["files"] == {"kept": 100, "skipped": len(bad_files)}
    assert corpus.report["bad/copy.txt"]["detail"] == "of a/0.txt"
    assert "a library's own error" not in str(corpus.report["bad/odd.odd"]), "may be a passage"
    told = capsys.readouterr().err
    assert all(
        f"passages: {name}: skipped, {bad_files[name]}: " in told for name in list(bad_files)[:7]
    )


def test_stop_names_all_bad_files_at_once_and_skip_ends_well(corpus, tmp_path, capsys):
    for name in ("a.txt", "b.txt"):
        corpus.write(name, b"nothing but \x00 bytes")
    corpus.write("c.txt")
    config = tmp_path / "c.yaml"
    config.write_text(
        f"model: {{name: {corpus.model}}}\nout_dir: {corpus.run}\ncorpus: {{documents: docs}}"
    )
    assert main(["passages", str(config), "corpus.on_error=stop"]) == 1
    told = capsys.readouterr().err
    assert "2 files were not read" in told and "; a.txt: " in told and "; b.txt: " in told
    assert not (corpus.run / "passages/manifest.json").exists()
    assert corpus.summary["files"] == {"skipped": 2, "kept": 1}
    assert main(["passages", str(config)]) == 0
    assert len(corpus.passages) == 1
    assert main(["passages", str(config), "corpus.on_error=stop"]) == 1, "also when nothing is new"


def test_nothing_kept_is_an_error_under_either_setting(corpus):
    corpus.write("a.txt", b"\x00")
    for on_error in ("skip", "stop"):
        with pytest.raises(ValueError, match=r"holds text \(files read: 1\).*; a.txt: skipped"):
            corpus.split(on_error=on_error)


def test_the_documents_before_a_fault_are_kept_with_a_warning(corpus, monkeypatch):
    monkeypatch.setattr(tables, "MOST_CHARACTERS", 10)
    monkeypatch.setattr(tables, "MOST_TIMES", 0)
    corpus.write("rows.jsonl", '{"text": "One."}\n{"text": "Two."}\n{"text": "Three."}')
    assert len(corpus.split()) == 2
    entry = corpus.report["rows.jsonl"]
    assert entry["state"] == "kept with a warning" and entry["documents"] == 2
    assert "what came after 2 documents was left" in entry["warnings"][0]
    with pytest.raises(ValueError, match=r"rows\.jsonl: kept, but what came after 2 documents"):
        corpus.split(on_error="stop")


def test_a_bad_record_costs_itself_alone(corpus):
    corpus.write("rows.jsonl", '{"text": "One."}\n{"text": "Two."}\n{"text": 3}\n{"text": "Four."}')
    corpus.write("rows.csv", "title,text\nA,Five.,more\nB\nC,Six.\n")
    assert {p["text"] for p in corpus.split()} == {"One.", "Two.", "Four.", "Five.", "Six."}
    for name, why in (("rows.jsonl", "record 3: 'text' holds int"), ("rows.csv", "record 2: ")):
        entry = corpus.report[name]
        assert entry["state"] == "kept with a warning" and entry["reason"] == "broken"
        assert entry["warnings"][0].startswith("records left out: 1, the first of them: ")
        assert why in entry["warnings"][0]
    with pytest.raises(ValueError, match=r"rows\.jsonl: kept, but records left out: 1"):
        corpus.split(on_error="stop")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(corpus):
    corpus.write("a.txt").chmod(0)
    corpus.write("b.txt", "The mill.")
    corpus.split()
    assert corpus.report["a.txt"]["reason"] == "broken"


def test_a_file_that_goes_away_while_others_are_read_is_named(corpus, monkeypatch):
    corpus.write("a.txt")
    corpus.write("b.txt", "The mill.")
    real = reading.sha256_file

    def vanishing(path):
        if path.name == "a.txt":
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    monkeypatch.setattr(reading, "sha256_file", vanishing)
    corpus.split()
    assert corpus.report["a.txt"]["detail"] == "it cannot be read (No such file or directory)"
    monkeypatch.setattr(reading, "sha256_file", real)
    assert len(corpus.split()) == 2, "it is there again"


def test_a_full_disk_is_named_and_the_next_run_goes_on(corpus, monkeypatch):
    from pdtrain.documents.ingest.parts import PartWriter

    corpus.write("a.txt")
    corpus.write("b.txt", "The mill.")
    real = PartWriter.end

    def full(self, start, record):
        if record["file"] == "b.txt":
            with self._writing():
                raise OSError(28, "No space left on device")
        return real(self, start, record)

    monkeypatch.setattr(PartWriter, "end", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*\.part'"):
        corpus.split()
    monkeypatch.setattr(PartWriter, "end", real)
    assert len(corpus.split()) == 2
