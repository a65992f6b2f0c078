"""Say where the rows of answers are in the shards of the teacher's cache."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdtrain.storage import read_json


@dataclass(frozen=True)
class Spans:
    """Say where the rows of answers are, in 24 bytes an answer.

    Args:
        paths: the shards.
        keys: the answers' keys as numbers, in rising order.
        shards: the index of each answer's shard.
        starts: its first row in the shard.
        ends: the row after its last.
    """

    paths: list[Path]
    keys: NDArray[np.uint64]
    shards: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    @classmethod
    def read(cls, folder: Path) -> Spans:
        """Return the rows of all complete shards; of equal answers those of the last shard."""
        paths: list[Path] = []
        keys, shards, starts, ends = array("Q"), array("i"), array("i"), array("i")
        for path, sidecar in complete_shards(folder):
            start = 0
            for answer, length in sidecar["answers"]:
                keys.append(int(answer, 16))
                shards.append(len(paths))
                starts.append(start)
                start += length
                ends.append(start)
            paths.append(path)
        found = np.array(keys, np.uint64)
        order = np.argsort(found, kind="stable")
        others = (np.array(column, np.int32)[order] for column in (shards, starts, ends))
        return cls(paths, found[order], *others)

    def find(self, key: str) -> tuple[Path, int, int]:
        """Return an answer's shard, and the first and the end of its rows in it."""
        number = np.uint64(int(key, 16))
        place = int(np.searchsorted(self.keys, number, side="right")) - 1
        if place < 0 or self.keys[place] != number:
            raise KeyError(key)
        return self.paths[self.shards[place]], int(self.starts[place]), int(self.ends[place])


def complete_shards(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the complete shards and their JSON files, which are written last."""
    for sidecar in sorted(folder.glob("shard-*.json")):
        path = sidecar.with_suffix(".safetensors")
        if path.exists():
            yield path, read_json(sidecar)
