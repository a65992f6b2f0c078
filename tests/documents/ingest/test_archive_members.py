"""Archives member by member: a bad one is named and the others are read."""

import io
import tarfile
import zipfile

import pytest

GOOD = {"a.txt": b"The pier of Osk.", "z/b.md": b"The mill of Osk."}
BAD = {"b.docx": b"PK cut off", "c.json": b"[1, ", "d.txt": bytes(900)}
OTHER = {"e.png": b"\x89PNG"}
REASONS = {"b.docx": "broken", "c.json": "broken", "d.txt": "binary", "e.png": "no reader"}


def packed(name, members):
    stream = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(stream, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for member, content in members.items():
            about = tarfile.TarInfo(member)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize("name", ["p.zip", "p.tar.gz"])
def test_bad_members_are_named_and_good_ones_kept(corpus, name):
    corpus.write(name, packed(name, dict(sorted((GOOD | BAD | OTHER).items()))))
    corpus.split()
    assert corpus.texts == {f"{name}/{m}": t.decode() for m, t in GOOD.items()}
    entry = corpus.report[name]
    assert entry["state"] == "kept with a warning"
    found = {one["member"].removeprefix(f"{name}/"): one["reason"] for one in entry["members"]}
    assert found == REASONS and all(one["detail"] for one in entry["members"])
    assert "3 members were left out (p." in entry["warnings"][-1]
    with pytest.raises(ValueError, match=r"1 files were not read, or not wholly.*p\..*3 members"):
        corpus.split(on_error="stop")


def test_members_of_other_kinds_are_no_fault(corpus):
    corpus.write("p.zip", packed("p.zip", GOOD | OTHER))
    corpus.split(on_error="stop")
    entry = corpus.report["p.zip"]
    assert entry["state"] == "kept" and [m["reason"] for m in entry["members"]] == ["no reader"]


def test_an_archive_of_bad_members_is_skipped_with_the_reason_of_the_first(corpus):
    corpus.write("p.zip", packed("p.zip", BAD))
    corpus.write("a.txt", "The pier of Osk.")
    corpus.split()
    entry = corpus.report["p.zip"]
    assert (entry["state"], entry["reason"]) == ("skipped", "broken")
    assert "no member could be read; p.zip/b.docx: " in entry["detail"]


def test_an_archive_that_is_cut_off_keeps_what_came_before(corpus):
    data = packed("p.tar.gz", GOOD | {"more.txt": b"The tower of Osk. " * 9000})
    corpus.write("p.tar.gz", data[:-40])
    corpus.split()
    assert set(corpus.texts) >= {"p.tar.gz/a.txt"}
    assert corpus.report["p.tar.gz"]["state"] == "kept with a warning"
