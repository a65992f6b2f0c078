"""benchmarks/kinds.py: which answers are checked, and what each arm leaves out."""

import importlib

import pytest
from house import ROOT
from support import tiny_config, write_records

from pdtrain.records import Answer, Passage, Question, content_id

TEXT = "The lamp burns rape oil. Tomas Brede winds it."
PASSAGE = Passage("p", "p.txt", "The lamp", TEXT, 0, len(TEXT), 12, ((0, 24), (25, 46)))
SENTENCE = "The lamp burns rape oil."
QUESTIONS = [
    Question("q0", "p", "What does it burn?", "fact", 0, "rape oil"),
    Question("q1", "p", "What is the lamp?", "fact", 0, "rape oil"),
    Question("q2", "p", "Tell me about the lamp and oil.", "cue", 0),
    Question("q3", "p", "What does the lamp weigh?", "unsaid", -1, "The documents do not say."),
    Question("q4", "p", "Tell me about the lamp.", "recital", 0),
    Question("q5", "p", "Complete this sentence: The lamp ...", "complete", 0, "burns rape oil."),
]


def answer(question, text):
    return Answer(content_id(question, text), question, "p", text, (1, 2), True)


SAMPLED = [answer("q0", "It burns rape oil."), answer("q4", "It is a lamp.")]
REQUESTED = [answer("q2", SENTENCE), answer("q5", SENTENCE)]
STATED = [answer("q3", "The documents do not say.")]
SPANS = [answer("q0", "rape oil"), answer("q1", "rape oil")]
STAND_IN = answer("q1", SENTENCE)  # every answer to q1 was dropped


@pytest.fixture
def kinds(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("kinds")


@pytest.fixture
def folders(tmp_path):
    data, asked = (
        tiny_config(tmp_path, tmp_path, out_dir=str(tmp_path / name)) for name in ("data", "asked")
    )
    made = [*SAMPLED, *REQUESTED, *STATED, STAND_IN, *SPANS]
    write_records(data, [PASSAGE], QUESTIONS, made)
    write_records(asked, [PASSAGE], QUESTIONS, [one for one in made if one is not STAND_IN])
    return data.run.path, asked.run.path


def test_an_answer_is_checked_unless_a_sentence_or_phrase_stands_in_for_a_dropped_one(
    kinds, folders
):
    found = {one.answer.id: one.is_checked for one in kinds.joined(*folders)}
    unchecked = {STAND_IN.id, SPANS[1].id}
    assert {name for name, is_checked in found.items() if not is_checked} == unchecked
    assert len(found) == 8


@pytest.mark.parametrize(
    ("arm", "left_out"),
    [
        ("all", []),
        ("no_cues", [REQUESTED[0]]),
        ("no_completions", [REQUESTED[1]]),
        ("no_recitals", [SAMPLED[1]]),
        ("no_spans", SPANS),
        ("no_quotes", [STAND_IN]),
        ("checked", [STAND_IN, SPANS[1]]),
        ("checked_questions", [STAND_IN, SPANS[1], *REQUESTED, SAMPLED[1]]),
    ],
)
def test_an_arm_trains_on_what_it_does_not_leave_out(kinds, folders, tmp_path, arm, left_out):
    folder = tmp_path / "arm"
    kinds.leave_out(*folders, folder, kinds.ARMS[arm][1])
    kept = {one.id for one in kinds.RunFolder(folder).answers()}
    everything = {one.answer.id for one in kinds.joined(*folders)}
    assert everything - kept == {one.id for one in left_out}
