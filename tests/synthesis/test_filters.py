"""What is wrong with a question, and which repeat another: the index misses nothing."""

import random
from collections import Counter

import pytest

from pdtrain.records import Passage, Question
from pdtrain.synthesis.filters import NearIndex, jaccard, standing_alone, word_set
from pdtrain.synthesis.question_kinds import fault
from pdtrain.synthesis.sentence_writer.question_examples import REVERSE_EXAMPLES
from pdtrain.synthesis.text import normalise, subject

TEXT = (
    "The Quell barometer was invented by Signe Quell in 1903. "
    "A storm is near when the float falls below the red ring."
)
PASSAGE = Passage("p", "d", "The Quell barometer", TEXT, 0, len(TEXT), 25, ((0, 56), (57, 113)))


def fact(text, phrase="float falls", sentence=1, kind="fact"):
    return Question("q", "p", text, kind, sentence, phrase)


# --- Faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Who invented the Quell barometer?",
        "What did Signe Quell invent in 1903?",
        "When was Signe Quell's barometer invented?",
        "Who was the author of the Quell barometer?",  # which is something named
    ],
)
def test_a_question_that_stands_alone_may_be_asked(text):
    assert fault(fact(text), PASSAGE, set()) == ""


@pytest.mark.parametrize(
    "text, reason",
    [
        ("The Quell barometer was invented by Signe Quell.", "not a question"),
        ("Signe Quell?", "too short or too long"),
        ("Who " + "really " * 30 + "invented the Quell barometer?", "too short or too long"),
        ("According to the text, what did Signe Quell invent?", "not standing alone"),
        ("Which year does this passage give for Signe Quell?", "not standing alone"),
        ("Signe Quell, what does the text of 1903 say of her?", "not standing alone"),
        ("According to this author of 1903, who is Signe Quell?", "not standing alone"),
        ("Who does the author say invented the Quell barometer?", "not standing alone"),
        ("What did Signe Quell, the author of the passage, invent?", "not standing alone"),
        ("When is a storm near the float?", "naming nothing"),
        ("What did Signe Quell invent with Tomas Brede?", "things that are not in the passage"),
        ("What did Signe Quell invent in 1904?", "things that are not in the passage"),
        ("How much sugar, flour and butter did Signe Quell bake?", "about other things"),
        ("Does the float of Signe Quell fall?", "giving its answer away"),
    ],
)
def test_a_question_that_does_not_stand_alone_is_dropped_with_the_reason(text, reason):
    assert reason in fault(fact(text), PASSAGE, set())


def test_a_subject_in_small_letters_is_a_name_too():
    text = "photosynthesis makes sugar in the leaves of plants."
    passage = Passage("p", "d", "photosynthesis", text, 0, len(text), 9, ((0, len(text)),))
    asked = fact("Where does photosynthesis make sugar?", "leaves of plants", 0)
    assert standing_alone(asked.text, subject(passage)) == asked.text
    assert fault(asked, passage, set()) == ""
    other = standing_alone("What is made from light?", subject(passage))
    assert other == "About photosynthesis: What is made from light?"
    unnamed = fact("What is made of sugar in plants?", "leaves", 0)
    assert "naming nothing" in fault(unnamed, passage, set())


@pytest.mark.parametrize("kind", ["fact", "complete", "recital", "name"])
def test_a_held_out_question_is_never_asked_however_it_is_written(kind):
    held_out = {normalise("Who invented the Quell barometer?")}
    asked = "who invented  Quell barometer"
    question = fact(asked, kind=kind)
    assert fault(question, PASSAGE, held_out) == "equal to a held-out question"


def test_a_question_that_names_nothing_says_what_it_is_about():
    about = subject(PASSAGE)
    assert standing_alone("Who sold it?", about) == "About the Quell barometer: Who sold it?"
    named = "What did Signe Quell sell?"
    assert standing_alone(named, about) == named
    assert fault(fact("About the Quell barometer: When is a storm near?"), PASSAGE, set()) == ""


@pytest.mark.parametrize(
    "text, kind, reason",
    [
        ("Fill in the blank: The ____.", "blank", "showing too little"),
        ("Complete this sentence: It was the ...", "complete", "showing too little"),
        ("Fill in the blank: ____ sells honey cakes.", "blank", ""),
        ("Complete this sentence: As Anna Gray ...", "complete", ""),
    ],
)
def test_a_request_for_a_sentence_shows_enough_of_it(text, kind, reason):
    assert fault(fact(text, kind=kind), PASSAGE, set()) == reason


@pytest.mark.parametrize(
    "text, phrase, sentence, reason",
    [
        ("What was invented by Signe in 1903?", "Quell barometer", 0, ""),
        ("What warns of a storm when its float falls?", "the Quell barometer", 1, ""),
        ("What shows a near storm?", "the Quell barometer", 1, "telling too little"),
        ("What was invented by Signe Quell?", "Quell barometer", 0, "telling too little"),
        ("Which barometer did Signe Quell invent in 1903?", "Quell barometer", 0, "giving its"),
        ("Was it Signe Quell in 1903 who invented it?", "Quell", 0, "giving its answer away"),
        ("What did Tomas Brede invent in 1903?", "Quell barometer", 0, "not in the passage"),
        ("What does this passage say was invented by Signe in 1903?", "Quell", 0, "standing alone"),
        ("What did Signe invent in 1903", "Quell barometer", 0, "not a question"),
    ],
)
def test_a_reverse_question_tells_enough_of_its_subject_and_not_its_name(
    text, phrase, sentence, reason
):
    found = fault(fact(text, phrase, sentence, "reverse"), PASSAGE, set())
    assert reason in found and bool(reason) == bool(found)


def test_the_examples_of_reverse_questions_keep_to_the_rules():
    for sentence, answer, question in REVERSE_EXAMPLES.shots:
        span = ((0, len(sentence)),)
        passage = Passage("p", "d", answer, sentence, 0, len(sentence), 9, span)
        assert fault(fact(question, answer, 0, "reverse"), passage, set()) == ""


# --- Near duplicates --------------------------------------------------------------------------

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
