"""Decide on which GPUs one process loads a whole base, before any weight is read.

A base that one GPU holds goes there. A larger one is spread layer by layer over all GPUs that the
process sees, by a device map of accelerate's; where these are too small together it is refused.
Ranks that train hold a part of the base each, and need none of this.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import infer_auto_device_map
from transformers import PreTrainedModel

from pdtrain.config import ModelConfig
from pdtrain.models import quantization
from pdtrain.models.architectures import decoder_of, setting
from pdtrain.models.base import device_of, dtype_of, load_model, skeleton
from pdtrain.progress import say

GIB = 2**30
CONTEXT_BYTES = GIB  # of each GPU, for the CUDA context and fragmentation; assumed
TOKENS_AT_ONCE = 32 * 640  # of a batch: 32 prompts of a passage of 512, a question and an answer
PATIENCE_SECONDS = 60  # for other ranks of this machine, which end and free their memory

DeviceMap = dict[str, int]  # a module's name and the number of the GPU that holds it


@dataclass(frozen=True)
class Need:
    """Hold the bytes that a base takes which one process holds whole, to generate with it."""

    weights: int
    working: int  # keys, values and activations of a large batch

    @property
    def least(self) -> int:
        """Return the bytes without which one GPU cannot even hold the base."""
        return self.weights + CONTEXT_BYTES

    @property
    def comfortable(self) -> int:
        """Return the bytes with which one GPU generates in large batches."""
        return self.least + self.working


@dataclass(frozen=True)
class Gpu:
    """Hold the number of a visible GPU and its memory in bytes."""

    index: int
    free: int
    total: int


def load_whole(config: ModelConfig) -> PreTrainedModel:
    """Load the frozen base as `load_model` does, over several GPUs where one is too small.

    Raises:
        ValueError: the visible GPUs cannot hold it, or as for `load_model`.
    """
    return load_model(config, device_map(config))


def device_map(config: ModelConfig) -> DeviceMap | None:
    """Return which GPU holds which module; None where one device holds them all.

    Raises:
        ValueError: the GPUs that the config allows are too small for the base.
    """
    if device_of(config).type != "cuda":
        return None
    model = skeleton_of(config)
    need = need_of(model, config)
    found = place(config, model, need, settled_gpus(config, need))
    if found:
        say(f"model: {need.weights / GIB:.1f} GiB, over GPUs {sorted(set(found.values()))}")
    return found


def skeleton_of(config: ModelConfig) -> PreTrainedModel:
    """Return the base on the meta device, in the dtype of the run."""
    model: Any = skeleton(config)
    found: PreTrainedModel = model.to(dtype_of(config))
    return found


def need_of(model: PreTrainedModel, config: ModelConfig | None = None) -> Need:
    """Return what a base takes, by its skeleton on the meta device in the dtype of the run.

    A batch keeps keys and values of all layers, and of one layer's activations four times the
    hidden size and three times the MLP's inner size.

    Args:
        config: says whether the base is quantized; by default it is not.
    """
    settings = model.config.get_text_config()
    width = model.dtype.itemsize
    heads = setting(settings, "num_attention_heads") or 1
    head_size = setting(settings, "head_dim") or settings.hidden_size // heads
    keys = 2 * (setting(settings, "num_key_value_heads") or heads) * head_size
    inner = setting(settings, "intermediate_size") or 4 * settings.hidden_size
    a_token = settings.num_hidden_layers * keys + 4 * settings.hidden_size + 3 * inner
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = parameters * width
    if config and config.quantization != "none":
        layers = quantization.quantizable(model).values()
        quantized = sum(part.weight.numel() for part in layers)
        weights = quantization.stored_bytes(config, parameters, quantized, width)
    return Need(weights, TOKENS_AT_ONCE * a_token * width)


def gpus_of(config: ModelConfig) -> list[Gpu]:
    """Return the GPUs that the config allows: the one that it names, else all visible ones."""
    device = device_of(config)
    if device.type != "cuda":
        return []
    named = range(torch.cuda.device_count()) if device.index is None else [device.index]
    give_back_memory()  # what this process keeps for later use would count as taken
    return [Gpu(index, *torch.cuda.mem_get_info(index)) for index in named]


def give_back_memory() -> None:
    """Give the GPUs the memory back that PyTorch keeps for later use, as when training has ended.

    The next part of the work may be of another process, or need it for something else.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def settled_gpus(config: ModelConfig, need: Need, patience: float = PATIENCE_SECONDS) -> list[Gpu]:
    """Return the GPUs, and wait where they are large enough but other processes still fill them.

    After training, the first rank loads the base while the others of its machine come to an end.
    """
    deadline = time.monotonic() + patience
    while True:
        gpus = gpus_of(config)
        if sum(gpu.total - CONTEXT_BYTES for gpu in gpus) < need.weights:
            return gpus
        if sum(max(0, gpu.free - CONTEXT_BYTES) for gpu in gpus) >= need.weights:
            return gpus
        if time.monotonic() > deadline:
            return gpus
        time.sleep(1)


def place(
    config: ModelConfig, model: PreTrainedModel, need: Need, gpus: Sequence[Gpu]
) -> DeviceMap | None:
    """Return which of the GPUs holds which module; None where the first holds them all.

    A GPU is given the base alone where that leaves room for large batches, or where it is the only
    one. Otherwise the layers are spread evenly, and if that does not fit, as they fit.

    Raises:
        ValueError: the GPUs are too small.
    """
    first = gpus[0]
    if first.free >= need.comfortable:
        return None
    if len(gpus) > 1:
        each = need.working // len(gpus)
        room = {gpu.index: gpu.free - CONTEXT_BYTES - each for gpu in gpus}
        layer = need.weights // model.config.get_text_config().num_hidden_layers
        evenly = need.weights // len(gpus) + layer
        least = {gpu.index: gpu.free - CONTEXT_BYTES for gpu in gpus}
        for most in ({index: min(size, evenly) for index, size in room.items()}, room, least):
            if found := _spread(model, most):
                return found
    if first.free >= need.least:
        return None
    raise ValueError(refusal(config, need, gpus))


def _spread(model: PreTrainedModel, most: dict[int, int]) -> DeviceMap | None:
    """Return a device map with at most so many bytes on each GPU; None where there is none."""
    found = infer_auto_device_map(
        model,
        max_memory={index: max(0, size) for index, size in most.items()},
        no_split_module_classes=_undivided(model),
    )
    places = set(found.values())
    return found if len(places) > 1 and all(isinstance(place, int) for place in places) else None


def _undivided(model: PreTrainedModel) -> list[str]:
    """Return the names of the classes of the decoder's layers."""
    layers = getattr(decoder_of(model), "layers", None)
    if layers is None:  # of an architecture that names them otherwise
        return sorted(getattr(model, "_no_split_modules", None) or [])
    return sorted({type(layer).__name__ for layer in layers})


def refusal(config: ModelConfig, need: Need, gpus: Sequence[Gpu]) -> str:
    """Return the message where the base does not fit: what it needs, what there is, what to do."""
    free = ", ".join(f"{gpu.free / GIB:.1f}" for gpu in gpus)
    more = (
        "let this process see more GPUs (CUDA_VISIBLE_DEVICES) or larger ones"
        if device_of(config).index is None
        else "set model.device=auto, which spreads the base over all visible GPUs"
    )
    return (
        f"model.name={config.name!r} does not fit: the process that generates holds the whole "
        f"base, {need.weights / GIB:.1f} GiB of weights, and {CONTEXT_BYTES / GIB:.0f} GiB more on "
        f"each GPU; there are {free} GiB free, GPU by GPU; {more}, or take a smaller model"
    )
