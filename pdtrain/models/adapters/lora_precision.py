"""Compute an adapter's fp32 products as TF32 on a GPU, and nothing else.

Where one process trains a 16-bit base, the adapter's weights are fp32, and without TF32 a GPU
multiplies them at a small fraction of its speed. torch's own switch is global, and would also round
the angles of the rotary embedding, which are fp32 products too. So it is thrown for the adapter's
two products alone, forward and backward.

TF32 keeps 10 bits of each factor's fraction, and sums in fp32. The product of a row of one tensor
with one of another is off by at most 2^-10 of the product of their norms, and bf16 by eight times
as much; the base's own products are bf16. tests/models/adapters/test_lora_precision.py compares
both with float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

Precision = Literal["auto", "ieee", "tf32"]
OLDER = ("allow_tf32", True)


def uses_tf32(asked: Precision, device: torch.device, base_dtype: torch.dtype) -> bool:
    """Return whether the adapter's fp32 products are computed as TF32.

    Args:
        asked: `adapter.fp32_precision`; auto is tf32 beside a 16-bit base on a GPU.
        device: of the model; TF32 is a format of NVIDIA's and AMD's GPUs.
        base_dtype: of the base's weights.
    """
    if device.type != "cuda":
        return False
    return asked == "tf32" or (asked == "auto" and base_dtype in (torch.bfloat16, torch.float16))


def use_tf32(tuners: Iterable[BaseTunerLayer]) -> int:
    """Let the adapter's fp32 products in these layers be TF32, and return how many there are."""
    found = 0
    for tuner in tuners:
        for parts in (getattr(tuner, "lora_A", {}), getattr(tuner, "lora_B", {})):
            for linear in parts.values():
                if type(linear) is nn.Linear and linear.weight.dtype == torch.float32:
                    linear.forward = partial(_linear, linear)  # type: ignore[method-assign]
                    found += 1
    return found


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    found: Tensor = _Tf32Linear.apply(x, module.weight)  # type: ignore[no-untyped-call]
    return found if module.bias is None else found + module.bias


@contextmanager
def tf32() -> Iterator[None]:
    """Let fp32 matrix products inside be TF32 on a GPU, and as they were afterwards."""
    switch: Any = torch.backends.cuda.matmul
    # torch 2.8 has the older of the two alone, and later ones forbid mixing them
    name, on = ("fp32_precision", "tf32") if hasattr(switch, "fp32_precision") else OLDER
    before = getattr(switch, name)
    setattr(switch, name, on)
    try:
        yield
    finally:
        setattr(switch, name, before)


class _Tf32Linear(torch.autograd.Function):
    """Multiply by the transpose of a weight, with TF32 products in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        with tf32():
            return functional.linear(x, weight_OI)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight_OI = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        with tf32():
            grad_x = grad @ weight_OI if wants_x else None
            grad_weight = grad.flatten(0, -2).mT @ x.flatten(0, -2) if wants_weight else None
        return grad_x, grad_weight
