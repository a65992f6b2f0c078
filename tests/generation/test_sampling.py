"""The next token of a row: what may be drawn, and how often; and padding."""

import pytest
import torch
from fake_device import DEVICE, Recorder
from torch._subclasses import FakeTensorMode

from pdtrain.config import SamplingConfig
from pdtrain.generation.sampling import _candidates, choose, inverse_cdf, pad


def draws(logits, sampling, num=400):
    logits_BV = torch.tensor([logits] * num)
    noise = [torch.Generator().manual_seed(seed) for seed in range(num)]
    return choose(logits_BV, sampling, noise)


def test_top_k_and_top_p_leave_out_the_rest():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert set(draws(logits, SamplingConfig(top_k=2))) == {0, 1}
    assert set(draws(logits, SamplingConfig(top_k=0))) == {0, 1, 2, 3}
    assert set(draws(logits, SamplingConfig(top_k=0, top_p=0.75))) == {0, 1}
    assert set(draws(logits, SamplingConfig(top_k=0, top_p=0.81))) == {0, 1, 2}
    assert set(draws(logits, SamplingConfig(top_k=0, top_p=0.01))) == {0}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_are_distributed_as_the_tempered_softmax(temperature):
    logits = [1.0, 0.0, -1.0, 0.5]
    wanted = (torch.tensor(logits) / temperature).softmax(-1)
    counts = torch.bincount(
        torch.tensor(draws(logits, SamplingConfig(temperature=temperature, top_k=0), num=2000)),
        minlength=4,
    )
    assert (counts / 2000 - wanted).abs().max() < 0.04  # above 3.5 standard deviations


def pearson(counts, expected):
    """Return Pearson's statistic, whose mean is the number of places less one."""
    return float(((counts - expected) ** 2 / expected).sum())


def test_one_uniform_number_a_row_draws_from_the_weights():
    """20,000 draws over six places; the statistic is below 20.5 in 99.9 % of all cases."""
    weights = torch.tensor([0.0, 3.0, 1.0, 0.0, 0.25, 5.0, 0.5, 0.25])
    noise = torch.Generator().manual_seed(0)
    uniform = torch.rand(20_000, dtype=torch.float64, generator=noise)
    drawn = inverse_cdf(weights.expand(20_000, -1), uniform)[:, 0]
    counts = torch.bincount(drawn, minlength=8)
    assert counts[weights == 0].sum() == 0
    likely = weights > 0
    expected = 20_000 * weights[likely] / weights.sum()
    assert pearson(counts[likely], expected) < 20.5


def test_a_draw_at_the_end_of_the_interval_stays_among_weights_above_zero():
    weights = torch.tensor([[0.0, 1e-30, 1.0, 0.0], [0.3, 0.3, 0.4, 0.0]])
    last = torch.full((2,), 1 - 2**-53, dtype=torch.float64)
    assert inverse_cdf(weights, last)[:, 0].tolist() == [2, 2]
    assert inverse_cdf(weights, torch.zeros(2, dtype=torch.float64))[:, 0].tolist() == [1, 0]


def test_a_draw_is_that_of_a_plain_search():
    """Each row of random weights against a loop in Python."""
    noise = torch.Generator().manual_seed(1)
    weights = torch.rand(50, 40, generator=noise).square()
    uniform = torch.rand(50, dtype=torch.float64, generator=noise)
    found = inverse_cdf(weights, uniform)[:, 0].tolist()
    for row, share, place in zip(weights.double().tolist(), uniform.tolist(), found, strict=True):
        below, upto = sum(row[:place]), sum(row[: place + 1])
        assert below <= share * sum(row) < upto


@pytest.mark.parametrize("top_k, top_p", [(0, 1.0), (5, 1.0), (0, 0.9), (5, 0.9)])
def test_on_a_gpu_only_numbers_of_tokens_come_back(top_k, top_p):
    """On fake tensors of another device: the probabilities stay on it."""
    sampling = SamplingConfig(top_k=top_k, top_p=top_p)
    with FakeTensorMode(), Recorder() as seen:
        logits = torch.empty(3, 1000, device=DEVICE, dtype=torch.bfloat16)
        weights, ids = _candidates(logits, sampling)
        uniform = torch.empty(3, device=DEVICE, dtype=torch.float64)
        pick = inverse_cdf(weights, uniform)
        assert weights.device.type == pick.device.type == DEVICE and pick.shape == (3, 1)
        assert (ids is None) == ((top_k, top_p) == (0, 1.0))
    assert not seen.syncs and seen.num_launches < 24


def test_padding_is_on_the_side_asked_for():
    ids, mask = pad([[5], [6, 7, 8]], left=True)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]] and mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    ids, mask = pad([[5], [6, 7, 8]], left=False)
    assert ids.tolist() == [[5, 0, 0], [6, 7, 8]] and mask.tolist() == [[1, 0, 0], [1, 1, 1]]
