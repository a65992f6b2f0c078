"""Count the floating-point operations of teacher, student and loss, and measure the machine's.

Only matrix products count; a multiplication and an addition are two operations. Model FLOPs are
those that the result needs: what activation checkpointing computes again does not count.
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
    """Hold what one side reads: tokens, and pairs of a token and one that it attends to."""

    tokens: float
    pairs: float

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.tokens + other.tokens, self.pairs + other.pairs)


NOTHING = Reading(0, 0)


def reading(layout: Layout) -> Reading:
    """Return what is read in a packed row, where every prefix is read once.

    The limit of a sliding window is left out. A token attends to itself, too.
    """
    found = NOTHING
    for prefix, branches in layout:
        found += Reading(prefix, prefix * (prefix + 1) / 2)
        for length in branches:
            found += Reading(length, length * prefix + length * (length + 1) / 2)
    return found


@dataclass(frozen=True, slots=True)
class Weights:
    """Hold how many weights of a model take part in matrix products.

    Args:
        matmuls: of all layers.
        adapter: of the LoRA adapter on linear layers.
        head: vocabulary times hidden size.
        attention: query heads times head size times layers, half the operations of the scores of
            one pair of tokens.
        merged: of the layers' weights that a token meets those to which PEFT adds an adapter before
            it multiplies with them, as it does to fused experts.
    """

    matmuls: float
    adapter: float
    head: float
    attention: float
    merged: float = 0


def teacher(weights: Weights, read: Reading) -> float:
    """Return the FLOPs of one forward pass with the adapter off.

    They are 2 for each weight and token, and for each pair 4: 2 for its score and 2 for its value.
    """
    return 2 * weights.matmuls * read.tokens + 4 * weights.attention * read.pairs


def student(weights: Weights, read: Reading, *, again: bool = False) -> float:
    """Return the FLOPs of a forward and a backward pass, in which only the adapter has gradients.

    The gradient of a weight with an adapter added to it is taken whole; the products of that
    adapter's factors, which do not grow with the tokens, are left out.

    Args:
        again: the forward pass of the layers is computed twice, as under checkpointing.
    """
    passes = 3 if again else 2  # forward, perhaps forward again, and back to the hidden states
    linear = 2 * (weights.matmuls + weights.adapter) * passes
    linear += 2 * (weights.adapter + weights.merged)
    return linear * read.tokens + 4 * weights.attention * read.pairs * (passes + 1)


def loss(weights: Weights, rows: float, *, online: bool) -> float:
    """Return the FLOPs of the loss: two products for the student, one for an online teacher.

    kernels/README.md derives them.

    Args:
        rows: hidden states whose next token is an answer token.
        online: the teacher's logits are computed, too, and not read from the cache.
    """
    return weights.head * rows * (4 + 2 * online)


@lru_cache
def peak_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOPs a second of the fastest of some square matrix products.

    It is measured once in a process.
    """
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
