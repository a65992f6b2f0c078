"""Top-k KL by slabs of the vocabulary: PyTorch, bounded memory, gradient taken in forward.

With G_b the derivative of a row's loss with respect to its bucket logits (pdkernels.buckets),

    dh = (1/T) [ sum_{i in S} G_i W_i  +  G_tail E[W_j | j in tail] ]

where E is taken with the student's probabilities. One sweep over the vocabulary collects the
student's logits at S, the tail's log-sum-exp and the unnormalised sum of tail words.

N rows · D hidden size · V vocabulary · K top-k · B buckets · R rows of a block: suffixes name
dimensions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pdkernels.buckets import bucket_divergence
from pdkernels.slabs import (
    FLOOR,
    SLAB_WIDTH,
    Places,
    row_blocks,
    scaled_rows,
    slab_logits,
    word_slabs,
)
from pdkernels.topk import TopK


@dataclass(slots=True)
class RowFilterReport:
    """How often `row_filter` spared a row the dense part of its gradient."""

    num_rows: int = 0
    skipped: list[Tensor] = field(default_factory=list)  # counts, on the rows' device

    @property
    def skipped_fraction(self) -> float:
        """In [0, 1]; reading it waits for the device."""
        num_skipped = sum(int(count) for count in self.skipped)
        return num_skipped / self.num_rows if self.num_rows else 0.0


_reports: list[RowFilterReport] = []


@contextmanager
def report_row_filter() -> Iterator[RowFilterReport]:
    """Count, for every `topk_kl` with a row_filter inside the block, the rows it skipped."""
    report = RowFilterReport()
    _reports.append(report)
    try:
        yield report
    finally:
        _reports.remove(report)


@dataclass(frozen=True, slots=True)
class Objective:
    """What `topk_kl` was asked for, after validation."""

    divergence: str
    beta: float
    tail: str
    row_filter: float


def topk_kl_chunked(
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    objective: Objective,
    row_weight: Tensor | None,
) -> Tensor:
    """The divergence of each row (N,), in nats; backward needs no head."""
    loss_N = _ChunkedTopkKL.apply(student_ND, head_VD, topk, objective)
    return loss_N if row_weight is None else loss_N * row_weight.to(loss_N)


class _ChunkedTopkKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student_ND, head_VD, topk, objective):
        with_gradient = ctx.needs_input_grad[0]
        loss_N, d_student_ND = _launch(student_ND, head_VD, topk, objective, with_gradient)
        if with_gradient:
            ctx.save_for_backward(d_student_ND)
            ctx.dtype = student_ND.dtype
        return loss_N

    @staticmethod
    @once_differentiable
    def backward(ctx, d_loss_N):
        (d_student_ND,) = ctx.saved_tensors
        return (d_student_ND * d_loss_N[:, None]).to(ctx.dtype), None, None, None


def _launch(
    student_ND: Tensor, head_VD: Tensor, topk: TopK, objective: Objective, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    num_rows, k, num_words = len(topk), topk.k, head_VD.shape[0]
    dtype = torch.float64 if student_ND.dtype == torch.float64 else torch.float32
    loss_N = student_ND.new_empty(num_rows, dtype=dtype)
    d_student_ND = torch.empty_like(student_ND, dtype=dtype) if with_gradient else loss_N
    per_row = min(num_words, SLAB_WIDTH) + k
    for rows in row_blocks(num_rows, per_row):
        rows_RD = scaled_rows(student_ND[rows], topk.temperature)
        step = _renormalised if objective.tail == "renormalise" else _bucketed
        loss_N[rows], d_rows_RD = step(rows_RD, head_VD, topk[rows], objective, with_gradient)
        if d_rows_RD is not None:
            torch.div(d_rows_RD, topk.temperature, out=d_student_ND[rows])
    return loss_N, d_student_ND


def _renormalised(
    rows_RD: Tensor, head_VD: Tensor, topk: TopK, objective: Objective, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Over the k tokens alone: nothing is computed for any other word."""
    log_q_RK = _logits_at(rows_RD, head_VD, topk.ids_NK).log_softmax(-1)
    log_p_RK = topk.log_p_NK.to(log_q_RK).log_softmax(-1)
    loss_R, grad_RK = bucket_divergence(log_p_RK, log_q_RK, objective.divergence, objective.beta)
    return loss_R, _sum_of_words(grad_RK, topk.ids_NK, head_VD) if with_gradient else None


def _bucketed(
    rows_RD: Tensor, head_VD: Tensor, topk: TopK, objective: Objective, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    has_tail = topk.k < head_VD.shape[0]
    places = Places.find(topk.ids_NK, head_VD.shape[0])
    one_sweep = with_gradient and has_tail and objective.row_filter == 0
    top_RK, log_tail_R, tail_RD = _sweep(rows_RD, head_VD, places, topk.k, one_sweep)

    peak_R1 = top_RK.amax(-1, keepdim=True).clamp(min=FLOOR)
    log_q_RB, log_p_RB = top_RK - peak_R1, topk.log_p_NK.to(rows_RD)
    if has_tail:
        log_q_RB = torch.cat([log_q_RB, log_tail_R[:, None] - peak_R1], -1)
        log_p_RB = torch.cat([log_p_RB, topk.log_p_tail_N.to(rows_RD)[:, None]], -1)
    log_q_RB = log_q_RB - log_q_RB.logsumexp(-1, keepdim=True)
    loss_R, grad_RB = bucket_divergence(log_p_RB, log_q_RB, objective.divergence, objective.beta)
    if not with_gradient:
        return loss_R, None
    d_rows_RD = _sum_of_words(grad_RB[:, : topk.k].contiguous(), topk.ids_NK, head_VD)
    if not has_tail:
        return loss_R, d_rows_RD
    d_tail_R1 = grad_RB[:, topk.k :]
    if one_sweep:
        return loss_R, d_rows_RD.addcmul_(d_tail_R1, tail_RD)
    keep_R = d_tail_R1[:, 0].abs() >= objective.row_filter
    for report in _reports:
        report.num_rows += len(keep_R)
        report.skipped.append((~keep_R).sum())
    kept = keep_R.nonzero()[:, 0]
    if len(kept):
        kept_places = Places.find(topk.ids_NK[kept], head_VD.shape[0])
        _, _, tail_RD = _sweep(rows_RD[kept], head_VD, kept_places, topk.k, True)
        d_rows_RD.index_add_(0, kept, d_tail_R1[kept] * tail_RD)
    return loss_R, d_rows_RD


def _sweep(
    rows_RD: Tensor, head_VD: Tensor, places: Places, k: int, with_words: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits at the top-k (R, k), the tail's log-sum-exp (R,) and its mean word (R, D)."""
    num_rows = rows_RD.shape[0]
    top = rows_RD.new_empty(num_rows * k)
    peak_R, sum_R = rows_RD.new_full((num_rows,), FLOOR), rows_RD.new_zeros(num_rows)
    words_RD = torch.zeros_like(rows_RD) if with_words else rows_RD
    for slab, words in enumerate(word_slabs(head_VD.shape[0])):
        logits_RS = slab_logits(rows_RD, head_VD, words)
        flat = logits_RS.view(-1)
        top[places.in_topk[slab]] = flat[places.in_slab[slab]]
        flat[places.in_slab[slab]] = -torch.inf
        higher_R = torch.maximum(peak_R, logits_RS.amax(-1))
        exp_RS = logits_RS.sub_(higher_R[:, None]).exp_()
        shrink_R = (peak_R - higher_R).exp_()
        sum_R.mul_(shrink_R).add_(exp_RS.sum(-1))
        if with_words:
            words_RD.mul_(shrink_R[:, None]).addmm_(exp_RS, head_VD[words].to(rows_RD.dtype))
        peak_R = higher_R
    if with_words:
        # an empty tail has no mean word, and G_tail = 0
        words_RD /= torch.where(sum_R > 0, sum_R, 1)[:, None]
    return top.view(num_rows, k), peak_R + sum_R.log(), words_RD


def _logits_at(rows_RD: Tensor, head_VD: Tensor, ids_RK: Tensor) -> Tensor:
    """Logits of the k tokens only, a few rows at a time."""
    num_rows, k = ids_RK.shape
    logits_RK = rows_RD.new_empty(num_rows, k)
    for rows in row_blocks(num_rows, k * head_VD.shape[1]):
        words_RKD = head_VD[ids_RK[rows].long()].to(rows_RD.dtype)
        logits_RK[rows] = (words_RKD @ rows_RD[rows, :, None])[..., 0]
    return logits_RK


def _sum_of_words(weight_RK: Tensor, ids_RK: Tensor, head_VD: Tensor) -> Tensor:
    """sum_k weight_k W_{id_k} of each row, (R, D), in the weights' dtype."""
    if head_VD.dtype == weight_RK.dtype:
        return functional.embedding_bag(
            ids_RK.long(), head_VD, per_sample_weights=weight_RK, mode="sum"
        )
    sum_RD = weight_RK.new_empty(ids_RK.shape[0], head_VD.shape[1])
    for rows in row_blocks(ids_RK.shape[0], ids_RK.shape[1] * head_VD.shape[1]):
        words_RKD = head_VD[ids_RK[rows].long()].to(weight_RK.dtype)
        sum_RD[rows] = (weight_RK[rows, None, :] @ words_RKD)[:, 0]
    return sum_RD
