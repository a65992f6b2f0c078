"""Put a LoRA adapter on a base model, and switch it off and on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pdtrain.config import AdapterConfig
from pdtrain.models.architectures import decoder_of

# PEFT refuses `out_proj` of these: their fused kernels take its weight as it is
RECURRENT = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
# Zamba 2's low-rank parts beside weights that its layers share: every layer holds those of all, and
# uses one. The layer beside them has an adapter of its own in every place.
OWN_ADAPTERS = "_adapter_list"
ALL = "all-linear"  # stands for every linear layer
DROPOUT = "lora_dropout"  # PEFT's name of the part of a layer that drops units


def add_adapter(
    base: PreTrainedModel, config: AdapterConfig, seed: int, *, in_fp32: bool = True
) -> PeftModel:
    """Return the base with a new LoRA adapter on it, which has no effect yet.

    Args:
        in_fp32: keep the adapter's weights in fp32. An engine that has fp32 masters of its own
            takes them in the base's dtype.
    """
    refuse_unknown(base, config)
    names, fused = names_in(config.target_modules), names_in(config.target_parameters)
    targets = ALL if names == [ALL] else names
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        target_parameters=fused or None,
        exclude_modules=not_adapted(base),
        task_type="CAUSAL_LM",
    )
    if targets == ALL:
        settings.target_modules = all_linear(base)
    # the weights are drawn where the base is, so its generator is put back as well as the CPU's
    devices = sorted({p.device.index or 0 for p in base.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            model = get_peft_model(base, settings, autocast_adapter_dtype=in_fp32)
        except ValueError as error:  # a layer that takes no adapter
            raise ValueError(
                f"adapter.target_modules={config.target_modules!r}: {str(error).splitlines()[0]} "
                "Take all-linear, or names of linear layers such as q_proj,v_proj"
            ) from error
    return model.eval()


def names_in(text: str) -> list[str]:
    """Return the names that a knob holds, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def refuse_unknown(base: PreTrainedModel, config: AdapterConfig) -> None:
    """Check that a model has every layer and weight that an adapter is to be put on.

    PEFT is content with one of several names.

    Args:
        base: the model, which may be on the meta device.

    Raises:
        ValueError: a name is that of none.
    """
    modules, weights = dict(base.named_modules()), dict(base.named_parameters())
    for knob, found in (("target_modules", modules), ("target_parameters", weights)):
        for name in names_in(getattr(config, knob)):
            is_there = any(f".{one}".endswith(f".{name}") for one in found)
            if name == ALL or is_there or _is_of_experts(base, name):
                continue
            known = {one.rpartition(".")[2] for one, part in modules.items() if _is_linear(part)}
            if knob == "target_parameters":
                known = {one.rpartition(".")[2] for one, part in weights.items() if part.dim() == 3}
            raise ValueError(
                f"adapter.{knob}={getattr(config, knob)!r}: the model has no {name!r}; it has "
                f"{', '.join(sorted(known)) or 'none that would do'}; separate names by commas"
            )


def _is_of_experts(base: PreTrainedModel, name: str) -> bool:
    """Return whether PEFT knows a name as that of fused experts, which are no layers."""
    tried = LoraConfig(target_modules=[name], task_type="CAUSAL_LM")
    convert_peft_config_for_transformers(tried, base, None)
    return set(tried.target_modules or ()) != {name}


def _is_linear(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear | Conv1D)


def all_linear(base: PreTrainedModel) -> str | list[str]:
    """Return what `all-linear` means for a model: of a mixture of experts, all but experts.

    Routers send tokens to experts as the base does it. Fused experts are no linear layers, and PEFT
    adapts them as `target_parameters`. For some architectures it takes names such as up_proj to
    mean the experts, wherever they stand: these are left out here, shared experts with them.
    """
    if not any(name.endswith("experts") for name, _ in base.named_modules()):
        return ALL
    head = base.get_output_embeddings()
    names = {
        re.split(r"\.\d+\.", name, maxsplit=1)[-1]
        for name, part in decoder_of(base).named_modules()
        if isinstance(part, nn.Linear)
        and part is not head
        and ".experts." not in name
        and not is_router(decoder_of(base), name)
    }
    tried = LoraConfig(target_modules=sorted(names), task_type="CAUSAL_LM")
    convert_peft_config_for_transformers(tried, base, None)
    return sorted(names & set(tried.target_modules or ()))


def not_adapted(base: PreTrainedModel) -> str | None:
    """Return a pattern of the layers that get no adapter whatever `adapter.target_modules` says.

    These are layers outside the decoder of a wrapper, such as a vision tower, which no text goes
    through, and layers whose weight a model takes as it is, so that an adapter had no effect.
    """
    decoder = decoder_of(base)
    inside = next((name for name, part in base.named_modules() if part is decoder), "")
    linears = {name for name, part in base.named_modules() if isinstance(part, nn.Linear)}
    head = base.get_output_embeddings()
    patterns = []
    if any(
        not name.startswith(f"{inside}.") and base.get_submodule(name) is not head
        for name in linears
    ):
        patterns.append(rf"(?!{re.escape(inside)}\.).*")
    if any(name.endswith(".dt_proj") for name in linears):
        patterns.append(r".*\.dt_proj")
    if base.config.model_type in RECURRENT:
        patterns.append(r".*\.out_proj")
    if any(OWN_ADAPTERS in name for name in linears):
        patterns.append(rf".*{OWN_ADAPTERS}\..*")
    return "|".join(patterns) or None


def is_router(model: nn.Module, name: str) -> bool:
    """Return whether a linear layer of this name sends tokens to the experts beside it."""
    own: Any = model.get_submodule(name)
    experts: Any = getattr(model.get_submodule(name.rpartition(".")[0]), "experts", None)
    if experts is None:
        return False
    count = len(experts) if isinstance(experts, nn.ModuleList) else experts.num_experts
    return bool(own.out_features <= count)


def refuse_shared(model: PeftModel) -> None:
    """Raise ValueError where adapters of several layers would be merged into one shared weight."""
    owner: dict[int, str] = {}
    for name, part in model.get_base_model().named_modules():
        if not isinstance(part, BaseTunerLayer):
            continue
        weight = getattr(part.get_base_layer(), "weight", None)
        if weight is not None and owner.setdefault(id(weight), name) != name:
            raise ValueError(
                f"export.merge=true: {owner[id(weight)]} and {name} share one weight in this "
                "model, and their adapters differ; set export.merge=false and serve the adapter"
            )


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
