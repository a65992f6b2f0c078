"""What counts as a phrase, as a beginning, and as the subject of a passage."""

import pytest

from pdtrain.records import Passage
from pdtrain.synthesis.text import (
    beginning,
    normalise,
    phrases,
    phrases_in_turn,
    subject,
    subject_in_turn,
    token_f1,
)

TEXT = (
    "The Quell barometer was invented by Signe Quell in 1903. "
    "A storm is near when the float falls below the red ring."
)
PASSAGE = Passage("p", "d", "The Quell barometer", TEXT, 0, len(TEXT), 25, ((0, 56), (57, 113)))


@pytest.mark.parametrize(
    "sentence, wanted",
    [
        (
            "A wandering peddler named Tobias Wells founded the small town of Thimble Bridge.",
            ["wandering peddler", "Tobias Wells", "small town", "Thimble Bridge"],
        ),
        ("The lamp burns rape oil and needs no battery.", ["lamp burns rape oil", "battery"]),
        ("It opened in 1883, at a cost of 289 dollars.", ["1883", "289 dollars"]),
        ("It holds 1,500 sheep at 10:30.", ["holds 1,500 sheep", "10:30"]),
        ("Annabel met Ann in the old garden.", ["Annabel met", "Ann", "old garden"]),
        ("The last word counts alone.", ["last word counts alone"]),
        ("He saw her and left.", ["left"]),
        ("Is it?", []),
        ("", []),
    ],
)
def test_phrases_are_names_numbers_and_longer_runs(sentence, wanted):
    assert phrases(sentence) == wanted


def test_a_phrase_stands_in_its_sentence_and_is_named_once():
    sentence = "Anna Gray met Anna Gray beside the ship's cook, cook of ships."
    found = phrases(sentence)
    assert found[0] == "Anna Gray" and len(set(found)) == len(found)
    assert all(phrase in sentence for phrase in found)


def test_a_beginning_leaves_something_to_say():
    sentence = "The lamp burns rape oil and turns once in nine seconds."
    assert beginning(sentence, 1 / 3) == "The lamp burns rape"
    for share in (0.1, 0.5, 0.9, 0.99):
        opening = beginning(sentence, share)
        assert sentence.startswith(opening)
        assert not opening or 3 <= len(opening.split()) <= len(sentence.split()) - 2
    assert beginning("Too short.", 0.5) == ""


def test_the_subject_is_written_as_the_text_writes_it():
    assert subject(PASSAGE) == "the Quell barometer"
    named = Passage("p", "d", "Signe Quell", TEXT, 0, 1, 1, ((0, 56),))
    assert subject(named) == "Signe Quell"


def test_phrases_take_turns_and_the_title_comes_last():
    sentence = "The Quell barometer was sold to Paul Reed for 430 silver coins."
    turns = phrases_in_turn(sentence, "The Quell barometer")
    assert turns == ["430 silver coins", "Paul Reed"] * 2 + ["Quell barometer"]
    assert phrases_in_turn("It is.", "The Quell barometer") == []


def test_the_subject_is_asked_for_as_the_sentence_calls_it():
    first, second = (TEXT[start:end] for start, end in PASSAGE.sentences)
    assert subject_in_turn(first, PASSAGE) == ["Quell barometer"]
    assert subject_in_turn(second, PASSAGE) == []  # it may be about something else
    assert subject_in_turn("Its float is red.", PASSAGE) == []


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("The  Pier of\nOsk.", "pier of osk"),
        ("A man, a plan & an idea!", "man plan idea"),
        ("Theatre and anthem", "theatre and anthem"),
        ("1,750 metres", "1750 metres"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("The", ""),
        ("Ünver's Café", "ünvers café"),
    ],
)
def test_normalising_is_squads(text, wanted):
    assert normalise(text) == wanted


@pytest.mark.parametrize(
    "prediction, answers, wanted",
    [
        ("the pier of Osk", ["pier of Osk"], 1.0),
        ("Osk", ["pier of Osk"], 0.5),  # precision 1, recall 1/3
        ("red red boat", ["red boat boat"], 2 / 3),  # two words in common of three each
        ("blue", ["red"], 0.0),
        ("red boat", ["green", "the red boat sails"], 0.8),  # 1, 2/3
        ("", ["red"], 0.0),
        ("the", ["a"], 1.0),  # nothing is left of either
    ],
)
def test_token_f1_by_hand(prediction, answers, wanted):
    assert token_f1(prediction, answers) == pytest.approx(wanted)
