"""Save and resume: adapter, optimizer and position, in safetensors and JSON, all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from pdtrain.progress import say
from pdtrain.storage import flush, read_json, sha256_file, write_atomically, write_json

KEEP = 2  # a checkpoint is deleted only when two newer ones are complete


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` optimizer steps; orders and dropout come from the seed and the step."""

    step: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def save(
    folder: Path, inputs: str, checkpoint: Checkpoint, about: Mapping[str, object] | None = None
) -> None:
    """Write `step-N/` under a temporary name, rename it, then point `latest` at it.

    `about` goes into its manifest for people to read: what a step trains on, at which rate and
    with which dropout all follow from the config and the step, and nothing is read back.
    """
    final = _path(folder, checkpoint.step)
    temporary = folder / f".tmp-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("adapter", "optimizer"):
        save_file(getattr(checkpoint, name), temporary / f"{name}.safetensors")
    files = sorted(temporary.glob("*.safetensors"))
    for file in files:
        flush(file)
    write_json(
        temporary / "manifest.json",
        {
            "inputs": inputs,
            "step": checkpoint.step,
            "sha256": {file.name: sha256_file(file) for file in files},
            **(about or {}),
        },
    )
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    flush(folder)
    write_atomically(folder / "latest", final.name + "\n")
    complete = _complete(folder)
    own = [path for path in complete if read_json(path / "manifest.json")["inputs"] == inputs]
    # later steps are damaged, or this run would have gone on from them
    own = own[: own.index(final) + 1]
    for old in {*complete} - {*own[-KEEP:]}:  # those of other inputs are of no use any more
        shutil.rmtree(old)


def load_latest(folder: Path, inputs: str) -> Checkpoint | None:
    """The newest checkpoint of the same inputs whose checksums hold; None when there is none."""
    for path in reversed(_complete(folder)):
        manifest = read_json(path / "manifest.json")
        if manifest["inputs"] != inputs:
            continue
        broken = [
            name
            for name, digest in manifest["sha256"].items()
            if not (path / name).exists() or sha256_file(path / name) != digest
        ]
        if not broken:
            return load(folder, manifest["step"])
        say(f"train: {path} is damaged ({broken[0]}), looking for an older checkpoint")
    return None


def load(folder: Path, step: int) -> Checkpoint:
    """A checkpoint that `load_latest` has found to be whole."""
    path = _path(folder, step)
    return Checkpoint(
        step, load_file(path / "adapter.safetensors"), load_file(path / "optimizer.safetensors")
    )


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}"


def _complete(folder: Path) -> list[Path]:
    found = (path.parent for path in folder.glob("step-*/manifest.json"))
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
