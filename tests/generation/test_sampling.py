"""The next token of a row: what may be drawn, and how often; and padding."""

import pytest
import torch

from pdtrain.config import SamplingConfig
from pdtrain.generation.sampling import choose, pad


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


def test_padding_is_on_the_side_asked_for():
    ids, mask = pad([[5], [6, 7, 8]], left=True)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]] and mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    ids, mask = pad([[5], [6, 7, 8]], left=False)
    assert ids.tolist() == [[5, 0, 0], [6, 7, 8]] and mask.tolist() == [[1, 0, 0], [1, 1, 1]]
