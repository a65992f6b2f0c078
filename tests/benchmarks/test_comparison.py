"""Several runs in one table: means, paired differences, and intervals that hold what they say."""

import math

import comparison
import numpy as np
import pytest
from comparison import Sample

from pdtrain.storage import to_line


def sample(values, weights=None):
    values = np.array(values, dtype=float)
    return Sample(values, np.ones_like(values) if weights is None else np.array(weights, float))


def test_a_mean_is_over_all_seeds_and_questions():
    score = comparison.mean(sample([[0, 1, 1, 0], [1, 1, 1, 0]]))
    assert score.value == pytest.approx(5 / 8) and score.n == 4
    assert score.low < score.value < score.high


def test_weights_are_those_of_tokens():
    found = comparison.mean(sample([[1.0, 0.0]], [[30, 10]]))
    assert found.value == pytest.approx(0.75)
    assert (found.low, found.high) == (0, 1)


def test_what_always_differs_by_as_much_has_no_interval():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 20))
    found = comparison.difference(sample(values + 0.5), sample(values))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    apart = comparison.mean(sample(values))
    assert apart.high - apart.low > 0.3


def test_one_run_stands_for_every_seed():
    base = sample([[0.0, 1.0, 0.0]])
    student = sample([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert comparison.difference(student, base).value == pytest.approx(1 / 3)


def test_recovered_is_the_share_of_what_the_teacher_adds():
    student, base, teacher = sample([[-2.0, -3.0]]), sample([[-4.0, -5.0]]), sample([[-1.0, -2.0]])
    found = comparison.recovered(student, base, teacher)
    assert (found.value, found.low, found.high) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert math.isnan(comparison.recovered(student, teacher, base).value)


def test_a_ratio_is_of_the_means():
    found = comparison.ratio(sample([[1.0, 3.0]]), sample([[8.0, 24.0]]))
    assert (found.value, found.low, found.high) == pytest.approx((1 / 8, 1 / 8, 1 / 8))


@pytest.mark.parametrize("seed_spread, question_spread", [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_the_interval_is_as_wide_as_seeds_and_questions_make_it(seed_spread, question_spread):
    """Against the spread of the mean over many experiments with new seeds and new questions."""
    num_seeds, num_questions = 12, 40
    rng = np.random.default_rng(1)

    def experiment():
        seeds = rng.normal(size=(num_seeds, 1)) * seed_spread
        questions = rng.normal(size=(1, num_questions)) * question_spread
        return seeds + questions

    found = comparison.mean(sample(experiment()))
    spread = np.std([experiment().mean() for _ in range(2000)])
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.4)


def test_the_same_twice_is_the_same():
    values = sample(np.random.default_rng(0).random((3, 9)))
    assert comparison.mean(values) == comparison.mean(values)


def write(folder, lines, system="adapter_rag"):
    path = folder / "scores" / f"{system}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(to_line({"inputs": "x", "system": system}) + "".join(map(to_line, lines)))
    return folder


def test_runs_are_matched_by_the_ids_of_their_questions(tmp_path):
    first = write(tmp_path / "a", [{"id": "p", "m": 1}, {"id": "q", "m": 0}])
    second = write(tmp_path / "b", [{"id": "q", "m": 0.5}, {"id": "p", "m": 0.25}])
    found = comparison.read([first, second], "adapter_rag", "m")
    assert found.values_SQ.tolist() == [[1, 0], [0.25, 0.5]]
    assert found.weights_SQ.tolist() == [[1, 1], [1, 1]]


def test_a_question_that_one_run_has_no_value_for_is_left_out_of_all(tmp_path):
    first = write(tmp_path / "a", [{"id": "1", "m": True}, {"id": "2", "m": False}])
    second = write(tmp_path / "b", [{"id": "1", "m": None}, {"id": "2", "m": True}])
    found = comparison.read([first, second], "adapter_rag", "m")
    assert found.values_SQ.tolist() == [[0.0], [1.0]]


def test_tokens_weigh_where_a_line_counts_them(tmp_path):
    run = write(tmp_path / "a", [{"id": "p", "m": 1, "num_tokens": 7}])
    assert comparison.read([run], "adapter_rag", "m").weights_SQ.tolist() == [[7]]


def test_runs_of_other_questions_are_refused(tmp_path):
    first = write(tmp_path / "a", [{"id": "p", "m": 1}])
    second = write(tmp_path / "b", [{"id": "q", "m": 1}])
    with pytest.raises(ValueError, match="asked other questions in adapter_rag"):
        comparison.read([first, second], "adapter_rag", "m")
    with pytest.raises(ValueError, match="different numbers of questions"):
        comparison.difference(sample([[1.0]]), sample([[1.0, 2.0]]))
