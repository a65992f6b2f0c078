"""BM25 finds the passage a question is about."""

import pytest

from pdtrain.evaluation.retrieval import BM25
from pdtrain.records import Passage

TEXTS = {
    "pier": "The pier of Osk is 260 metres long and made of larch wood.",
    "lamp": "The lamp of the lighthouse burns rape oil and turns once in nine seconds.",
    "barometer": "The barometer was invented by Signe Quell and holds a column of cider.",
    "ferry": "The ferry leaves in the morning and reaches the other side at noon.",
}


def passage(name, text, title="Osk"):
    return Passage(name, f"{name}.txt", title, text, 0, len(text), 10, ((0, len(text)),))


@pytest.fixture(scope="module")
def bm25():
    return BM25([passage(name, text) for name, text in TEXTS.items()])


@pytest.mark.parametrize(
    "question, name",
    [
        ("How many metres long is the pier?", "pier"),
        ("What does the lamp burn?", "lamp"),
        ("Who invented the barometer?", "barometer"),
        ("WHEN DOES THE FERRY REACH THE OTHER SIDE?", "ferry"),
    ],
)
def test_the_passage_that_shares_words_comes_first(bm25, question, name):
    assert bm25(question, 2)[0].id == name


def test_as_many_as_asked_for_or_there_are_and_none_twice(bm25):
    assert len(bm25("the pier and the lamp", 2)) == 2
    found = bm25("the pier and the lamp", 99)
    assert sorted(p.id for p in found) == sorted(TEXTS)


def test_a_title_is_searched_too():
    bm25 = BM25([passage("a", "It is old.", "Vell Point"), passage("b", "It is new.", "Harbour")])
    assert bm25("the harbour", 1)[0].id == "b"
    assert bm25("Vell", 1)[0].id == "a"


@pytest.mark.parametrize("question", ["Who is it?", "?", "", "xylophone"])
def test_a_question_without_a_known_word_still_finds_something(bm25, question):
    assert len(bm25(question, 1)) == 1


def test_one_passage_is_found():
    assert BM25([passage("a", "The pier.")])("pier", 3)[0].id == "a"
