"""Describe how a model answers: whether it recites, or repeats itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pdtrain.documents.words import length, words

SHORTEST = 5  # words of an answer that counts as recited or repeated: names come up again by right
OFTEN = 3  # questions from which on the same answer counts as repeated


def repeated(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return 1 for each answer that was given, word for word, to several questions.

    Args:
        lines: of predictions, with `prediction` and `invented`.
    """
    said = [_long(line) for line in lines]
    counts = Counter(said)
    return [float(bool(one) and counts[one] >= OFTEN) for one in said]


def recited(lines: Sequence[Mapping[str, Any]], training_answers: Iterable[str]) -> list[float]:
    """Return 1 for each answer that is a training answer and holds no gold answer.

    Args:
        lines: of predictions, with `prediction`, `gold_in_answer` and `invented`.
        training_answers: their texts; they are read once and not kept.
    """
    said = [_long(line) for line in lines]
    wanted = {one for one in said if one}
    known = (
        {one for text in training_answers if (one := tuple(words(text))) in wanted}
        if wanted
        else set()
    )
    return [
        float(one in known and not line["gold_in_answer"])
        for one, line in zip(said, lines, strict=True)
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


def _long(line: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words of an answer; none if they are few.

    Nor those of an answer that rightly says that there is none, which may well be worded alike.
    """
    said = tuple(words(line["prediction"])) if line["invented"] != 0 else ()
    return said if length(said) >= SHORTEST else ()
