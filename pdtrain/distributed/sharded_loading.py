"""Loading a base that is spread over the ranks, and comparing it with its files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.utils import cached_file

from pdtrain.config import ModelConfig
from pdtrain.distributed.process_group import gathered
from pdtrain.models.base import resolve
from pdtrain.storage import read_json


@contextmanager
def spread(settings: dict[str, Any] | None) -> Iterator[None]:
    """Models loaded inside are spread over the ranks weight by weight, no rank holding a copy.

    `settings` are DeepSpeed's; below ZeRO stage 3, or without them, nothing happens.
    """
    if settings is None or settings["zero_optimization"]["stage"] < 3:
        yield
        return
    from transformers.integrations import HfDeepSpeedConfig
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    kept = HfDeepSpeedConfig(settings)  # transformers holds it by a weak reference
    try:
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
    stored = file.get_slice(name)
    shape = stored.get_shape()
    if list(weight.ds_shape) != shape:
        return False
    row = math.prod(shape[1:])
    for start, part in _parts(weight):
        end = min(start + part.numel(), weight.ds_numel)  # what lies beyond is padding
        if start < end:
            rows = stored[start // row : -(-end // row)].flatten()
            wanted = rows[start % row :][: end - start].to(part.dtype)
            if not torch.equal(part[: end - start].cpu(), wanted):
                return False
    return True


def _parts(weight: Any) -> Iterator[tuple[int, Tensor]]:
    """What this rank holds of a weight: its first element's place in the whole, and the values.

    The whole is cut among all ranks, and under hpZ a second time among those of a node.
    """
    padded = weight.ds_tensor.ds_numel * dist.get_world_size()
    for part in (weight.ds_tensor, weight.ds_secondary_tensor):
        if part is not None:
            yield dist.get_rank() % (padded // part.ds_numel) * part.ds_numel, part


def _places(config: ModelConfig) -> dict[str, Path]:
    """The file of each weight, by its name; empty for a model without safetensors."""
    source = resolve(config)
    found = {
        name: cached_file(
            source,
            name,
            revision=config.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_connection_errors=False,
        )
        for name in ("model.safetensors.index.json", "model.safetensors")
    }
    index, single = (path and Path(path) for path in found.values())
    if index:
        weights: dict[str, str] = read_json(index)["weight_map"]
        return {name: index.parent / file for name, file in weights.items()}
    if not single:
        return {}
    with safe_open(single, "pt") as file:
        return dict.fromkeys(file.keys(), single)
