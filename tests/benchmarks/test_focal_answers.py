"""benchmarks/focal_answers.py: answers that are rewrites of the passage for the question."""

import importlib

import pytest
from house import ROOT
from support import tiny_config, tiny_model

from pdtrain.records import Passage

TEXT = "The lamp burns rape oil. Tomas Brede winds it every 4 hours."
PASSAGE = Passage("p", "d", "The lamp of Vell Point", TEXT, 0, len(TEXT), 16, ((0, 24), (25, 60)))


@pytest.fixture
def focal(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("focal_answers")


def test_the_base_is_asked_for_a_longer_rewrite_of_the_passage(focal, tmp_path, monkeypatch):
    config = tiny_config(
        tmp_path,
        tmp_path,
        model={"name": str(tiny_model(tmp_path / "model"))},
        answers={"checks": 3, "mark_known": True, "sampling": {"max_new_tokens": 20}},
    )
    given = []
    monkeypatch.setattr(focal.answers, "collect", lambda *both: given.append(both))
    focal.collect(config)
    ((used, backend),) = given
    assert used.answers.sampling.max_new_tokens == 40
    assert (used.answers.checks, used.answers.mark_known) == (0, False)
    assert used.prompts == config.prompts and used.questions == config.questions
    prompt = backend.chat.tokenizer.decode(backend.chat.teacher(PASSAGE, "Who winds it?", 1))
    assert TEXT in prompt and prompt.count("Tomas Brede") == 2
    assert "Rewrite the text above" in prompt and "question: Who winds it?" in prompt
    assert config.prompts.system not in prompt
