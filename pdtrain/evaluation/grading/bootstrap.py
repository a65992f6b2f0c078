"""Give a statistic an interval by the percentile bootstrap.

M metrics · N units · S bootstrap samples: suffixes name dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pdtrain.records import Score

LOW, HIGH = 0.025, 0.975  # quantiles of the bootstrap samples: a 95 % interval
MOST_AT_ONCE = 1 << 17  # units that are drawn at once: 1 MiB of indices
Indices = NDArray[np.int64]
Values = NDArray[np.float64]


def bootstrap(
    statistic: Callable[..., float], sizes: Sequence[int], num_samples: int, seed: int
) -> Score:
    """Return a statistic with its 95 % percentile bootstrap interval.

    Each bootstrap sample draws units with replacement, as many as there are. There may be several
    levels of units, such as seeds and questions, which are drawn independently of each other.

    Args:
        statistic: takes the indices of the drawn units, one array for each level.
        sizes: the number of units of each level, at least one; the last one is the score's `n`.

    Returns:
        The statistic of all units, and the interval; its ends are NaN where a sample's statistic
        is.
    """
    drawn = (one for some in draws(sizes, num_samples, seed) for one in zip(*some, strict=True))
    found = np.array([statistic(*one) for one in drawn])
    return _score(statistic(*map(np.arange, sizes)), found, sizes[-1])


def bootstrap_means(
    values_MN: Sequence[Sequence[float]],
    num_samples: int,
    seed: int,
    weights_N: Sequence[float] | None = None,
) -> list[Score]:
    """Return the (weighted) mean of each metric with its interval, as `bootstrap` has it.

    All of them are taken of the same draws.
    """
    values = np.array(values_MN, np.float64)
    num_units = values.shape[1]
    weights = np.ones(num_units) if weights_N is None else np.array(weights_N, np.float64)
    weighted = values * weights

    def means(drawn_SN: Indices) -> list[Values]:
        weight_S = num_units if weights_N is None else weights[drawn_SN].sum(-1)
        return [row[drawn_SN].sum(-1) / weight_S for row in weighted]

    some = [means(drawn_SN) for (drawn_SN,) in draws([num_units], num_samples, seed)]
    found_MS = [np.concatenate(parts) for parts in zip(*some, strict=True)]
    of_all = means(np.arange(num_units)[None])
    return [
        _score(float(mean[0]), found_S, num_units)
        for mean, found_S in zip(of_all, found_MS, strict=True)
    ]


def draws(sizes: Sequence[int], num_samples: int, seed: int) -> Iterator[list[Indices]]:
    """Yield bootstrap samples, some at a time, so that memory does not grow with their number.

    Returns:
        An array of indices for each level of units, with a sample in each row.
    """
    rngs = [np.random.default_rng([seed, level]) for level in range(len(sizes))]
    at_once = max(1, MOST_AT_ONCE // sum(sizes))
    for first in range(0, num_samples, at_once):
        rows = min(at_once, num_samples - first)
        yield [rng.integers(n, size=(rows, n)) for rng, n in zip(rngs, sizes, strict=True)]


def _score(value: float, found_S: Values, num_units: int) -> Score:
    if np.isnan(found_S).any():
        return Score(value, math.nan, math.nan, num_units)
    ends = np.sort(found_S)[[int(LOW * len(found_S)), int(HIGH * len(found_S))]]
    return Score(value, float(ends[0]), float(ends[1]), num_units)
