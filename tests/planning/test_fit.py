"""Stages whose model the visible GPUs cannot hold are refused before the first one starts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pdtrain import api
from pdtrain.config import from_dict, load
from pdtrain.distributed.world import World
from pdtrain.models import quantization
from pdtrain.planning import fit

SHAPES = Path(__file__).parents[1] / "shapes"
CONFIGS = Path(__file__).parents[2] / "configs"
GIB = 2**30
TWO_NODES = World(num_ranks=16, ranks_per_node=8, launcher="test")


def machine(monkeypatch, num_gpus: int, gib: float) -> None:
    """Let torch see so many GPUs, all of their memory free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index=0: (int(gib * GIB),) * 2)


def of_shape(name: str, tmp_path: Path, **sections: object):
    model = {"name": str(SHAPES / name)}
    return from_dict({"out_dir": str(tmp_path / "run"), "model": model} | sections)


@pytest.fixture
def large(tmp_path):
    config = load(CONFIGS / "llama-70b-two-nodes.yaml", [f"out_dir={tmp_path}/run"])
    return replace(config, model=replace(config.model, name=str(SHAPES / "llama-3.3-70b")))


def test_70b_on_one_gpu_of_80_gib_is_refused_before_the_first_stage(large, monkeypatch):
    machine(monkeypatch, 1, 79.2)
    started = []
    monkeypatch.setattr(api, "stage_function", lambda name: lambda _: started.append(name))
    with pytest.raises(ValueError, match="does not fit") as error:
        api.run(large)
    said = str(error.value)
    for part in (
        "questions, answers, export: ",
        "131.4 GiB of weights",
        "79.2 GiB free",
        "more GPUs",
    ):
        assert part in said
    assert not started and not large.folder.exists()


def test_70b_on_eight_gpus_is_written_by_one_process_and_trained_by_sixteen(large, monkeypatch):
    machine(monkeypatch, 8, 79.2)
    fit.refuse(large, list(api.STAGES), TWO_NODES)
    with pytest.raises(
        ValueError, match=r"train: .*one process holds at least 13\d.* one rank a GPU"
    ):
        fit.refuse(large, ["train"], World())
    fit.refuse(large, ["answers"], World())


def test_a_training_that_ranks_cannot_hold_is_refused(large, monkeypatch):
    machine(monkeypatch, 8, 16)
    with pytest.raises(ValueError, match=r"train: .*each of 16 ranks .* engine.hpz=false"):
        fit.refuse(large, ["train"], TWO_NODES)


def test_a_base_that_each_rank_first_holds_whole_is_refused_where_only_its_part_fits(
    large, monkeypatch
):
    """In 4 bits 70B has 36.8 GiB, and of four ranks each keeps 10 of them."""
    monkeypatch.setattr(quantization, "refuse", lambda *_: None)  # its package may be missing
    packed = replace(large, model=replace(large.model, quantization="nf4"))
    four = World(num_ranks=4, ranks_per_node=4, launcher="test")
    machine(monkeypatch, 4, 32)
    with pytest.raises(
        ValueError, match=r"each of 4 ranks .* 37\.8 GiB .*whole base, before.*quantization=none is"
    ):
        fit.refuse(packed, ["train"], four)
    machine(monkeypatch, 4, 40)
    fit.refuse(packed, ["train"], four)


def test_a_model_that_fits_one_gpu_is_let_through(tmp_path, monkeypatch):
    machine(monkeypatch, 1, 79.2)
    config = of_shape("llama-3.1-8b", tmp_path)
    fit.refuse(config, list(api.STAGES), World())


def test_what_has_finished_is_not_asked_for_memory(tmp_path, monkeypatch):
    machine(monkeypatch, 1, 8)
    config = of_shape("llama-3.1-8b", tmp_path)
    with pytest.raises(ValueError, match=r"^questions: "):
        fit.refuse(config, ["questions"], World())
    config.run.questions_folder.mkdir(parents=True)
    (config.run.questions_folder / "manifest.json").write_text("{}")
    fit.refuse(config, ["passages", "questions", "report"], World())


def test_on_a_cpu_nothing_is_refused(large, monkeypatch):
    machine(monkeypatch, 0, 0)
    fit.refuse(large, list(api.STAGES), World())
