"""Compare the runs of several methods, with intervals over seeds and questions together.

The runs of one method, one for each seed, were asked the same questions. A bootstrap sample draws
seeds and, independently, questions. The methods that are compared get the same draw, so that their
difference is one on the same questions.

S seeds · Q questions: suffixes name dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdtrain.evaluation.grading.bootstrap import bootstrap
from pdtrain.evaluation.scores import recitals, with_manner
from pdtrain.evaluation.systems import named
from pdtrain.records import Score
from pdtrain.run_folder import RunFolder

Array = NDArray[np.float64]
OF_OTHER_LINES = ("repeated", "recited", "gain")  # they do not stand in the lines themselves


@dataclass(frozen=True)
class Sample:
    """Hold the scores of one method's runs, by seed and question, and what each weighs."""

    values_SQ: Array
    weights_SQ: Array

    @property
    def is_empty(self) -> bool:
        """Return True where the metric applies to no question."""
        return not self.values_SQ.size

    def mean(self, seeds: Sequence[int], questions: Sequence[int]) -> float:
        """Return the mean over the drawn seeds and questions; one run stands for every seed."""
        drawn = np.ix_(np.asarray(seeds) % len(self.values_SQ), np.asarray(questions))
        weights = self.weights_SQ[drawn]
        return float((self.values_SQ[drawn] * weights).sum() / weights.sum())


def read(folders: Sequence[Path], system: str, metric: str) -> Sample:
    """Read a metric of a system in run folders that differ by their seed.

    Questions to which the metric does not apply in one of the runs are left out, such as those
    without an answer.

    Raises:
        ValueError: the runs were asked different questions.
    """
    runs = [{line["id"]: line for line in _lines(f, system, metric)} for f in folders]
    for folder, lines in zip(folders, runs, strict=True):
        if not lines or lines.keys() != runs[0].keys():
            raise ValueError(
                f"{folder} was asked other questions in {system} than {folders[0]}: "
                f"{len(lines)} and {len(runs[0])}; evaluate both with the same evaluate.questions"
            )
    ids = [i for i in runs[0] if all(lines[i].get(metric) is not None for lines in runs)]
    values = [[float(lines[i][metric]) for i in ids] for lines in runs]
    weights = [[float(lines[i].get("num_tokens", 1)) for i in ids] for lines in runs]
    return Sample(np.array(values), np.array(weights))


def _lines(folder: Path, system: str, metric: str) -> list[dict[str, Any]]:
    """Return the lines of predictions of a system, with the metric where it needs other files."""
    run, known = RunFolder(folder), named(system)
    lines = run.predictions(system)
    if known is None or metric not in OF_OTHER_LINES:
        return lines
    return with_manner(run, known, lines, recitals(run, [known]) if metric == "recited" else None)


def score(
    samples: Sequence[Sample],
    statistic: Callable[..., float],
    num_samples: int = 2000,
    seed: int = 0,
) -> Score:
    """Return a statistic of the samples' means with its interval; `n` is the number of questions.

    All samples must be of the same questions in the same order.
    """
    num_seeds = max(len(sample.values_SQ) for sample in samples)
    num_questions = samples[0].values_SQ.shape[1]
    if any(sample.values_SQ.shape[1] != num_questions for sample in samples):
        raise ValueError("the samples are of different numbers of questions")

    def of(seeds: Sequence[int], questions: Sequence[int]) -> float:
        return statistic(*(sample.mean(seeds, questions) for sample in samples))

    return bootstrap(of, (num_seeds, num_questions), num_samples, seed)


def mean(sample: Sample) -> Score:
    return score([sample], lambda value: value)


def difference(sample: Sample, other: Sample) -> Score:
    return score([sample, other], lambda value, less: value - less)


def ratio(sample: Sample, other: Sample) -> Score:
    return score([sample, other], lambda value, by: value / by if by else float("nan"))


def recovered(student: Sample, base: Sample, teacher: Sample) -> Score:
    """Return (student - base) / (teacher - base); not a number where the teacher is no better."""
    return score(
        [student, base, teacher],
        lambda s, b, t: (s - b) / (t - b) if t > b else float("nan"),
    )
