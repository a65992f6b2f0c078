"""Say how an exported adapter is served, and check that it answers there as it did when trained.

Two engines compute the same numbers in another order, so that greedy answers part where two tokens
are nearly as probable. What is checked is therefore that most answers are the same, to the letter,
and that those which the adapter has changed are the adapter's.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.evaluation.systems import ADAPTER, BASE, System
from pdtrain.generation.protocol import Backend
from pdtrain.generation.server import ServerBackend
from pdtrain.generation.vllm_engine import VllmBackend
from pdtrain.models.adapters.adapter import trained
from pdtrain.progress import say

SERVED = {  # the options of vLLM that a card gives, and what each may be
    "--max-lora-rank": re.compile(r"[0-9]+"),
    "--lora-modules": re.compile(r"[^\n]+=\."),
    "--chat-template": re.compile(r"chat_template\.jinja"),
    "--default-chat-template-kwargs": re.compile(r"\{.*\}"),
}
LEAST_EQUAL = 0.8  # share of answers that are equal to the letter; assumed


def line(config: RunConfig) -> str:
    """Return the command that serves the run's exported adapter with vLLM, as its card has it.

    Raises:
        ValueError: there is no export, or vLLM serves no adapter of this rank.
    """
    card = config.run.export / "README.md"
    if not card.exists():
        raise ValueError(f"{config.run.export} is not there; run `pdtrain export CONFIG` first")
    lines = card.read_text(encoding="utf-8").splitlines()
    found = next((one for one in lines if one.startswith("vllm serve ")), None)
    if found is None:
        raise ValueError(
            "vLLM serves no adapter of this rank; set export.merge=true, and serve the merged "
            f"weights: vllm serve {shlex.quote(str(config.run.export / 'merged'))}"
        )
    _refuse_another(card, found)
    return f"cd {shlex.quote(str(config.run.export.resolve()))} && {found}"


def _refuse_another(card: Path, line: str) -> None:
    """Check that a line is one that an export writes, for users paste it into a shell.

    Raises:
        ValueError: it is another, which might do more than serve a model.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation without an end
        words = []
    model, *options = [word for word in words[2:] if word != "--enable-lora"] or [""]
    pairs = zip(options[::2], options[1::2], strict=False)
    is_ours = (
        shlex.join(words) == line
        and bool(model)
        and not model.startswith("-")
        and len(options) % 2 == 0
        and all(name in SERVED and SERVED[name].fullmatch(value) for name, value in pairs)
    )
    if not is_ours:
        raise ValueError(
            f"{card} does not hold the line that an export writes; run `pdtrain export CONFIG` "
            "again, which writes it anew"
        )


@dataclass(frozen=True)
class Agreement:
    """Count answers to held-out questions; `changed` are those that the adapter has changed."""

    asked: int
    equal: int  # to what the trained adapter said
    changed: int
    of_adapter: int  # of the changed: equal to the adapter's
    of_base: int  # of the changed: equal to the base's

    @property
    def holds(self) -> bool:
        """Return whether the adapter is served as it was trained."""
        return self.equal >= LEAST_EQUAL * self.asked and self.of_adapter > self.of_base


def check(config: RunConfig, backend: Backend | None = None) -> None:
    """Ask the served adapter the held-out questions, as `export.check` says.

    Args:
        backend: of the served adapter; opened from the config by default.

    Raises:
        ValueError: its answers are others, or there are none to compare them with.
    """
    kind = config.export.check
    if kind == "transformers":
        return
    ours, bases = (_predictions(config, system) for system in (ADAPTER, BASE))
    if backend is None and kind == "vllm":
        backend = VllmBackend.of_base(config, config.run.export)
    elif backend is None:
        backend = ServerBackend.of_base(config, config.name)
    greedy = SamplingConfig(temperature=0, max_new_tokens=config.evaluate.max_new_tokens)
    prompts = [backend.chat.student(question) for question, _ in ours.values()]
    said = [completion.text for completion in backend.sample(prompts, greedy, seed=0)]
    found = compare(said, [text for _, text in ours.values()], [bases[name][1] for name in ours])
    counts = (
        f"{found.equal} of {found.asked} answers are those of the trained adapter; of the "
        f"{found.changed} that it has changed, {found.of_adapter}, and {found.of_base} the base's"
    )
    if not found.holds:
        raise ValueError(
            f"export.check={kind}: the adapter is not served as it was trained: {counts}; is the "
            "adapter loaded, under the run's name, on the right base, and with the export's chat "
            "template?"
        )
    say(f"export: {kind}: {counts}")


def compare(said: list[str], ours: list[str], bases: list[str]) -> Agreement:
    """Count the answers of a served adapter that are the trained one's, and the base's."""
    triples = zip(said, ours, bases, strict=True)
    changed = [(one, mine, base) for one, mine, base in triples if mine != base]
    return Agreement(
        asked=len(said),
        equal=sum(one == mine for one, mine in zip(said, ours, strict=True)),
        changed=len(changed),
        of_adapter=sum(one == mine for one, mine, _ in changed),
        of_base=sum(one == base for one, _, base in changed),
    )


def _predictions(config: RunConfig, system: System) -> dict[str, tuple[str, str]]:
    """Return question and answer by the question's id."""
    path = config.run.predictions_file(system.name)
    if not path.exists() or config.run.are_scores_stale(trained(config)):
        raise ValueError(
            f"export.check={config.export.check} compares answers to the held-out questions, and "
            "there are none of this adapter: set evaluate.questions and run `pdtrain evaluate`, or "
            "set export.check=transformers"
        )
    lines = config.run.predictions(system.name)
    return {line["id"]: (line["question"], line["prediction"]) for line in lines}
