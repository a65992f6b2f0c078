"""Test how rounds are summarised: recall by passage, the best round, and the reason to stop."""

import pytest

from pdtrain.config import RoundsConfig
from pdtrain.training.rounds.recall import best, by_passage, why_to_stop


def test_recall_is_counted_by_passage_among_what_was_asked():
    asked = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("c", "5")]
    found = by_passage(asked, {"1", "3", "5", "of another quiz"})
    assert found == {"a": (2, 3), "b": (0, 1), "c": (1, 1)}


@pytest.mark.parametrize(
    "known, number",
    [
        ([], 0),
        (["abc"], 0),
        (["a", "abcd", "abc"], 1),
        (["a", "abc", "abd"], 1),  # of equal ones the earlier
        (["abc", "abd"], 0),
        (["abc", "ab"], 0),
        (["abc", "abcd"], 1),  # one more, and nothing lost
        (["abcdefg", "defghijk"], 0),  # four more and three less may be chance
        (["abcdefg", "cdefghijklm"], 1),  # six more and two less
        (["a", "ab", "abc"], 2),
    ],
)
def test_a_round_is_taken_where_it_gained_more_than_chance_gives(known, number):
    assert best([set(facts) for facts in known]) == number


@pytest.mark.parametrize(
    "recoveries, reason",
    [
        ([0.25], ""),
        ([1.0], "knows all"),
        ([0.25, 0.5], ""),  # a gain of least_gain is enough
        ([0.25, 0.375], "least_gain=0.25"),
        ([0.5, 0.25], "least_gain=0.25"),
        ([0.0, 0.25, 0.5], "rounds.most=2 are done"),
        ([0.0, 0.25, 1.0], "knows all"),
    ],
)
def test_rounds_end_for_a_reason(recoveries, reason):
    said = why_to_stop(recoveries, RoundsConfig(most=2, least_gain=0.25))
    assert reason in said and bool(said) == bool(reason)


def test_a_gain_of_least_gain_is_enough_in_floats_too():
    assert 0.57 - 0.56 < 0.01
    assert not why_to_stop([0.56, 0.57], RoundsConfig(most=2, least_gain=0.01))
    assert why_to_stop([0.56, 0.569], RoundsConfig(most=2, least_gain=0.01))
