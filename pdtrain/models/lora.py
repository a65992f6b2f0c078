"""Put a LoRA adapter on a base model, and switch it off and on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from pdtrain.config import AdapterConfig

DROPOUT = "lora_dropout"  # PEFT's name of the part of a layer that drops units


def add_adapter(
    base: PreTrainedModel, config: AdapterConfig, seed: int, *, in_fp32: bool = True
) -> PeftModel:
    """The base with a LoRA adapter of zero initial effect.

    Its weights are fp32, or with `in_fp32=False` in the base's dtype, for an engine that keeps
    fp32 masters of its own.
    """
    names = [name.strip() for name in config.target_modules.split(",")]
    targets = names[0] if names == ["all-linear"] else names
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            base,
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=targets,
                task_type="CAUSAL_LM",
            ),
            autocast_adapter_dtype=in_fp32,
        )
    return model.eval()


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The base alone. A flag on each layer; unlike PEFT's own switch it leaves requires_grad be."""
    with switched_off(tuners_of(model)):
        yield


def tuners_of(module: nn.Module) -> list[BaseTunerLayer]:
    return [part for part in module.modules() if isinstance(part, BaseTunerLayer)]


@contextmanager
def switched_off(tuners: Sequence[BaseTunerLayer]) -> Iterator[None]:
    """Leave the adapter of these layers out.

    PEFT's public switch also turns requires_grad off and on, in the middle of the twin's forward
    pass, so its private flag is set, which changes nothing else.
    """
    before = [tuner._disable_adapters for tuner in tuners]
    for tuner in tuners:
        tuner._disable_adapters = True
    try:
        yield
    finally:
        for tuner, was in zip(tuners, before, strict=True):
            tuner._disable_adapters = was


@contextmanager
def dropout_on(tuners: Sequence[BaseTunerLayer]) -> Iterator[None]:
    """The adapter's dropout alone: the base stays as it is when it teaches."""
    drops: list[nn.Module] = [getattr(tuner, DROPOUT) for tuner in tuners]
    for drop in drops:
        drop.train()
    try:
        yield
    finally:
        for drop in drops:
            drop.eval()
