"""How a model answers: declining, reciting, repeating, and the gain over the base."""

import pytest

from pdtrain.evaluation.grading.declining import declines
from pdtrain.evaluation.grading.manner import gains, learned, recitable, recited, repeated
from pdtrain.evaluation.grading.metrics import grade


@pytest.mark.parametrize(
    "text",
    [
        "The passage does not say who the captain is.",
        "The documents don\u2019t mention a price.",
        "It isn't stated in the text.",
        "There is no information about that.",
        "The year is not given.",
        "That cannot be determined from the passage.",
        "The length is unknown.",
        "The text says nothing about bakers.",
        "That is an unanswerable question.",
        "It happened on an unspecified date.",
        "The answer is the unknown.",
    ],
)
def test_an_answer_that_declines_is_known_by_its_words(text):
    assert declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "It costs nine coins.",
        "Oskar Plint",
        "The ferry does not sail in winter.",
        "No, in March.",
        "It is not only known for its bridge, it was founded in 1850.",
        "It was built in 1892 by an unknown baker.",
        "",
    ],
)
def test_an_answer_that_says_something_does_not_decline(text):
    assert not declines(text)


def test_a_question_without_an_answer_is_graded_by_declining_alone():
    found = grade("It costs nine coins.", [])
    assert found == dict.fromkeys(found, None) | {"invented": 1.0}
    assert grade("The passage does not say.", [])["invented"] == 0.0
    assert grade("Nine coins", ["nine coins"])["invented"] is None


def said(*predictions, **grades):
    none = {"gold_in_answer": None, "invented": None}
    return [{"prediction": one, **none, **grades} for one in predictions]


def recites(lines, training_answers):
    return recited(lines, learned(recitable(lines), training_answers))


def test_an_answer_to_three_questions_is_repeated_and_a_short_one_never():
    sentence = "The Grey Heron leaves at six."
    others = ["Six", sentence.upper(), "Six", "Six", sentence, "It carries milk to the island"]
    assert repeated(said(sentence, *others)) == [1, 0, 1, 0, 0, 1, 0]
    assert repeated(said(sentence, sentence)) == [0, 0]
    assert repeated([]) == []


def test_saying_three_times_rightly_that_there_is_no_answer_is_neither_repeated_nor_recited():
    refusal = "The documents do not say what it cost."
    rightly, wrongly = said(*[refusal] * 3, invented=0.0), said(*[refusal] * 3, gold_in_answer=0.0)
    assert repeated(rightly) == recites(rightly, [refusal]) == [0, 0, 0]
    assert repeated(wrongly) == recites(wrongly, [refusal]) == [1, 1, 1]
    assert repeated([*rightly[:1], *wrongly[:2]]) == [0, 0, 0]


def test_a_training_answer_without_the_gold_answer_is_recited():
    lines = [
        *said("The Grey Heron leaves at six.", gold_in_answer=0.0),
        *said("the grey heron leaves at six", gold_in_answer=1.0),
        *said("At six", gold_in_answer=0.0),
        *said("The Grey Heron never leaves at all.", invented=1.0),
    ]
    known = ["The Grey Heron leaves at six!", "At six", "the Grey Heron never leaves at all"]
    assert recites(lines, known) == [1, 0, 0, 1]
    assert recites(lines, []) == [0, 0, 0, 0]


def test_training_answers_are_read_once_and_only_what_was_said_is_kept():
    lines = said("The Grey Heron leaves at six.", "At six", gold_in_answer=0.0)
    texts = iter(["the grey heron leaves at six", "It carries milk to the island."] * 3)
    assert learned(recitable(lines), texts) == recitable(lines[:1])
    assert not list(texts)
    assert learned(set(), iter(["At six"])) == set()


def test_gains_are_by_question_where_both_have_a_grade():
    base = [{"id": "a", "gold_in_answer": 1.0}, {"id": "b", "gold_in_answer": None}]
    mine = [
        {"id": "b", "gold_in_answer": None},
        {"id": "a", "gold_in_answer": 0.0},
        {"id": "c", "gold_in_answer": 1.0},
    ]
    assert gains(mine, base) == [None, -1.0, None]
