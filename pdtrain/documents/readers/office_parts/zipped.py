"""Open the zip archives that office documents and books are, and say why one cannot be read."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from pdtrain.documents.document import MAX_BYTES, Source, Unreadable

OLD_OFFICE = b"\xd0\xcf\x11\xe0"  # begins a file of older programs, and one that is locked
CORE = "{http://purl.org/dc/elements/1.1/}"  # the names of titles, authors and dates


def check_archive(stream: BinaryIO, source: Source) -> zipfile.ZipFile:
    """Return the archive that an office document or a book is, once its sizes are looked at.

    Raises:
        Unreadable: it is locked, damaged, or would be too large when unpacked.
    """
    stream.seek(0)
    if stream.read(4) == OLD_OFFICE:
        raise locked(source)
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, OSError) as error:
        raise damaged(source, "an office document", error) from None
    if sum(member.file_size for member in archive.infolist()) > 2 * MAX_BYTES:
        detail = f"{source.where}: unpacked it has more than {2 * MAX_BYTES >> 20} MiB"
        raise Unreadable("too large", detail)
    if any(member.flag_bits & 1 for member in archive.infolist()):
        raise locked(source)
    stream.seek(0)
    return archive


def has_member(archive: zipfile.ZipFile, name: str) -> bool:
    """Return whether an archive holds a member of this name."""
    return name in archive.namelist()


def damaged(source: Source, what: str, error: Exception) -> Unreadable:
    """Return the error that says that a file is damaged."""
    name = type(error).__name__
    return Unreadable("broken", f"{source.where} cannot be read as {what} ({name}); save it anew")


def locked(source: Source) -> Unreadable:
    """Return the error that says that a file is locked."""
    return Unreadable(
        "locked",
        f"{source.where} is locked by a password, or of a program before 2007; save a copy of it "
        "without a password in a present format",
    )
