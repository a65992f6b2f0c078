"""Bundled texts of invented facts, to practise reading on."""

import calendar
from collections import Counter

from pdtrain.synthesis.held_out import read_reading
from pdtrain.synthesis.retention import invented
from pdtrain.synthesis.retention.topics import TOPICS
from pdtrain.synthesis.text import content_words, names, normalise

TEXTS = read_reading(str(invented.TEXTS))


def test_each_answer_stands_in_its_text_and_not_in_its_question():
    for one in TEXTS:
        (answer,) = one.question.answers
        assert normalise(answer) in normalise(one.passage)
        assert normalise(answer) not in normalise(one.question.question)
    assert len({normalise(one.question.question) for one in TEXTS}) == len(TEXTS) == 160


def test_no_text_tells_of_what_reading_is_measured_on():
    """Neither texts, questions nor names are shared, apart from days and months."""
    measured = read_reading()
    theirs = {name for one in measured for name in names(one.passage)}
    ours = {name for one in TEXTS for name in names(one.passage)}
    assert not (theirs & ours) - {*calendar.day_name, *calendar.month_name}
    asked = {normalise(one.question.question) for one in measured}
    assert not asked & {normalise(one.question.question) for one in TEXTS}
    titles = {one.title: content_words(one.title) for one in measured}
    for one in TEXTS:
        assert not any(words and words <= content_words(one.passage) for words in titles.values())
        assert one.title.lower() not in TOPICS


def test_first_comes_one_question_about_every_text():
    found = invented.choose(40, 0)
    assert len(found) == invented.EACH * 40
    titles = [one.passages[0].title for one in found]
    assert len({*titles[:40]}) == len({*titles[40:]}) == 40
    assert len(invented.choose(1000, 0)) == len(TEXTS)
    assert not invented.choose(0, 0)


def test_a_seed_decides_which_questions_come_first():
    def asked(seed):
        return [one.question for one in invented.choose(5, seed)]

    assert asked(0) == asked(0) != asked(1)


def test_an_answer_is_read_where_it_says_what_the_text_says():
    by_question = {one.question.question: one.question.answers[0] for one in TEXTS}
    kept = Counter()
    for one in invented.choose(1000, 0):
        answer = by_question[one.question]
        kept["says"] += one.is_read(f"It is {answer}, I think.")
        kept["silent"] += one.is_read("I do not know, and nobody does.")
        (passage,) = one.passages
        assert passage.text[slice(*passage.sentences[0])] == passage.text[: passage.sentences[0][1]]
    assert kept == {"says": len(TEXTS), "silent": 0}
