"""Loading a base that is spread over the ranks, and comparing samples of it with its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.utils import cached_file

from pdtrain.config import ModelConfig
from pdtrain.engine import from_first
from pdtrain.files import read_json
from pdtrain.model import resolve

SAMPLES = 16  # weights that are compared with their file


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


def verify(model: nn.Module, config: ModelConfig) -> None:
    """Compare some whole weights with the files they came from. All ranks take part.

    That none is missing is checked by `load_model` itself.

    Raises:
        ValueError: on every rank, when one differs.
    """
    import torch.distributed as dist
    from deepspeed import zero

    named = dict(model.named_parameters())
    places = _places(config)
    known = [name for name in named if name in places]
    chosen = [known[i * len(known) // SAMPLES] for i in range(min(SAMPLES, len(known)))]
    wrong = ""
    for name in chosen:
        with zero.GatheredParameters([named[name]]):
            if dist.get_rank() == 0:
                mine = named[name].detach().cpu()
                try:
                    with safe_open(places[name], "pt") as file:
                        same = torch.equal(mine, file.get_tensor(name).to(mine.dtype))
                except (OSError, SafetensorError):  # to be told to all ranks, not raised on one
                    same = False
                if not same:
                    wrong = wrong or name
    if wrong := from_first(wrong):
        raise ValueError(
            f"model.name={config.name!r}: the weight {wrong} is not what its file holds; the "
            "load went wrong, or the file is damaged: download the model again"
        )


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
