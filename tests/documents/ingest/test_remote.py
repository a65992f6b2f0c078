"""Documents at addresses, with file systems that need no network, and named data sets."""

import json
import os

import fsspec
import pytest

from pdtrain.documents.ingest.listing import entries_of, list_files, shown
from pdtrain.documents.ingest.remote import files_at, shown_address

PIER, MILL = "The pier of Osk is old.", "The mill of Osk is new."


@pytest.fixture
def memory():
    """Return fsspec's file system in memory, empty before and after."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pipe("/docs/a.txt", PIER.encode())
    fs.pipe("/docs/sub/b.md", MILL.encode())
    fs.pipe("/docs/song.mp3", b"ID3")
    fs.pipe("/docs/.hidden/c.txt", b"secret")
    yield fs
    fs.store.clear()


def test_a_folder_at_an_address_is_read_as_any_other(corpus, memory):
    corpus.split(documents="memory://docs", workers=1)
    assert corpus.texts == {"a.txt": PIER, "sub/b.md": MILL}
    assert corpus.report["song.mp3"]["reason"] == "no reader"


@pytest.mark.parametrize(
    "entry, names",
    [
        ("memory://docs/a.txt", ["a.txt"]),
        ("memory://docs/**/*.md", ["sub/b.md"]),
        ("memory://docs/sub", ["b.md"]),
        ("memory://docs/sub/", ["b.md"]),
    ],
)
def test_files_folders_and_patterns_are_listed(corpus, memory, entry, names):
    assert [file.name for file in list_files(corpus.config(documents=entry).corpus).files] == names


def test_paths_and_addresses_may_be_mixed_and_excluded(corpus, memory):
    corpus.write("a.txt", "The tower of Osk is tall.")
    corpus.split(documents=[str(corpus.documents), "memory://docs"], exclude=["*.md"], workers=1)
    assert corpus.texts == {"a.txt": "The tower of Osk is tall.", "docs/a.txt": PIER}
    assert corpus.report["docs/sub/b.md"]["reason"] == "excluded"


def test_the_same_shards_come_from_a_path_and_its_address_by_any_number_of_processes(corpus):
    for number in range(12):
        corpus.write(f"{number % 3}/{number}.txt", f"The pier of Osk is {number} metres long.")
    corpus.split(workers=1)
    wanted = corpus.shards
    for workers in (1, 2):
        corpus.run = corpus.folder / f"run{workers}"
        corpus.split(documents=f"file://{corpus.documents}", workers=workers)
        assert corpus.shards == wanted


def test_only_what_changed_is_fetched_again(corpus, memory, monkeypatch):
    corpus.split(documents="memory://docs", workers=1)
    fetched = []
    real = type(memory).get_file
    monkeypatch.setattr(
        type(memory),
        "get_file",
        lambda self, r, *a, **k: fetched.append(r) or real(self, r, *a, **k),
    )
    corpus.split(documents="memory://docs", workers=1)
    first = list(fetched)
    fetched.clear()
    memory.pipe("/docs/a.txt", b"The pier of Osk is gone.")
    corpus.split(documents="memory://docs", workers=1)
    assert corpus.texts["a.txt"] == "The pier of Osk is gone."
    assert "/docs/a.txt" in fetched and len(first) <= 2, "written a moment ago: looked into again"


def test_bad_files_at_an_address_are_named_by_their_names(corpus, memory):
    memory.pipe("/docs/x.pdf", b"no pdf")
    corpus.split(documents="memory://docs", workers=1)
    entry = corpus.report["x.pdf"]
    assert entry["reason"] == "broken" and "/tmp" not in entry["detail"]


def test_copies_are_removed(corpus, memory, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    corpus.split(documents="memory://docs", workers=1)
    assert os.listdir(tmp_path / "copies") == []


@pytest.mark.parametrize(
    "entry, message",
    [
        ("memory://nothing", r"nothing is at memory://nothing"),
        ("nosuch://x", r"'nosuch://x' cannot be listed|nosuch"),
    ],
)
def test_what_is_not_there_is_said(corpus, memory, entry, message):
    with pytest.raises(ValueError, match=message):
        corpus.split(documents=entry)


def test_secrets_in_an_address_are_not_shown(corpus):
    entry = "https://anna:word@example.org/docs?token=hidden"
    assert shown_address(entry) == "https://example.org/docs"
    config = corpus.config(documents=[entry, "docs"]).corpus
    assert shown(config) == "'https://example.org/docs', 'docs'"
    assert entries_of(config)[0] == entry


def test_versions_follow_dates_and_tags(memory):
    from pdtrain.documents.ingest import remote

    assert remote._version({"mtime": 5.5}) == 5_500_000_000
    one, other = (remote._version({"ETag": tag}) for tag in "ab")
    assert one != other and max(one, other) < 10**18
    assert remote._version({}) == remote.UNKNOWN_NS
    assert [name for name, *_ in files_at("memory://docs/a.txt")] == ["a.txt"]


# --- Data sets by name ---------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    """Write a data set's folder of two files."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(2):
        lines = [
            json.dumps(
                {"title": f"Pier {number}{n}", "text": f"The pier is {number}{n} metres long."}
            )
            for n in range(3)
        ]
        (folder / f"train-{number}.jsonl").write_text("\n".join(lines))
    return folder


def test_a_data_set_is_streamed_by_its_name(corpus, rows):
    corpus.split(documents=f"datasets://{rows}?split=train", workers=1)
    assert len(corpus.passages) == 6
    assert {p["title"] for p in corpus.passages} == {f"Pier {a}{b}" for a in "01" for b in "012"}
    names = {p["document_id"] for p in corpus.passages}
    assert names == {f"rows:train:{shard}:{n}" for shard in (0, 1) for n in (1, 2, 3)}


def test_a_data_set_is_read_again_when_its_files_change(corpus, rows):
    address = f"datasets://{rows}"
    corpus.split(documents=address, workers=1)
    before = corpus.shards
    corpus.split(documents=address, workers=2)
    assert corpus.shards == before
    with (rows / "train-0.jsonl").open("a") as stream:
        stream.write('\n{"title": "Mill", "text": "The mill is new."}\n')
    corpus.split(documents=address, workers=1)
    assert len(corpus.passages) == 7


def test_templates_work_on_data_sets(corpus, rows):
    corpus.split(documents=f"datasets://{rows}", text="{title}: {text}", workers=1)
    assert corpus.passages[0]["text"] == "Pier 00: The pier is 00 metres long."


@pytest.mark.parametrize(
    "address, message",
    [
        ("datasets://{rows}?split=test", r"the data set .* cannot be read"),
        ("datasets://{rows}?spilt=train", r"expected datasets://NAME\?split=train"),
        ("datasets://{rows}/none", r"the data set .* cannot be read"),
    ],
)
def test_a_data_set_that_is_not_there_is_said(corpus, rows, address, message):
    with pytest.raises(ValueError, match=message):
        corpus.split(documents=address.format(rows=rows), workers=1)
