"""Intervals of a statistic, over one and over two levels of units."""

import math
import random
import tracemalloc
from statistics import mean

import numpy as np
import pytest

from pdtrain.evaluation.grading.bootstrap import bootstrap, bootstrap_means, draws
from pdtrain.records import Score


def test_one_level_resamples_the_values_themselves():
    values = np.array([0.0, 1.0, 1.0, 0.25, 0.5, 0.0, 1.0])
    found = bootstrap(lambda drawn: values[drawn].mean(), [7], 1000, seed=3)
    drawn = np.random.default_rng([3, 0]).integers(7, size=(1000, 7))
    means = sorted(values[drawn].mean(1))
    assert found == Score(values.mean(), means[25], means[975], 7)


def test_means_are_those_of_any_statistic_over_the_same_draws():
    values, weights = [[0.0, 1.0, 1.0, 0.25], [0.5, 0.0, 1.0, 1.0]], [1.0, 2.0, 3.0, 4.0]
    for mine in (None, weights):
        found = bootstrap_means(values, 300, 5, mine)
        for row, score in zip(values, found, strict=True):

            def mean(drawn, row=row, mine=mine):
                return np.average(np.array(row)[drawn], weights=mine and np.array(mine)[drawn])

            wanted = bootstrap(mean, [4], 300, 5)
            assert (score.value, score.n) == (pytest.approx(wanted.value), 4)
            assert (score.low, score.high) == pytest.approx((wanted.low, wanted.high))


def test_draws_are_the_same_however_many_are_made_at_once(monkeypatch):
    together = [np.concatenate(level) for level in zip(*draws([3, 50], 70, 9), strict=True)]
    monkeypatch.setattr("pdtrain.evaluation.grading.bootstrap.MOST_AT_ONCE", 200)
    parts = list(draws([3, 50], 70, 9))
    assert all(len(one) <= 3 for some in parts for one in some), "200 units are 3 samples of 53"
    for level, one in enumerate(together):
        assert one.shape == (70, (3, 50)[level])
        assert (np.concatenate([some[level] for some in parts]) == one).all()


def test_the_interval_is_as_wide_as_the_drawing_without_numpy_makes_it():
    rng = random.Random(0)
    values = [float(rng.random() < 0.3) for _ in range(200)]
    plain = sorted(mean(rng.choices(values, k=200)) for _ in range(2000))
    (found,) = bootstrap_means([values], 2000, 1)
    assert (found.low, found.high) == pytest.approx((plain[50], plain[1950]), abs=0.011)


def test_memory_does_not_grow_with_the_number_of_samples():
    values = np.zeros((3, 5000))
    peaks = []
    for num_samples in (200, 2000):
        tracemalloc.start()
        bootstrap_means(values, num_samples, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 19) < 8 << 20


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
