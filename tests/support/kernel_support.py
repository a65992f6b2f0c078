"""Share inputs and checks among the kernel tests.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

from typing import get_args

import torch
from torch import Tensor

from pdkernels import TopK, teacher_topk, topk_kl
from pdkernels.operations import Divergence

DIVERGENCES = list(get_args(Divergence))


def make_rows(
    num_rows: int, hidden: int, vocab: int, *, logit_std: float = 5.0, apart: float = 0.1, seed=0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return teacher rows, student rows near them, and a head, in fp32.

    randn, not rand: uniform inputs give nearly uniform logits, which hide rounding errors.
    `apart` is the relative distance of the student from the teacher.
    """
    generator = torch.Generator().manual_seed(seed)
    teacher_ND = torch.randn(num_rows, hidden, generator=generator) * logit_std
    noise_ND = torch.randn(num_rows, hidden, generator=generator) * logit_std
    head_VD = torch.randn(vocab, hidden, generator=generator) / hidden**0.5
    return teacher_ND, teacher_ND + apart * noise_ND, head_VD


def loss_and_gradient(
    student_ND: Tensor, head_VD: Tensor, topk: TopK, upstream_N: Tensor | None = None, **options
) -> tuple[Tensor, Tensor]:
    """Return the loss of each row, and the gradient of its sum weighted by `upstream_N`."""
    student_ND = student_ND.detach().clone().requires_grad_()
    loss_N = topk_kl(student_ND, head_VD, topk, **options)
    (gradient_ND,) = torch.autograd.grad(
        loss_N, student_ND, torch.ones_like(loss_N) if upstream_N is None else upstream_N
    )
    return loss_N.detach(), gradient_ND


def truth(
    teacher_ND: Tensor, student_ND: Tensor, head_VD: Tensor, k: int, temperature=1.0, **options
) -> tuple[Tensor, Tensor]:
    """Return the reference's loss and gradient in float64, teacher included."""
    teacher, head = teacher_ND.double(), head_VD.double()
    topk = teacher_topk(teacher, head, k, temperature, impl="reference")
    return loss_and_gradient(student_ND.double(), head, topk, impl="reference", **options)


def relative_error(found: Tensor, truth: Tensor) -> float:
    """Return ||found - truth|| / ||truth||; a norm of truth below 1e-30 counts as 1e-30."""
    return float((found.double() - truth.double()).norm() / truth.double().norm().clamp(min=1e-30))
