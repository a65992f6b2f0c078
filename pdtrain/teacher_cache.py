"""The teacher's top-k on disk: computed once, passage by passage, read in every epoch.

The teacher never changes, so its distributions on fixed answers do not either. Shards are
safetensors of whole passages; `inputs.json`, written before the first, binds them to everything
that decides them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pdkernels import TopK
from pdtrain.files import read_json, write_json
from pdtrain.progress import progress
from pdtrain.rows import Example

ANSWERS_PER_SHARD = 256
FIELDS = ("log_p_NK", "ids_NK", "lse_N", "log_p_tail_N")
DTYPES = dict.fromkeys(FIELDS, torch.float32) | {"ids_NK": torch.int32}  # as they are stored


def row_bytes(k: int) -> int:
    """Bytes on disk of one answer token's row; the shards' headers add well below one per cent."""
    numbers = {field: k if field.endswith("_NK") else 1 for field in FIELDS}
    return sum(numbers[field] * DTYPES[field].itemsize for field in FIELDS)


@dataclass(frozen=True)
class TeacherCache:
    """Rows of every answer by its id: a shard's path and the rows' span in it."""

    spans: dict[str, tuple[Path, int, int]]
    temperature: float

    def topk(self, answer_ids: Sequence[str], device: torch.device) -> TopK:
        """The rows of these answers, one after the other."""
        parts = []
        for answer_id in answer_ids:
            path, start, end = self.spans[answer_id]
            with safe_open(path, "pt") as file:
                log_p, ids, lse, tail = (file.get_slice(f)[start:end] for f in FIELDS)
                parts.append(TopK(log_p, ids, lse, tail, self.temperature))
        return TopK.cat(parts).to(device)


def build(
    folder: Path,
    inputs: str,
    temperature: float,
    examples: Sequence[Example],
    teach: Callable[[list[Example]], TopK],
) -> TeacherCache:
    """Fill the cache; shards that an interrupted run had finished are kept.

    Args:
        inputs: hash of all that decides the teacher's distributions.
        teach: the top-k of some answers' rows, in the order given.
    """
    plan = _plan(examples)
    spans = {}
    folder.mkdir(parents=True, exist_ok=True)
    header = folder / "inputs.json"
    if not header.exists() or read_json(header) != {"inputs": inputs}:
        for old in folder.glob("*.safetensors"):
            old.unlink()
        write_json(header, {"inputs": inputs})
    with progress("teacher", len(examples), "answers") as advance:
        for number, shard in enumerate(plan):
            path = folder / f"{number:05d}.safetensors"
            if not path.exists():
                parts = []
                for _, group in groupby(shard, key=lambda e: e.passage_id):
                    chosen = list(group)
                    parts.append(teach(chosen))
                    advance(len(chosen))
                _write(path, TopK.cat(parts))
            else:
                advance(len(shard))
            start = 0
            for example in shard:
                spans[example.answer_id] = (path, start, start + len(example.answer))
                start += len(example.answer)
    return TeacherCache(spans, temperature)


def _plan(examples: Sequence[Example]) -> list[list[Example]]:
    """Shards of whole passages, at least ANSWERS_PER_SHARD answers each but the last."""
    ordered = sorted(examples, key=lambda e: (e.passage_id, e.answer_id))
    shards: list[list[Example]] = [[]]
    for _, group in groupby(ordered, key=lambda e: e.passage_id):
        if len(shards[-1]) >= ANSWERS_PER_SHARD:
            shards.append([])
        shards[-1].extend(group)
    return [shard for shard in shards if shard]


def _write(path: Path, topk: TopK) -> None:
    tensors = {f: getattr(topk, f).to("cpu", DTYPES[f]).contiguous() for f in FIELDS}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.replace(path)
