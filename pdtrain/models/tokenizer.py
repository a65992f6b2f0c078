"""Load the base's tokenizer, and say which base it is, without torch."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from packaging.version import Version
from safetensors import SafetensorError
from transformers import AutoTokenizer
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import cached_file
from transformers.utils import logging as hf_logging

from pdtrain.config import ModelConfig
from pdtrain.errors import DENIED, FULL
from pdtrain.models import model_files
from pdtrain.models.chat import thinking
from pdtrain.models.embedded import EMBEDDED_MODEL, EMBEDDED_SHA256, embedded_folder
from pdtrain.storage import sha256_file

KNOWS_FORMATS = Version("5.15")  # of transformers; older ones would write the keyword into exports
PROCESSOR_TEMPLATE = "chat_template.json"


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
    tokenizer = from_pretrained(AutoTokenizer, resolve(config), config, **_format())
    if not tokenizer.chat_template:
        tokenizer.chat_template = _template_of_processor(config)
    if not tokenizer.chat_template:
        raise ValueError(
            f"model.name={config.name!r}: its tokenizer has no chat template, and prompt "
            "distillation asks questions as a chat; use an instruction-tuned model, or add a "
            "chat_template.jinja file to the model's folder"
        )
    named = tokenizer.chat_template
    if isinstance(named, dict) and "default" not in named:
        raise ValueError(
            f"model.name={config.name!r}: its tokenizer has several chat templates "
            f"({', '.join(sorted(named))}) and none is called default; write the one to use into "
            "a chat_template.jinja file in a copy of the model's folder"
        )
    return tokenizer


def _template_of_processor(config: ModelConfig) -> str | dict[str, str] | None:
    """Return the chat template of a model that also reads pictures; None where there is none.

    Such models may keep it beside their processor alone, where tokenizers do not look for it.
    """
    try:
        path = cached_file(resolve(config), PROCESSOR_TEMPLATE, revision=config.revision)
    except OSError:  # there is no such file
        return None
    try:
        found = json.loads(Path(str(path)).read_text(encoding="utf-8"))["chat_template"]
        return found if isinstance(found, str) else {t["name"]: t["template"] for t in found}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"model.name={config.name!r}: {PROCESSOR_TEMPLATE} holds no chat template that can be "
            f"read ({type(error).__name__}); fetch it again, or add a chat_template.jinja file"
        ) from None


def _format() -> dict[str, Any]:
    """Return what makes transformers read tokenizer.json where Mistral's tekken.json is beside it.

    Where the package mistral_common is installed, which vLLM needs, transformers takes tekken.json
    by itself, and leaves the chat template in the folder out.
    """
    is_known = Version(importlib.metadata.version("transformers")) >= KNOWS_FORMATS
    return {"mistral_format": False} if is_known else {}


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
    weights = sorted(folder.glob("*.safetensors"))
    patterns = (
        "*token*",
        "*.jinja",
        PROCESSOR_TEMPLATE,
        "vocab.*",
        "merges.txt",
        "generation_config.json",
    )
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
        if why := model_files.no_model(folder):
            raise ValueError(f"model.name={config.name!r} {why}")
        return str(folder)
    if folder.suffix == ".gguf" and folder.is_file():
        raise ValueError(f"model.name={config.name!r} {model_files.GGUF}")
    if looks_like_path or folder.exists():
        raise ValueError(
            f"model.name={config.name!r} is not a folder on this machine; give the path of a "
            "Hugging Face model folder, a hub name such as owner/model, or `embedded`"
        )
    return config.name


def from_pretrained(auto: Any, source: str, config: ModelConfig, **options: Any) -> Any:
    """Load a part of the model by one of transformers' classes.

    Raises:
        ValueError: it cannot be loaded, or not without code of its author.
        OSError: a disk is full, or a file may not be read.
    """
    hf_logging.disable_progress_bar()  # a bar for a load of a second, even where none is wanted
    try:
        return auto.from_pretrained(
            source,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno in FULL | DENIED:
            raise
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"model.name={config.name!r} asks for code of its author to be run (auto_map in "
                "its files); read that code, and set model.trust_remote_code=true if you trust it, "
                "or name another model"
            ) from None
        raise ValueError(
            f"model.name={config.name!r} could not be loaded: {model_files.fault(error, source)} "
            "Give a folder on this machine that holds all files of a model, or the name of a model "
            "on the hub that this machine can reach, or `embedded` for the small bundled one"
        ) from error
