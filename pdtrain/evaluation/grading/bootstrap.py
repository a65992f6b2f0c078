"""Give a statistic an interval by the percentile bootstrap."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from pdtrain.records import Score

LOW, HIGH = 0.025, 0.975  # quantiles of the bootstrap samples: a 95 % interval


def bootstrap(
    statistic: Callable[..., float], sizes: Sequence[int], num_samples: int, seed: int
) -> Score:
    """Return a statistic with its 95 % percentile bootstrap interval.

    Each bootstrap sample draws units with replacement, as many as there are. There may be several
    levels of units, such as seeds and questions, which are drawn independently of each other.

    Args:
        statistic: takes the indices of the drawn units, one sequence for each level.
        sizes: the number of units of each level; the last one is the score's `n`.

    Returns:
        The statistic of all units, and the interval; its ends are NaN where a sample's statistic
        is.
    """
    rng = random.Random(seed)
    found = sorted(
        statistic(*(rng.choices(range(size), k=size) for size in sizes)) for _ in range(num_samples)
    )
    low, high = found[int(LOW * num_samples)], found[int(HIGH * num_samples)]
    if any(map(math.isnan, found)):
        low = high = math.nan
    return Score(statistic(*map(range, sizes)), low, high, sizes[-1])
