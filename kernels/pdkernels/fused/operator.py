"""Make the fused loss an operation that PyTorch differentiates, compiles and traces.

Outside of a compiler it is an `autograd.Function`. Inside one, and for tensors without data, it is
the registered operator `pdkernels::topk_kl`, which a graph holds as one node. Both save the
gradient in forward; both refuse to be differentiated twice.

N rows · D hidden size · V vocabulary · K top-k · P parts: suffixes name dimensions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pdkernels.chunked.slabs import compute_dtype
from pdkernels.fused.student import NUM_PARTS, Outcome

Compute = Callable[[Tensor], Outcome]


class TopkKL(torch.autograd.Function):
    """Compute loss and gradient at once; backward only multiplies."""

    @staticmethod
    def forward(student_ND: Tensor, compute: Compute) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss (N,), the gradient (N, D) and the parts (N, P); empty if not wanted."""
        outcome = compute(student_ND)
        nothing = outcome.loss_N.new_empty(0)
        d_student_ND, parts_NP = outcome.d_student_ND, outcome.parts_NP
        return (
            outcome.loss_N,
            nothing if d_student_ND is None else d_student_ND,
            nothing.clone() if parts_NP is None else parts_NP,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Keep the gradient alone: neither the student's rows nor the head is held."""
        ctx.save_for_backward(output[1])
        ctx.dtype = inputs[0].dtype
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, None]:
        """Return the gradient times what comes from above."""
        (d_student_ND,) = ctx.saved_tensors
        return _times_upstream(d_student_ND, upstream, ctx.dtype), None


def _times_upstream(
    d_student_ND: Tensor, upstream: tuple[Tensor | None, ...], dtype: torch.dtype
) -> Tensor | None:
    d_loss_N = upstream[0]
    if d_loss_N is None:
        return None
    return TimesOnce.apply(d_student_ND, d_loss_N, dtype)


class TimesOnce(torch.autograd.Function):
    """Multiply the gradient by what comes from above, and refuse to be differentiated."""

    @staticmethod
    def forward(d_student_ND: Tensor, d_loss_N: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the student's gradient in the dtype of its rows."""
        return (d_student_ND * d_loss_N[:, None]).to(dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        """Raise RuntimeError."""
        raise RuntimeError(
            "topk_kl has no second derivative: its gradient is made in forward and is a constant. "
            "Use impl='reference', or leave out create_graph=True"
        )


def shapes(student_ND: Tensor, wants_gradient: bool, wants_parts: bool) -> tuple[Tensor, ...]:
    """Return empty tensors of the shapes and dtypes of the operator's results."""
    num_rows, dtype = student_ND.shape[0], compute_dtype(student_ND)
    return (
        student_ND.new_empty(num_rows, dtype=dtype),
        student_ND.new_empty(student_ND.shape if wants_gradient else (0,), dtype=dtype),
        student_ND.new_empty((num_rows, NUM_PARTS) if wants_parts else (0,), dtype=dtype),
    )
