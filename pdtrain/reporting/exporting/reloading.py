"""Load an export as anyone would, and compare its logits with the trained adapter's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from pdtrain.config import RunConfig
from pdtrain.models.architectures import let_read_text, served_class
from pdtrain.models.base import device_of, dtype_of, resolve
from pdtrain.models.chat.chat_template import Chat
from pdtrain.models.placement import device_map

PROMPT = "What can you tell me?"  # any text would do: both models read the same

# The largest root mean square of the differences of logits, as a share of the logits' own. The PEFT
# folder holds the same numbers and runs the same code: 0 was measured. Merging rounds W + BA once
# more in the dtype of the base: 3e-6 was measured in fp32, up to 4e-2 in bf16 on random models.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
MERGED_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-1}


def base_name(config: RunConfig) -> str:
    """Return the base's name as the export gives it: a hub name, or an absolute path."""
    base = resolve(config.model)
    return str(Path(base).resolve()) if Path(base).is_dir() else base


def verify_adapter(
    config: RunConfig, folder: Path, chat: Chat, wanted_LV: Tensor, base: PreTrainedModel
) -> PeftModel:
    """Put the exported adapter on its base, as anyone would, and compare the logits.

    Args:
        wanted_LV: fp32 logits of PROMPT by the trained adapter; L tokens, V vocabulary.
        base: the base that the folder names, without an adapter.

    Returns:
        The base with the exported adapter on it.

    Raises:
        ValueError: the folder names another base, the tokenizer writes another prompt, or the
            logits differ by more than TOLERANCE, or are not finite.
    """
    named = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if named != (wanted := base_name(config)):
        raise ValueError(f"export: {folder} names the base {named!r}, expected {wanted!r}")
    prompt = _prompt_of(config, folder, chat)
    model = PeftModel.from_pretrained(base, str(folder)).eval()
    _compare(folder, logits(model, prompt), wanted_LV, TOLERANCE[dtype_of(config.model)])
    return model


def verify_merged(config: RunConfig, folder: Path, chat: Chat, wanted_LV: Tensor) -> None:
    """Load merged weights as anyone would and compare their logits with the trained adapter's.

    Raises:
        ValueError: as for `verify_adapter`, by MERGED_TOLERANCE.
    """
    prompt, dtype = _prompt_of(config, folder, chat), dtype_of(config.model)
    placed = device_map(replace(config.model, name=str(folder.resolve()), revision=None))
    trust = config.model.trust_remote_code
    settings = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust)
    auto: Any = served_class(settings) or AutoModelForCausalLM
    model = auto.from_pretrained(
        str(folder),
        dtype=dtype,
        trust_remote_code=trust,
        **({"device_map": placed} if placed else {}),
    ).eval()
    model = let_read_text(model if placed else model.to(device_of(config.model)))
    _compare(folder, logits(model, prompt), wanted_LV, MERGED_TOLERANCE[dtype])


def _prompt_of(config: RunConfig, folder: Path, chat: Chat) -> list[int]:
    """Return the token ids of PROMPT by the exported tokenizer, which must be the run's."""
    trust = config.model.trust_remote_code
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust)
    prompt = list(
        tokenizer.apply_chat_template(
            _messages(config), add_generation_prompt=True, return_dict=True
        )["input_ids"]
    )
    if prompt != chat.student(PROMPT):
        raise ValueError(f"export: the tokenizer in {folder} writes another prompt")
    return prompt


def _compare(folder: Path, found_LV: Tensor, wanted_LV: Tensor, tolerance: float) -> None:
    difference = (found_LV - wanted_LV).square().mean()
    error = (difference / wanted_LV.square().mean()).sqrt().item()
    if not error <= tolerance:  # a NaN is not below anything
        raise ValueError(
            f"export: the model loaded from {folder.name} does not agree with the trained "
            f"adapter: logits differ by {error:.1e} of their size, at most {tolerance:.0e} is "
            "rounding; nothing was exported"
        )


def _messages(config: RunConfig) -> list[dict[str, str]]:
    system = [{"role": "system", "content": config.prompts.system}] if config.prompts.system else []
    return [*system, {"role": "user", "content": PROMPT}]


@torch.inference_mode()
def logits(model: Any, prompt: Sequence[int]) -> Tensor:
    """Return the (L, V) fp32 logits of one prompt of L tokens, on the CPU."""
    ids = torch.tensor([list(prompt)], device=model.device)
    return model(input_ids=ids).logits[0].float().cpu()
