"""No question twice in nearly the same words: the measure, and that the index misses nothing."""

import random
from collections import Counter

import pytest
from support import tiny_config, tiny_model

from pdtrain.records import Passage, Question
from pdtrain.synthesis.filters import NearIndex, jaccard, word_set
from pdtrain.synthesis.questions import Asker

LONG = "In which year did the baker Anna Gray build her blue mill beside the river at Oak End?"


def test_words_are_stems_without_articles_marks_and_capitals():
    assert word_set("The Mills of Anna’s, a baker!") == {"mill", "of", "anna", "baker"}
    assert word_set("the mill of Anna's BAKERS?") == {"mill", "of", "anna", "baker"}
    assert jaccard(word_set("one two three"), word_set("two three four")) == 0.5
    assert jaccard(word_set(""), word_set("the")) == 1


@pytest.mark.parametrize(
    "text, least, is_near",
    [
        (LONG, 0.9, True),
        (LONG.replace("did the", "did that"), 0.9, True),  # 16 of 17 words
        (LONG.replace("baker Anna Gray", "owner Paul Reed"), 0.9, False),
        (LONG.replace("baker Anna Gray", "owner Paul Reed"), 0.6, True),
        (LONG, 1.0, False),
        ("Who is Anna Gray?", 0.9, False),
        ("", 0.9, False),
    ],
)
def test_nearly_the_same_words_are_found(text, least, is_near):
    assert NearIndex(least, [LONG]).holds(text) == is_near


@pytest.mark.parametrize("least", [0.3, 0.5, 0.75, 0.9])
def test_the_index_finds_what_a_comparison_with_all_finds(least):
    rng = random.Random(0)
    words = [f"w{i}" * (1 + i % 3) for i in range(14)]
    texts = [" ".join(rng.sample(words, rng.randrange(1, 13))) for _ in range(300)]
    index, found = NearIndex(least), Counter()
    for place, text in enumerate(texts):
        sets = map(word_set, texts[:place])
        near = any(jaccard(word_set(text), other) >= least for other in sets)
        assert index.holds(text) == near
        found[near] += 1
        index.add(text)
    assert min(found.values()) > 5 and len(found) == 2, "the sample must hold both"


def test_few_texts_are_compared():
    """Those of other words are not looked at, however many there are."""
    index = NearIndex(0.9, (f"What did person number{i} do in place{i}?" for i in range(2000)))
    assert max(map(len, index.places.values())) <= 2
    assert index.holds("What did the person number7 do in place7?")


TEXT = "Anna Gray built the blue mill. It grinds rye."
PASSAGE = Passage("p", "d", "The blue mill", TEXT, 0, len(TEXT), 12, ((0, 30), (31, 45)))


@pytest.fixture
def kept(tmp_path):
    """What an asker keeps of planned questions, and why it drops the others."""
    model = tiny_model(tmp_path / "model")

    def keep(*texts, held_out=(), kind="recital", **knobs):
        config = tiny_config(tmp_path, model, questions=knobs)
        asker = Asker(config, set(held_out), Counter())
        planned = [Question(str(i), "p", text, kind, 0) for i, text in enumerate(texts)]
        found = [question.text for question in asker._kept(planned, PASSAGE)]
        return found, dict(asker.dropped)

    return keep


def test_a_question_in_nearly_the_words_of_another_is_dropped_and_counted(kept):
    again, other = LONG.replace("did the", "did that"), "Who built it?"
    assert kept(LONG, again, other) == ([LONG, other], {"nearly repeated": 1})
    assert kept(LONG, again, near_duplicate=1.0) == ([LONG, again], {})
    assert kept(LONG, LONG.upper(), near_duplicate=1.0) == ([LONG], {"repeated": 1})
    assert kept(LONG, LONG.upper()) == ([LONG], {"repeated": 1})


def test_two_blanks_of_a_sentence_are_not_each_others_repetition(kept):
    blanks = [f"Fill in the blank: {LONG.replace(word, '____')}" for word in ("river", "blue")]
    assert kept(*blanks, kind="blank") == (blanks, {})


@pytest.mark.parametrize("kind", ["recital", "blind", "blank"])
def test_a_question_in_nearly_the_words_of_a_held_out_one_is_dropped_and_counted(kept, kind):
    held_out = ["Blank: " + LONG.replace("did the", "did that").lower()]
    asked = "Blank: " + LONG
    assert kept(asked, held_out=held_out, kind=kind) == ([], {"nearly a held-out question": 1})
    assert kept(asked, held_out=held_out, kind=kind, near_duplicate=1.0) == ([asked], {})
