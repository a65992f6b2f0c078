"""What a report reads from a run folder, whichever of its stages are finished."""

import json
import shutil
from dataclasses import replace

import pytest
from run_folders import (
    config_of,
    make_corpus,
    make_rounds,
    make_run,
    make_scores,
    make_scores_by_age,
)

from pdtrain.config import RoundsConfig, RunConfig
from pdtrain.evaluation.systems import ADAPTER
from pdtrain.reporting.summary import COMPARED, inputs_hash, read_summary, total_kinds
from pdtrain.storage import ADAPTER_WEIGHTS, read_shards, sha256_file, write_json

STALE = "scores are those of another adapter"


@pytest.fixture
def run(tmp_path) -> RunConfig:
    return make_run(tmp_path / "run")


def notes_of(config: RunConfig) -> str:
    return "\n".join(read_summary(config).notes)


def test_a_finished_run_lacks_nothing(run):
    summary = read_summary(run)
    assert summary.notes == []
    assert summary.sizes == {
        "documents": 3,
        "passages": 3,
        "sentences": 4 + 13 + 22,
        "questions": len(list(read_shards(run.folder / "questions"))),
        "answers": len(list(read_shards(run.folder / "answers"))),
        "optimizer steps": 200,
        "held-out questions": 24,
    }
    assert summary.training_seconds == pytest.approx(199 * 2.5)
    assert len(summary.curve("train/loss")) == 200
    assert [step for step, _ in summary.curve("eval/gold_in_answer")] == [40, 80, 120, 160, 200]


def test_recall_is_the_mean_of_each_document_and_the_weakest_comes_first(run):
    summary = read_summary(run)
    shares = [document.gold_in_answer[ADAPTER.name] for document in summary.recall]
    assert shares == sorted(shares)
    for document in summary.recall:
        for system in COMPARED:
            hits = [
                line["gold_in_answer"]
                for line in summary.predictions[system]
                if line["document"] == document.document
            ]
            assert len(hits) == document.num_questions == 8
            assert document.gold_in_answer[system] == sum(hits) / len(hits)


def test_coverage_counts_by_sentence_and_by_kind(run):
    documents = read_summary(run).coverage
    assert [document.document for document in documents] == [
        f"folder/document-{d}.md" for d in range(3)
    ]
    for document in documents:
        assert document.uncovered == document.sentences[-1:]
        assert document.num_covered == len(document.sentences) - 1
        assert document.num_answers == document.num_questions - 1
    kinds, answered = total_kinds(documents)
    assert kinds.keys() == {"sentence", "sentence-what", "sentence-who", "recital"}
    assert answered.total() == kinds.total() - 3


def test_what_is_missing_is_noted_with_the_command_that_makes_it(tmp_path):
    notes = notes_of(config_of(tmp_path))
    for command in ("passages", "train", "evaluate"):
        assert f"`pdtrain {command} CONFIG`" in notes


def test_a_run_that_was_not_evaluated_has_no_scores(tmp_path):
    make_corpus(tmp_path)
    summary = read_summary(config_of(tmp_path))
    assert summary.scores is None and summary.predictions == {}
    assert summary.coverage and "Not evaluated" in notes_of(config_of(tmp_path))


def test_scores_whose_answers_are_gone_are_still_there(run):
    shutil.rmtree(run.folder / "scores")
    summary = read_summary(run)
    assert summary.scores and summary.predictions == {}
    assert "The answers behind the scores are gone" in notes_of(run)


def test_missing_and_damaged_metrics_are_noted(run):
    path = run.folder / "metrics" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "tra')
    assert read_summary(run).metrics == [] and "curves are left out" in notes_of(run)
    path.unlink()
    assert read_summary(run).metrics == [] and "No metrics were logged" in notes_of(run)


@pytest.mark.parametrize("left", [-1, 0, None], ids=["cut", "emptied", "removed"])
def test_lost_lines_of_the_metrics_are_said_at_once(left, run, capsys):
    path = run.folder / "metrics" / "metrics.jsonl"
    manifest = run.folder / "adapter" / "manifest.json"
    write_json(manifest, json.loads(manifest.read_text()) | {"metrics": sha256_file(path)})
    assert not read_summary(run).notes and not capsys.readouterr().err
    lines = path.read_text().splitlines(keepends=True)
    if left is None:
        path.unlink()
    else:
        path.write_text("".join(lines[:left]))
    assert "lines were lost since" in notes_of(run)
    assert f"{path} is damaged (it is not what training logged)" in capsys.readouterr().err


def test_rounds_that_are_not_finished_are_noted(run):
    config = make_rounds(run)
    assert read_summary(config).rounds
    (run.folder / "rounds" / "manifest.json").unlink()
    assert read_summary(config).rounds is None
    assert "The rounds after training are not done" in notes_of(config)


def test_scores_of_another_round_are_stale(run):
    config = make_rounds(run)
    best = run.folder / "rounds" / "1" / "adapter" / ADAPTER_WEIGHTS
    write_json(run.folder / "scores" / "manifest.json", {"adapter": sha256_file(best)})
    assert STALE not in notes_of(config)
    assert STALE in notes_of(run)


def test_the_inputs_change_with_all_that_is_reported_and_not_with_the_folder(run, tmp_path):
    hashes = [inputs_hash(run, 1)]

    def changed() -> bool:
        hashes.append(inputs_hash(run, 1))
        return hashes[-1] not in hashes[:-1]

    make_scores_by_age(run.folder)
    assert changed()
    make_scores(run.folder, num_questions=12)
    assert changed()
    manifest = run.folder / "answers" / "manifest.json"
    write_json(manifest, json.loads(manifest.read_text()) | {"output": "other answers"})
    assert changed()
    (run.folder / "metrics" / "metrics.jsonl").unlink()
    assert changed()
    other = replace(run, rounds=RoundsConfig(replay=7.0))  # the page shows every knob
    assert inputs_hash(other, 1) != hashes[-1]
    moved = config_of(run.folder.rename(tmp_path / "moved"))
    assert inputs_hash(moved, 1) == hashes[-1]
