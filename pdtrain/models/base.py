"""Load the base model: any Hugging Face causal LM, or the embedded one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
)

from pdtrain.config import ModelConfig
from pdtrain.models import head, quantization
from pdtrain.models.architectures import let_read_text, served_class
from pdtrain.models.attention import prefix

# those who load the model as well take these from here
from pdtrain.models.tokenizer import find_thinking as find_thinking
from pdtrain.models.tokenizer import fingerprint as fingerprint
from pdtrain.models.tokenizer import from_pretrained, resolve
from pdtrain.models.tokenizer import load_tokenizer as load_tokenizer


def load_model(config: ModelConfig, device_map: Mapping[str, int] | None = None) -> PreTrainedModel:
    """Load the frozen base in evaluation mode on its device; no weight asks for gradients.

    Args:
        device_map: the number of the GPU that holds a module, by the module's name, where several
            hold the base (`models.placement`).

    Raises:
        ValueError: the model cannot be loaded or quantized, weights are missing from its files, its
            head does what the loss does not know, or `model.batching` does not fit it.
    """
    make_current(device_of(config))
    settings = from_pretrained(AutoConfig, resolve(config), config)
    options: dict[str, Any] = {"device_map": dict(device_map)} if device_map else {}
    if config.quantization != "none":
        options = quantization.loading_options(
            config, skeleton(config), dtype_of(config), device_of(config), device_map
        )
    else:
        options |= quantization.made_whole(settings)
    model, report = from_pretrained(
        served_class(settings) or AutoModelForCausalLM,
        resolve(config),
        config,
        dtype=dtype_of(config),
        output_loading_info=True,
        use_safetensors=True,  # what is pickled may hold a program
        **options,
    )
    _refuse_holes(config, report)
    let_read_text(model)
    head.find(model)  # raises where the loss would be wrong, before any work is done
    if config.quantization != "none":
        quantization.prepare(model)
    placed = model if "device_map" in options else model.to(device_of(config))
    return prefix.prepare(placed.eval().requires_grad_(False), config.batching)


def _refuse_holes(config: ModelConfig, report: dict[str, Any]) -> None:
    """Raise ValueError where weights are missing: transformers would take random numbers."""
    missing = sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])})
    if missing:
        raise ValueError(
            f"model.name={config.name!r}: {len(missing)} weights are missing from its files or "
            f"have other sizes than its config says, {missing[0]} first; download the model again"
        )


def skeleton(config: ModelConfig) -> PreTrainedModel:
    """Return the model without memory, on the meta device; only its config.json is read."""
    settings = from_pretrained(AutoConfig, resolve(config), config)
    served = served_class(settings)
    with torch.device("meta"):
        made = served(settings) if served else AutoModelForCausalLM.from_config(settings)
    return let_read_text(made)


def is_spread_later(config: ModelConfig) -> bool:
    """Return whether a base is loaded whole by every rank, and spread by DeepSpeed's engine.

    Weights that are quantized, or made whole, while they are read cannot be spread one by one, and
    no file holds them as they are.
    """
    settings = from_pretrained(AutoConfig, resolve(config), config)
    return config.quantization != "none" or bool(quantization.made_whole(settings))


def window(config: ModelConfig) -> int | None:
    """Return how many tokens the model can read, as its config.json says; None for no limit."""
    settings = from_pretrained(AutoConfig, resolve(config), config).get_text_config()
    found: int | None = getattr(settings, "max_position_embeddings", None)
    return found


def end_ids(config: ModelConfig) -> int | list[int] | None:
    """Return the ids that end the model's texts by its own settings; no weight is read."""
    source = resolve(config)
    try:
        found = GenerationConfig.from_pretrained(source, revision=config.revision or "main")
    except OSError:  # the model has no such file, and transformers asks its config
        settings = from_pretrained(AutoConfig, source, config)
        found = GenerationConfig.from_model_config(settings)
    ids: int | list[int] | None = found.eos_token_id
    return ids


def device_of(config: ModelConfig) -> torch.device:
    """Return the device of the config: with `auto` the GPU where there is one, else the CPU.

    Raises:
        ValueError: a device without 64-bit floats, in which sums are taken and draws are made.
    """
    if config.device != "auto":
        device = torch.device(config.device)
        if device.type == "mps":
            raise ValueError(
                "model.device=mps: Apple's GPUs have no 64-bit floats, which exact sums need; "
                "set model.device=cpu"
            )
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_current(device: torch.device) -> None:
    """Make a GPU that is named by its number this thread's current one, where Triton launches."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def dtype_of(config: ModelConfig) -> torch.dtype:
    """Return the dtype of the config: with `auto` bf16 on a GPU and fp32 on a CPU.

    On many CPUs a matrix product in bf16 takes a hundred times as long.
    """
    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.dtype]
    return torch.float32 if device_of(config).type == "cpu" else torch.bfloat16
