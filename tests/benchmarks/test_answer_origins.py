"""benchmarks/answer_origins.py: where the words of answers come from."""

import importlib

import pytest
from house import ROOT
from support import tiny_config, write_records

from pdtrain.records import Answer, Passage, Question

TEXT = "The lamp burns rape oil. Tomas Brede winds it."
PASSAGE = Passage("p", "p.txt", "The lamp", TEXT, 0, len(TEXT), 12, ((0, 24), (25, 46)))
QUESTIONS = [
    Question("q0", "p", "What does it burn?", "fact", 0, "rape oil"),
    Question("q1", "p", "What oil is it?", "fact", 0, "rape oil"),
    Question("q2", "p", "Tell me about the lamp.", "cue", 0),
    Question("q3", "p", "Summarise.", "summary", -1),
]
SAID = [("q0", "Rape oil", 2), ("q1", "The lamp burns rape oil.", 6)]
SAID += [("q2", "The lamp burns rape oil.", 6), ("q3", "It is a lamp.", 4)]


@pytest.fixture
def origins(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("answer_origins")


def test_answers_are_counted_by_kind_and_origin(origins, tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    answers = [
        Answer(f"a{i}", question, "p", text, (1,) * n, True)
        for i, (question, text, n) in enumerate(SAID)
    ]
    write_records(config, [PASSAGE], QUESTIONS, answers)
    lines = origins.table(config.run).splitlines()[2:]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] == [
        ["cue", "its sentence", "1", "6", "2"],
        ["fact", "its phrase", "1", "2", "1"],
        ["fact", "its sentence", "1", "6", "2"],
        ["summary", "sampled", "1", "4", "1"],
        ["all", "", "4", "18", "2"],
    ]
