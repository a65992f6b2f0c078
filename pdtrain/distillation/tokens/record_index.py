"""Find records of a finished stage by their ids, without holding them in memory."""

from __future__ import annotations

import json
from array import array
from collections import OrderedDict
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from pdtrain.records import Record
from pdtrain.storage import check_shard, shards_of

R = TypeVar("R", bound=Record)


class RecordIndex(Generic[R]):
    """Read records by id from a stage's shards; 24 bytes a record are held, and a few records.

    Args:
        folder: of a finished stage.
        record: the class of its records, which have an `id`.
        num_kept: how many of the last records are kept, for they are often asked for again.

    Raises:
        ValueError: a shard is missing, or not the one that the manifest names.
    """

    def __init__(self, folder: Path, record: type[R], num_kept: int = 256) -> None:
        self._record, self._num_kept = record, num_kept
        self._recent: OrderedDict[str, R] = OrderedDict()
        self._paths: list[Path] = []
        hashes, paths, starts, sizes = array("Q"), array("i"), array("q"), array("i")
        for shard in shards_of(folder):
            self._paths.append(check_shard(folder, shard))
            start = 0
            with self._paths[-1].open("rb") as file:
                for line in file:
                    if line.strip():
                        hashes.append(_hash(json.loads(line)["id"]))
                        paths.append(len(self._paths) - 1)
                        starts.append(start)
                        sizes.append(len(line))
                    start += len(line)
        found = np.frombuffer(hashes, np.uint64) if hashes else np.empty(0, np.uint64)
        order = np.argsort(found, kind="stable")
        self._hashes = found[order]
        self._places = [
            np.asarray(column, kind)[order]
            for column, kind in ((paths, np.int32), (starts, np.int64), (sizes, np.int32))
        ]

    def get(self, name: str) -> R | None:
        """Return the record with this id; the last one of several, and None where there is none."""
        found = self._recent.get(name)
        if found is None:
            found = self._read(name)
            if found is None:
                return None
            self._recent[name] = found
            if len(self._recent) > self._num_kept:
                self._recent.popitem(last=False)
        return found

    def _read(self, name: str) -> R | None:
        wanted = np.uint64(_hash(name))
        place = int(np.searchsorted(self._hashes, wanted, side="right")) - 1
        while place >= 0 and self._hashes[place] == wanted:  # more than one only if hashes collide
            path, start, size = (int(column[place]) for column in self._places)
            with self._paths[path].open("rb") as file:
                file.seek(start)
                found: dict[str, Any] = json.loads(file.read(size))
            if found["id"] == name:
                return self._record.from_json(found)
            place -= 1
        return None


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
