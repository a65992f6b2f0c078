"""Archives: their members are read like files, and none can fill the memory or leave its place."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from archive_files import tar_of, zip_of

from pdtrain.documents.archives import expand
from pdtrain.documents.document import Source, Unreadable

MEMBERS = {"a.txt": b"The pier.", "deep/b.md": b"# Mill\n\nIt grinds."}
LEFT_OUT = {".hidden.txt": b"hidden", "/etc/c.txt": b"hidden", "deep/.git/d.txt": b"hidden"}


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.tgz", "p.tar.bz2", "p.tar.xz"])
def test_the_members_of_an_archive_are_documents(read, name):
    modes = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz", "tar": "w"}
    members = MEMBERS | LEFT_OUT
    suffix = name.rsplit(".", 1)[1]
    data = zip_of(members) if suffix == "zip" else tar_of(members, modes[suffix], "/etc/hostname")
    found = read(name, data)
    assert [(d.id, d.title, d.text) for d in found] == [
        (f"{name}/a.txt", "A", "The pier."),
        (f"{name}/deep/b.md", "Mill", "It grinds."),
    ]


@pytest.mark.parametrize(
    "encoding, names",
    [
        ("cp932", ["手順書.txt", "議事録/表の会議メモ.md"]),
        ("cp932", ["手順書.txt"]),
        ("gbk", ["操作手册.txt"]),
        ("big5", ["操作手冊.txt"]),
        ("cp949", ["보고서.txt", "회의록 정리.txt"]),
        ("cp866", ["Отчёт.txt", "Документы/Договор аренды.txt"]),
        ("cp437", ["Übersicht.txt", "Größe.md"]),
        ("utf-8", ["操作手册.txt", "Übersicht.txt"]),
    ],
)
def test_names_in_a_zip_file_are_read_in_the_encoding_of_the_windows_that_wrote_it(encoding, names):
    """They do not say which it is: here names that `zipfile` wrote are replaced in the bytes."""
    given = {name: name.encode(encoding) for name in names}
    stand_ins = {name: b"%d" % n * len(raw) for n, (name, raw) in enumerate(given.items(), 1)}
    data = zip_of({stand_ins[name].decode(): b"text" for name in names})
    for name in names:
        assert data.count(stand_ins[name]) == 2
        data = data.replace(stand_ins[name], given[name])
    found = [source.name for source in expand(Source("a.zip", data=data))]
    assert found == [f"a.zip/{name}" for name in names]


def zstd(data):
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(
    "suffix, pack",
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstd)],
)
def test_a_compressed_file_is_what_it_holds(read, suffix, pack):
    (document,) = read(f"b.md.{suffix}", pack(MEMBERS["deep/b.md"]))
    assert (document.id, document.title, document.text) == ("b.md", "Mill", "It grinds.")


@pytest.mark.parametrize(
    "suffix, pack", [("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstd)]
)
def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch, suffix, pack):
    monkeypatch.setattr("pdtrain.documents.archives.MAX_BYTES", 10_000)
    with pytest.raises(Unreadable) as error:
        list(expand(Source(f"a.txt.{suffix}", data=pack(b"0" * 50_000_000))))
    assert error.value.reason == "too large"


def test_an_archive_of_too_many_members_is_refused(monkeypatch):
    monkeypatch.setattr("pdtrain.documents.archives.MOST_MEMBERS", 3)
    with pytest.raises(Unreadable) as error:
        list(expand(Source("a.zip", data=zip_of({f"{n}.txt": b"x" for n in range(9)}))))
    assert error.value.reason == "too large"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.txt.gz", "a.txt.xz"])
def test_a_damaged_archive_is_named_and_what_came_before_is_kept(name):
    for data in (b"<html>404</html>", b"\x1f\x8b\x08\x00"):
        with pytest.raises(Unreadable) as error:
            list(expand(Source(name, data=data)))
        assert error.value.reason == "broken"
    noise = bytes(range(256)) * 400
    members = {"a.txt": b"The pier.", "b.txt": noise}
    cut = Source("cut.tar", data=tar_of(members, link="/etc/hostname")[:3000])
    found = expand(cut)
    assert next(found).data == b"The pier."
    with pytest.raises(Unreadable):
        list(found)


def test_an_archive_in_an_archive_is_not_unpacked():
    inner = zip_of(MEMBERS)
    assert [
        s.name for s in expand(Source("a.zip", data=zip_of({"b.zip": inner, "c.txt": b"x"})))
    ] == ["a.zip/c.txt"]


def test_names_of_members_are_read_as_they_were_meant(read):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("old\\pier.txt", "The pier.")
        archive.writestr("XXXXXX.txt", "The harbour.")
    found = read("a.zip", stream.getvalue().replace(b"XXXXXX", "資料".encode()))
    assert [(d.id, d.title) for d in found] == [
        ("a.zip/old/pier.txt", "Pier"),
        ("a.zip/資料.txt", "資料"),
    ]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("b\udce4r.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"One"))
    (document,) = read("b.tar", stream.getvalue())
    assert document.id.encode() and document.title.encode()  # half a surrogate pair is no text
