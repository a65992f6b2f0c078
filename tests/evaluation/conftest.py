"""Train and score a tiny run once, for tests that each get a copy of it."""

import json
import shutil

import pytest
from support import tiny_config, tiny_model, tiny_records, write_records

from pdtrain.evaluation import evaluate
from pdtrain.training import train

QUESTIONS = [
    {"document": "0", "question": "How long is the pier?", "answers": ["260 metres", "260"]},
    {"document": "1", "question": "Who keeps the bird?", "answers": ["Ruben Aldis"]},
    {"question": "What is it?", "answers": ["a cheese"]},
]
# a passage about something else, with a question that it answers and one that it does not
READING = {
    "title": "The kite",
    "passage": "The kite is made of red silk. It was flown over the gorge by Ada Moll.",
    "questions": [
        {"question": "Who flew the kite?", "answers": ["Ada Moll"]},
        {"question": "What is the kite made of?", "answers": ["silk", "red silk"]},
        {"question": "How long is its cord?", "answers": []},
    ],
}


class Run:
    """A tiny run on one model and one file of held-out questions."""

    def __init__(self, folder, model, questions):
        self.folder, self.model, self.questions = folder, model, questions

    def config(self, train=None, evaluate=None):
        """Return the run's config with changes to two of its sections."""
        scoring = {"questions": str(self.questions), "max_new_tokens": 4, "bootstrap_samples": 50}
        scoring["reading"] = str(self.questions.with_name("reading.jsonl"))
        training = {"epochs": 1, "evaluate_every_epochs": 0}
        return tiny_config(
            self.folder,
            self.model,
            evaluate=scoring | (evaluate or {}),
            train=training | (train or {}),
        )

    def copy(self, folder):
        shutil.copytree(self.folder.parent, folder)
        return Run(folder / "run", self.model, folder / "questions.jsonl")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def trained_once(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    questions.with_name("reading.jsonl").write_text(json.dumps(READING) + "\n")
    run = Run(folder / "run", model, questions)
    write_records(run.config(), *tiny_records())
    train.run(run.config())
    return run


@pytest.fixture(scope="session")
def scored_once(trained_once, tmp_path_factory):
    run = trained_once.copy(tmp_path_factory.mktemp("scored") / "project")
    evaluate.score(run.config())
    return run


@pytest.fixture
def trained(trained_once, tmp_path):
    """A run that was trained and not scored."""
    return trained_once.copy(tmp_path / "project")


@pytest.fixture
def scored(scored_once, tmp_path):
    """A run that was trained and scored."""
    return scored_once.copy(tmp_path / "project")
