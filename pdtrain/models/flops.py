"""Floating-point operations of teacher, student and loss; and how many a machine does in a second.

Matrix products alone, a multiplication and an addition counted as two. "Model" FLOPs are those
that the numbers need: what checkpointing computes again is not among them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from pdtrain.models.attention.packed import Layout

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """What one side reads: tokens, and pairs of a token and one that it sees, itself included."""

    tokens: float
    pairs: float

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.tokens + other.tokens, self.pairs + other.pairs)


NOTHING = Reading(0, 0)


def reading(layout: Layout) -> Reading:
    """Of a packed row; every prefix is read once. A window's limit on what is seen is left out."""
    found = NOTHING
    for prefix, branches in layout:
        found += Reading(prefix, prefix * (prefix + 1) / 2)
        for length in branches:
            found += Reading(length, length * prefix + length * (length + 1) / 2)
    return found


@dataclass(frozen=True, slots=True)
class Weights:
    """What of a model is multiplied with, in numbers of weights.

    matmuls: of all layers. adapter: LoRA's. head: vocabulary times hidden size. attention: query
    heads times head size times layers, which is half the products of one pair's score.
    """

    matmuls: float
    adapter: float
    head: float
    attention: float


def teacher(weights: Weights, read: Reading) -> float:
    """One forward pass, adapter off: 2 a weight and token, 4 a pair for its score and its value."""
    return 2 * weights.matmuls * read.tokens + 4 * weights.attention * read.pairs


def student(weights: Weights, read: Reading, *, again: bool = False) -> float:
    """Forward and backward. A frozen weight has no gradient of its own, the adapter's have.

    With `again` the forward pass of the layers is computed twice, as under checkpointing.
    """
    passes = 3 if again else 2  # forward, perhaps forward again, and back to the hidden states
    linear = 2 * (weights.matmuls + weights.adapter) * passes + 2 * weights.adapter
    return linear * read.tokens + 4 * weights.attention * read.pairs * (passes + 1)


def loss(weights: Weights, rows: float, *, online: bool) -> float:
    """kernels/README.md: one product for the teacher, two for the student."""
    return weights.head * rows * (4 + 2 * online)


@lru_cache
def peak_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """The quickest of some square matrix products, in FLOPs a second; measured once a process."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(1 + ROUNDS):
        _wait(device)
        started = time.perf_counter()
        left @ right
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
