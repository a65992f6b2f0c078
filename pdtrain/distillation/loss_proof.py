"""Prove the Triton loss on this machine before the first step, and fall back where it is wrong.

The kernels are compiled when they are first launched, which takes a C compiler and Python's headers
at run time, and a new GPU or driver may miscompile them. So they are not used unproven: value and
gradient on a few rows are compared with the chunked implementation, which is plain torch.

N rows · D hidden size · V vocabulary: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from pdkernels import teacher_topk, topk_kl
from pdtrain.config import LossConfig
from pdtrain.models.head import HeadRule
from pdtrain.progress import say, warn

Impl = Literal["auto", "triton", "chunked"]  # as pdkernels names them

ROWS = 129  # more than one block of rows, and no multiple of one
WORDS = 20_011  # several slabs of the vocabulary, the last of them not full
# The largest difference that is accepted, as a share of the largest value. The chunked loss sums in
# fp32 and casts its gradient to the rows' dtype: half precision agrees to a unit or two of that.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}


@dataclass(frozen=True)
class Problem:
    """Hold what decides which kernels are compiled, from a model and a config.

    Args:
        hidden: the hidden size D of the model.
        vocab: the words V of the head; a proof takes fewer if there are many.
        dtype: the dtype of hidden rows and head.
        loss: gives top-k, divergence, temperature and tail.
        rule: what the model does around its head; a soft cap is compiled in.
        has_bias: the head has a bias, which is compiled in, too.
    """

    hidden: int
    vocab: int
    dtype: torch.dtype
    loss: LossConfig
    rule: HeadRule = field(default_factory=HeadRule)
    has_bias: bool = False


Compare = Callable[[torch.device, Problem], tuple[float, float]]


def choose_impl(
    asked: Impl,
    device: torch.device,
    problem: Problem,
    gathered: Callable[[str], list[str]] = lambda reason: [reason],
    compare: Compare | None = None,
) -> Impl:
    """Return the implementation of the loss to use, the same on every rank.

    Args:
        asked: `loss.impl`. On a GPU `auto` takes Triton where it is proved, else chunked, with a
            warning; elsewhere it takes chunked. `chunked` is never questioned.
        device: of the rows.
        problem: what is to be proved.
        gathered: returns every rank's value of a text; all ranks call it equally often.
        compare: measures the difference of the two implementations; by default `disagreement`.

    Raises:
        ValueError: on every rank, when `triton` was asked for and does not work on one of them.
    """
    if asked == "chunked" or (asked == "auto" and device.type != "cuda"):
        return "chunked"
    reason = next(filter(None, gathered(obstacle(device, problem, compare) or "")), "")
    if not reason:
        say(f"loss: triton, which gives the numbers of chunked here{_auto(asked)}")
        return "triton"
    if asked == "triton":
        raise ValueError(f"loss.impl=triton cannot be used: {reason}; set loss.impl=auto")
    warn(
        f"loss: chunked, which is slower, for the Triton kernels cannot be used here: {reason}; "
        "set loss.impl=chunked to skip this proof"
    )
    return "chunked"


def _auto(asked: str) -> str:
    return " (auto)" if asked == "auto" else ""


def obstacle(device: torch.device, problem: Problem, compare: Compare | None = None) -> str | None:
    """Return why the Triton kernels cannot be used here; None where their numbers are right.

    Raises:
        ValueError: they have left the GPU unusable for this process, so that it cannot fall back.
    """
    try:
        value, gradient = (compare or disagreement)(device, problem)
    except Exception as error:  # whatever a compiler, a driver or a missing package raises
        lines = str(error).strip().splitlines() or [""]
        reason = f"they failed ({type(error).__name__}: {lines[0][:200]})"
        if is_lost(device):
            raise ValueError(
                f"loss: the Triton kernels cannot be used here: {reason}, and that error stays "
                "with this process, in which the GPU computes nothing more; start again with "
                "loss.impl=chunked"
            ) from error
        return reason
    allowed = TOLERANCE.get(problem.dtype, TOLERANCE[torch.float32])
    if not (value <= allowed and gradient <= allowed):  # also where one is not a number
        return (
            f"they are off by {value:.1e} of the largest loss and {gradient:.1e} of the largest "
            f"gradient, and {allowed:.0e} is accepted"
        )
    return None


def is_lost(device: torch.device) -> bool:
    """Return whether the GPU computes nothing more in this process.

    After some errors of a kernel, such as an illegal address, every later call of CUDA fails with
    the same error until the process ends.
    """
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize(device)
        return torch.ones(2, device=device).sum().item() != 2
    except RuntimeError:
        return True


def disagreement(device: torch.device, problem: Problem) -> tuple[float, float]:
    """Return how far the losses and the gradient of Triton are from those of chunked.

    Each is the largest difference as a share of the largest absolute value.
    """
    teacher_ND, student_ND, head_VD = _sides(device, problem)
    (loss_N, gradient_ND), (wanted_N, wanted_ND) = (
        _loss_and_gradient(teacher_ND, student_ND, head_VD, problem, impl)
        for impl in ("triton", "chunked")
    )
    return _share(loss_N, wanted_N), _share(gradient_ND, wanted_ND)


def _sides(device: torch.device, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of teacher and student (N, D) and a head (V, D), the sides near each other."""
    noise = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=noise)

    words = min(problem.vocab, WORDS)
    teacher_ND = random(ROWS, problem.hidden)
    student_ND = teacher_ND + 0.1 * random(ROWS, problem.hidden)
    head_VD = 4 * random(words, problem.hidden) / problem.hidden**0.5  # logits of a few units
    sides = [x.to(device, problem.dtype) for x in (teacher_ND, student_ND, head_VD)]
    return sides[0], sides[1], sides[2]


def _loss_and_gradient(
    teacher_ND: Tensor, student_ND: Tensor, head_VD: Tensor, problem: Problem, impl: str
) -> tuple[Tensor, Tensor]:
    loss, rule = problem.loss, problem.rule
    k = min(loss.top_k or head_VD.shape[0], head_VD.shape[0])
    around: dict[str, Any] = {"logit_scale": rule.after, "softcap": rule.softcap, "impl": impl}
    if problem.has_bias:  # any will do, as long as both have the same
        around["bias"] = head_VD[:, 0].contiguous()
    topk = teacher_topk(rule.scaled(teacher_ND), head_VD, k, loss.temperature, **around)
    rows_ND = student_ND.detach().requires_grad_()
    loss_N = topk_kl(
        rule.scaled(rows_ND),
        head_VD,
        topk,
        divergence=loss.divergence,
        beta=loss.beta,
        tail=loss.tail,
        **around,
    )
    (gradient_ND,) = torch.autograd.grad(loss_N.sum(), rows_ND)
    return loss_N.detach().double(), gradient_ND.double()


def _share(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())
