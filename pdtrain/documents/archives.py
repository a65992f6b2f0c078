"""Unpack archives and compressed files, within limits that a malicious one cannot pass."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from pdtrain.documents.document import MAX_BYTES, Source, Unreadable
from pdtrain.errors import how_to_install

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
TARS = (".tar", ".tgz", ".tbz2", ".txz", ".tzst")
ARCHIVES = (*COMPRESSED, *TARS, ".zip")
MOST_MEMBERS = 1_000_000
MOST_BYTES = 64 << 30  # of all members of an archive together
FREE_BYTES = 1 << 30  # of them; above that,
MOST_TIMES = 200  # at most so many times the archive's own size
UNMARKED = "cp437"  # as `zipfile` reads names that do not say that they are UTF-8
SAYS_UTF_8 = 0x800
NAMES_READ = 1 << 16  # characters of them that their encoding is told from
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
OnLeftOut = Callable[[str, str, str], object]
ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)


def is_archive(name: str) -> bool:
    """Return whether a file of this name is unpacked."""
    return PurePosixPath(name).suffix.lower() in ARCHIVES


def holds_members(name: str) -> bool:
    """Return whether an archive of this name holds many files, not one that is compressed."""
    path = PurePosixPath(name.lower())
    return path.suffix in (*TARS, ".zip") or path.stem.endswith(".tar")


def expand(source: Source, on_left_out: OnLeftOut = lambda *_: None) -> Iterator[Source]:
    """Yield the members of an archive one by one, or the file that a compressed one holds.

    A member's name is that of the archive, a slash and its own. What a compressed file holds has
    its name without the last suffix. An archive in an archive is not unpacked. Hidden members,
    folders, links and members that lie outside the archive's folder are left out.

    Args:
        source: the archive.
        on_left_out: called with name, reason and details of each link and archive in it, of what
            lies outside its folder, and of members that are too large or damaged.

    Raises:
        Unreadable: the archive itself is damaged, locked or too large; what came before is whole.
    """
    try:
        if source.suffix == ".zip":
            yield from _zip_members(source, on_left_out)
        elif source.suffix in TARS or PurePosixPath(source.name).stem.lower().endswith(".tar"):
            yield from _tar_members(source, on_left_out)
        else:
            with source.open() as packed, _opened(packed, source.suffix) as stream:
                yield Source(source.name[: -len(source.suffix)], data=_read(stream, source))
    except ERRORS as error:
        name = type(error).__name__
        raise Unreadable("broken", f"{source.where} is a damaged archive ({name})") from None


def _opened(stream: BinaryIO, suffix: str) -> BinaryIO:
    """Return a stream of what a compressed stream holds."""
    if suffix in (".gz", ".tgz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if suffix in (".bz2", ".tbz2"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    if suffix in (".xz", ".txz"):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if suffix in (".zst", ".tzst"):
        try:
            import zstandard
        except ImportError:
            raise ValueError(
                f"a file ending in .zst needs an extra: {how_to_install('documents')}"
            ) from None
        unpacked = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        return cast(BinaryIO, io.BufferedReader(unpacked))
    return stream


def _read(stream: BinaryIO, source: Source) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large(source)
    return data


def _too_large(source: Source) -> Unreadable:
    detail = f"{source.where}: a member has more than {MAX_BYTES >> 20} MiB when unpacked"
    return Unreadable("too large", detail)


class _Limits:
    """Count members and bytes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.members = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count a member.

        Raises:
            Unreadable: there are more than any honest archive has.
        """
        self.members += 1
        self.read(size)

    def read(self, size: int) -> None:
        """Count bytes that were unpacked.

        Raises:
            Unreadable: there are more than any honest archive has.
        """
        self.bytes += size
        most = min(MOST_BYTES, max(FREE_BYTES, MOST_TIMES * self.source.size))
        if self.members > MOST_MEMBERS or self.bytes > most:
            raise Unreadable("too large", f"{self.source.where} holds too much to be unpacked")


def _is_wanted(name: str, archive: Source, on_left_out: OnLeftOut) -> bool:
    """Return whether a member is read, and tell why one is not that somebody may look for."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    shown = f"{archive.name}/{name}"
    if ".." in parts or parts[:1] == ("/",) or DRIVE.match(name):
        on_left_out(shown, "link", "a member that lies outside the archive's folder")
        return False
    if not parts or any(part.startswith(".") for part in parts):
        return False
    if is_archive(name):
        on_left_out(shown, "no reader", "an archive in an archive; unpack it")
        return False
    return True


def _zip_members(source: Source, on_left_out: OnLeftOut) -> Iterator[Source]:
    limits = _Limits(source)
    with source.open() as stream, zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        encoding = _encoding_of_names(members)
        for member in members:
            limits.add(0)
            name = _zip_name(member, encoding)
            if member.is_dir() or not _is_wanted(name, source, on_left_out):
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                on_left_out(f"{source.name}/{name}", "link", "a link in an archive")
                continue
            if member.flag_bits & 1:
                raise Unreadable("locked", f"{source.where} is locked by a password")
            try:
                data = _zip_member(archive, member, source)
            except Unreadable as error:
                # a damaged one was read, and so was one that is larger than it says
                limits.read(min(member.file_size, MAX_BYTES) or MAX_BYTES)
                on_left_out(f"{source.name}/{name}", error.reason, error.detail)
                continue
            limits.add(len(data))
            yield Source(f"{source.name}/{name}", data=data)


def _zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: Source) -> bytes:
    """Return what a member holds.

    Raises:
        Unreadable: it is damaged or too large; the others may be read.
    """
    if member.file_size > MAX_BYTES:
        raise _too_large(source)
    try:
        with archive.open(member) as opened:
            return _read(cast(BinaryIO, opened), source)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        detail = f"{source.where}: a damaged member ({type(error).__name__})"
        raise Unreadable("broken", detail) from None


def _zip_name(member: zipfile.ZipInfo, encoding: str) -> str:
    """Return the name of a member with slashes, in UTF-8 where it is that and does not say so."""
    name = member.filename
    for other in ("utf-8", encoding) if _is_unmarked(member) else ():
        with suppress(UnicodeError):
            name = name.encode(UNMARKED).decode(other)
            break
    return name.replace("\\", "/")


def _encoding_of_names(members: Iterable[zipfile.ZipInfo]) -> str:
    """Return the encoding of the names that do not say theirs.

    Windows writes them in the encoding of its country, which all of them together look like. Those
    that are Latin letters as they stand are left so.
    """
    import chardet

    names = "\n".join(member.filename for member in members if _is_unmarked(member))[:NAMES_READ]
    beyond = [one for one in set(names) if not one.isascii()]
    if all(unicodedata.name(one, "").startswith("LATIN") for one in beyond):
        return UNMARKED
    data = names.encode(UNMARKED, "ignore")
    found = str(chardet.detect(data)["encoding"] or UNMARKED)
    with suppress(UnicodeError, LookupError):
        text = data.decode(found)
        if all(one.isascii() or unicodedata.category(one)[0] in "LMNPZ" for one in text):
            return found
    return UNMARKED


def _is_unmarked(member: zipfile.ZipInfo) -> bool:
    return not member.flag_bits & SAYS_UTF_8


def _tar_members(source: Source, on_left_out: OnLeftOut) -> Iterator[Source]:
    limits = _Limits(source)
    with (
        source.open() as packed,
        _opened(packed, source.suffix) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            limits.add(0)
            # a name need not be text
            name = os.fsencode(member.name.removeprefix("./")).decode("utf-8", "replace")
            if member.isdir() or not _is_wanted(name, source, on_left_out):
                continue
            if member.isfile() and member.size > MAX_BYTES:
                limits.read(member.size)  # whoever goes on unpacks it all the same
                error = _too_large(source)
                on_left_out(f"{source.name}/{name}", error.reason, error.detail)
                continue
            opened = archive.extractfile(member) if member.isfile() else None
            if opened is None:
                on_left_out(f"{source.name}/{name}", "link", "a link or device in an archive")
                continue
            data = _read(cast(BinaryIO, opened), source)
            limits.add(len(data))
            yield Source(f"{source.name}/{name}", data=data)
