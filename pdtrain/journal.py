"""Keep what each unit of a stage has made, so that a killed stage goes on after its last unit.

Every process that works on a stage appends to a journal of its own: the first one to
`journal.jsonl`, process r of several to `journal-r.jsonl`. All of them read all journals. A line
holds a unit's key and its records, and is flushed to disk before the next unit counts as begun.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pdtrain.storage import check_shard, read_json, read_jsonl, sha256_file, to_line

NAME = re.compile(r"journal(-\d+)?\.jsonl")


@dataclass(frozen=True)
class Span:
    """Hold where the records of a unit are in a file; they are read when they are needed."""

    path: Path
    start: int  # bytes from the beginning of the file
    num_bytes: int

    def records(self) -> list[dict[str, Any]]:
        """Read the records."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            text = file.read(self.num_bytes).decode()
        lines = [json.loads(line) for line in text.split("\n") if line]
        return lines[0]["records"] if NAME.fullmatch(self.path.name) else lines


Spans = dict[str, Span]  # by the unit's key


def path_of(folder: Path, rank: int) -> Path:
    """Return the path of a process's journal."""
    return folder / (f"journal-{rank}.jsonl" if rank else "journal.jsonl")


def paths_of(folder: Path) -> list[Path]:
    """Return the journals of all processes that have worked on a stage, that of the first first."""
    found = [path for path in folder.glob("journal*.jsonl") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (len(path.name), path.name))


class Journal:
    """Append finished units to one process's journal; several threads may.

    What an earlier process left in it stays, but for a last line that a kill cut short. A journal
    of other settings is emptied.
    """

    def __init__(self, folder: Path, settings_hash: str, rank: int = 0) -> None:
        self.path = path_of(folder, rank)
        self._lock = threading.Lock()
        end = Reader(folder, settings_hash).end_of(self.path)
        self._file: BinaryIO = self.path.open("ab")
        self._file.truncate(end)
        if end == 0:
            self._file.write(_header(settings_hash))
            self._flush()

    def add(self, unit: str, records: list[dict[str, Any]]) -> Span:
        """Write what a unit has made, and return where it stands, once it is on the disk."""
        line = to_line({"unit": unit, "records": records}).encode()
        with self._lock:
            span = Span(self.path, self._file.seek(0, os.SEEK_END), len(line))
            self._file.write(line)
            self._flush()
        return span

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass
class Reader:
    """Read the journals of all processes, and what was added to them since the last look.

    A line that is not whole yet, and whatever a journal of other settings holds, is left alone.
    """

    folder: Path
    settings_hash: str
    _read: dict[Path, int] = field(default_factory=dict)  # bytes of each journal that were read

    def new(self) -> Spans:
        """Return the units that were added since the last call, by whichever process."""
        spans: Spans = {}
        for path in paths_of(self.folder):
            for span, line in self._new_lines(path):
                # the first journal that has a unit counts; all say the same
                spans.setdefault(json.loads(line)["unit"], span)
        return spans

    def end_of(self, path: Path) -> int:
        """Return how many bytes of a journal are whole lines of these settings."""
        if path.exists():
            for _ in self._new_lines(path):
                pass
        return self._read.get(path, 0)

    def _new_lines(self, path: Path) -> Iterator[tuple[Span, bytes]]:
        start, header = self._read.get(path, 0), _header(self.settings_hash)
        with path.open("rb") as file:
            if start == 0:
                if file.readline() != header:
                    return
                start = self._read[path] = len(header)
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                span = Span(path, start, len(line))
                start = self._read[path] = start + len(line)
                yield span, line


def _header(settings_hash: str) -> bytes:
    return to_line({"settings": settings_hash}).encode()


def finished_spans(folder: Path, settings_hash: str) -> Iterator[tuple[str, Span]]:
    """Yield the units of an earlier output with the same settings, without parsing their records.

    Raises:
        ValueError: a shard is not what the manifest says.
    """
    manifest = folder / "manifest.json"
    if not manifest.exists() or read_json(manifest).get("settings") != settings_hash:
        return
    if read_json(manifest).get("units") != sha256_file(folder / "units.jsonl"):
        return  # a kill came between the two files, so the list is not of these shards
    shards = [check_shard(folder, shard) for shard in read_json(manifest)["shards"]]
    lines = _lines_of(shards)
    for unit in read_jsonl(folder / "units.jsonl"):
        found = [next(lines) for _ in range(unit["num_records"])]
        if not found:
            yield unit["unit"], Span(folder / "units.jsonl", 0, 0)
        elif len({path for path, _, _ in found}) == 1:  # a unit that lies in two shards is redone
            path, start, _ = found[0]
            yield unit["unit"], Span(path, start, sum(length for _, _, length in found))


def _lines_of(paths: list[Path]) -> Iterator[tuple[Path, int, int]]:
    """Yield path, first byte and length in bytes of every line."""
    for path in paths:
        start = 0
        with path.open("rb") as file:
            for line in file:
                yield path, start, len(line)
                start += len(line)
