"""Say where the rows of answers are in the shards of the teacher's cache."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdtrain.files.durable import remove
from pdtrain.progress import warn
from pdtrain.storage import hash_json, read_json, sha256_file


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


def shard_name(answers: list[list[Any]]) -> str:
    """Return how a shard of these answers is called, without its ending."""
    return f"shard-{hash_json(answers)[:16]}"


def complete_shards(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the complete shards and their JSON files, which are written last.

    A JSON file that is damaged, which its name shows, vouches for nothing.
    """
    for sidecar in sorted(folder.glob("shard-*.json")):
        path = sidecar.with_suffix(".safetensors")
        found = _read_sidecar(sidecar)
        if path.is_file() and found is not None:
            yield path, found


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    """Return what stands beside a shard; None where it does not fit the hash in its name."""
    try:
        found: dict[str, Any] = read_json(path)
        is_whole = shard_name(found["answers"]) == path.stem and bool(found["sha256"])
    except (ValueError, KeyError, TypeError, OSError):
        return None
    return found if is_whole else None


def damaged_shards(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of shards that do not fit their checksums, and what is wrong with each."""
    for sidecar in sorted(folder.glob("shard-*.json")):
        path = sidecar.with_suffix(".safetensors")
        found = _read_sidecar(sidecar)
        if found is None:
            yield sidecar, "its content does not fit its name"
        elif not path.is_file():
            yield path, "it is no file" if path.exists() else "it is missing"
        elif sha256_file(path) != found["sha256"]:
            yield path, "its content does not fit its hash"


def drop_damaged_shards(folder: Path) -> None:
    """Remove damaged shards, so that the teacher is asked again for what they held; say which.

    Raises:
        OSError: a folder is in the place of one.
    """
    for path, fault in list(damaged_shards(folder)):
        warn(f"{path} is damaged ({fault}): the teacher is asked again for what it held")
        remove(path.with_suffix(".json"))  # first, for it vouches for the shard
        remove(path.with_suffix(".safetensors"))
