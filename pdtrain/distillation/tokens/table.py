"""Give examples as a sequence that is mapped from disk, and the numbers that plan steps on them.

What goes over all examples of a training (order, budget, limits) reads columns: arrays with a
number for each example. Tokens are read for the examples of a step alone. Functions here also take
plain sequences of examples.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import index as as_index
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pdtrain.distillation.examples import Example, teacher_key
from pdtrain.distillation.tokens.shards import TokenShard

Indices = NDArray[Any]  # of integers


class ExampleTable(Sequence[Example]):
    """Hold examples as mapped shards; an example is made when it is asked for.

    Args:
        shards: the shards, with the ids of the passages that each counts.
        indices: the places of the chosen examples among those of all shards; None for all of them.
    """

    def __init__(
        self, shards: Sequence[tuple[TokenShard, list[str]]], indices: Indices | None = None
    ) -> None:
        self.shards, self.indices = list(shards), indices
        self._ends = list(accumulate(len(shard) for shard, _ in self.shards))

    def __len__(self) -> int:
        if self.indices is not None:
            return len(self.indices)
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> ExampleTable: ...

    def __getitem__(self, index: int | slice) -> Example | ExampleTable:
        if isinstance(index, slice):
            return self.taken(np.arange(*index.indices(len(self))))
        place = as_index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"example {place} of {len(self)}")
        place %= len(self)
        if self.indices is not None:
            place = int(self.indices[place])
        number = bisect_right(self._ends, place)
        shard, names = self.shards[number]
        return shard.example(place - (self._ends[number] - len(shard)), names)

    def taken(self, indices: Indices) -> ExampleTable:
        """Return the examples at these places, in this order."""
        return ExampleTable(self.shards, indices if self.indices is None else self.indices[indices])

    def gathered(self, parts: Iterable[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
        """Return a column of the chosen examples, from its parts, one for each shard."""
        whole = np.concatenate([empty, *parts])
        return whole if self.indices is None else whole[self.indices]


@dataclass(frozen=True)
class Columns:
    """Hold numbers of n examples.

    Args:
        teacher: int32 tokens of the teacher's prompts.
        student: int32 tokens of the student's prompts.
        answer: int32 tokens of the answers.
        passages: int32 indices into `names` of the passages that the teacher reads.
        others: int32 indices of the second passages that it reads; -1 for none.
        names: the ids of the passages, each once.
    """

    teacher: NDArray[np.int32]
    student: NDArray[np.int32]
    answer: NDArray[np.int32]
    passages: NDArray[np.int32]
    others: NDArray[np.int32]
    names: list[str]


NOTHING = np.empty(0, np.int32)


def columns(found: Sequence[Example]) -> Columns:
    """Return the numbers of examples, in their order."""
    if not isinstance(found, ExampleTable):
        return _columns_of_plain(found)
    shards = found.shards
    read, names = _passages(found)
    return Columns(
        found.gathered((s.sizes_n3[:, 0] + s.run_sizes_r[s.runs_n] for s, _ in shards), NOTHING),
        found.gathered((s.sizes_n3[:, 1] for s, _ in shards), NOTHING),
        found.gathered((s.sizes_n3[:, 2] for s, _ in shards), NOTHING),
        found.gathered((one[:, 0] for one in read), NOTHING),
        found.gathered((one[:, 1] for one in read), NOTHING),
        names,
    )


def _passages(found: ExampleTable) -> tuple[list[NDArray[np.int32]], list[str]]:
    """Return the passages of every shard's examples as indices into one list of ids."""
    numbers: dict[str, int] = {}
    known: dict[int, NDArray[np.int32]] = {}  # shards of one folder share a list
    read = []
    for shard, names in found.shards:
        if id(names) not in known:
            places = [numbers.setdefault(name, len(numbers)) for name in names]
            known[id(names)] = np.array([*places, -1], np.int32)  # -1 stays -1
        read.append(known[id(names)][shard.passages_n2])
    return read, list(numbers)


def _columns_of_plain(found: Sequence[Example]) -> Columns:
    numbers: dict[str, int] = {}
    passages, others = [], []
    for e in found:
        passages.append(numbers.setdefault(e.passage_id, len(numbers)))
        other = e.other_passage_id
        others.append(numbers.setdefault(other, len(numbers)) if other else -1)
    return Columns(
        np.array([len(e.teacher_prompt) for e in found], np.int32),
        np.array([len(e.student_prompt) for e in found], np.int32),
        np.array([len(e.answer) for e in found], np.int32),
        np.array(passages, np.int32),
        np.array(others, np.int32),
        list(numbers),
    )


def answer_ids(found: Sequence[Example]) -> NDArray[np.bytes_]:
    """Return the ids of examples as UTF-8 bytes, which compare as the texts do."""
    if not isinstance(found, ExampleTable):
        return np.array([e.answer_id.encode() for e in found], np.bytes_)
    parts = (s.ids_nw.view(f"S{s.ids_nw.shape[1]}")[:, 0] for s, _ in found.shards)
    return found.gathered(parts, np.empty(0, "S1"))


def teacher_keys(found: Sequence[Example]) -> NDArray[np.uint64]:
    """Return the keys of examples in the teacher's cache, as numbers."""
    if not isinstance(found, ExampleTable):
        return np.array([int(teacher_key(e), 16) for e in found], np.uint64)
    parts = (s.keys_n for s, _ in found.shards)
    return found.gathered(parts, np.empty(0, np.int64)).view(np.uint64)


def take(found: Sequence[Example], indices: Indices) -> Sequence[Example]:
    """Return the examples at these places, in this order: a table of a table, else a list."""
    if isinstance(found, ExampleTable):
        return found.taken(indices)
    return [found[i] for i in indices]


def joined(one: Sequence[Example], other: Sequence[Example]) -> Sequence[Example]:
    """Return the examples of both, one after the other: a table where both are tables."""
    if not (isinstance(one, ExampleTable) and isinstance(other, ExampleTable)):
        return other if not one else one if not other else [*one, *other]
    indices = None
    if one.indices is not None or other.indices is not None:
        num_stored = sum(len(shard) for shard, _ in one.shards)
        chosen = [np.arange(len(t)) if t.indices is None else t.indices for t in (one, other)]
        indices = np.concatenate([chosen[0], chosen[1] + num_stored])
    return ExampleTable([*one.shards, *other.shards], indices)


def batch_order(found: Sequence[Example]) -> NDArray[np.int64]:
    """Return the places of examples in the order of `packing.in_order`."""
    of = columns(found)
    if not of.names:
        return np.empty(0, np.int64)
    _, rank = np.unique(np.array(of.names), return_inverse=True)
    return np.lexsort((answer_ids(found), rank[of.passages]))
