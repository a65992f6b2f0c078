"""Write examples as shards of token ids, and map them into memory.

A shard is a safetensors file. Its tokens are one flat int32 array: for every run of examples of one
passage the beginning that all of the teacher's prompts share, and for every example the rest of
that prompt, the student's prompt and the answer. Small arrays say where each begins and how long it
is. `manifest.json` is written last; it names the shards with their hashes, and what decided them.

n examples · r runs · t tokens · w bytes of the longest id: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from pdtrain.distillation.examples import Example, teacher_key
from pdtrain.files.durable import make_folder, replacing
from pdtrain.files.trust import own_file
from pdtrain.models.chat.chat_template import common_prefix
from pdtrain.progress import progress
from pdtrain.storage import misfits, read_checked, sha256_file, write_checked

EXAMPLES_PER_SHARD = 8192
EXAMPLES_AT_A_TIME = 256  # held as Python objects while a shard is written
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TokenShard:
    """Hold the arrays of one shard, which are mapped from its file and read when they are used.

    Args:
        tokens_t: int32 ids.
        starts_n: int64, where the tokens of each example begin, without the part that is shared.
        sizes_n3: int32 counts: the rest of the teacher's prompt, the student's prompt, the answer.
        runs_n: int32, the run of each example.
        run_starts_r: int64, where the shared beginning of each run's teacher prompts begins.
        run_sizes_r: int32 counts of its tokens; 0 where a run is a single example.
        passages_n2: int32 indices of the passage that the teacher reads, and of a second one; -1
            for none.
        ids_nw: uint8, the UTF-8 bytes of each example's id, filled with zeros.
        keys_n: int64, the keys of the teacher's cache as their 64 bits stand.
        checked_n: uint8, 1 for an answer that is checked.
        unsaid_n: uint8, 1 for an answer that says by rule that no document says it.
    """

    tokens_t: NDArray[np.int32]
    starts_n: NDArray[np.int64]
    sizes_n3: NDArray[np.int32]
    runs_n: NDArray[np.int32]
    run_starts_r: NDArray[np.int64]
    run_sizes_r: NDArray[np.int32]
    passages_n2: NDArray[np.int32]
    ids_nw: NDArray[np.uint8]
    keys_n: NDArray[np.int64]
    checked_n: NDArray[np.uint8]
    unsaid_n: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.starts_n)

    def example(self, index: int, names: list[str]) -> Example:
        """Return an example.

        Args:
            index: its place in this shard.
            names: the ids of the passages that `passages_n2` counts.
        """
        run, start = self.runs_n[index], int(self.starts_n[index])
        rest, student, answer = self.sizes_n3[index].tolist()
        first = int(self.run_starts_r[run])
        shared = self.tokens_t[first : first + int(self.run_sizes_r[run])].tolist()
        own = self.tokens_t[start : start + rest + student + answer].tolist()
        passage, other = self.passages_n2[index].tolist()
        return Example(
            self.ids_nw[index].tobytes().rstrip(b"\0").decode(),
            names[passage],
            (*shared, *own[:rest]),
            tuple(own[rest : rest + student]),
            tuple(own[rest + student :]),
            names[other] if other >= 0 else "",
            bool(self.checked_n[index]),
            bool(self.unsaid_n[index]),
            f"{int(self.keys_n[index]) % 2**64:016x}",
        )


FIELDS = tuple(field.name for field in fields(TokenShard))


def write(
    folder: Path,
    about: Mapping[str, Any],
    found: Iterable[Example],
    total: int,
    examples_per_shard: int = EXAMPLES_PER_SHARD,
) -> dict[str, Any]:
    """Write examples as shards and last the manifest, and return it; earlier shards are removed.

    Args:
        folder: where they go.
        about: what decided them, for the manifest.
        found: the examples; they are not held.
        total: about how many there will be, to show how far it is.
        examples_per_shard: how many a file holds.
    """
    make_folder(folder)
    names: dict[str, int] = {}
    shards: list[dict[str, Any]] = []
    remaining = iter(found)
    with progress("tokens", total, "examples") as advance:
        while parts := list(_parts(islice(remaining, examples_per_shard), names)):
            name = f"{len(shards):05d}-{about['inputs'][:12]}.safetensors"
            _write_shard(folder / name, parts)
            num_examples = sum(len(part["runs_n"]) for part in parts)
            digest = sha256_file(folder / name)
            shards.append({"name": name, "num_examples": num_examples, "sha256": digest})
            advance(num_examples)
    manifest = {**about, "shards": shards, "passages": list(names)}
    write_checked(folder / "manifest.json", manifest)
    kept = {shard["name"] for shard in shards}
    for path in folder.glob("[0-9]*.safetensors"):
        if path.name not in kept:
            path.unlink()
    return manifest


def _write_shard(path: Path, parts: list[Arrays]) -> None:
    with replacing(path) as temporary:
        save_file(_joined(parts), temporary)


def _parts(found: Iterable[Example], names: dict[str, int]) -> Iterator[Arrays]:
    """Yield the arrays of a few examples at a time; passages that are new are added to `names`."""
    remaining = iter(found)
    while some := list(islice(remaining, EXAMPLES_AT_A_TIME)):
        yield _packed(some, names)


def _packed(some: list[Example], names: dict[str, int]) -> Arrays:
    tokens: list[int] = []
    starts, sizes, runs, run_starts, run_sizes, passages = ([] for _ in range(6))  # type: ignore[var-annotated]
    for passage_id, group in groupby(some, key=lambda e: e.passage_id):
        examples = list(group)
        shared = common_prefix([e.teacher_prompt for e in examples]) if len(examples) > 1 else 0
        run_starts.append(len(tokens))
        run_sizes.append(shared)
        tokens += examples[0].teacher_prompt[:shared]
        passage = names.setdefault(passage_id, len(names))
        for e in examples:
            starts.append(len(tokens))
            sizes.append((len(e.teacher_prompt) - shared, len(e.student_prompt), len(e.answer)))
            runs.append(len(run_starts) - 1)
            other = e.other_passage_id
            passages.append((passage, names.setdefault(other, len(names)) if other else -1))
            tokens += (*e.teacher_prompt[shared:], *e.student_prompt, *e.answer)
    ids = [e.answer_id.encode() for e in some]
    ids_n = np.array(ids, dtype=f"S{max(map(len, ids))}")
    return {
        "tokens_t": np.array(tokens, np.int32),
        "starts_n": np.array(starts, np.int64),
        "sizes_n3": np.array(sizes, np.int32),
        "runs_n": np.array(runs, np.int32),
        "run_starts_r": np.array(run_starts, np.int64),
        "run_sizes_r": np.array(run_sizes, np.int32),
        "passages_n2": np.array(passages, np.int32),
        "ids_nw": ids_n.view(np.uint8).reshape(len(some), -1),
        "keys_n": np.array([int(teacher_key(e), 16) for e in some], np.uint64).view(np.int64),
        "checked_n": np.array([e.is_checked for e in some], np.uint8),
        "unsaid_n": np.array([e.is_unsaid for e in some], np.uint8),
    }


def _joined(parts: list[Arrays]) -> Arrays:
    """Join the arrays of parts; places of tokens and numbers of runs go on from part to part."""
    width = max(part["ids_nw"].shape[1] for part in parts)
    num_tokens = num_runs = 0
    for part in parts:
        part["starts_n"] += num_tokens
        part["run_starts_r"] += num_tokens
        part["runs_n"] += num_runs
        num_tokens += len(part["tokens_t"])
        num_runs += len(part["run_sizes_r"])
        missing = width - part["ids_nw"].shape[1]
        part["ids_nw"] = np.pad(part["ids_nw"], ((0, 0), (0, missing)))
    return {name: np.concatenate([part[name] for part in parts]) for name in FIELDS}


def find_current(folder: Path, inputs: str, *, checked: bool) -> dict[str, Any] | None:
    """Return the manifest of whole shards of these inputs; None where there is none.

    Args:
        folder: where they are.
        inputs: the hash of everything that decides the examples.
        checked: compare every shard with its hash; one rank is enough.
    """
    manifest = read_checked(folder / "manifest.json")
    if manifest is None or manifest.get("inputs") != inputs:
        return None
    if not all(own_file(folder, shard["name"]).is_file() for shard in manifest["shards"]):
        return None
    known = {shard["name"]: shard["sha256"] for shard in manifest["shards"]}
    return None if checked and misfits(folder, known) else manifest


def mapped(folder: Path, manifest: Mapping[str, Any]) -> list[TokenShard]:
    """Return the shards that a manifest names; ranks of one machine share their memory."""
    return [_mapped(folder / shard["name"]) for shard in manifest["shards"]]


def _mapped(path: Path) -> TokenShard:
    with safe_open(path, "pt") as file:  # torch maps the file; "numpy" would copy it
        tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in FIELDS}
    return TokenShard(**{name: tensor.numpy() for name, tensor in tensors.items()})
