"""What the doctor says of GPUs: what one process holds to write, and one rank to train."""

from dataclasses import replace

import pytest
import torch
from house import ROOT

from pdtrain.config import RunConfig, load
from pdtrain.distributed.world import World
from pdtrain.planning.checks import gpu_checks, run_checks

GIB = 2**30
CONFIGS = {  # a shipped config: its model's shape, nodes, and GiB of the base that a rank holds
    "llama-70b-two-nodes": ("llama-3.3-70b", 2, "24.6"),
    "llama-70b-eight-nodes": ("llama-3.3-70b", 8, "18.5"),
    "llama-8b-one-node": ("llama-3.1-8b", 1, "15.0"),
}


def shipped(name: str) -> RunConfig:
    config = load(ROOT / "configs" / f"{name}.yaml", [])
    shape = str(ROOT / "tests" / "shapes" / CONFIGS[name][0])
    return replace(config, model=replace(config.model, name=shape))


def machine(monkeypatch, num_gpus: int, gib: float) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index=0: (int(gib * GIB),) * 2)


def ranks(nodes: int, each: int = 8) -> World:
    return World(num_ranks=nodes * each, ranks_per_node=each, launcher="test")


@pytest.mark.parametrize("launched", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_pass_on_the_gpus_they_are_for(name, launched, monkeypatch):
    machine(monkeypatch, 8, 79.2)
    _, nodes, part = CONFIGS[name]
    world = ranks(nodes) if launched else World()
    found = [*gpu_checks.writing(shipped(name)), *gpu_checks.training(shipped(name), world)]
    assert [finding.status for finding in found] == ["ok", "ok"]
    assert ("over GPUs [0, 1" in found[0].text) == ("70b" in name)
    assert f"{part} GiB of the base on each GPU" in found[1].text
    assert ("under a launcher" in found[1].text) == (not launched and "70b" in name)


@pytest.mark.parametrize(
    ("num_gpus", "gib", "world", "said"),
    [
        (8, 24, ranks(2), "each of 16 ranks holds at least 26"),
        (8, 24, World(), "each of 16 ranks holds at least 26"),
        (1, 79.2, World(), "one process holds at least 13"),
    ],
)
def test_what_no_rank_can_hold_fails_with_the_reason(num_gpus, gib, world, said, monkeypatch):
    machine(monkeypatch, num_gpus, gib)
    (finding,) = gpu_checks.training(shipped("llama-70b-two-nodes"), world)
    assert finding.status == "FAIL" and said in finding.text


def test_a_base_that_one_process_cannot_hold_fails(monkeypatch):
    machine(monkeypatch, 1, 79.2)
    (finding,) = gpu_checks.writing(shipped("llama-70b-two-nodes"))
    assert finding.status == "FAIL" and "131.4 GiB of weights" in finding.text


def test_a_peak_above_the_memory_is_a_warning(monkeypatch):
    machine(monkeypatch, 8, 40)
    (finding,) = gpu_checks.training(shipped("llama-70b-two-nodes"), ranks(2))
    assert finding.status == "warn" and "at most 4" in finding.text


def test_the_doctor_asks_both_of_a_gpu(monkeypatch):
    machine(monkeypatch, 8, 79.2)
    monkeypatch.setattr(run_checks, "load_tokenizer", lambda _: None)
    monkeypatch.setattr(run_checks, "prove", lambda *_: None)
    thoughts = type("Thinking", (), {"off": (), "opener": None, "end": None})()
    monkeypatch.setattr(run_checks, "find_thinking", lambda _: thoughts)
    found = list(run_checks.base_model(shipped("llama-70b-two-nodes")))
    assert [finding.status for finding in found] == ["ok"] * 3
