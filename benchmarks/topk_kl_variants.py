"""What the top-k KL is compared with. Each variant does a forward and a backward pass.

A variant takes the rows and a cached teacher, or None for a teacher that is computed online, and
returns the per-row losses and the gradient of their sum. `truth` says which divergence it means:
"bucket" is the top-k with a tail bucket, "full" the whole vocabulary.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from topk_kl_inputs import Rows
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pdkernels import TopK, teacher_topk, topk_kl
from pdkernels.chunked import products

Result = tuple[Tensor, Tensor]
Run = Callable[[Rows, TopK | None], Result]


@dataclass(frozen=True)
class Variant:
    name: str
    run: Run
    truth: str
    is_cached: bool
    row_filter: float = 0.0


def variants(
    k: int,
    thresholds: list[float],
    *,
    with_compile: bool,
    device: str,
    like_for_like: bool = False,
) -> list[Variant]:
    """All that can run here, the eager full-logit KL first."""
    found = [
        Variant("eager, full KL", _full(eager_full), "full", False),
        Variant("eager, top-k and tail", _topk(eager_topk, k), "bucket", False),
        Variant("eager, top-k and tail", _topk(eager_topk, k), "bucket", True),
        Variant("row-chunked, full KL", _full(row_chunked), "full", False),
    ]
    both = like_for_like and device == "cpu" and products.HAS_ONEDNN
    if both:
        found += [
            Variant("eager, full KL, oneDNN's products",
                    _by(True, _full(eager_full_onednn)), "full", False),
            Variant("eager, top-k and tail, oneDNN's products",
                    _by(True, _topk(eager_topk_onednn, k)), "bucket", True),
        ]  # fmt: skip
    if like_for_like:
        found += [
            Variant("eager, top-k, tail and labels", _topk(eager_labels, k), "labels", True),
            Variant("pdkernels, labels in the same sweep", _with_labels, "labels", True),
        ]
    if with_compile:
        compiled, compiled_topk = torch.compile(eager_full), torch.compile(eager_topk)
        found.append(Variant("torch.compile of eager, full KL", _full(compiled), "full", False))
        found += [
            Variant("torch.compile, top-k and tail", _topk(compiled_topk, k), "bucket", is_cached)
            for is_cached in (False, True)
        ]
    if find_spec("trl") is not None:
        name = "TRL chunked divergence" + ("" if device == "cuda" else ", its PyTorch fallback")
        found.append(Variant(name, _full(trl_chunked), "full", False))
    if device == "cuda" and find_spec("liger_kernel") is not None:
        found.append(Variant("Liger fused linear JSD", _full(liger_jsd), "full", False))
    for impl in ["chunked"] + (["triton"] if device == "cuda" else []):
        for is_cached in (False, True):
            for epsilon in (0.0, *thresholds, math.inf):
                name = f"pdkernels {impl}" + (f", row_filter {epsilon:g}" if epsilon else "")
                if epsilon == math.inf:  # what no threshold can go below; its gradient is wrong
                    name = f"pdkernels {impl}, every row skipped"
                run = _ours(k, impl, epsilon)
                found.append(Variant(name, run, "bucket", is_cached, epsilon))
    if both:
        name = f"pdkernels chunked, {'MKL' if products.ONEDNN else 'oneDNN'}'s products"
        run = _by(not products.ONEDNN, _ours(k, "chunked", 0.0))
        found += [Variant(name, run, "bucket", is_cached) for is_cached in (False, True)]
    return found


def eager_full(student_ND: Tensor, rows: Rows) -> Tensor:
    with torch.no_grad():
        log_p_NV = functional.log_softmax((rows.teacher_ND @ rows.head_VD.T).float(), -1)
    log_q_NV = functional.log_softmax((student_ND @ rows.head_VD.T).float(), -1)
    return functional.kl_div(log_q_NV, log_p_NV, reduction="none", log_target=True).sum(-1)


def eager_teacher(rows: Rows, k: int) -> TopK:
    logits_NV = (rows.teacher_ND @ rows.head_VD.T).float()
    lse_N = logits_NV.logsumexp(-1)
    top_NK, ids_NK = logits_NV.topk(k, -1)
    log_tail_N = logits_NV.scatter_(-1, ids_NK, -torch.inf).logsumexp(-1)
    return TopK(top_NK - lse_N[:, None], ids_NK, lse_N, log_tail_N - lse_N, 1.0)


def eager_topk(student_ND: Tensor, head_VD: Tensor, topk: TopK) -> Tensor:
    return topk_of_logits((student_ND @ head_VD.T).float(), topk)


def topk_of_logits(logits_NV: Tensor, topk: TopK) -> Tensor:
    log_q_NK = logits_NV.gather(-1, topk.ids_NK)
    lse_N = logits_NV.logsumexp(-1)
    log_q_tail_N = logits_NV.scatter(-1, topk.ids_NK, -torch.inf).logsumexp(-1) - lse_N
    log_q_NK = log_q_NK - lse_N[:, None]
    head_N = (topk.log_p_NK.exp() * (topk.log_p_NK - log_q_NK)).sum(-1)
    return head_N + topk.log_p_tail_N.exp() * (topk.log_p_tail_N - log_q_tail_N)


class OneDnnLogits(torch.autograd.Function):
    """Make fp32 logits, and the gradient of the rows, by the products that pdkernels takes."""

    @staticmethod
    def forward(ctx, rows_ND: Tensor, head_VD: Tensor) -> Tensor:
        ctx.head_VD = head_VD
        return products.rows_times_words(rows_ND, head_VD)

    @staticmethod
    def backward(ctx, d_logits_NV: Tensor) -> tuple[Tensor, None]:
        return products.weights_times_words(d_logits_NV, ctx.head_VD), None


def eager_full_onednn(student_ND: Tensor, rows: Rows) -> Tensor:
    with torch.no_grad():
        log_p_NV = OneDnnLogits.apply(rows.teacher_ND, rows.head_VD).log_softmax(-1)
    log_q_NV = OneDnnLogits.apply(student_ND, rows.head_VD).log_softmax(-1)
    return functional.kl_div(log_q_NV, log_p_NV, reduction="none", log_target=True).sum(-1)


def eager_topk_onednn(student_ND: Tensor, head_VD: Tensor, topk: TopK) -> Tensor:
    return topk_of_logits(OneDnnLogits.apply(student_ND, head_VD), topk)


def labels_of(rows: Tensor, head_VD: Tensor) -> Tensor:
    """Return any word for each row, by a rule that costs nothing."""
    return torch.arange(len(rows), device=rows.device) * 7919 % len(head_VD)


LABEL_WEIGHT = 0.25


def eager_labels(student_ND: Tensor, head_VD: Tensor, topk: TopK) -> Tensor:
    logits_NV = (student_ND @ head_VD.T).float()
    labels_N = labels_of(student_ND, head_VD)
    entropy_N = functional.cross_entropy(logits_NV, labels_N, reduction="none")
    return (1 - LABEL_WEIGHT) * topk_of_logits(logits_NV, topk) + LABEL_WEIGHT * entropy_N


def _with_labels(rows: Rows, cached: TopK | None) -> Result:
    assert cached is not None
    student_ND = rows.student_ND.detach().requires_grad_()
    labels_N = labels_of(student_ND, rows.head_VD)
    loss_N = topk_kl(student_ND, rows.head_VD, cached, labels=labels_N, label_weight=LABEL_WEIGHT)
    (gradient_ND,) = torch.autograd.grad(loss_N.sum(), student_ND)
    return loss_N.detach(), gradient_ND


def row_chunked(student_ND: Tensor, rows: Rows) -> Tensor:
    """The usual remedy: 128 rows at a time, recomputed in backward."""

    def one(student_RD: Tensor, teacher_RD: Tensor) -> Tensor:
        return eager_full(student_RD, Rows(teacher_RD, student_RD, rows.head_VD, ""))

    pieces = zip(student_ND.split(128), rows.teacher_ND.split(128), strict=True)
    return torch.cat([checkpoint(one, s, t, use_reentrant=False) for s, t in pieces])


def trl_chunked(student_ND: Tensor, rows: Rows) -> Tensor:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    head = rows.head_VD
    options = (0.0, 1.0, 1.0, None, 1.0, None)  # beta 0 is its forward KL, temperature 1
    return ChunkedDivergenceFunction.apply(
        student_ND, head, None, rows.teacher_ND, head, None, *options
    )[0]


def liger_jsd(student_ND: Tensor, rows: Rows) -> Tensor:
    """Its mean over the rows as one number; beta 0 is its forward KL."""
    from liger_kernel.transformers import LigerFusedLinearJSD

    loss = LigerFusedLinearJSD(jsd_beta=0.0)
    mean = loss(student_ND, rows.head_VD, rows.teacher_ND, rows.head_VD)
    return mean.expand(len(student_ND))


def _by(with_onednn: bool, run: Run) -> Run:
    """Return the run with the products of one library, whichever is taken on this machine."""

    def run_by(rows: Rows, cached: TopK | None) -> Result:
        former, products.ONEDNN = products.ONEDNN, with_onednn
        try:
            return run(rows, cached)
        finally:
            products.ONEDNN = former

    return run_by


def _full(loss: Callable[[Tensor, Rows], Tensor]) -> Run:
    def run(rows: Rows, cached: TopK | None) -> Result:
        student_ND = rows.student_ND.detach().requires_grad_()
        loss_N = loss(student_ND, rows)
        (gradient_ND,) = torch.autograd.grad(loss_N.sum(), student_ND)
        return loss_N.detach(), gradient_ND

    return run


def _topk(loss: Callable[[Tensor, Tensor, TopK], Tensor], k: int) -> Run:
    def run(rows: Rows, cached: TopK | None) -> Result:
        topk = eager_teacher(rows, k) if cached is None else cached
        student_ND = rows.student_ND.detach().requires_grad_()
        loss_N = loss(student_ND, rows.head_VD, topk)
        (gradient_ND,) = torch.autograd.grad(loss_N.sum(), student_ND)
        return loss_N.detach(), gradient_ND

    return run


def _ours(k: int, impl: str, row_filter: float) -> Run:
    def run(rows: Rows, cached: TopK | None) -> Result:
        topk = (
            teacher_topk(rows.teacher_ND, rows.head_VD, k, impl=impl) if cached is None else cached
        )
        student_ND = rows.student_ND.detach().requires_grad_()
        loss_N = topk_kl(student_ND, rows.head_VD, topk, row_filter=row_filter, impl=impl)
        (gradient_ND,) = torch.autograd.grad(loss_N.sum(), student_ND)
        return loss_N.detach(), gradient_ND

    return run
