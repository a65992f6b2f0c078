"""Crude looks at text: what counts as a phrase that a question can ask for."""

import pytest

from pdtrain.synthesis.text import phrases


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
