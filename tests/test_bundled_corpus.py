"""Test the quickstart's corpus: its documents hold the answers, and no question is there twice."""

from pathlib import Path

import pytest

from pdtrain.config import load
from pdtrain.documents.ingest.listing import document_paths
from pdtrain.documents.library import read_documents
from pdtrain.evaluation.metrics import gold_in_answer
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
    questions = read_questions(QUICKSTART / "questions.jsonl")
    assert len(questions) >= 80
    assert {q.document for q in questions} == set(texts)
    assert len({(q.document, q.answers[0]) for q in questions}) >= 40, "facts"


@pytest.mark.parametrize("name", ["questions.jsonl", "tuning.jsonl"])
def test_every_answer_stands_in_its_document_and_not_in_its_question(texts, name):
    for question in read_questions(QUICKSTART / name):
        (text,) = texts[question.document]
        assert gold_in_answer(text, question.answers), question.id
        assert not gold_in_answer(question.question, question.answers), question.id


def test_what_settings_are_chosen_on_is_not_what_they_are_measured_on():
    held_out = [normalise(q.question) for q in read_questions(QUICKSTART / "questions.jsonl")]
    tuning = [normalise(q.question) for q in read_questions(QUICKSTART / "tuning.jsonl")]
    assert len(set(held_out)) == len(held_out) and len(set(tuning)) == len(tuning)
    assert not set(held_out) & set(tuning)
