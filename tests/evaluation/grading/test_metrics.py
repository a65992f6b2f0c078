"""Metrics of answers, and their intervals, by hand."""

import random

import pytest

from pdtrain.evaluation.grading.metrics import (
    METRICS,
    exact_match,
    gold_in_answer,
    grade,
    recovered,
    summarise,
    summarise_all,
)
from pdtrain.evaluation.systems import ADAPTER, BASE, TEACHER
from pdtrain.records import Score


@pytest.mark.parametrize(
    "prediction, answers, wanted",
    [
        ("It is 175 metres long.", ["175"], 1.0),
        ("It is 1750 metres long.", ["175"], 0.0),
        ("It is 1,750 metres long.", ["1750"], 1.0),
        ("By Ina Marrow, of course", ["Ina Marrow"], 1.0),
        ("By Ina Marrows", ["Ina Marrow"], 0.0),
        ("THE PIER", ["pier"], 1.0),
        ("Ina or Marrow", ["Ina Marrow"], 0.0),
        ("Nine", ["seven", "nine"], 1.0),
        ("", ["nine"], 0.0),
        ("anything", ["The"], 0.0),
        ("It is group A.", ["A"], 1.0),
        ("A pear", ["B"], 0.0),
        ("It was hepatitis A.", ["the hepatitis A"], 1.0),
        ("Team of Division A", ["The team of the Division A"], 1.0),
        ("It is a vitamin.", ["Vitamin A"], 0.0),
        ("", ["A"], 0.0),
        ("vitamin C", ["Vitamin A"], 0.0),
        ("It has vitamin A and C.", ["Vitamin A"], 1.0),
        ("", ["+"], 0.0),
        ("It is a + sign", ["+"], 1.0),
        ("a cheese", ["The cheese."], 1.0),
    ],
)
def test_a_gold_answer_counts_as_whole_words(prediction, answers, wanted):
    assert gold_in_answer(prediction, answers) == wanted


@pytest.mark.parametrize(
    "prediction, answers, wanted",
    [
        ("The Pier!", ["pier"], 1.0),
        ("the long pier", ["pier"], 0.0),
        ("two", ["one", "Two."], 1.0),
    ],
)
def test_exact_match_is_after_normalising(prediction, answers, wanted):
    assert exact_match(prediction, answers) == wanted


def test_a_grade_has_each_metric_once():
    found = grade("The pier of Osk", ["pier"])
    assert [*found] == [name for name, metric in METRICS.items() if metric.grade]
    wanted = {"gold_in_answer": 1.0, "exact_match": 0.0, "token_f1": 0.5}
    assert found | wanted == found


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_mean_and_shrinks_with_more_questions(seed):
    rng = random.Random(seed)
    values = [float(rng.random() < 0.3) for _ in range(400)]
    widths = []
    for n in (20, 100, 400):
        score = summarise(values[:n], 500, seed)
        assert score.value == pytest.approx(sum(values[:n]) / n) and score.n == n
        assert score.low <= score.value <= score.high
        widths.append(score.high - score.low)
    assert widths == sorted(widths, reverse=True)
    # 1.96 standard errors to either side
    assert widths[-1] == pytest.approx(2 * 1.96 * (0.3 * 0.7 / 400) ** 0.5, rel=0.25)


def test_weights_of_one_change_nothing_and_others_weigh():
    values = [0.0, 1.0, 1.0, 0.5, 0.25]
    assert summarise(values, 200, 1, [2.0] * 5) == summarise(values, 200, 1)
    assert summarise([0.0, 1.0], 200, 1, [1, 3]) == Score(0.75, 0.0, 1.0, 2)


def test_an_interval_is_the_same_every_time_and_a_point_where_all_agree():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert summarise(values, 200, 1) == summarise(values, 200, 1)
    assert summarise([1.0] * 5, 200, 1) == Score(1.0, 1.0, 1.0, 5)
    assert summarise([0.25], 1, 0) == Score(0.25, 0.25, 0.25, 1)


def test_metrics_of_as_many_questions_have_intervals_of_the_same_draws():
    columns = {"a": [0.0, 1.0, 1.0], "b": [0.5, 1.0], "c": [1.0, 0.0, 0.0]}
    found = summarise_all(columns, 200, 1)
    assert [*found] == [*columns] and [score.n for score in found.values()] == [3, 2, 3]
    assert found["a"].low == pytest.approx(1 - found["c"].high)
    assert found == summarise_all(dict(reversed(columns.items())), 200, 1)
    assert summarise_all({}, 200, 1) == {}


def table(base, teacher, student):
    return {
        system.name: {"m": Score(value, value, value, 1)}
        for system, value in ((BASE, base), (TEACHER, teacher), (ADAPTER, student))
    }


@pytest.mark.parametrize(
    "values, wanted",
    [
        ((0.0, 0.8, 0.4), 0.5),
        ((-4.0, -1.0, -2.5), 0.5),
        ((0.2, 0.8, 0.1), -1 / 6),
        ((0.5, 0.5, 0.9), None),
        ((0.6, 0.5, 0.9), None),
    ],
)
def test_recovered_is_the_share_of_what_the_teacher_adds(values, wanted):
    found = recovered(table(*values), "m")
    assert found is None if wanted is None else found == pytest.approx(wanted)


@pytest.mark.parametrize("gold", ["A", "The", "+", "Blood group A"])
def test_an_empty_answer_is_no_gold_answer_whatever_that_is_made_of(gold):
    said = grade("", [gold])
    assert said["exact_match"] == said["token_f1"] == said["gold_in_answer"] == 0.0
    for right in (gold.lower(), f"{gold}.", f"The {gold}!" if len(gold) > 3 else gold):
        said = grade(right, [gold])
        assert said["exact_match"] == said["token_f1"] == said["gold_in_answer"] == 1.0, right
