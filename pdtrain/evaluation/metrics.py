"""Held-out questions, and how a prediction is scored against their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdtrain.evaluation.bootstrap import bootstrap
from pdtrain.records import Score
from pdtrain.synthesis.text import normalise, token_f1


def gold_in_answer(prediction: str, answers: Sequence[str]) -> float:
    """1 if a normalised gold answer stands in the prediction as whole words."""
    words = f" {normalise(prediction)} "
    return float(any(f" {gold} " in words for a in answers if (gold := normalise(a))))


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    return float(any(normalise(prediction) == normalise(a) for a in answers))


def grade(prediction: str, answers: Sequence[str]) -> dict[str, float]:
    return {
        "gold_in_answer": gold_in_answer(prediction, answers),
        "exact_match": exact_match(prediction, answers),
        "token_f1": token_f1(prediction, answers),
    }


def summarise(
    values: Sequence[float], num_samples: int, seed: int, weights: Sequence[float] | None = None
) -> Score:
    """Return the mean, weighted where there are weights, with its interval over questions."""
    n = len(values)
    if weights is None:
        return bootstrap(lambda drawn: sum(values[i] for i in drawn) / n, [n], num_samples, seed)
    weighted = [value * weight for value, weight in zip(values, weights, strict=True)]

    def mean(drawn: Sequence[int]) -> float:
        return sum(weighted[i] for i in drawn) / sum(weights[i] for i in drawn)

    return bootstrap(mean, [n], num_samples, seed)


def recovered(scores: Mapping[str, Mapping[str, Score]], metric: str) -> float | None:
    """(student - base) / (teacher - base), closed book; None when the teacher knows no more."""
    base, teacher, student = (
        scores[row][metric].value
        for row in ("base_closed_book", "teacher_open_book", "adapter_closed_book")
    )
    return (student - base) / (teacher - base) if teacher > base else None
