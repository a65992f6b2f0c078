"""Save and resume: adapter, optimizer and position, in safetensors and JSON, all or nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from pdtrain.files import read_json, sha256_file, write_atomically, write_json

KEEP = 2  # a checkpoint is deleted only when two newer ones are complete


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` optimizer steps. Nothing else is random: orders come from the seed."""

    step: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def save(folder: Path, inputs: str, checkpoint: Checkpoint) -> None:
    """Write `step-N/` under a temporary name, rename it, then point `latest` at it."""
    final = folder / f"step-{checkpoint.step:06d}"
    temporary = folder / f".tmp-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("adapter", "optimizer"):
        save_file(getattr(checkpoint, name), temporary / f"{name}.safetensors")
    files = sorted(temporary.glob("*.safetensors"))
    write_json(
        temporary / "manifest.json",
        {
            "inputs": inputs,
            "step": checkpoint.step,
            "sha256": {file.name: sha256_file(file) for file in files},
        },
    )
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    write_atomically(folder / "latest", final.name + "\n")
    for old in _complete(folder)[:-KEEP]:
        shutil.rmtree(old)


def load_latest(folder: Path, inputs: str) -> Checkpoint | None:
    """The newest checkpoint of the same inputs whose checksums hold; None when there is none."""
    for path in reversed(_complete(folder)):
        manifest = read_json(path / "manifest.json")
        whole = all(
            (path / name).exists() and sha256_file(path / name) == digest
            for name, digest in manifest["sha256"].items()
        )
        if whole and manifest["inputs"] == inputs:
            return Checkpoint(
                manifest["step"],
                load_file(path / "adapter.safetensors"),
                load_file(path / "optimizer.safetensors"),
            )
    return None


def _complete(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("step-*/manifest.json"))
