"""Remember where records are in files, of a million units in some tens of bytes each.

A dictionary with a million keys takes half a gigabyte, and the records of a large corpus take more
memory than a machine has. So keys stand one after the other in one string of bytes, and everything
else in arrays of numbers; records are read when they are asked for.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pdtrain.files.checked_lines import lines_of, unchecked
from pdtrain.storage import check_shard, shards_of

JOURNAL = "journal"  # what the names of files whose lines have checksums begin with
NOWHERE = -1
KEY = hash  # by which texts are sorted, and told apart where they differ in it
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Span:
    """Hold where the records of a unit are in a file; they are read when they are needed."""

    path: Path
    start: int  # bytes from the beginning of the file
    num_bytes: int

    def records(self) -> list[dict[str, Any]]:
        """Read the records."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.num_bytes)
        if self.path.name.startswith(JOURNAL):
            if (found := unchecked(data)) is None:
                raise ValueError(f"{self.path} changed while it was read; run the command again")
            records: list[dict[str, Any]] = found["records"]
            return records
        return [json.loads(line) for line in data.decode().split("\n") if line]


class Index:
    """Number texts in their order, and find the number of a text, in 32 bytes beside its own.

    All texts are added before the first is looked for. A text that is added twice has the number
    of the first, and is there once.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends, self._hashes = bytearray(), array("q", [0]), array("q")
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text; its number is how many were added before it."""
        self._bytes += text.encode()
        self._ends.append(len(self._bytes))
        self._hashes.append(KEY(text))

    def __getitem__(self, number: int) -> str:
        return self._bytes[self._ends[number] : self._ends[number + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self._hashes)):
            if number not in self.repeated:
                yield self[number]

    def __len__(self) -> int:
        return len(self._hashes) - len(self.repeated)

    @property
    def num_added(self) -> int:
        """Return how many texts were added, those that were there before included."""
        return len(self._hashes)

    def find(self, text: str) -> int:
        """Return the number of a text; -1 where it is not there."""
        order, hashes = self._sorted
        key = KEY(text)
        at = int(hashes.searchsorted(key))
        while at < len(hashes) and hashes[at] == key:
            if self[number := int(order[at])] == text:
                return number
            at += 1
        return NOWHERE

    @cached_property
    def _sorted(self) -> tuple[Any, Any]:
        hashes = np.array(self._hashes, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")  # of equal texts the first is found
        return order, hashes[order]

    @cached_property
    def repeated(self) -> dict[int, int]:
        """Return the numbers of texts that were added before, in order, each with the first one."""
        order, hashes = self._sorted
        alike = sorted(int(i) for i in order[1:][hashes[1:] == hashes[:-1]])
        firsts = {i: self.find(self[i]) for i in alike}
        return {i: first for i, first in firsts.items() if first != i}


class Spans(MutableMapping[str, Span]):
    """Hold the spans of units that are known, and of no others.

    Args:
        index: of the units' keys.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        size = index.num_added
        self._numbers: dict[Path, int] = {}
        self._paths: list[Path] = []  # by number
        self._path = array("i", [NOWHERE]) * size
        self._start, self._bytes = array("q", [0]) * size, array("q", [0]) * size
        self._count = 0

    def __setitem__(self, key: str, span: Span) -> None:
        number = self.index.find(key)
        if number == NOWHERE:
            return
        self._count += self._path[number] == NOWHERE
        if span.path not in self._numbers:
            self._numbers[span.path] = len(self._paths)
            self._paths.append(span.path)
        self._path[number] = self._numbers[span.path]
        self._start[number], self._bytes[number] = span.start, span.num_bytes

    def __getitem__(self, key: str) -> Span:
        number = self.index.find(key)
        if number == NOWHERE or self._path[number] == NOWHERE:
            raise KeyError(key)
        path = self._paths[self._path[number]]
        return Span(path, self._start[number], self._bytes[number])

    def __contains__(self, key: object) -> bool:
        number = self.index.find(str(key))
        return number != NOWHERE and self._path[number] != NOWHERE

    def __delitem__(self, key: str) -> None:
        self[key]
        self._path[self.index.find(key)] = NOWHERE
        self._count -= 1

    def __iter__(self) -> Iterator[str]:
        return (key for key in self.index if key in self)

    def __len__(self) -> int:
        return self._count

    def add(self, found: Iterable[tuple[str, Span]]) -> None:
        """Add the spans of units that have none yet."""
        for key, span in found:
            if key not in self:
                self[key] = span


class Stored(Mapping[str, Item]):
    """Read the records of a finished stage when they are needed, all of one key together.

    Args:
        folder: of the stage, whose shards are compared with their hashes.
        key: returns the key of a record; records of a key mostly follow one another.
        make: returns what the records of a key are to be.

    Raises:
        ValueError: the stage has not finished, or a shard is damaged.
    """

    def __init__(
        self,
        folder: Path,
        key: Callable[[dict[str, Any]], str],
        make: Callable[[list[dict[str, Any]]], Item],
    ) -> None:
        self._make, self.index = make, Index()
        self._paths = [check_shard(folder, shard) for shard in shards_of(folder)]
        self._path, self._start, self._end = array("i"), array("q"), array("q")  # of each run
        for place, path in enumerate(self._paths):
            last = None
            for start, line in lines_of(path):
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(f"{path}: a record is no JSON object; run the stage again")
                if (name := key(record)) != last:
                    self.index.add(name)
                    self._path.append(place)
                    self._start.append(start)
                    self._end.append(start)
                last = name
                self._end[-1] = start + len(line)
        self._later: dict[int, list[int]] = {}  # further runs of a key, by the number of the first
        for number, first in self.index.repeated.items():
            self._later.setdefault(first, []).append(number)

    def __getitem__(self, key: str) -> Item:
        first = self.index.find(key)
        if first == NOWHERE:
            raise KeyError(key)
        found: list[dict[str, Any]] = []
        for number in (first, *self._later.get(first, ())):
            start = self._start[number]
            path = self._paths[self._path[number]]
            found += Span(path, start, self._end[number] - start).records()
        return self._make(found)

    def __contains__(self, key: object) -> bool:
        return self.index.find(str(key)) != NOWHERE

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)


class Renamed(Mapping[str, Item]):
    """Give the items of a mapping other keys.

    Args:
        of: the mapping.
        key: returns the new key of an item.
    """

    def __init__(self, of: Mapping[str, Item], key: Callable[[Item], str]) -> None:
        self._of, self._names, self.index = of, index_of(of), Index()
        self._number = array("q")  # in the old index, by that in the new one
        for name, item in of.items():
            self._number.append(self._names.find(name))
            self.index.add(key(item))

    def __getitem__(self, key: str) -> Item:
        number = self.index.find(key)
        if number == NOWHERE:
            raise KeyError(key)
        return self._of[self._names[self._number[number]]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)


def index_of(keyed: Mapping[str, Any]) -> Index:
    """Return an index of a mapping's keys, in their order: its own where it has one."""
    return keyed.index if isinstance(keyed, Stored | Renamed) else Index(keyed)
