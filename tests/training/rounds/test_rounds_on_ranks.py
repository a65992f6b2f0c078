"""Test that the ranks of a launcher make the rounds that one process makes."""

import os
import shutil
import sys

import lamp
import pytest
import torch
from launching import environment, launch, written_run
from safetensors.torch import load_file
from support import needs_compiler, run_ranks, tiny_config, tiny_model, write_records

from pdtrain.config import dump, load
from pdtrain.distributed.world import World, publish
from pdtrain.processes.leading import Follower, Leader
from pdtrain.storage import ADAPTER_WEIGHTS, read_json
from pdtrain.training import train
from pdtrain.training.rounds import quiz, rounds
from pdtrain.training.rounds.crew import Crew
from pdtrain.training.rounds.rounds import Generators

TRAINING = {
    "epochs": 1,
    "answers_per_step": 2,
    "save_every_steps": 1,
    "evaluate_every_epochs": 0,
    "learning_rate": 0.01,
}


def open_student(config, adapter):
    """Return the real student after training, and one that knows a fact more after each round."""
    number = int(adapter.parent.name) if adapter.parent.parent.name == "rounds" else 0
    return lamp.backend(lamp.PHRASES[:number]) if number else quiz.open_student(config, adapter)


def generators():
    return Generators(lamp.backend(), open_student)


def prepared(folder, model, **sections):
    """Write the records of a run, and return its config."""
    config = tiny_config(
        folder,
        model,
        answers={"grounded": False},
        train=TRAINING,
        evaluate={"batch_size": 1},  # so that there are several batches to share
        rounds={"most": 2, "questions_per_miss": 2, "least_gain": 0.0, "replay": 0.5},
        **sections,
    )
    write_records(config, *lamp.records())
    return config


def run_rank(rank, path):
    """Make the rounds of a trained run on this rank."""
    size = torch.distributed.get_world_size()
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    publish(World(rank, size, rank, size, "the test"))
    config = load(path)
    place = Follower(config.folder, rank) if rank else Leader(config.folder, size, 0.0)
    with place:
        rounds.run(config, generators(), Crew(place, size, size, rank))


@pytest.mark.slow  # pytest -m slow tests/training/rounds/test_rounds_on_ranks.py
@needs_compiler
@pytest.mark.parametrize("stage", [1, 3])
def test_two_ranks_make_the_rounds_of_one_process(tmp_path, monkeypatch, stage):
    model = tiny_model(tmp_path / "model")
    alone = prepared(tmp_path / "alone", model)
    train.run(alone)
    shutil.copytree(alone.folder, tmp_path / "ranks")
    rounds.run(alone, generators())
    shared = prepared(tmp_path / "ranks", model, engine={"zero_stage": stage})
    dump(shared, tmp_path / "ranks.yaml")
    for name, value in {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run_ranks(run_rank, 2, tmp_path, tmp_path / "ranks.yaml", timeout_seconds=200)

    summary = read_json(alone.run.rounds_file)
    assert [one["known"] for one in summary["rounds"]] == [0, 1, 2]
    assert read_json(shared.run.rounds_file) == summary
    for number in (1, 2):
        mine, theirs = (config.run.round(number) for config in (shared, alone))
        assert list(mine.questions()) == list(theirs.questions()), "the same records"
        assert list(mine.answers()) == list(theirs.answers())
        assert read_json(mine.trained_on_file) == read_json(theirs.trained_on_file)
        wanted, found = (load_file(one.adapter / ADAPTER_WEIGHTS) for one in (theirs, mine))
        for name, value in wanted.items():
            off = (found[name] - value).norm() / value.norm()
            assert off < 1e-4, f"round {number}: {name} is off by {off:.1e}"
    for name in ("quiz", "0/quiz", "1/quiz"):
        names = {"quiz": "quiz/*.jsonl"}.get(name, f"{name}.json")
        both = [
            [path.read_bytes() for path in sorted(config.run.rounds_folder.glob(names))]
            for config in (shared, alone)
        ]
        if name != "1/quiz":  # it names the weights of an adapter, which differ by rounding
            assert both[0] == both[1] and both[0], name
    journal = shared.run.rounds_folder / "quiz" / "agreed.json"
    assert journal.exists(), "both ranks worked on it"


@pytest.mark.slow
@needs_compiler
def test_a_finished_run_of_rounds_is_left_alone_by_all_ranks(tmp_path, monkeypatch):
    model = tiny_model(tmp_path / "model")
    config = prepared(tmp_path / "run", model, engine={"zero_stage": 1})
    train.run(config)
    rounds.run(config, generators())
    dump(config, tmp_path / "run.yaml")
    before = {p: p.stat().st_mtime_ns for p in config.run.rounds_folder.rglob("*") if p.is_file()}
    run_ranks(run_rank, 2, tmp_path, tmp_path / "run.yaml", timeout_seconds=100)
    found = {p: p.stat().st_mtime_ns for p in config.run.rounds_folder.rglob("*") if p.is_file()}
    assert found == before


BOTH = """
import sys
from pdtrain.api import load_config, run_stages
run_stages(load_config(sys.argv[1]), ["train", "rounds"])
"""


@pytest.mark.slow
@needs_compiler
def test_a_launcher_trains_and_makes_the_rounds_in_one_command(tmp_path):
    env = environment(tmp_path)
    config = written_run(tmp_path / "mine", rounds={"most": 1})
    (tmp_path / "both.py").write_text(BOTH)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", str(tmp_path / "both.py"), str(config)]
    said = launch(command, env, tmp_path / "log")
    assert "rounds: none, for training asked for no phrase of a sentence" in said
    assert said.count("the adapter of round 0 is the run's") == 1
    assert read_json(config.parent / "run" / "rounds" / "rounds.json")["rounds"] == []
