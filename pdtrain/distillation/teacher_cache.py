"""Keep the teacher's top-k on disk: computed once, passage by passage, and read in every epoch.

The teacher never changes, so its distributions on fixed answers do not either. A shard is a
safetensors file with a JSON file beside it, written last, that lists its answers and its checksum.
An answer's key is a hash of the tokens that the teacher reads and writes; the folder's is a hash of
everything else that decides the distributions. A changed corpus therefore costs only what changed.
Each rank writes shards of its own, and another number of ranks may finish what some have begun.

N rows · K top-k · Q stretches of the vocabulary, 2**16 words each: suffixes name dimensions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pdkernels import TopK
from pdtrain.distillation.examples import Example, teacher_key
from pdtrain.distillation.micro_batches import Calls
from pdtrain.distillation.teacher_spans import Spans, damaged_shards, shard_name
from pdtrain.distillation.tokens.table import batch_order, take, teacher_keys
from pdtrain.files.durable import replacing
from pdtrain.progress import progress, say
from pdtrain.storage import (
    fault_of,
    read_checked,
    sha256_file,
    warn_of_damage,
    write_checked,
    write_json,
)

ANSWERS_PER_SHARD = 256
FORMAT = 2
WORDS = 2**16  # an id is stored in two bytes, as its place within a stretch of this many words
FIELDS = ("log_p_NK", "low_ids_NK", "counts_NQ", "lse_N", "log_p_tail_N")


def bytes_per_token(k: int, vocab: int) -> int:
    """Return the bytes on disk of one answer token: 400 at k = 64 and 2**18 words.

    These are fp32 log-probabilities, two bytes for each id, two for each stretch of the vocabulary,
    and two fp32 numbers.
    """
    return k * (4 + 2) + 2 * -(-vocab // WORDS) + 4 + 4


def encode(topk: TopK, vocab: int) -> dict[str, Tensor]:
    """Return the tensors to store, by field of FIELDS.

    No id is rounded: ids are sorted, so the number of ids in each stretch of WORDS words and their
    places within it determine them.
    """
    ids_NK = topk.ids_NK.long().cpu()
    stretches = torch.arange(-(-vocab // WORDS))
    counts_NQ = (ids_NK[..., None] // WORDS == stretches).sum(1)
    return {
        "log_p_NK": topk.log_p_NK.float().cpu().contiguous(),
        "low_ids_NK": (ids_NK % WORDS).to(torch.uint16),
        "counts_NQ": counts_NQ.to(torch.uint16),
        "lse_N": topk.lse_N.float().cpu(),
        "log_p_tail_N": topk.log_p_tail_N.float().cpu(),
    }


def decode(stored: dict[str, Tensor], temperature: float) -> TopK:
    """Return the top-k that was given to `encode`, with ids as int32."""
    low_NK, counts_NQ = stored["low_ids_NK"].int(), stored["counts_NQ"].long()
    stretch_NQ = torch.arange(counts_NQ.shape[1], dtype=torch.int32).expand_as(counts_NQ)
    high_NK = stretch_NQ.flatten().repeat_interleave(counts_NQ.flatten()).view_as(low_NK)
    return TopK(
        stored["log_p_NK"],
        low_NK + high_NK * WORDS,
        stored["lse_N"],
        stored["log_p_tail_N"],
        temperature,
    )


@dataclass(frozen=True)
class TeacherCache:
    """Read the rows of answers from a finished cache.

    Args:
        folder: where the shards are.
        spans: say where each answer's rows are.
        temperature: of the distributions.
    """

    folder: Path
    spans: Spans
    temperature: float

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("shard-*"))

    def topk(self, chosen: Sequence[Example], device: torch.device) -> TopK:
        """Return the rows of these answers, one after the other, from memory-mapped files."""
        parts, files = [], dict[Path, Any]()
        with ExitStack() as stack:
            for example in chosen:
                path, start, end = self.spans.find(teacher_key(example))
                if path not in files:
                    files[path] = stack.enter_context(safe_open(path, "pt"))
                stored = {name: files[path].get_slice(name)[start:end] for name in FIELDS}
                parts.append(decode(stored, self.temperature))
        return TopK.cat(parts).to(device)


Teach = Callable[[list[Example]], TopK]


def open_folder(folder: Path, inputs: str, parts: Mapping[str, str] | None = None) -> None:
    """Make the folder ready, on one rank.

    Args:
        folder: the cache's folder.
        inputs: hash of everything that decides the distributions.
        parts: hashes of the parts of that, by name, to say how the teacher of a folder beside this
            one differs.

    Raises:
        ValueError: the folder is of another teacher.
    """
    header = folder / "inputs.json"
    is_new = not header.exists()
    if not is_new and (fault := fault_of(header)) and folder.name == inputs[:12]:
        warn_of_damage(header, fault, "it is written again, as its folder's name has it")
    elif is_new:
        for other in sorted(folder.parent.glob(f"*/{header.name}")):
            known = (read_checked(other) or {}).get("parts") or {}
            differ = [name for name, part in (parts or {}).items() if known.get(name) != part]
            say(
                f"teacher: {other.parent} is of another teacher and is left alone; "
                f"{', '.join(differ) or 'something'} has changed"
            )
    if is_new or (fault_of(header) and folder.name == inputs[:12]):
        write_checked(header, {"format": FORMAT, "inputs": inputs, "parts": dict(parts or {})})
    _check(folder, inputs)


def missing(folder: Path, examples: Sequence[Example]) -> Sequence[Example]:
    """Return the answers that no complete shard holds, in the order of `packing.in_order`."""
    order = batch_order(examples)
    return take(examples, order[are_missing(folder, examples)[order]])


def are_missing(folder: Path, examples: Sequence[Example]) -> NDArray[np.bool_]:
    """Tell of each answer if no complete shard holds it."""
    return ~np.isin(teacher_keys(examples), Spans.read(folder).keys)


def fill(
    folder: Path,
    vocab: int,
    calls: Sequence[list[Example]],
    teach: Teach,
    *,
    rank: int = 0,
    num_ranks: int = 1,
    is_to_stop: Callable[[], bool] = lambda: False,
    answers_per_shard: int = ANSWERS_PER_SHARD,
) -> bool:
    """Write this rank's part of what is `missing`; all ranks must have found the same missing.

    Args:
        folder: the cache's folder.
        vocab: the number of words.
        calls: the answers of each call of the teacher, in the order of `packing.in_order`.
        teach: returns the top-k of some answers' rows, in the order given. Every rank calls it
            equally often, at the end with answers that do not count, because the other ranks'
            calls need this rank's part of the weights.
        rank: this process's rank.
        num_ranks: the number of ranks.
        is_to_stop: is asked before each call of `teach`, and must tell all ranks the same.
        answers_per_shard: a file is written once it holds this many answers.

    Returns:
        True if it was finished; when asked to stop, what is known by then is written.
    """
    own = calls[rank::num_ranks]
    unwritten: list[tuple[Example, TopK]] = []
    stopped = False
    total = own.num_answers if isinstance(own, Calls) else sum(map(len, own))
    with progress("teacher", total, "answers") as advance:
        for turn in range(-(-len(calls) // num_ranks)):
            stopped = is_to_stop()
            if stopped:
                break
            if turn == len(own):
                teach(calls[0])
                continue
            topk, start = teach(own[turn]), 0
            for example in own[turn]:
                unwritten.append((example, topk[start : start + len(example.answer)]))
                start += len(example.answer)
            if len(unwritten) >= answers_per_shard:
                _write(folder, vocab, unwritten)
                unwritten = []
            advance(len(own[turn]))
    if unwritten:
        _write(folder, vocab, unwritten)
    return not stopped


def read(
    folder: Path,
    inputs: str,
    temperature: float,
    examples: Sequence[Example],
    *,
    patience_seconds: float = 0.0,
    checked: bool = True,
) -> TeacherCache:
    """Return the finished cache.

    Args:
        folder: the cache's folder.
        inputs: hash of everything that decides the distributions.
        temperature: of the distributions.
        examples: the answers that must be there.
        patience_seconds: how long to look again for shards of other machines, which a shared
            folder may show late.
        checked: compare every shard with its checksum; one rank is enough.

    Raises:
        ValueError: the folder is of another teacher, lacks answers, or a shard is damaged.
    """
    _check(folder, inputs)
    give_up = time.monotonic() + patience_seconds
    keys = teacher_keys(examples)
    while True:
        spans = Spans.read(folder)
        lacking = int((~np.isin(keys, spans.keys)).sum())
        if not lacking:
            break
        if time.monotonic() >= give_up:
            raise ValueError(
                f"{folder} lacks {lacking} of {len(examples)} answers; run `pdtrain train CONFIG` "
                "again, which asks the teacher for them"
            )
        time.sleep(1.0)
    if checked:
        _check_shards(folder)
    return TeacherCache(folder, spans, temperature)


def _check_shards(folder: Path) -> None:
    for path, fault in damaged_shards(folder):
        raise ValueError(
            f"{path} is damaged ({fault}); run `pdtrain train CONFIG` again, which asks the "
            "teacher again for what it held"
        )


def _check(folder: Path, inputs: str) -> None:
    header = folder / "inputs.json"
    found = read_checked(header) or {}
    if (found.get("format"), found.get("inputs")) != (FORMAT, inputs):
        raise ValueError(
            f"{folder} holds distributions of another teacher: its model, tokenizer, chat template,"
            " prompts, loss.top_k or loss.temperature differ; delete the folder, or set out_dir to "
            "another"
        )


def _write(folder: Path, vocab: int, found: Sequence[tuple[Example, TopK]]) -> None:
    answers = [[teacher_key(example), len(example.answer)] for example, _ in found]
    path = folder / f"{shard_name(answers)}.safetensors"
    with replacing(path) as temporary:
        save_file(encode(TopK.cat([topk for _, topk in found]), vocab), temporary)
    write_json(path.with_suffix(".json"), {"answers": answers, "sha256": sha256_file(path)})
