"""Describe how a model answers: whether it declines, recites, or repeats itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pdtrain.synthesis.text import normalise

SHORTEST = 5  # words of an answer that counts as recited or repeated: names come up again by right
OFTEN = 3  # questions from which on the same answer counts as repeated

NEGATION = r"(?:(?:do|does|did|is|are|was|were|has|have|can|could)(?:\s+not|n't)|cannot|never)"
TELLING = (
    r"(?:say|said|state|stated|mention|mentioned|specify|specified|provide|provided|give|given|"
    r"contain|include|know|known|tell|told|answer|determine|determined|available|clear|find|found)"
)
DECLINES = re.compile(
    rf"\b{NEGATION}\b(?:\s+\w+){{0,2}}\s+{TELLING}\b"
    rf"|\bnot\s+(?:\w+\s+)?{TELLING}\b"
    r"|\bno\s+(?:\w+\s+)?(?:information|mention|answer|details?)\b"
    r"|\b(?:unknown|unclear|unanswerable|unspecified)\b"
    r"|\bnothing\s+(?:is\s+said\s+)?about\b"
)


def declines(prediction: str) -> bool:
    """Return True where an answer says that the question cannot be answered; English alone.

    It goes by phrases such as "does not say", "is not mentioned" and "no information".
    """
    return DECLINES.search(prediction.lower().replace("\u2019", "'")) is not None


def repeated(predictions: Sequence[str]) -> list[float]:
    """Return 1 for each answer that was given, word for word, to several questions.

    Args:
        predictions: the answers to different questions.
    """
    words = [_long(prediction) for prediction in predictions]
    counts = Counter(words)
    return [float(bool(one) and counts[one] >= OFTEN) for one in words]


def recited(lines: Sequence[Mapping[str, Any]], training_answers: Iterable[str]) -> list[float]:
    """Return 1 for each answer that is a training answer and holds no gold answer.

    Args:
        lines: of predictions, with `prediction` and `gold_in_answer`.
        training_answers: their texts; they are read once and not kept.
    """
    words = [_long(line["prediction"]) for line in lines]
    wanted = {one for one in words if one}
    known = (
        {one for text in training_answers if (one := normalise(text)) in wanted} if wanted else {}
    )
    return [
        float(one in known and not line["gold_in_answer"])
        for one, line in zip(words, lines, strict=True)
    ]


def gains(
    lines: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]
) -> list[float | None]:
    """Return `gold_in_answer` less the base's for the same question; None where neither has it."""
    of_base = {line["id"]: line["gold_in_answer"] for line in base}
    return [
        None
        if line["gold_in_answer"] is None or of_base.get(line["id"]) is None
        else line["gold_in_answer"] - of_base[line["id"]]
        for line in lines
    ]


def _long(prediction: str) -> str:
    """Return the normalised words of an answer; empty if they are few."""
    words = normalise(prediction)
    return words if len(words.split()) >= SHORTEST else ""
