"""Read files with a record a line in whatever encoding they are written, a line at a time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pdtrain.documents.document import Unreadable
from pdtrain.documents.encoding.decoding import SAMPLE, decode, wide_encoding

GUESSED = "read as "  # begins what is said of an encoding that was told from the bytes


def utf8_lines(stream: BinaryIO, where: str) -> tuple[Iterable[bytes], tuple[str, ...]]:
    """Return the lines of an open file in UTF-8, and the warnings about its encoding.

    The encoding is told from the first bytes, and from the first lines with letters beyond ASCII.
    A line that is not written in it stays as it is: whoever reads it says which one that is.

    Args:
        stream: a file that can seek, at its start.
        where: names the file.
    """
    start = stream.read(SAMPLE)
    stream.seek(0)
    wide, is_sure = wide_encoding(start)
    if wide:
        return _narrowed(stream, wide), () if is_sure else (f"{GUESSED}{wide}",)
    sample = _beyond_ascii(stream)
    stream.seek(0)
    try:
        _, warnings = decode(sample, where)
    except Unreadable:
        return stream, ()
    for warning in warnings:
        if warning.startswith(GUESSED):
            return _recoded(stream, warning.removeprefix(GUESSED)), warnings
    return stream, ()


def _beyond_ascii(stream: BinaryIO) -> bytes:
    """Return the first lines that hold more than ASCII, as many as an encoding is told from."""
    found: list[bytes] = []
    size = 0
    for line in stream:
        if not line.isascii() or b"\x1b$" in line:  # as Japanese mail is written
            found.append(line)
            size += len(line)
            if size >= SAMPLE:
                break
    return b"".join(found)


def _narrowed(stream: BinaryIO, encoding: str) -> Iterator[bytes]:
    # a broken character costs itself: its line has no bytes by which the next one is found
    text = io.TextIOWrapper(stream, encoding, "replace", newline="\n")
    try:
        yield from map(str.encode, text)
    finally:
        text.detach()  # whoever opened the file closes it


def _recoded(stream: BinaryIO, encoding: str) -> Iterator[bytes]:
    for line in stream:
        try:
            yield line.decode(encoding).encode()
        except UnicodeDecodeError:
            yield line
