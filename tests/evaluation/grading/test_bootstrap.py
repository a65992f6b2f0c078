"""Intervals of a statistic, over one and over two levels of units."""

import math
import random
from statistics import mean

import pytest

from pdtrain.evaluation.grading.bootstrap import bootstrap
from pdtrain.records import Score


def test_one_level_resamples_the_values_themselves():
    values = [0.0, 1.0, 1.0, 0.25, 0.5, 0.0, 1.0]
    found = bootstrap(lambda drawn: mean(values[i] for i in drawn), [7], 1000, seed=3)
    rng = random.Random(3)
    means = sorted(mean(rng.choices(values, k=7)) for _ in range(1000))
    assert found == Score(mean(values), means[25], means[975], 7)


def test_the_levels_are_drawn_independently_of_each_other():
    draws = []

    def statistic(seeds, questions):
        draws.append((tuple(seeds), tuple(questions)))
        return 0.0

    found = bootstrap(statistic, [3, 5], 400, seed=0)
    assert found.n == 5
    *samples, everything = draws
    assert len(samples) == 400 and everything == ((0, 1, 2), (0, 1, 2, 3, 4))
    for seeds, questions in samples:
        assert len(seeds) == 3 and set(seeds) <= {0, 1, 2}
        assert len(questions) == 5 and set(questions) <= set(range(5))
    together = sum(seeds[0] == questions[0] for seeds, questions in samples) / len(samples)
    assert together == pytest.approx(1 / 5, abs=0.08)


def test_a_statistic_that_is_undefined_for_a_sample_has_no_interval():
    found = bootstrap(lambda drawn: math.nan if 0 in drawn else 1.0, [2], 50, seed=0)
    assert math.isnan(found.low) and math.isnan(found.high)
