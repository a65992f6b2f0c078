"""Keep what was read from each file, in append-only files from which a killed run goes on.

A part is a file of JSON lines. First stands a header with the hash of the settings. Then come, file
by file, the passages as a shard will hold them, after those of each document a line about the
document, and last a line about the file. What stands behind the last line about a file was cut
short by a kill and does not count. The line about a file ends with a checksum of all its lines.
Each process writes a part of its own, so nobody waits.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pdtrain.documents.ingest.cleaning.line_sum import FILE, LineSum
from pdtrain.files.durable import flush, make_folder, replacing
from pdtrain.progress import warn
from pdtrain.storage import CHECK, to_line, warn_of_damage

SECONDS_BETWEEN_FLUSHES = 1.0
# a file that was written so shortly before it was looked at may change without a new mtime
RACY_NS = 2_000_000_000
WASTE_ALLOWED = 1 << 20  # bytes of parts that no longer count, besides as many as do
MANY_PARTS = 64
DOCUMENT = b'{"document": '  # how lines about documents begin


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
                left -= len(line) or left  # a part that was cut has no more
                yield line

    def is_whole(self) -> bool:
        """Tell whether the lines fit their checksum; those of earlier versions have none."""
        if not self.part.is_file():
            return False
        sums = LineSum()
        line = b""
        for line in self.lines():
            if not line:  # the part is shorter than it was
                return False
            if not line.startswith(FILE):
                sums.add(line)
        return line.endswith(b"\n") and sums.record(line) is not None


class CannotWrite(Exception):  # noqa: N818 - it is no fault of a file that is being read
    """Say that what was read cannot be written, and where.

    Args:
        number: the system's number of the error.
        path: the file.
    """

    def __init__(self, number: int, path: str) -> None:
        super().__init__(f"{path} cannot be written ({os.strerror(number)})")
        self.number, self.path = number, path

    def as_machine_error(self) -> OSError:
        """Return what the system said, which names the file."""
        return OSError(self.number, os.strerror(self.number), self.path)


class PartWriter:
    """Append the lines of files to a part of this process's own.

    Raises:
        CannotWrite: the disk is full, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, writer: str, settings: str) -> None:
        self.path = folder / f"{writer}-{time.time_ns():x}-{os.getpid()}.part"
        self._sum = LineSum()
        with self._writing():
            make_folder(folder)
            self._stream = self.path.open("xb")
            self._stream.write(to_line({"settings": settings}).encode())
        self._flushed_at = time.monotonic()

    def begin(self) -> int:
        """Return the byte at which the next file begins."""
        self._sum = LineSum()
        return self._stream.tell()

    def add(self, record: dict[str, Any]) -> None:
        """Write a passage, or the line about a document."""
        self.add_line(to_line(record).encode())

    def add_line(self, line: bytes) -> None:
        """Write a line as it stands."""
        with self._writing():
            self._stream.write(line)
        self._sum.add(line)

    def undo(self, start: int) -> None:
        """Take back what was written since `begin`."""
        with self._writing():
            self._stream.seek(start)
            self._stream.truncate()
        self._sum = LineSum()

    def end(self, start: int, record: dict[str, Any]) -> Finished:
        """Write the line about a file, which makes it count, and return where its lines are."""
        record = {name: value for name, value in record.items() if name != CHECK}
        self.add(record | {CHECK: self._sum.of(record)})
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
                flush(self.path.parent)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotWrite(error.errno or errno.EIO, str(self.path)) from None


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
    found, known = read_index(folder, settings)
    for path in sorted(folder.glob("*.part"), key=lambda path: path.name.split("-")[1]):
        for name, one in scan(path, settings, known.get(path.name, 0)):
            found[name] = one
    return found


def read_index(folder: Path, settings: str) -> tuple[dict[str, Finished], dict[str, int]]:
    """Return the files that the index names, and how many bytes of each part it covers."""
    index = folder / "index.json"
    if not index.exists():
        return {}, {}
    if not is_index_whole(index):
        warn_of_damage(index, "its content does not fit its hash", "the parts are read through")
        return {}, {}
    found: dict[str, Finished] = {}
    with index.open(encoding="utf-8") as stream:
        header = json.loads(next(stream, "{}"))
        if header.get("settings") != settings:
            return {}, {}
        sizes: dict[str, int] = header["parts"]
        there = {n for n in sizes if _size(folder / n) >= sizes[n]}
        for line in stream:
            name, *about, part, start, num_bytes = json.loads(line)
            if part in there:
                found[name] = Finished._make([*about, folder / part, start, num_bytes])
    return found, {name: sizes[name] for name in there}


def is_index_whole(path: Path) -> bool:
    """Tell whether the index fits its checksum; those of earlier versions have none."""
    try:
        with path.open("rb") as stream:
            header = json.loads(stream.readline())
            check = header.pop(CHECK, None)
            whole = hashlib.sha256()
            for line in stream:
                whole.update(line)
            whole.update(to_line(header).encode())
    except (ValueError, AttributeError):
        return False
    return check is None or check == whole.hexdigest()


def save(folder: Path, settings: str, files: dict[str, Finished]) -> None:
    """Write the index if it has changed, and remove parts of which nothing counts any more."""
    used = {one.part for one in files.values()}
    header = {"settings": settings, "parts": {p.name: _size(p) for p in sorted(used)}}
    index = folder / "index.json"

    def entries() -> Iterator[str]:
        for name, one in files.items():
            yield to_line([name, *one[:4], one.part.name, one.start, one.num_bytes])

    def lines() -> Iterator[str]:
        whole = hashlib.sha256()
        for line in entries():
            whole.update(line.encode())
        whole.update(to_line(header).encode())
        yield to_line(header | {CHECK: whole.hexdigest()})
        yield from entries()

    if not _holds(index, lines()):
        write_lines(index, lines())
    for path in folder.glob("*.part"):
        if path not in used and path.is_file():
            path.unlink()


def _holds(path: Path, lines: Iterator[str]) -> bool:
    """Return whether a file holds just these lines; both are read one by one."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
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
        if not one.is_whole():  # the file is read again by the next run
            continue
        start = writer.begin()
        *before, last = one.lines()
        for line in before:
            writer.add_line(line)
        moved[name] = writer.end(start, json.loads(last))
    writer.close()
    return moved


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines durably, one by one."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)


def scan(path: Path, settings: str, known: int) -> Iterator[tuple[str, Finished]]:
    """Yield the files of a part behind its first `known` bytes; damaged ones are said."""
    # the first rank may have removed it
    with suppress(FileNotFoundError, IsADirectoryError), path.open("rb") as stream:
        header = stream.readline()
        if header != to_line({"settings": settings}).encode():
            return
        stream.seek(max(known, len(header)))
        start, sums = stream.tell(), LineSum()
        for line in iter(stream.readline, b""):
            if not line.endswith(b"\n"):  # cut short by a kill or a full disk, or being written
                return
            if not line.startswith(FILE):
                sums.add(line)
                continue
            end = stream.tell()
            record = sums.record(line)
            if record is not None:
                yield record["file"], finished(record, path, start, end - start)
            else:
                warn(f"{path}: a damaged stretch is left out, and its file is read again")
            start, sums = end, LineSum()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
