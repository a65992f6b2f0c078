"""Save and resume training: adapter, optimizer and position, in safetensors and JSON.

A checkpoint is a folder `step-<steps>-<inputs>`, whole or not there. Those of a run with other
inputs, such as another learning rate, stand beside it and are left alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pdtrain.files.durable import make_folder, put_folder_in_place, replacing, write_atomically
from pdtrain.progress import detail, warn
from pdtrain.storage import misfits, read_checked, sums, write_checked

FORMAT = 1  # raise it when what is written could not be read by the code before
KEEP = 2  # a checkpoint is deleted only when two newer ones are complete


@dataclass(frozen=True)
class Checkpoint:
    """Hold the state after `step` optimizer steps; orders and dropout come from seed and step."""

    step: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def save(
    folder: Path, inputs: str, checkpoint: Checkpoint, about: Mapping[str, object] | None = None
) -> None:
    """Write a checkpoint under a temporary name, rename it, then point `latest` at it.

    Of the same inputs the last `KEEP` stay, this one among them, and the others are deleted.

    Args:
        inputs: the hash of all that decides the adapter.
        about: goes into the manifest for people to read. What a step trains on, at which rate and
            with which dropout follows from the config and the step, so only `num_logged` reads it.
    """
    final = _path(folder, inputs, checkpoint.step)
    for left_over in folder.glob(f".tmp-step-*-{_mark(inputs)}"):  # by a kill while saving
        shutil.rmtree(left_over)
    temporary = folder / f".tmp-{final.name}"
    make_folder(temporary)
    for name in ("adapter", "optimizer"):
        with replacing(temporary / f"{name}.safetensors") as path:
            save_file(getattr(checkpoint, name), path)
    write_checked(
        temporary / "manifest.json",
        {
            "format": FORMAT,
            "inputs": inputs,
            "step": checkpoint.step,
            "sha256": sums(temporary, ["adapter.safetensors", "optimizer.safetensors"]),
            **(about or {}),
        },
    )
    put_folder_in_place(temporary, final)
    write_atomically(folder / "latest", final.name + "\n")
    detail(f"train: saved {final}")
    own = list(_manifests(folder, inputs))
    # later steps are damaged, or this run would have gone on from them
    kept = own[: own.index(final) + 1][-KEEP:]
    for path in own:
        if path not in kept:
            shutil.rmtree(path)


def load_latest(folder: Path, inputs: str) -> Checkpoint | None:
    """Return the newest checkpoint of the same inputs that is whole, or None without one.

    Raises:
        ValueError: it was written in another format.
    """
    for path, manifest in reversed(_manifests(folder, inputs).items()):
        if manifest.get("format") != FORMAT:
            raise ValueError(
                f"the checkpoint {path} has format {manifest.get('format', 'unknown')}, and this "
                f"pdtrain reads format {FORMAT}; go on with the version that wrote it, or delete "
                f"{folder} to train from the beginning"
            )
        broken = misfits(path, manifest["sha256"])
        if not broken:
            return load(folder, inputs, manifest["step"])
        name, fault = next(iter(broken.items()))
        warn(f"train: {path} is damaged ({name}: {fault}), looking for an older checkpoint")
    return None


def load(folder: Path, inputs: str, step: int) -> Checkpoint:
    """Read a checkpoint that `load_latest` has found to be whole."""
    path = _path(folder, inputs, step)
    return Checkpoint(
        step, load_file(path / "adapter.safetensors"), load_file(path / "optimizer.safetensors")
    )


def num_logged(folder: Path, inputs: str, step: int) -> int | None:
    """Return how many lines of metrics there were when a checkpoint was saved.

    None without that checkpoint, and where an earlier version wrote it.
    """
    manifest = read_checked(_path(folder, inputs, step) / "manifest.json") or {}
    found = manifest.get("logged")
    return found if isinstance(found, int) else None  # a run folder may say anything


def _path(folder: Path, inputs: str, step: int) -> Path:
    return folder / f"step-{step:06d}-{_mark(inputs)}"


def _mark(inputs: str) -> str:
    return inputs[:8]


def _manifests(folder: Path, inputs: str) -> dict[Path, dict[str, Any]]:
    """Return the complete checkpoints of these inputs with their manifests, oldest step first."""
    found = {}
    for path in folder.glob(f"step-*-{_mark(inputs)}/manifest.json"):
        manifest = read_checked(path)  # a damaged one is said, and an older checkpoint is taken
        if manifest is not None and manifest.get("inputs") == inputs and "sha256" in manifest:
            found[path.parent] = manifest
    return dict(sorted(found.items(), key=lambda item: item[1]["step"]))
