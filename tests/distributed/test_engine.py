"""One process: the rate of each step, clipping, refusal of broken gradients, state out and in."""

import pytest
import torch
from torch import nn

from pdtrain.config import TrainConfig
from pdtrain.distributed.engine import PlainEngine, learning_rate


class Sum(nn.Module):
    """The loss of a batch (a number) is that number times the sum of two weights."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.left = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.right = nn.Parameter(torch.tensor([0.5]))

    def forward(self, batch):
        return batch * (self.left.sum() + self.right.sum()), torch.zeros(())


def engine(num_steps=10, **settings):
    settings = {"scheduler": "constant", "warmup_ratio": 0.0} | settings
    return PlainEngine(Sum(), TrainConfig(**settings), num_steps)


def take_step(made, *batches):
    for batch in batches:
        loss, _ = made(batch)
        made.backward(loss, last=batch is batches[-1])
    return made.step()


def rates(num_steps, **settings):
    config = TrainConfig(learning_rate=1.0, **settings)
    return [learning_rate(config, step, num_steps) for step in range(num_steps)]


def test_a_constant_rate_is_constant():
    assert rates(4, scheduler="constant", warmup_ratio=0.0) == [1.0] * 4


def test_a_linear_rate_falls_evenly_and_never_to_zero():
    assert rates(4, scheduler="linear", warmup_ratio=0.0) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_a_cosine_rate_starts_whole_and_passes_its_half():
    found = rates(4, scheduler="cosine", warmup_ratio=0.0)
    assert found == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant"])
def test_warm_up_rises_to_the_full_rate(scheduler):
    found = rates(20, scheduler=scheduler, warmup_ratio=0.2)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert min(found) > 0 and max(found) == 1.0
    assert found[4:] == sorted(found[4:], reverse=True)


def test_one_step_is_taken_at_the_full_rate():
    assert rates(1) == [1.0]


def test_the_rate_reported_is_the_rate_used():
    made = engine(num_steps=2, scheduler="linear", learning_rate=0.1, max_grad_norm=100.0)
    before = made.adapter_state()["right"]
    _, rate = take_step(made, 1.0)
    after = made.adapter_state()["right"]
    assert rate == pytest.approx(0.1)
    assert float(before - after) == pytest.approx(0.1, rel=1e-4)  # AdamW's first step is the rate
    assert take_step(made, 1.0)[1] == pytest.approx(0.05)


def test_the_norm_is_that_before_clipping_and_the_update_that_after():
    gentle, wild = engine(max_grad_norm=1e9), engine(max_grad_norm=1.0)
    norms = [take_step(made, 1.0, 2.0, 4.0)[0] for made in (gentle, wild)]
    assert norms == pytest.approx([7 * 3**0.5] * 2)  # micro-batches add up
    first_moment = wild.optimizer_state()["left.exp_avg"]
    assert first_moment.tolist() == pytest.approx([0.1 / 3**0.5] * 2, rel=1e-4)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_end_the_run_and_change_nothing(broken):
    made = engine()
    before = made.adapter_state()
    with pytest.raises(RuntimeError, match="non-finite"):
        take_step(made, 1.0, broken)
    assert all(torch.equal(value, before[name]) for name, value in made.adapter_state().items())


def test_gradients_do_not_leak_into_the_next_step():
    made = engine(max_grad_norm=1e9)
    first, second = take_step(made, 5.0)[0], take_step(made, 5.0)[0]
    assert first == second


def test_state_goes_out_and_in_to_the_bit():
    made, other = engine(scheduler="linear"), engine(scheduler="linear")
    for batch in (1.0, -3.0, 2.0):
        take_step(made, batch)
    other.load_state(made.adapter_state(), made.optimizer_state())
    for batch in (0.5, -1.0):
        assert take_step(made, batch) == take_step(other, batch)
    for name, value in made.adapter_state().items():
        assert torch.equal(value, other.adapter_state()[name])


def test_the_state_that_went_out_is_a_copy():
    made = engine()
    take_step(made, 1.0)
    adapter, optimizer = made.adapter_state(), made.optimizer_state()
    kept = {name: value.clone() for name, value in (adapter | optimizer).items()}
    take_step(made, 2.0)
    assert all(torch.equal(value, kept[name]) for name, value in (adapter | optimizer).items())


def test_the_state_holds_the_trained_weights_alone():
    made = engine()
    take_step(made, 1.0)
    assert set(made.adapter_state()) == {"left", "right"}
    moments = {f"{name}.{m}" for name in ("left", "right") for m in ("step", "exp_avg")}
    assert moments < set(made.optimizer_state())


def test_a_checkpoint_of_another_adapter_is_refused():
    made = engine()
    with pytest.raises(ValueError, match=r"other weights than this config's: 1 against 2; was ad"):
        made.load_state({"left": torch.zeros(2)}, {})
