"""Keep what each unit of a stage has made, so that a killed stage goes on after its last unit.

Every process that works on a stage appends to a journal of its own: the first one to
`journal.jsonl`, process r of several to `journal-r.jsonl`. All of them read all journals. A line
holds a unit's key and its records, and is flushed to disk before the next unit counts as begun.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pdtrain.files import unit_lists
from pdtrain.files.checked_lines import checked_line, lines_of, unchecked
from pdtrain.files.durable import flush, naming
from pdtrain.files.manifests import damaged_files, manifest_of
from pdtrain.files.spans import Span
from pdtrain.progress import warn
from pdtrain.storage import read_jsonl, to_line, warn_of_damage

NAME = re.compile(r"journal(-\d+)?\.jsonl")


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
            flush(folder)

    def add(self, unit: str, records: list[dict[str, Any]]) -> Span:
        """Write what a unit has made, and return where it stands, once it is on the disk."""
        line = checked_line({"unit": unit, "records": records}).encode()
        with self._lock:
            span = Span(self.path, self._file.seek(0, os.SEEK_END), len(line))
            with naming(self.path):
                self._file.write(line)
                self._flush()
        return span

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        with naming(self.path):
            self._file.close()

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass
class Reader:
    """Read the journals of all processes, and what was added to them since the last look.

    A line that is not whole yet, and whatever a journal of other settings holds, is left alone. A
    damaged line costs its own unit, which is said. Journals of earlier versions have no checksums.
    """

    folder: Path
    settings_hash: str
    _read: dict[Path, int] = field(default_factory=dict)  # bytes of each journal that were read
    _checked: set[Path] = field(default_factory=set)  # journals whose lines all have checksums

    def new(self) -> Iterator[tuple[str, Span]]:
        """Yield the units that were added since the last call, by whichever process.

        A unit that several have is yielded several times; all say the same.
        """
        for path in paths_of(self.folder):
            num_damaged = 0
            try:
                for span, line in self._new_lines(path):
                    found = unchecked(line, must=path in self._checked)
                    if found is None or not {"unit", "records"} <= found.keys():
                        num_damaged += 1
                    else:
                        yield found["unit"], span
            except FileNotFoundError:  # the first process has written the output and removed it
                continue
            if num_damaged:
                warn(f"{path}: {num_damaged} lines are damaged, and their units are done again")

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
                first = file.readline()
                if first not in (header, to_line({"settings": self.settings_hash}).encode()):
                    if first.endswith(b"\n") and unchecked(first) is None:
                        warn_of_damage(path, "its first line", "it is begun anew")
                    return
                if first == header:
                    self._checked.add(path)
                start = self._read[path] = len(first)
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                span = Span(path, start, len(line))
                start = self._read[path] = start + len(line)
                yield span, line


def _header(settings_hash: str) -> bytes:
    return checked_line({"settings": settings_hash}).encode()


def finished_spans(folder: Path, settings_hash: str) -> Iterator[tuple[str, Span]]:
    """Yield the units of an earlier output with the same settings, without parsing their records.

    The units of a shard that is damaged or missing are done again, which is said.
    """
    manifest = manifest_of(folder)
    if manifest is None or manifest.get("settings") != settings_hash:
        return
    units, path = unit_lists.whole(folder, manifest), folder / unit_lists.NAME
    if units is None:
        if not paths_of(folder):
            warn_of_damage(path, "it does not fit its manifest", "all units are done again")
        return  # or a kill came between list and manifest, and the journal still has the units
    if units != path and not paths_of(folder):
        warn_of_damage(path, "it does not fit its manifest", f"{units.name} is taken")
    faults = damaged_files(folder, manifest)
    for path, fault in faults.items():
        warn_of_damage(path, fault, "what it held is made again")
    lines = _lines_of(folder, manifest["shards"], faults)
    for unit in read_jsonl(units):
        found = [next(lines) for _ in range(unit["num_records"])]
        if not found:
            yield unit["unit"], Span(units, 0, 0)
        elif len({path for path, _, _ in found}) == 1:  # a unit that lies in two shards is redone
            path, start, _ = found[0]
            if path not in faults:
                yield unit["unit"], Span(path, start, sum(length for _, _, length in found))


def _lines_of(
    folder: Path, shards: list[dict[str, Any]], faults: Mapping[Path, str]
) -> Iterator[tuple[Path, int, int]]:
    """Yield path, first byte and length in bytes of every line; lines of bad shards have none."""
    for shard in shards:
        path = folder / shard["name"]
        if path in faults:
            yield from [(path, 0, 0)] * shard["num_records"]
        else:
            yield from ((path, start, len(line)) for start, line in lines_of(path))
