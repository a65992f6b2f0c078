"""Check what is decided before ranks are connected."""

import os
import warnings
from dataclasses import replace

import pytest
import torch
from support import tiny_config, tiny_model

from pdtrain.config import EngineConfig
from pdtrain.distributed import process_group
from pdtrain.distributed.process_group import connected, prepare_deepspeed
from pdtrain.distributed.world import find_world
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model


@pytest.fixture
def unset(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "")  # remembered, to be restored
    monkeypatch.delenv("DS_ACCELERATOR")


def test_deepspeed_takes_the_cpu_where_torch_finds_no_accelerator(unset, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    prepare_deepspeed()
    assert os.environ["DS_ACCELERATOR"] == "cpu"


def test_accelerators_are_found_as_torch_finds_them(unset, monkeypatch):
    """In containers and under WSL2 no device file need have the name of the first GPU."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    prepare_deepspeed()
    assert "DS_ACCELERATOR" not in os.environ


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "xpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    prepare_deepspeed()
    assert os.environ["DS_ACCELERATOR"] == "xpu"


def test_nccl_is_told_which_gpu_a_rank_has(monkeypatch):
    """Otherwise it guesses one by the rank's number among all machines, and warns."""
    asked = {}
    dist = process_group.dist
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "rendezvous", lambda *a, **o: iter([(dist.HashStore(), 0, 1)]))
    monkeypatch.setattr(dist, "init_process_group", lambda *a, **options: asked.update(options))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(process_group, "publish", lambda world: None)
    world = replace(find_world({}), local_rank=5)
    with connected(EngineConfig(kind="deepspeed"), world):
        assert asked["device_id"] == torch.device("cuda:5")


def test_no_rank_saves_the_generators_of_all_gpus(monkeypatch, tmp_path):
    """PyTorch would touch every GPU of the machine from every rank, and warns of it."""
    config = tiny_config(tmp_path, tiny_model(tmp_path))
    base = load_model(config.model)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.random, "_fork_rng_warned_already", False)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*available devices")
        add_adapter(base, config.adapter, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
