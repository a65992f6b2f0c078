"""How much memory is free, and how much a model takes: known before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from pdtrain.config import ModelConfig
from pdtrain.models.base import resolve, skeleton


def free_memory_bytes() -> int | None:
    """What Linux says is available, or less where a container's limit leaves less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    free = kib["MemAvailable"] * 1024
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        # the page cache counts as used there, so this is the pessimistic side
        free = min(free, max(int(most) - int(used.read_text()), 0))
    return free


def num_parameters(config: ModelConfig) -> int:
    """From the headers of the weights; of a hub model, from its config, without the weights."""
    folder = Path(resolve(config))
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if files:
        return sum(_elements(path) for path in files)
    return sum(parameter.numel() for parameter in skeleton(config).parameters())


def _elements(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    return sum(torch.Size(shape).numel() for shape in shapes)
