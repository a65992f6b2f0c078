"""Put the two operations together from their passes, with the gradient taken in forward.

With G_b the derivative of a row's loss with respect to its bucket logits (pdkernels.buckets),

    dh = (s/T) [ sum_{i in S} G_i f_i W_i  +  G_tail E[f_j W_j | j in tail] ]

where E is taken with the student's probabilities, s is the scale and f the slope of the logits
(pdkernels.logits; both 1 unless asked for). One sweep over the vocabulary gives the tail's
log-sum-exp and E; with a row_filter the sweep gives the first alone, and a second one gives E for
the rows that need it. `Passes` is `pdkernels.topk_kl_chunked` or `pdkernels.topk_kl_triton`.

N rows · D hidden size · V vocabulary · K top-k · B buckets: suffixes name dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pdkernels.buckets import bucket_divergence
from pdkernels.logits import Logits
from pdkernels.row_filter import count_rows
from pdkernels.slabs import FLOOR, compute_dtype, row_blocks
from pdkernels.topk import TopK
from pdkernels.vocab_shard import VocabShard


class Passes(Protocol):
    """Name what an implementation provides; `pdkernels.topk_kl_chunked` documents each pass."""

    def block_rows(self, num_words: int, k: int) -> int: ...

    def select(
        self, hidden_ND: Tensor, head_VD: Tensor, k: int, logits: Logits
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def sweep(
        self,
        student_ND: Tensor,
        head_VD: Tensor,
        ids_NK: Tensor,
        logits: Logits,
        with_words: bool,
    ) -> tuple[Tensor, Tensor | None]: ...

    def logits_at(
        self, rows_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, logits: Logits
    ) -> Tensor: ...

    def sum_of_words(self, weight_NK: Tensor, ids_NK: Tensor, head_VD: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Objective:
    """Hold the validated options of a call of `topk_kl`."""

    logits: Logits
    divergence: str
    beta: float
    tail: str
    row_filter: float
    shard: VocabShard | None


def teacher_topk_fused(
    passes: Passes,
    hidden_ND: Tensor,
    head_VD: Tensor,
    k: int,
    logits: Logits,
    shard: VocabShard | None,
) -> TopK:
    """Return the rows of `teacher_topk_reference`, with a tail that is summed, not 1 - sum p."""
    num_rows, dtype = hidden_ND.shape[0], compute_dtype(hidden_ND)
    topk = TopK(
        hidden_ND.new_empty(num_rows, k, dtype=dtype),
        torch.empty(num_rows, k, dtype=torch.int64, device=hidden_ND.device),
        hidden_ND.new_empty(num_rows, dtype=dtype),
        hidden_ND.new_empty(num_rows, dtype=dtype),
        logits.temperature,
    )
    for rows in _blocks(passes, num_rows, head_VD, k, shard):
        part = _teacher_block(passes, hidden_ND[rows], head_VD, k, logits, shard)
        topk.log_p_NK[rows], topk.ids_NK[rows] = part.log_p_NK, part.ids_NK
        topk.lse_N[rows], topk.log_p_tail_N[rows] = part.lse_N, part.log_p_tail_N
        del part  # or the next block would need memory beside it
    return topk


def _blocks(
    passes: Passes, num_rows: int, head_VD: Tensor, k: int, shard: VocabShard | None
) -> Iterator[slice]:
    """Yield slices of the rows to do together, so that only the results grow with their number.

    Over ranks all rows are one slice, because the number of collectives must not grow either.
    """
    if shard is not None:
        return iter([slice(0, num_rows)])
    return row_blocks(num_rows, 1, passes.block_rows(head_VD.shape[0], k))


def _teacher_block(
    passes: Passes,
    hidden_ND: Tensor,
    head_VD: Tensor,
    k: int,
    logits: Logits,
    shard: VocabShard | None,
) -> TopK:
    found = min(k, head_VD.shape[0])
    top_NK, ids_NK, log_tail_N = passes.select(hidden_ND, head_VD, found, logits)
    if shard is not None:
        top_NK, ids_NK, log_tail_N = shard.merge_topk(top_NK, ids_NK, log_tail_N, k)
    ids_NK, order_NK = ids_NK.sort(-1)
    top_NK = top_NK.gather(-1, order_NK)
    # relative to the largest logit, so that a large common offset costs no digits
    peak_N = top_NK.amax(-1).clamp(min=FLOOR)
    log_tail_N = log_tail_N.to(top_NK) - peak_N
    top_NK = top_NK - peak_N[:, None]
    above_N = torch.logaddexp(top_NK.logsumexp(-1), log_tail_N)
    dtype = compute_dtype(hidden_ND)
    return TopK(
        (top_NK - above_N[:, None]).to(dtype),
        ids_NK,
        (peak_N + above_N).to(dtype),
        (log_tail_N - above_N).to(dtype),
        logits.temperature,
    )


def topk_kl_fused(
    passes: Passes,
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    objective: Objective,
    row_weight: Tensor | None,
) -> Tensor:
    """Return the divergence of each row (N,), in nats; backward needs no head."""
    wants_grad = torch.is_grad_enabled() and student_ND.requires_grad  # not known inside apply
    loss_N = _FusedTopkKL.apply(student_ND, head_VD, topk, objective, passes, wants_grad)
    return loss_N if row_weight is None else loss_N * row_weight.to(loss_N)


class _FusedTopkKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student_ND, head_VD, topk, objective, passes, with_gradient):
        launch = _renormalised if objective.tail == "renormalise" else _bucketed
        dtype = compute_dtype(student_ND)
        loss_N = student_ND.new_empty(len(topk), dtype=dtype)
        d_student_ND = (
            student_ND.new_empty(student_ND.shape, dtype=dtype) if with_gradient else None
        )
        for rows in _blocks(passes, len(topk), head_VD, topk.k, objective.shard):
            some = student_ND[rows], head_VD, topk[rows]
            loss_N[rows], d_student_RD = launch(passes, *some, objective, with_gradient)
            if d_student_ND is not None:
                d_student_ND[rows] = d_student_RD
            del d_student_RD  # or the next block would need memory beside it
        if with_gradient:
            ctx.save_for_backward(d_student_ND)
            ctx.dtype = student_ND.dtype
        return loss_N

    @staticmethod
    @once_differentiable
    def backward(ctx, d_loss_N):
        (d_student_ND,) = ctx.saved_tensors
        return (d_student_ND * d_loss_N[:, None]).to(ctx.dtype), None, None, None, None, None


def _renormalised(
    passes: Passes,
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    objective: Objective,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return loss and gradient over the k tokens alone; no other word is computed."""
    shard, dtype = objective.shard, compute_dtype(student_ND)
    ids_NK = topk.ids_NK if shard is None else shard.local_ids(topk.ids_NK)
    top_NK = passes.logits_at(student_ND, head_VD, ids_NK, objective.logits)
    if shard is not None:
        top_NK, _ = shard.merge_student(top_NK, torch.zeros_like(topk.lse_N), topk.lse_N)
    loss_N, grad_NK = _divergence(topk.log_p_NK.to(top_NK), top_NK, objective)
    if not with_gradient:
        return loss_N.to(dtype), None
    grad_NK = _times_slope(grad_NK, top_NK, objective.logits)
    d_student_ND = passes.sum_of_words(grad_NK.to(dtype), ids_NK, head_VD)
    return loss_N.to(dtype), _finish(d_student_ND, objective)


def _bucketed(
    passes: Passes,
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    objective: Objective,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return loss and gradient over the k tokens and one bucket for all other words."""
    shard, dtype, logits = objective.shard, compute_dtype(student_ND), objective.logits
    num_words = head_VD.shape[0] if shard is None else shard.num_words
    ids_NK = topk.ids_NK if shard is None else shard.local_ids(topk.ids_NK)
    one_sweep = with_gradient and objective.row_filter == 0
    top_NK = passes.logits_at(student_ND, head_VD, ids_NK, logits)
    log_own_N, words_ND = torch.full_like(topk.lse_N, -torch.inf), None
    if topk.k < num_words:
        log_own_N, words_ND = passes.sweep(student_ND, head_VD, ids_NK, logits, one_sweep)
    log_tail_N = log_own_N
    if shard is not None:
        top_NK, log_tail_N = shard.merge_student(top_NK, log_own_N, topk.lse_N)

    log_q_NB, log_p_NB = top_NK, topk.log_p_NK.to(top_NK)
    if topk.k < num_words:  # with k = V there is no tail at all, rather than an empty one
        log_q_NB = torch.cat([log_q_NB, log_tail_N.to(top_NK)[:, None]], -1)
        log_p_NB = torch.cat([log_p_NB, topk.log_p_tail_N.to(top_NK)[:, None]], -1)
    loss_N, grad_NB = _divergence(log_p_NB, log_q_NB, objective)
    if not with_gradient:
        return loss_N.to(dtype), None
    grad_NK = _times_slope(grad_NB[:, : topk.k], top_NK, logits).to(dtype)
    d_student_ND = passes.sum_of_words(grad_NK.contiguous(), ids_NK, head_VD)
    if topk.k < num_words:
        d_tail_N = grad_NB[:, topk.k].to(dtype)
        # the exponent of this rank's share is at most 0, because the whole tail includes the share
        share_N = d_tail_N if shard is None else d_tail_N * _share(log_own_N, log_tail_N)
        if words_ND is not None:
            d_student_ND.addcmul_(share_N[:, None], words_ND)
        else:
            keep_N = d_tail_N.abs() >= objective.row_filter
            count_rows(keep_N)
            kept = keep_N.nonzero()[:, 0]
            _, words_ND = passes.sweep(student_ND[kept], head_VD, ids_NK[kept], logits, True)
            assert words_ND is not None
            d_student_ND.index_add_(0, kept, words_ND.mul_(share_N[kept, None]))
    return loss_N.to(dtype), _finish(d_student_ND, objective)


def _share(log_own_N: Tensor, log_tail_N: Tensor) -> Tensor:
    """Return this rank's share of the tail (N,); of an empty tail it is 0."""
    ratio_N = (log_own_N.double() - log_tail_N).masked_fill(log_tail_N == -torch.inf, -torch.inf)
    return ratio_N.exp().to(log_own_N.dtype)


def _divergence(log_p_NB: Tensor, log_q_NB: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """Return loss and bucket gradient of logits, computed for some rows at a time."""
    loss_N, grad_NB = log_p_NB.new_empty(len(log_p_NB)), torch.empty_like(log_p_NB)
    for rows in row_blocks(len(log_p_NB), 16 * log_p_NB.shape[1]):
        log_q_RB = log_q_NB[rows]
        log_q_RB = log_q_RB - log_q_RB.amax(-1, keepdim=True).clamp(min=FLOOR)
        log_q_RB = log_q_RB - log_q_RB.logsumexp(-1, keepdim=True)
        log_p_RB = log_p_NB[rows]
        if objective.tail == "renormalise":
            log_p_RB = log_p_RB.log_softmax(-1)
        loss_N[rows], grad_NB[rows] = bucket_divergence(
            log_p_RB, log_q_RB, objective.divergence, objective.beta
        )
    return loss_N, grad_NB


def _times_slope(grad_NK: Tensor, top_NK: Tensor, logits: Logits) -> Tensor:
    """Return the derivatives by the products of the k words, but for the factor scale / T."""
    slope_NK = logits.slope_at(top_NK)
    return grad_NK if slope_NK is None else grad_NK * slope_NK


def _finish(d_student_ND: Tensor, objective: Objective) -> Tensor:
    d_student_ND = d_student_ND.div_(objective.logits.temperature)
    if objective.logits.scale != 1:
        d_student_ND *= objective.logits.scale
    shard = objective.shard
    return d_student_ND if shard is None else shard.sum_over_ranks(d_student_ND)
