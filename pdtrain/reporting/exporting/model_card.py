"""Render the model card of an exported adapter: what it is, how to use it, how far to trust it.

The card's text stands in `templates/model_card.md`. Nothing of the documents is on it but what the
adapter's owner chose to name.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pdtrain import __version__
from pdtrain.config import RunConfig
from pdtrain.evaluation.scores import table_text
from pdtrain.models.chat.thinking import Thinking
from pdtrain.models.embedded import EMBEDDED_MODEL
from pdtrain.models.model_files import is_in_hub_cache, name_of
from pdtrain.models.quantization import kind_of
from pdtrain.progress import printable
from pdtrain.records import Scores
from pdtrain.reporting.markdown import code_span, escape_markdown

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank may be
EMBEDDED_HUB_NAME = f"HuggingFaceTB/{EMBEDDED_MODEL}"


@dataclass(frozen=True)
class TrainingManifests:
    """Hold the manifests of all training that is in an adapter.

    Attributes:
        first: of the run's own training.
        rounds: of each round after it, up to the one whose adapter is exported.
        is_continued: the run's own training went on from another adapter.
    """

    first: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]] = ()
    is_continued: bool = False


def render(
    config: RunConfig,
    adapter: Mapping[str, Any],
    scores: Scores | None,
    manifests: TrainingManifests,
    thinking: Thinking | None = None,
    wrapper: str = "",
) -> str:
    """Return the card: Markdown with a YAML header.

    Args:
        adapter: PEFT's settings as exported.
        scores: the table of the evaluation, or None for a run that was not evaluated.
        manifests: what the training left behind.
        thinking: what keeps the base from thinking; None where nothing must.
        wrapper: the class of a base that is a wrapper round a language model.
    """
    path = adapter["base_model_name_or_path"]
    return (
        _environment()
        .get_template("model_card.md")
        .render(
            config=config,
            version=__version__,
            objective=config.train.objective,
            system_prompt=config.prompts.system,
            base=base_name(config),
            base_path=path,
            wrapper=_Verbatim(wrapper),
            is_base_a_folder=Path(path).is_dir(),
            served=base_name(config) if is_in_hub_cache(Path(path)) else path,
            is_embedded=config.model.name == "embedded",
            quantized=kind_of(config.model),
            vllm_rank=vllm_rank(adapter["r"]),
            thinking=thinking if thinking and (thinking.off or thinking.opener) else None,
            scores=_Verbatim(table_text(scores)) if scores else None,
            training=_training(config, adapter, manifests),
        )
    )


class _Verbatim(str):
    """Mark a text that is printed on the card as it stands."""


@cache
def _environment() -> Environment:
    """Return templates that escape every text for Markdown unless it is `_Verbatim`."""
    environment = Environment(
        loader=PackageLoader("pdtrain.reporting"),
        undefined=StrictUndefined,
        finalize=lambda value: (
            value if isinstance(value, _Verbatim) else escape_markdown(str(value))
        ),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": lambda text: _Verbatim(code_span(text)),
        "json": lambda text: _Verbatim(json.dumps(text, ensure_ascii=False)),
        "shell": lambda text: _Verbatim(shlex.quote(printable(" ".join(text.split())))),
    }
    return environment


def base_name(config: RunConfig) -> str:
    """Return what the base is called, without a path of the machine that trained on it."""
    if config.model.name == "embedded":
        return EMBEDDED_HUB_NAME
    folder = Path(config.model.name).expanduser()
    return name_of(folder.resolve()) if folder.is_dir() else config.model.name


def vllm_rank(rank: int) -> int | None:
    """Return the smallest --max-lora-rank that admits the adapter; None where vLLM takes none."""
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), None)


def _training(
    config: RunConfig, adapter: Mapping[str, Any], manifests: TrainingManifests
) -> dict[str, Any]:
    """Return the lines of the table about training, by name."""
    train, first = config.train, manifests.first
    quantized = kind_of(config.model)
    return {
        "windows" if train.objective == "raw_text" else "answers": first.get(
            "num_answers", "unknown"
        ),
        "optimizer steps": first.get("num_steps", "unknown"),
        **({"on top of": "another adapter's training"} if manifests.is_continued else {}),
        "epochs": train.epochs,
        "answers per step": train.answers_per_step,
        "learning rate": f"{train.learning_rate:g}, {train.scheduler}, warm-up over "
        f"{train.warmup_ratio:g} of the steps",
        **({"base in training": quantized.text} if quantized else {}),
        **({"thoughts": _thoughts(config)} if config.model.thought_tokens else {}),
        "loss": _loss(config),
        "LoRA": f"rank {adapter['r']}, alpha {adapter['lora_alpha']:g}, dropout "
        f"{adapter['lora_dropout']:g}, {config.adapter.target_modules}",
        "seed": config.seed,
        **({"rounds after it": _rounds(manifests.rounds)} if config.rounds.most else {}),
    }


def _thoughts(config: RunConfig) -> str:
    return (
        "the base thought before it wrote questions and answers, up to "
        f"{config.model.thinking_budget} tokens (thinking: {config.model.thinking}); the thoughts "
        "were cut off"
    )


def _rounds(manifests: Sequence[Mapping[str, Any]]) -> str:
    if not manifests:
        return "none is in this adapter"
    answers, steps = (
        sum(manifest.get(key, 0) for manifest in manifests) for key in ("num_answers", "num_steps")
    )
    before = ", on top of those before it" if manifests[1:] else ""
    return (
        f"round {len(manifests)}, the best{before}: {answers} answers, {steps} optimizer steps "
        "together"
    )


def _loss(config: RunConfig) -> str:
    loss = config.loss
    if config.train.objective != "distill":
        return "cross-entropy"
    seen = f"teacher's top {loss.top_k} tokens" if loss.top_k else "whole vocabulary"
    name = loss.divergence.replace("_", " ")
    which = "checked answers'" if loss.labels_for == "checked" else "answers'"
    unsaid = (
        f", {loss.labels_unsaid:g} on those of answers that the documents do not say"
        if config.questions.per_passage_unanswerable and loss.labels_unsaid is not None
        else ""
    )
    labels = f", {loss.labels:g} of it on the {which} own tokens{unsaid}" if loss.labels else ""
    return f"{name}, {seen}, tail: {loss.tail}, temperature {loss.temperature:g}{labels}"
