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
    """Return the base with a new LoRA adapter on it, which has no effect yet.

    Args:
        in_fp32: keep the adapter's weights in fp32. An engine that has fp32 masters of its own
            takes them in the base's dtype.
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
    """Run the base alone inside: switch the adapter of every layer off, and back afterwards."""
    with switched_off(tuners_of(model)):
        yield


def tuners_of(module: nn.Module) -> list[BaseTunerLayer]:
    """Return the layers that have an adapter."""
    return [part for part in module.modules() if isinstance(part, BaseTunerLayer)]


@contextmanager
def switched_off(tuners: Sequence[BaseTunerLayer]) -> Iterator[None]:
    """Switch the adapter of these layers off inside, and back afterwards.

    PEFT's public switch also turns requires_grad off and on, which must not happen in the middle of
    the twin's forward pass. So its private flag is set, which changes nothing else.
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
    """Let the adapter drop units inside; the base stays as it is when it teaches."""
    drops: list[nn.Module] = [getattr(tuner, DROPOUT) for tuner in tuners]
    for drop in drops:
        drop.train()
    try:
        yield
    finally:
        for drop in drops:
            drop.eval()
