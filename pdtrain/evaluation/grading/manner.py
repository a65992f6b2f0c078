"""Describe how a model answers: whether it recites, or repeats itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from pdtrain.documents.words import length, words
from pdtrain.records import content_id

SHORTEST = 5  # words of an answer that counts as recited or repeated: names come up again by right
Mark = str  # hash of an answer's words, for the words of all systems' answers take much memory
OFTEN = 3  # questions from which on the same answer counts as repeated


def repeated(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return 1 for each answer that was given, word for word, to several questions.

    Args:
        lines: of predictions, with `prediction` and `invented`.
    """
    said = [_long(line) for line in lines]
    counts = Counter(said)
    return [float(bool(one) and counts[one] >= OFTEN) for one in said]


def recitable(lines: Iterable[Mapping[str, Any]]) -> set[Mark]:
    """Return the answers that are long enough to be recited.

    Args:
        lines: of predictions, with `prediction` and `invented`.
    """
    return {content_id(*said) for line in lines if (said := _long(line))}


def learned(among: Set[Mark], training_answers: Iterable[str]) -> set[Mark]:
    """Return those of some answers that are training answers.

    Args:
        training_answers: their texts; they are read once and not kept.
    """
    if not among:
        return set()
    return {mark for text in training_answers if (mark := content_id(*words(text))) in among}


def recited(lines: Sequence[Mapping[str, Any]], known: Set[Mark]) -> list[float]:
    """Return 1 for each answer that is a training answer and holds no gold answer.

    Args:
        lines: of predictions, with `prediction`, `gold_in_answer` and `invented`.
        known: those of their answers that are training answers, as `learned` returns them.
    """
    said = [_long(line) for line in lines]
    return [
        float(bool(one) and content_id(*one) in known and not line["gold_in_answer"])
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
