"""Train a tiny model on random answers, interrupt it, and compare what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import tiny_config, tiny_records, write_records
from torch import Tensor

from pdtrain.config import RunConfig
from pdtrain.distributed.engine import PlainEngine
from pdtrain.storage import ADAPTER_WEIGHTS
from pdtrain.training import train

SETTINGS = {
    "epochs": 3,
    "answers_per_step": 4,
    "answers_per_micro_batch": 4,
    "save_every_steps": 1000,
    "learning_rate": 0.01,
}
NUM_STEPS = 9  # 12 answers, 4 a step, 3 epochs


def prepared(folder: Path, model: Path, /, **sections: Any) -> RunConfig:
    """Write the records that training reads, and return the run's config."""
    sections["train"] = SETTINGS | sections.get("train", {})
    config = tiny_config(folder, model, **sections)
    write_records(config, *tiny_records())
    return config


def trained(folder: Path, model: Path, /, **sections: Any) -> RunConfig:
    """Train a run, and return its config."""
    config = prepared(folder, model, **sections)
    train.run(config)
    return config


def adapter(config: RunConfig) -> dict[str, Tensor]:
    """Return the weights of a run's adapter."""
    return load_file(config.run.adapter / ADAPTER_WEIGHTS)


def logged(config: RunConfig, name: str = "train/loss") -> list[float]:
    """Return a metric of every step."""
    return [line[name] for line in config.run.metrics()]


def assert_same_bits(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def assert_close(left: Mapping[str, Tensor], right: Mapping[str, Tensor], atol: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=atol, rtol=0)


def stop_after(monkeypatch: pytest.MonkeyPatch, num_steps: int) -> None:
    """Let the next run die in the step after `num_steps` whole ones."""

    def die(number: int) -> None:
        if number > num_steps:
            raise KeyboardInterrupt

    on_each_call(monkeypatch, "step", die)


def on_each_call(
    monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[int], object]
) -> None:
    """Call `act` with 1, 2, … before each call of a method of the plain engine."""
    real, calls = getattr(PlainEngine, method), []

    def called(*args: Any) -> Any:
        calls.append(1)
        act(len(calls))
        return real(*args)

    monkeypatch.setattr(PlainEngine, method, called)
