"""Read PEFT's settings of an adapter, and refuse those that would do more than add LoRA layers.

`adapter_config.json` comes with an adapter, perhaps from someone else. Some of its settings replace
layers of the base, repeat them, train rows of its embeddings, or name modules to import.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from peft import LoraConfig

from pdtrain.storage import read_json

SETTINGS = "adapter_config.json"
# what an adapter may choose: its size, which layers it is on, and what it says of itself
FREE = {
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "target_parameters",
    "exclude_modules",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "init_lora_weights",  # of no effect on weights that are loaded
}
FIXED = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
MOST_BYTES = 10_000_000  # of a file of settings: names of layers, of the largest models


def read_settings(folder: Path, remedy: str) -> dict[str, Any]:
    """Return PEFT's settings in an adapter's folder.

    Args:
        folder: the adapter's.
        remedy: what to do where they are bad; ends the error's message.

    Raises:
        ValueError: they are no JSON object, or more than plain LoRA.
    """
    path = folder / SETTINGS
    try:
        found = read_json(path) if path.stat().st_size <= MOST_BYTES else None
    except ValueError:  # no JSON
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} is damaged: expected a JSON object with PEFT's settings; {remedy}"
        )
    _refuse_more_than_lora(found, path, remedy)
    return found


def _refuse_more_than_lora(settings: dict[str, Any], path: Path, remedy: str) -> None:
    """Raise ValueError where settings would change the base, or are unknown."""
    for key, value in settings.items():
        if key in FREE or not value or value == _defaults().get(key) or value == FIXED.get(key):
            continue
        raise ValueError(
            f"{path} has {key}={_short(value)}, and only plain LoRA is loaded here, which leaves "
            f"the base as it is; {remedy}"
        )
    for key in ("peft_type", "task_type"):
        if settings.get(key) not in (FIXED[key], None):
            raise ValueError(f"{path} has {key}={_short(settings.get(key))}; {remedy}")
    if not isinstance(settings.get("init_lora_weights", True), bool | None):
        raise ValueError(
            f"{path} has init_lora_weights={_short(settings['init_lora_weights'])}, by which some "
            f"variants change the base's own weights; {remedy}"
        )
    for key in ("r", "lora_alpha", "lora_dropout"):
        if type(settings.get(key, 1)) not in (int, float):
            raise ValueError(f"{path} has {key}={_short(settings[key])}, not a number; {remedy}")


@cache
def _defaults() -> dict[str, Any]:
    plain = LoraConfig()
    return {known.name: getattr(plain, known.name) for known in fields(plain)}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
