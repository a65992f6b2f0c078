"""Test the whole line on a tiny model: a run, a second one, an edited document, and kill -9."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from architectures_table import case, write_model
from run_folders import ANSWERING
from support import DATA, tiny_model

from pdtrain.cli import main
from pdtrain.evaluation.systems import named
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.storage import read_json, read_shards

HELD_OUT = [
    {"document": "harbour", "question": "How long is the pier?", "answers": ["260 metres"]},
    {"document": "lighthouse", "question": "Who built it?", "answers": ["Ina Marrow"]},
]
SETTINGS = {
    "corpus": {"documents": "documents", "max_passage_tokens": 400},
    "questions": {
        "per_sentence": 1,
        "per_sentence_reverse": 0,
        "per_sentence_completions": 0,
        "per_sentence_blanks": 0,
        "per_passage": 3,
        "per_name": 0,
        "per_passage_summaries": 0,
        "per_passage_lists": 0,
        "per_pair": 0,
        "per_entity": 0,
        "sampling": {"max_new_tokens": 8},
    },
    # a random model's answers are never grounded, and never the same twice
    "answers": {"grounded": False, "checks": 0, "sampling": {"max_new_tokens": 6}},
    "adapter": {"rank": 2, "alpha": 4},
    "train": {
        "epochs": 3,
        "answers_per_step": 4,
        "answers_per_micro_batch": 4,
        "save_every_steps": 1,
        "evaluate_every_epochs": 0,
    },
    "evaluate": {"questions": "questions.jsonl", "max_new_tokens": 4, "bootstrap_samples": 40},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def project(folder: Path, model: Path) -> Path:
    """Write documents, held-out questions and a config, and return the config's path."""
    shutil.copytree(DATA, folder / "documents")
    lines = "".join(json.dumps(question) + "\n" for question in HELD_OUT)
    (folder / "questions.jsonl").write_text(lines)
    config = SETTINGS | {"out_dir": str(folder / "run"), "model": {"name": str(model)}}
    config["model"] |= {"device": "cpu"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def logged():
    """Hold every line that the undisturbed run logs, details included."""
    return []


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory, logged):
    """Return the config of an undisturbed run, which no test changes."""
    config = project(tmp_path_factory.mktemp("finished"), model)
    collector = logging.Handler()
    collector.emit = lambda record: logged.append(record.getMessage())
    logger = logging.getLogger("pdtrain")
    logger.addHandler(collector)
    try:
        assert main(["run", str(config), "--verbose"]) == 0
    finally:
        logger.removeHandler(collector)  # else later runs would print nothing
    return config


@pytest.fixture
def copy(finished, model, tmp_path):
    """Copy the finished run, and return the config of the copy."""
    config = project(tmp_path / "copy", model)
    shutil.copytree(finished.parent / "run", config.parent / "run")
    return config


@pytest.fixture
def prompts(monkeypatch):
    """Collect the text of every prompt that a model is given."""
    found, real = [], HuggingFaceBackend.sample

    def sample(self, prompts, *args, **options):
        found.extend(self.chat.tokenizer.decode(list(prompt)) for prompt in prompts)
        return real(self, prompts, *args, **options)

    monkeypatch.setattr(HuggingFaceBackend, "sample", sample)
    return found


def records(config, name):
    return list(read_shards(config.parent / "run" / name))


def stamps(config):
    """Return when each file of the run was written, except the lock and the config's copy."""
    paths = (config.parent / "run").rglob("*")
    skip = {".lock", "config.yaml"}
    return {p: p.stat().st_mtime_ns for p in paths if p.is_file() and p.name not in skip}


def test_a_run_leaves_everything_that_it_promises(finished):
    run = finished.parent / "run"
    for name in ("passages", "questions", "answers"):
        assert records(finished, name)
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert (run / "metrics" / "metrics.jsonl").is_file()
    assert (run / "report.html").is_file()
    scores = read_json(run / "scores.json")
    answered = [score for system in ANSWERING for score in scores[system].values()]
    assert all(score["n"] == len(HELD_OUT) for score in answered)


def sentences(passages):
    """Return the longer sentences of some passages."""
    found = (sentence for passage in passages for sentence in passage["text"].split(". "))
    return [sentence for sentence in found if len(sentence) > 15]


def test_no_text_of_the_corpus_or_of_the_models_is_logged(finished, logged):
    texts = sentences(records(finished, "passages"))
    for name in ("questions", "answers"):
        texts += [record["text"] for record in records(finished, name)]
    said = "\n".join(logged)
    assert len(logged) > 10 and not [text for text in texts if len(text) > 3 and text in said]


def test_every_record_can_be_traced_to_its_document(finished):
    passages = {record["id"]: record for record in records(finished, "passages")}
    questions = {record["id"]: record for record in records(finished, "questions")}
    documents = {passage["document_id"] for passage in passages.values()}
    assert documents == {path.name for path in DATA.iterdir()}
    assert {question["passage_id"] for question in questions.values()} == set(passages)
    for answer in records(finished, "answers"):
        assert questions[answer["question_id"]]["passage_id"] == answer["passage_id"]
        assert answer["token_ids"]


def test_a_second_run_does_nothing(finished):
    before = stamps(finished)
    assert main(["run", str(finished)]) == 0
    assert stamps(finished) == before


def test_an_edited_document_costs_its_own_passages_alone(copy, prompts):
    before = {name: records(copy, name) for name in ("passages", "questions", "answers")}
    edited = copy.parent / "documents" / "harbour.txt"
    edited.write_text(edited.read_text().replace("260 metres", "270 metres"))
    for stage in ("passages", "questions", "answers"):
        assert main([stage, str(copy)]) == 0
    texts = {record["id"]: record["text"] for record in records(copy, "passages")}
    changed = {i for i, text in texts.items() if "270 metres" in text}
    assert len(changed) == 1
    assert_asked_only_about(changed, records(copy, "passages"), prompts)
    for name in ("questions", "answers"):
        kept = [record for record in records(copy, name) if record["passage_id"] not in changed]
        assert kept == [record for record in before[name] if record["passage_id"] in texts]
    assert any(record["passage_id"] in changed for record in records(copy, "answers"))


def assert_asked_only_about(changed, passages, prompts):
    """Check that prompts show the changed passages, and no sentence that only others have."""
    shown = "\n".join(prompts)
    own = sentences(passage for passage in passages if passage["id"] in changed)
    others = sentences(passage for passage in passages if passage["id"] not in changed)
    assert [sentence for sentence in own if sentence in shown]
    assert not [sentence for sentence in {*others} - {*own} if sentence in shown]


def test_a_changed_corpus_costs_what_changed_and_an_adapter_goes_on(copy, prompts):
    """One document is removed and one replaced; training starts from a copy of the adapter."""
    names = ("passages", "questions", "answers")
    before = {name: records(copy, name) for name in names}
    start = shutil.copytree(copy.parent / "run" / "adapter", copy.parent / "start")
    (copy.parent / "documents" / "barometer.html").unlink()
    edited = copy.parent / "documents" / "harbour.txt"
    edited.write_text(edited.read_text().replace("260 metres", "270 metres"))
    command = [str(copy), f"train.start={start}", "train.replay=0.5"]
    for stage in names:
        assert main([stage, *command]) == 0
    shown = list(prompts)
    assert main(["run", *command]) == 0
    passages = {record["id"]: record["document_id"] for record in records(copy, "passages")}
    old = {record["id"]: record["document_id"] for record in before["passages"]}
    new, gone = passages.keys() - old.keys(), old.keys() - passages.keys()
    assert {passages[i] for i in new} == {"harbour.txt"}
    assert {old[i] for i in gone} == {"harbour.txt", "barometer.html"}
    assert_asked_only_about(new, records(copy, "passages"), shown)
    for name in names[1:]:
        kept = [record for record in records(copy, name) if record["passage_id"] not in new]
        assert kept == [record for record in before[name] if record["passage_id"] in passages]
    num_new = sum(record["passage_id"] in new for record in records(copy, "answers"))
    adapter = copy.parent / "run" / "adapter"
    trained = read_json(adapter / "manifest.json")["num_answers"]
    assert 0 < num_new < trained == num_new + round(num_new / 2) < len(records(copy, "answers"))
    record = read_json(adapter / "documents.json")
    assert set(record["new"]) == new
    known = {i for own in record["documents"].values() for i in own}
    assert known == passages.keys() | old.keys()
    apart = read_json(copy.parent / "run" / "scores_by_age.json")
    assert [apart[age]["adapter_closed_book"]["token_f1"]["n"] for age in apart] == [1, 1]
    assert "Old and new documents" in (copy.parent / "run" / "report.md").read_text()
    exported = copy.parent / "run" / "export" / "documents.json"
    assert read_json(exported) == record


def test_a_new_training_keeps_the_predictions_without_the_adapter(copy):
    scores = copy.parent / "run" / "scores"
    before = {path.stem: path.stat().st_mtime_ns for path in scores.glob("*.jsonl")}
    assert main(["run", str(copy), "train.learning_rate=0.01"]) == 0
    after = {path.stem: path.stat().st_mtime_ns for path in scores.glob("*.jsonl")}
    redone = {system for system in before if before[system] != after[system]}
    with_adapter = {name for name in before if named(name).with_adapter}
    assert redone == with_adapter and "adapter_open_book" in redone


# Imports once, then forks a run for every file it is told to wait for, and kills it when that
# file is there: nothing was computed before a fork, so the children are as good as new processes.
KILLER = """
import os, signal, sys, time
from pathlib import Path
from importlib import import_module
from pdtrain.api import STAGES
from pdtrain.cli import _prepare_environment, main
_prepare_environment()
for place in STAGES.values():
    import_module("pdtrain." + place.rpartition(".")[0])
import torch.utils.tensorboard
config, markers = sys.argv[1], sys.argv[2:]
for marker in [*markers, None]:
    child = os.fork()
    if not child:
        os._exit(main(["run", config]))
    done, status = 0, 0
    while not done:
        if marker and Path(marker).exists():
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.001)
    print(marker, os.waitstatus_to_exitcode(status), file=sys.stderr, flush=True)
"""
MARKERS = (
    "passages/files",  # made when the first document is read
    "questions/journal.jsonl",
    "answers/journal.jsonl",
    "checkpoints/latest",
    "adapter/manifest.json",
    "scores/base_closed_book.jsonl",
    "scores.json",
)


@pytest.mark.slow
def test_kill_9_in_every_stage_changes_nothing(finished, model, tmp_path):
    config = project(tmp_path, model)
    markers = [str(tmp_path / "run" / marker) for marker in MARKERS]
    result = subprocess.run(
        [sys.executable, "-c", KILLER, str(config), *markers],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    for marker in markers:
        assert f"{marker} -9" in result.stderr, result.stderr
    assert "None 0" in result.stderr, result.stderr
    for name in ("passages", "questions", "answers"):
        assert records(config, name) == records(finished, name)
    path = Path("run", "adapter", "adapter_model.safetensors")
    assert (config.parent / path).read_bytes() == (finished.parent / path).read_bytes()
    scores = [read_json(c.parent / "run" / "scores.json") for c in (config, finished)]
    assert scores[0] == scores[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lfm2", "qwen3_moe", "gemma3"])
def test_the_whole_line_runs_for_other_architectures(name, tmp_path):
    """A convolution, experts, and a wrapper round a language model, from documents to export."""
    write_model(case(name), tmp_path / "model")
    config = project(tmp_path, tmp_path / "model")
    assert main(["run", str(config)]) == 0
    folder = tmp_path / yaml.safe_load(config.read_text())["out_dir"]
    assert read_json(folder / "scores.json")
    assert (folder / "export" / "adapter_model.safetensors").is_file()
    assert main(["doctor", str(config)]) == 0
