"""Loading a base that is spread over the ranks, and the proof that it arrived whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from pdtrain.config import ModelConfig
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
    """Compare some weights with the files they came from. All ranks take part.

    Raises:
        ValueError: on every rank, when one differs.
    """
    import torch.distributed as dist
    from deepspeed import zero

    named = dict(model.named_parameters())
    places = _places(Path(resolve(config)))
    known = [name for name in named if name in places]
    chosen = [known[i * len(known) // SAMPLES] for i in range(min(SAMPLES, len(known)))]
    wrong = ""
    for name in chosen:
        with zero.GatheredParameters([named[name]]):
            if dist.get_rank() == 0:
                with safe_open(places[name], "pt") as file:
                    stored = file.get_tensor(name)
                mine = named[name].detach().cpu()
                if not torch.equal(mine, stored.to(mine.dtype)):
                    wrong = wrong or name
    verdict = [wrong]
    dist.broadcast_object_list(verdict)
    if verdict[0]:
        raise ValueError(
            f"model.name={config.name!r}: the weight {verdict[0]} is not what its file holds; the "
            "load went wrong, or the file is damaged: download the model again"
        )


def _places(folder: Path) -> dict[str, Path]:
    """The file of each weight, by its name; empty for a model that is not a folder."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return {name: folder / file for name, file in read_json(index)["weight_map"].items()}
    single = folder / "model.safetensors"
    if not single.is_file():
        return {}
    with safe_open(single, "pt") as file:
        return dict.fromkeys(file.keys(), single)
