"""Check what is decided before ranks are connected."""

import os

import pytest
import torch

from pdtrain.distributed.process_group import prepare_deepspeed


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
