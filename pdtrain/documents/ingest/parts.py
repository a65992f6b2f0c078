"""Keep what was read from each file, in append-only files from which a killed run goes on.

A part is a file of JSON lines. First stands a header with the hash of the settings. Then come, file
by file, the passages as a shard will hold them, after those of each document a line about the
document, and last a line about the file. What stands behind the last line about a file was cut
short by a kill and does not count. Each process writes a part of its own, so nobody waits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pdtrain.storage import flush, to_line

SECONDS_BETWEEN_FLUSHES = 1.0
# a file that was written so shortly before it was looked at may change without a new mtime
RACY_NS = 2_000_000_000
WASTE_ALLOWED = 1 << 20  # bytes of parts that no longer count, besides as many as do
MANY_PARTS = 64
FILE, DOCUMENT = b'{"file": ', b'{"document": '  # how lines about files and documents begin


class Finished(NamedTuple):
    """Hold where the lines of a file are in a part, and what the file was when it was read."""

    size: int
    mtime_ns: int
    looked_at_ns: int
    sha256: str
    part: Path
    start: int
    num_bytes: int

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the file: passages, lines about documents, the line about the file."""
        left = self.num_bytes
        with self.part.open("rb") as stream:
            stream.seek(self.start)
            while left > 0:
                line = stream.readline()
                left -= len(line)
                yield line


class CannotWrite(Exception):  # noqa: N818 - it is no fault of a file that is being read
    """Say that what was read cannot be written, and where."""


class PartWriter:
    """Append the lines of files to a part of this process's own.

    Raises:
        CannotWrite: the disk is full, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, writer: str, settings: str) -> None:
        self.path = folder / f"{writer}-{time.time_ns():x}-{os.getpid()}.part"
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("xb")
            self._stream.write(to_line({"settings": settings}).encode())
        self._flushed_at = time.monotonic()

    def begin(self) -> int:
        """Return the byte at which the next file begins."""
        return self._stream.tell()

    def add(self, record: dict[str, Any]) -> None:
        """Write a passage, or the line about a document."""
        self.add_line(to_line(record).encode())

    def add_line(self, line: bytes) -> None:
        """Write a line as it stands."""
        with self._writing():
            self._stream.write(line)

    def undo(self, start: int) -> None:
        """Take back what was written since `begin`."""
        with self._writing():
            self._stream.seek(start)
            self._stream.truncate()

    def end(self, start: int, record: dict[str, Any]) -> Finished:
        """Write the line about a file, which makes it count, and return where its lines are."""
        self.add(record)
        with self._writing():
            self._stream.flush()
            if time.monotonic() - self._flushed_at > SECONDS_BETWEEN_FLUSHES:
                os.fsync(self._stream.fileno())
                self._flushed_at = time.monotonic()
        return finished(record, self.path, start, self._stream.tell() - start)

    def close(self) -> None:
        """Flush the part to disk and close it."""
        if not self._stream.closed:
            with self._writing():
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._stream.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotWrite(
                f"{self.path} cannot be written ({error.strerror or error}); make room or set "
                "out_dir to another folder, and run the same command again to go on"
            ) from None


def finished(record: dict[str, Any], part: Path, start: int, num_bytes: int) -> Finished:
    """Return where a file is, from the line about it."""
    return Finished(
        record["size"],
        record["mtime_ns"],
        record["looked_at_ns"],
        record["sha256"],
        part,
        start,
        num_bytes,
    )


def load(folder: Path, settings: str) -> dict[str, Finished]:
    """Return the files that were read under these settings, by name.

    The index is trusted as far as it goes; what was written to parts after it is read through.
    """
    found: dict[str, Finished] = {}
    known: dict[str, int] = {}
    index = folder / "index.json"
    if index.exists():
        with index.open(encoding="utf-8") as stream:
            header = json.loads(next(stream, "{}"))
            if header.get("settings") == settings:
                sizes = header["parts"]
                there = {n for n in sizes if _size(folder / n) >= sizes[n]}
                known = {name: sizes[name] for name in there}
                for line in stream:
                    name, *about, part, start, num_bytes = json.loads(line)
                    if part in there:
                        found[name] = Finished._make([*about, folder / part, start, num_bytes])
    for path in sorted(folder.glob("*.part"), key=lambda path: path.name.split("-")[1]):
        for name, one in _scan(path, settings, known.get(path.name, 0)):
            found[name] = one
    return found


def save(folder: Path, settings: str, files: dict[str, Finished]) -> None:
    """Write the index if it has changed, and remove parts of which nothing counts any more."""
    used = {one.part for one in files.values()}
    header = to_line({"settings": settings, "parts": {p.name: _size(p) for p in sorted(used)}})
    index = folder / "index.json"

    def lines() -> Iterator[str]:
        yield header
        for name, one in files.items():
            yield to_line([name, *one[:4], one.part.name, one.start, one.num_bytes])

    if not _holds(index, lines()):
        write_lines(index, lines())
    for path in folder.glob("*.part"):
        if path not in used:
            path.unlink()


def _holds(path: Path, lines: Iterator[str]) -> bool:
    """Return whether a file holds just these lines; both are read one by one."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as stream:
        return all(one == other for one, other in zip_longest(stream, lines))


def compact(folder: Path, settings: str, files: dict[str, Finished]) -> dict[str, Finished]:
    """Return the files where they are after parts with much that no longer counts are rewritten."""
    live = sum(one.num_bytes for one in files.values())
    parts = {one.part for one in files.values()}
    if sum(map(_size, parts)) <= 2 * live + WASTE_ALLOWED and len(parts) <= MANY_PARTS:
        return files
    writer = PartWriter(folder, "compacted", settings)
    moved = {}
    for name, one in files.items():
        start = writer.begin()
        *before, last = one.lines()
        for line in before:
            writer.add_line(line)
        moved[name] = writer.end(start, json.loads(last))
    writer.close()
    return moved


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines under a temporary name, flush and rename, without holding them all in memory."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
    flush(temporary)
    temporary.replace(path)


def _scan(path: Path, settings: str, known: int) -> Iterator[tuple[str, Finished]]:
    """Yield the files of a part that stand behind its first `known` bytes."""
    with path.open("rb") as stream:
        header = stream.readline()
        if header != to_line({"settings": settings}).encode():
            return
        stream.seek(max(known, len(header)))
        start = stream.tell()
        for line in iter(stream.readline, b""):
            if not line.startswith(FILE):
                continue
            try:
                record = json.loads(line)
            except ValueError:  # a kill or a full disk cut it short
                return
            end = stream.tell()
            yield record["file"], finished(record, path, start, end - start)
            start = end


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
