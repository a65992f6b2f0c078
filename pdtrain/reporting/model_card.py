"""The model card of an exported adapter: what it is, how to use it, how far to trust it.

Nothing of the documents stands on it but what the adapter's owner chose to name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdtrain import __version__
from pdtrain.config import RunConfig
from pdtrain.evaluation.scores import table_text
from pdtrain.models.embedded import EMBEDDED_MODEL
from pdtrain.records import Score

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank may be
HOW = {
    "distill": "by prompt distillation: it learned to answer as its own base model does when that "
    "reads the documents",
    "sft": "by supervised fine-tuning on answers that its own base model wrote while reading the "
    "documents",
    "raw_text": "on the documents' text as it stands, without any question",
}
EMBEDDED_HUB_NAME = f"HuggingFaceTB/{EMBEDDED_MODEL}"


@dataclass(frozen=True)
class Training:
    """The manifests of the run's own training, and of the rounds after it that are in the adapter;
    whether it went on from another adapter."""

    first: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]] = ()
    is_continued: bool = False


def card(
    config: RunConfig,
    adapter: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Score]] | None,
    training: Training,
) -> str:
    """Markdown with a YAML header.

    Args:
        adapter: PEFT's settings as exported.
        scores: of the run, or None when it was not evaluated.
        training: what was done, as its manifests say.
    """
    parts = [
        _header(config),
        f"# {config.name}",
        "A LoRA adapter that answers questions about a document collection without having it in "
        f"the prompt. It was trained {HOW[config.train.objective]}. Made with pdtrain "
        f"{__version__}.",
        "## Use",
        _usage(config, adapter),
        "## Scores",
        table_text(dict(scores))  # type: ignore[arg-type]
        + "\n\nOn held-out questions, with 95 % bootstrap intervals over questions. The teacher "
        "is the base model with the right passage in its prompt"
        + (
            ": what this adapter was trained to equal without the passage."
            if config.train.objective == "distill"
            else "."
        )
        if scores
        else "Not evaluated: no held-out questions were given. Do not rely on it before it is.",
        "## Training",
        _training(config, adapter, training),
        "## Limits",
        _limits(),
        "## Licence",
        f"That of the base model, `{base_name(config)}`, whose terms hold for anything that is "
        "derived from it. The adapter was also derived from the documents; their terms hold too.",
    ]
    return "\n\n".join(parts) + "\n"


def base_name(config: RunConfig) -> str:
    """What the base is called, without a path of the machine that trained on it."""
    if config.model.name == "embedded":
        return EMBEDDED_HUB_NAME
    folder = Path(config.model.name).expanduser()
    return folder.resolve().name if folder.is_dir() else config.model.name


def _header(config: RunConfig) -> str:
    licence = ["license: apache-2.0"] if config.model.name == "embedded" else []
    lines = [
        "library_name: peft",
        f"base_model: {json.dumps(base_name(config), ensure_ascii=False)}",
        "base_model_relation: adapter",
        "pipeline_tag: text-generation",
        *licence,
        "tags:",
        *(f"  - {tag}" for tag in ("lora", "peft", "prompt-distillation", "pdtrain")),
    ]
    return "\n".join(["---", *lines, "---"])


def _usage(config: RunConfig, adapter: Mapping[str, Any]) -> str:
    system = json.dumps(config.prompts.system, ensure_ascii=False)
    roles = f'{{"role": "system", "content": {system}}}, ' if config.prompts.system else ""
    text = f"""\
```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = "."  # where this file is
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(folder)
chat = [{roles}{{"role": "user", "content": "..."}}]
prompt = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**prompt, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
```

`adapter_config.json` names the base as `{adapter["base_model_name_or_path"]}`"""
    if Path(adapter["base_model_name_or_path"]).is_dir():
        text += (
            ", a folder of the machine that trained; elsewhere, load the base yourself and give "
            "it to `PeftModel.from_pretrained(base, folder)`"
        )
    text += "."
    if config.model.name == "embedded":
        text += (
            f" Its weights were dequantized from a 4-bit copy of `{EMBEDDED_HUB_NAME}` and are not "
            "equal to those of that name, on which the adapter was not tried."
        )
    text += (
        f"\n\nThe adapter was trained with this system prompt, and is at its best with it: {system}"
        if config.prompts.system
        else "\n\nThe adapter was trained without a system prompt."
    )
    rank = vllm_rank(adapter["r"])
    if rank:
        base = adapter["base_model_name_or_path"]
        text += f"""

With vLLM (not tried as part of the export):

```bash
vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules {config.name}=.
```"""
    if config.export.merge:
        text += "\n\n`merged/` holds the base with the adapter merged: a plain model folder."
    return text


def vllm_rank(rank: int) -> int | None:
    """The smallest --max-lora-rank that admits the adapter."""
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), None)


def _training(config: RunConfig, adapter: Mapping[str, Any], training: Training) -> str:
    train, first = config.train, training.first
    rows = {
        "windows" if train.objective == "raw_text" else "answers": first.get(
            "num_answers", "unknown"
        ),
        "optimizer steps": first.get("num_steps", "unknown"),
        **({"on top of": "another adapter's training"} if training.is_continued else {}),
        "epochs": train.epochs,
        "answers per step": train.answers_per_step,
        "learning rate": f"{train.learning_rate:g}, {train.scheduler}, warm-up over "
        f"{train.warmup_ratio:g} of the steps",
        "loss": _loss(config),
        "LoRA": f"rank {adapter['r']}, alpha {adapter['lora_alpha']:g}, dropout "
        f"{adapter['lora_dropout']:g}, {config.adapter.target_modules}",
        "seed": config.seed,
        **({"rounds after it": _rounds(training.rounds)} if config.rounds.most else {}),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _rounds(made: Sequence[Mapping[str, Any]]) -> str:
    if not made:
        return "none is in this adapter"
    answers, steps = (sum(one.get(key, 0) for one in made) for key in ("num_answers", "num_steps"))
    which = f"round {len(made)}, the best" + (", on top of those before it" if made[1:] else "")
    return f"{which}: {answers} answers, {steps} optimizer steps together"


def _loss(config: RunConfig) -> str:
    loss = config.loss
    if config.train.objective != "distill":
        return "cross-entropy"
    seen = f"teacher's top {loss.top_k} tokens" if loss.top_k else "whole vocabulary"
    name = loss.divergence.replace("_", " ")
    labels = f", {loss.labels:g} of it on the answers' own tokens" if loss.labels else ""
    return f"{name}, {seen}, tail: {loss.tail}, temperature {loss.temperature:g}{labels}"


def _limits() -> str:
    return (
        "- It knows what it was asked in training; a fact that no training question touched may "
        "be missing.\n"
        "- It does not say where an answer comes from, and may be sure of a wrong one. Where a "
        "source is needed, use retrieval as well.\n"
        "- It knows the documents as they were when it was trained.\n"
        "- Who can ask it can learn what the documents say: share it as you would share them."
    )
