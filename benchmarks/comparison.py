"""Several runs in one table: intervals over seeds and questions together.

The runs of one method, a seed each, were asked the same questions. A bootstrap sample draws seeds
and, apart from them, questions, each with replacement; what is compared is drawn alike, so that a
difference of two methods is one of the same questions.

S seeds · Q questions: suffixes name dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pdtrain.evaluation.scores import read_predictions
from pdtrain.records import Score

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What one method's runs said: a value for each seed and question, and what it weighs."""

    values_SQ: Array
    weights_SQ: Array

    def mean(self, seeds: NDArray[np.int64], questions: NDArray[np.int64]) -> float:
        """Of the seeds and questions that were drawn; one run stands for every seed."""
        rows = np.ix_(seeds % len(self.values_SQ), questions)
        weights = self.weights_SQ[rows]
        return float((self.values_SQ[rows] * weights).sum() / weights.sum())


def read(folders: Sequence[Path], row: str, metric: str) -> Sample:
    """`metric` of `row` in these runs, which differ by their seed.

    Raises:
        ValueError: the runs were asked different questions.
    """
    runs = [{line["id"]: line for line in read_predictions(f, row)} for f in folders]
    for folder, lines in zip(folders, runs, strict=True):
        if not lines or lines.keys() != runs[0].keys():
            raise ValueError(
                f"{folder} was asked other questions in {row} than {folders[0]}: {len(lines)} and "
                f"{len(runs[0])}; evaluate both with the same evaluate.questions"
            )
    ids = list(runs[0])
    values = [[float(lines[i][metric]) for i in ids] for lines in runs]
    weights = [[float(lines[i].get("num_tokens", 1)) for i in ids] for lines in runs]
    return Sample(np.array(values), np.array(weights))


def bootstrap(
    samples: Sequence[Sample],
    statistic: Callable[..., float],
    num_samples: int = 2000,
    seed: int = 0,
) -> Score:
    """`statistic` of the samples' means, with a 95 % percentile interval.

    `n` is the number of questions. All samples must be of the same questions in the same order.
    """
    num_seeds = max(len(sample.values_SQ) for sample in samples)
    num_questions = samples[0].values_SQ.shape[1]
    if any(sample.values_SQ.shape[1] != num_questions for sample in samples):
        raise ValueError("the samples are of different numbers of questions")
    rng = np.random.default_rng(seed)

    def of(seeds: NDArray[np.int64], questions: NDArray[np.int64]) -> float:
        return statistic(*(sample.mean(seeds, questions) for sample in samples))

    found = [
        of(
            rng.integers(num_seeds, size=(num_seeds,)),
            rng.integers(num_questions, size=(num_questions,)),
        )
        for _ in range(num_samples)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    value = of(np.arange(num_seeds), np.arange(num_questions))
    return Score(value, float(low), float(high), num_questions)


def mean(sample: Sample) -> Score:
    return bootstrap([sample], lambda value: value)


def difference(sample: Sample, other: Sample) -> Score:
    return bootstrap([sample, other], lambda value, less: value - less)


def ratio(sample: Sample, other: Sample) -> Score:
    return bootstrap([sample, other], lambda value, by: value / by if by else float("nan"))


def recovered(student: Sample, base: Sample, teacher: Sample) -> Score:
    """(student - base) / (teacher - base); not a number where the teacher knows no more."""
    return bootstrap(
        [student, base, teacher],
        lambda s, b, t: (s - b) / (t - b) if t > b else float("nan"),
    )
