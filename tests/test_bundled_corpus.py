"""Test the quickstart's corpus: its documents hold the answers, and no question is there twice."""

import re
from collections import Counter
from pathlib import Path

import pytest

from pdtrain.config import load
from pdtrain.documents.ingest.listing import document_paths
from pdtrain.documents.library import read_documents
from pdtrain.evaluation.grading.metrics import gold_in_answer
from pdtrain.synthesis.held_out import read_questions
from pdtrain.synthesis.text import normalise

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart"


@pytest.fixture(scope="module")
def texts():
    config = load(QUICKSTART.with_suffix(".yaml")).corpus
    paths = document_paths(config)
    return {p.name: [d.text for d in read_documents(p, config)] for p in paths}


def test_there_is_enough_of_it(texts):
    assert len(texts) >= 8 and {Path(name).suffix for name in texts} == {".md", ".txt", ".html"}
    questions = [q for q in read_questions(QUICKSTART / "questions.jsonl") if q.answers]
    assert len(questions) >= 80
    assert {q.document for q in questions} == set(texts)
    assert len({(q.document, q.answers[0]) for q in questions}) >= 40, "facts"


@pytest.mark.parametrize("name", ["questions.jsonl", "tuning.jsonl"])
def test_every_answer_stands_in_its_document_and_not_in_its_question(texts, name):
    for question in read_questions(QUICKSTART / name):
        (text,) = texts[question.document]
        if not question.answers:
            continue
        assert gold_in_answer(text, question.answers), question.id
        assert not gold_in_answer(question.question, question.answers), question.id


def test_what_settings_are_chosen_on_is_not_what_they_are_measured_on():
    held_out = [normalise(q.question) for q in read_questions(QUICKSTART / "questions.jsonl")]
    tuning = [normalise(q.question) for q in read_questions(QUICKSTART / "tuning.jsonl")]
    assert len(set(held_out)) == len(held_out) and len(set(tuning)) == len(tuning)
    assert not set(held_out) & set(tuning)


def test_some_questions_about_each_document_are_not_answered_by_it(texts):
    questions = [q for q in read_questions(QUICKSTART / "questions.jsonl") if not q.answers]
    assert Counter(q.document for q in questions) == dict.fromkeys(texts, 3)
    for question in questions:  # they name what the document is about, so that it is found
        (text,) = texts[question.document]
        names = re.findall(r"[A-Z]\w+(?: (?:and )?[A-Z]\w+)+", question.question)
        assert any(name in text for name in names), question.id
