"""Test what one optimizer step optimizes, and the figures that it reports."""

import time
from dataclasses import replace

import pytest
import torch
from support import tiny_config, tiny_model
from tiny_training import trained

from pdtrain.distillation.examples import Example
from pdtrain.distillation.packing import twin_batch
from pdtrain.distributed.engine import PlainEngine
from pdtrain.training.step import train_step


class Constant(torch.nn.Module):
    """Return loss and mass of a batch as its weights say, times the one weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return self.weight * batch.weights.sum() * batch.targets[0], batch.weights.sum() * 0.5


def test_a_step_divides_once_by_the_weight_of_all_its_micro_batches(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    batches = [
        twin_batch(
            [Example("a", "p", (1,), (1, 1), (token,) * length)],
            config.loss,
            torch.device("cpu"),
            with_teacher=False,
        )
        for token, length in ((3, 1), (7, 4), (2, 5))
    ]
    engine = PlainEngine(Constant(), replace(config.train, max_grad_norm=1e9), 10)
    stats = train_step(engine, batches)
    mean = (3 * 1 + 7 * 4 + 2 * 5) / 10
    assert stats.loss == pytest.approx(mean)
    assert stats.grad_norm == pytest.approx(mean)
    assert stats.teacher_mass == pytest.approx(0.5)
    assert stats.answer_tokens == 10
    assert stats.student_tokens == (2 + 0) + (2 + 3) + (2 + 4)  # the last token is never read


@pytest.mark.parametrize("cache", [False, True])
def test_a_step_says_where_its_time_went_and_what_it_read(cache, tmp_path):
    model = tiny_model(tmp_path / "model")
    started = time.perf_counter()
    config = trained(tmp_path / "run", model, teacher={"cache": cache})
    elapsed = time.perf_counter() - started
    names = ("data", "teacher", "student", "loss", "backward", "optimizer", "other")
    total = 0.0
    for line in config.run.metrics():
        seconds = {name: line[f"time/{name}_seconds"] for name in names}
        assert all(value >= 0 for value in seconds.values())
        total += sum(seconds.values())
        assert (seconds["teacher"] == 0) == cache
        assert min(seconds[name] for name in names if name not in ("teacher", "other")) > 0
        assert line["time/communication_seconds"] == 0
        tokens = line["train/answer_tokens"] / line["train/answer_fraction"]
        speeds = [line[f"train/{side}_tokens_per_second"] for side in ("student", "teacher")]
        spent = sum(seconds.values())
        assert sum(speeds) * spent == pytest.approx(tokens, rel=1e-6)
        assert (speeds[1] == 0) == cache
        assert line["train/padding_fraction"] == 0
        assert 0 < line["train/model_flops_utilization"] < 1.5
    assert 0 < total < elapsed
