"""Load a base that is spread over the ranks, and compare it with its files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.utils import cached_file

from pdtrain.config import ModelConfig
from pdtrain.distributed.deepspeed_private import held_parts, whole_shape
from pdtrain.distributed.extension_locks import swept_locks
from pdtrain.distributed.process_group import gathered
from pdtrain.models.base import resolve
from pdtrain.storage import read_json


@contextmanager
def spread(settings: dict[str, Any] | None) -> Iterator[None]:
    """Spread models that are loaded inside over the ranks, weight by weight.

    No rank ever holds a copy.

    Args:
        settings: DeepSpeed's; below ZeRO stage 3, or without them, nothing happens.
    """
    if settings is None or settings["zero_optimization"]["stage"] < 3:
        yield
        return
    from transformers.integrations import HfDeepSpeedConfig
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    kept = HfDeepSpeedConfig(settings)  # transformers holds it by a weak reference
    try:
        with swept_locks():  # DeepSpeed compiles when the first weight is spread
            yield
    finally:
        unset_hf_deepspeed_config()
        del kept


def verify(model: nn.Module, config: ModelConfig) -> int:
    """Compare the base with the files it came from, to the last bit. All ranks take part.

    Every rank reads what it holds, the second part of hpZ too, so no weight is gathered, and all
    ranks together read the files once, or twice. That no weight is missing `load_model` checks.

    Returns:
        How many weights could not be compared: the files have none of that name, or are no
        safetensors.

    Raises:
        ValueError: on every rank, when one weight differs on any.
    """
    named, wrong = dict(model.named_parameters()), ""
    places: dict[Path, list[str]] = {}
    for name, path in _places(config).items():
        if name in named:
            places.setdefault(path, []).append(name)
    for path, names in places.items():
        try:
            with safe_open(path, "pt") as file:
                differ = (name for name in names if not _is_as_in(file, name, named[name]))
                wrong = wrong or next(differ, "")
        except (OSError, SafetensorError):  # to be told to all ranks, not raised on one
            wrong = wrong or names[0]
    found = [(rank, name) for rank, name in enumerate(gathered(wrong)) if name]
    if found:
        rank, name = found[0]
        raise ValueError(
            f"model.name={config.name!r}: on rank {rank} the weight {name} is not what its file "
            "holds; the load went wrong, or the file is damaged: download the model again"
        )
    return len(named) - sum(map(len, places.values()))


def _is_as_in(file: Any, name: str, weight: Any) -> bool:
    """Return if what this rank holds of a weight equals the file's, to the last bit.

    Transformers turns the experts' matrices of some published files (Qwen3-VL MoE); these are
    read whole.
    """
    stored = file.get_slice(name)
    shape, held = stored.get_shape(), whole_shape(weight)
    turned = None
    if held != shape:
        if len(shape) != 3 or [shape[0], shape[2], shape[1]] != held:
            return False
        turned = stored[:].transpose(1, 2).flatten()
    row, size = math.prod(shape[1:]), math.prod(shape)
    for start, part in held_parts(weight):
        end = min(start + part.numel(), size)  # what lies beyond is padding
        if start < end:
            if turned is None:
                rows = stored[start // row : -(-end // row)].flatten()
                wanted = rows[start % row :][: end - start]
            else:
                wanted = turned[start:end]
            if not torch.equal(part[: end - start].cpu(), wanted.to(part.dtype)):
                return False
    return True


def _places(config: ModelConfig) -> dict[str, Path]:
    """Return the file of each weight by its name; empty for a model without safetensors."""
    if index := _file(config, "model.safetensors.index.json"):
        weights: dict[str, str] = read_json(index)["weight_map"]
        return {name: index.parent / file for name, file in weights.items()}
    single = _file(config, "model.safetensors")
    if not single:
        return {}
    with safe_open(single, "pt") as file:
        return dict.fromkeys(file.keys(), single)


def _file(config: ModelConfig, name: str) -> Path | None:
    """Return the path of one of the model's files, or None where it has no such file."""
    try:
        found = cached_file(resolve(config), name, revision=config.revision)
    except OSError:  # missing, or not to be reached
        return None
    return Path(found) if found else None
