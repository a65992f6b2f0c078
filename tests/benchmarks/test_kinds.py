"""benchmarks/kinds.py: what each arm leaves out, and the page that compares them."""

import importlib

import pytest
from house import ROOT
from run_folders import write_predictions
from support import tiny_config, write_records

from pdtrain.evaluation.grading.metrics import grade
from pdtrain.records import Answer, Passage, Question, content_id
from pdtrain.storage import to_line, write_json

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


def answer(question, text, **more):
    return Answer(content_id(question, text), question, "p", text, (1, 2), True, **more)


SAMPLED = [answer("q0", "It burns rape oil."), answer("q4", "It is a lamp.")]
REQUESTED = [answer("q2", SENTENCE), answer("q5", SENTENCE)]
SAID = "The tall lamp burns rape oil."  # long enough to count as repeated
STATED = [answer("q3", "The documents do not say.")]
SPANS = [answer("q0", "rape oil"), answer("q1", "rape oil", checked=False)]
STAND_IN = answer("q1", SENTENCE, checked=False)  # every answer to q1 was dropped
MADE = [*SAMPLED, *REQUESTED, *STATED, STAND_IN, *SPANS]


@pytest.fixture
def kinds(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("kinds")


@pytest.fixture
def data(tmp_path):
    config = tiny_config(tmp_path, tmp_path, out_dir=str(tmp_path / "data"))
    write_records(config, [PASSAGE], QUESTIONS, MADE)
    return config.run.path


@pytest.mark.parametrize(
    ("arm", "left_out"),
    [
        ("all", []),
        ("labels_checked", []),
        ("no_cues", [REQUESTED[0]]),
        ("no_completions", [REQUESTED[1]]),
        ("no_recitals", [SAMPLED[1]]),
        ("no_spans", SPANS),
        ("no_quotes", [STAND_IN]),
        ("checked", [STAND_IN, SPANS[1]]),
    ],
)
def test_an_arm_trains_on_what_it_does_not_leave_out(kinds, data, tmp_path, arm, left_out):
    folder = tmp_path / "arm"
    kinds.leave_out(data, folder, kinds.ARMS[arm])
    kept = {one.id: one for one in kinds.RunFolder(folder).answers()}
    assert {one.id for one in MADE} - kept.keys() == {one.id for one in left_out}
    assert [*kept.values()] == [one for one in MADE if one.id in kept]
    assert kinds.ARMS[arm].labels_for == ("checked" if arm == "labels_checked" else "all")


def test_the_page_compares_every_arm_with_all_answers(kinds, tmp_path):
    """Four questions; the base knows none closed book, an arm the first so many of them."""
    knows = {"all": 3, "checked": 1}
    folders = {}
    for arm, right in knows.items():
        run = tmp_path / arm
        folders[arm] = [run]
        for system in {one.name for _, *of, _ in kinds.COLUMNS for one in of if one}:
            number = 0 if system.startswith("base") else right
            lines = [
                {"id": str(i), "question": "?", "document": "d", "answers": ["lamp"]}
                | {
                    "prediction": text,
                    "finished": True,
                    "answer_tokens": 3,
                    **grade(text, ["lamp"]),
                }
                | {"gold_log_likelihood": -1.0, "kl_to_base": 0.5, "num_tokens": 2}
                for i, text in enumerate([SAID] * number + ["no"] * (4 - number))
            ]
            write_predictions(run, system, lines)
        write_json(run / "adapter" / "manifest.json", {"num_answers": 10 * right})
        run.joinpath("metrics").mkdir()
        steps = [{"step": i, "unix_seconds": 1.0, "train/loss": 1.0} for i in range(right)]
        (run / "metrics" / "metrics.jsonl").write_text("".join(map(to_line, steps)))
    page = kinds.page(folders)
    rows = [[c.strip() for c in line.split("|")][1:-1] for line in page.splitlines() if "|" in line]
    head, _, base, every, checked, _, _, less = rows
    place, repeated = (
        head.index("right, closed book"),
        head.index("same answer to three, closed book"),
    )
    assert every[:3] == ["all answers, labels for all", "30", "3"]
    assert checked[:3] == ["checked answers alone", "10", "1"]
    found = [row[place].split(" ")[0] for row in (base, every, checked)]
    assert found == ["0.000", "0.750", "0.250"]
    assert [row[repeated].split(" ")[0] for row in (every, checked)] == ["0.750", "0.000"]
    assert less[0] == "checked answers alone" and less[1].startswith("-0.500 [")
    assert "Less all answers" not in kinds.page({"all": folders["all"]})
