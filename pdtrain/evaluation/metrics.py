"""Held-out questions, and how a prediction is scored against their answers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

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
    """The (weighted) mean with a 95 % percentile bootstrap interval over questions."""
    rng = random.Random(seed)
    n = len(values)
    if weights is None:
        means = sorted(sum(rng.choices(values, k=n)) / n for _ in range(num_samples))
        mean = sum(values) / n
    else:
        weighted = [(v * w, w) for v, w in zip(values, weights, strict=True)]
        means = sorted(_ratio(rng.choices(weighted, k=n)) for _ in range(num_samples))
        mean = _ratio(weighted)
    low, high = means[int(0.025 * num_samples)], means[int(0.975 * num_samples)]
    return Score(mean, low, high, n)


def _ratio(weighted: Sequence[tuple[float, float]]) -> float:
    return sum(v for v, _ in weighted) / sum(w for _, w in weighted)


def recovered(scores: Mapping[str, Mapping[str, Score]], metric: str) -> float | None:
    """(student - base) / (teacher - base), closed book; None when the teacher knows no more."""
    base, teacher, student = (
        scores[row][metric].value
        for row in ("base_closed_book", "teacher_open_book", "adapter_closed_book")
    )
    return (student - base) / (teacher - base) if teacher > base else None
