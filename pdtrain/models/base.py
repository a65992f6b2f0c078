"""Load the base model and its tokenizer: any Hugging Face causal LM, or the embedded one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
)
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import logging as hf_logging

from pdtrain.config import ModelConfig
from pdtrain.models import head, quantization
from pdtrain.models.architectures import let_read_text, served_class
from pdtrain.models.attention import prefix
from pdtrain.models.chat import thinking
from pdtrain.models.embedded import EMBEDDED_MODEL, EMBEDDED_SHA256, embedded_folder
from pdtrain.storage import sha256_file

CACHED = "models--"  # begins the name of a model's folder in the hub's cache
HASH = re.compile(r"[0-9a-f]{32,64}")  # of a snapshot or a commit


def load_tokenizer(config: ModelConfig, *, thinks: bool = False) -> Tokenizer:
    """Load the model's tokenizer; its chat template does what `model.thinking` asks for.

    Args:
        thinks: return the one whose prompts let the model think before it answers.

    Raises:
        ValueError: it cannot be loaded, has no chat template, or one that `model.thinking` and
            `model.chat_template_kwargs` do not fit.
    """
    tokenizer = _tokenizer(config)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    found = thinking.find(tokenizer, config)
    return thinking.let_think(tokenizer, found) if thinks else thinking.silenced(tokenizer, found)


def find_thinking(config: ModelConfig) -> thinking.Thinking:
    """Return what the model's chat template needs so that `model.thinking` holds.

    Raises:
        ValueError: as `load_tokenizer`.
    """
    return thinking.find(_tokenizer(config), config)


def _tokenizer(config: ModelConfig) -> Tokenizer:
    """Load the tokenizer with its chat template as it comes."""
    tokenizer = _from_pretrained(AutoTokenizer, resolve(config), config)
    if not tokenizer.chat_template:
        raise ValueError(
            f"model.name={config.name!r}: its tokenizer has no chat template, and prompt "
            "distillation asks questions as a chat; use an instruction-tuned model, or add a "
            "chat_template.jinja file to the model's folder"
        )
    return tokenizer


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
    settings = _from_pretrained(AutoConfig, resolve(config), config)
    options: dict[str, Any] = {"device_map": dict(device_map)} if device_map else {}
    if config.quantization != "none":
        options = quantization.loading_options(
            config, skeleton(config), dtype_of(config), device_of(config), device_map
        )
    else:
        options |= quantization.made_whole(settings)
    model, report = _from_pretrained(
        served_class(settings) or AutoModelForCausalLM,
        resolve(config),
        config,
        dtype=dtype_of(config),
        output_loading_info=True,
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
    settings = _from_pretrained(AutoConfig, resolve(config), config)
    served = served_class(settings)
    with torch.device("meta"):
        made = served(settings) if served else AutoModelForCausalLM.from_config(settings)
    return let_read_text(made)


def is_spread_later(config: ModelConfig) -> bool:
    """Return whether a base is loaded whole by every rank, and spread by DeepSpeed's engine.

    Weights that are quantized, or made whole, while they are read cannot be spread one by one, and
    no file holds them as they are.
    """
    settings = _from_pretrained(AutoConfig, resolve(config), config)
    return config.quantization != "none" or bool(quantization.made_whole(settings))


def window(config: ModelConfig) -> int | None:
    """Return how many tokens the model can read, as its config.json says; None for no limit."""
    settings = _from_pretrained(AutoConfig, resolve(config), config).get_text_config()
    found: int | None = getattr(settings, "max_position_embeddings", None)
    return found


def end_ids(config: ModelConfig) -> int | list[int] | None:
    """Return the ids that end the model's texts by its own settings; no weight is read."""
    source = resolve(config)
    try:
        found = GenerationConfig.from_pretrained(source, revision=config.revision or "main")
    except OSError:  # the model has no such file, and transformers asks its config
        settings = _from_pretrained(AutoConfig, source, config)
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


def fingerprint(config: ModelConfig) -> dict[str, Any]:
    """Return what of the model decides a stage's output: part of every stage's input hash."""
    found = _files(config)
    if config.quantization != "none":
        found["quantization"] = config.quantization
    return found


def _files(config: ModelConfig) -> dict[str, Any]:
    """Return what tells the model's files from others, and the dtype that they are read in."""
    folder = Path(resolve(config))
    if config.name == "embedded":
        return {"name": EMBEDDED_MODEL, "sha256": EMBEDDED_SHA256, "dtype": config.dtype}
    if not folder.is_dir():
        return {"name": config.name, "revision": config.revision, "dtype": config.dtype}
    # sizes, not contents: a 70B model would be read for minutes at the start of every stage
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    patterns = ("*token*", "*.jinja", "vocab.*", "merges.txt", "generation_config.json")
    texts = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return {
        "config": sha256_file(folder / "config.json"),
        "dtype": config.dtype,
        "texts": [[path.name, sha256_file(path)] for path in texts if path.is_file()],
        "weights": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in weights],
    }


def resolve(config: ModelConfig) -> str:
    """Return a folder or hub name that transformers can load; prepare the embedded model first.

    Raises:
        ValueError: the name is a path that is no model folder.
    """
    if config.name == "embedded":
        return str(embedded_folder())
    looks_like_path = config.name.startswith((".", "/", "~")) or config.name.count("/") > 1
    folder = Path(config.name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ValueError(
                f"model.name={config.name!r} is a folder without config.json; expected a Hugging "
                "Face model folder (config.json, *.safetensors, tokenizer.json)"
            )
        return str(folder)
    if looks_like_path or folder.exists():
        raise ValueError(
            f"model.name={config.name!r} is not a folder on this machine; give the path of a "
            "Hugging Face model folder, a hub name such as owner/model, or `embedded`"
        )
    return config.name


def name_of(folder: Path) -> str:
    """Return what a model in a folder is called: a snapshot in the hub's cache has only a hash.

    The cache keeps `owner/model` in `models--owner--model/snapshots/HASH`.
    """
    names = [place.name for place in (folder, *folder.parents)]
    if is_in_hub_cache(folder):
        cached = next(name for name in names if name.startswith(CACHED))
        return cached.removeprefix(CACHED).replace("--", "/")
    plain = (n for n in names if n not in ("", "snapshots") and not HASH.fullmatch(n))
    return next(plain, "unknown")


def is_in_hub_cache(path: Path) -> bool:
    """Return whether a path leads through a model's folder in the hub's cache."""
    return any(part.startswith(CACHED) for part in path.parts)


def _from_pretrained(auto: Any, source: str, config: ModelConfig, **options: Any) -> Any:
    hf_logging.disable_progress_bar()  # a bar for a load of a second, even where none is wanted
    try:
        return auto.from_pretrained(
            source,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            **options,
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"model.name={config.name!r} asks for code of its author to be run (auto_map in its "
            "files); read that code, and set model.trust_remote_code=true if you trust it, or name "
            "another model"
        ) from None
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"model.name={config.name!r} could not be loaded: {reason} Give a folder on this "
            "machine or the name of a model on the hub that this machine can reach, or "
            "`embedded` for the small bundled one"
        ) from error
