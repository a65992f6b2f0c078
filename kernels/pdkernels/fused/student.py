"""Compute loss and gradient together from an implementation's passes.

With G_b the derivative of a row's loss with respect to its bucket logits (pdkernels.buckets),

    dh = (s/T) [ sum_{i in S} G_i f_i W_i  +  G_tail E[f_j W_j | j in tail] ]

where E is taken with the student's probabilities, s is the scale and f the slope of the logits
(pdkernels.logits; both 1 unless asked for). One sweep over the vocabulary gives the tail's
log-sum-exp and E; with a row_filter the sweep gives the first alone, and a second one gives E for
the rows that need it. With labels, S gains each row's label, which leaves the tail: the same sweep
then gives the cross-entropy of the labels too.

N rows · D hidden size · V vocabulary · K top-k · J top-k, and with labels one more · B buckets:
suffixes name dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

from dataclasses import dataclass

import torch
from torch import Tensor

from pdkernels.buckets import bucket_divergence
from pdkernels.chunked.slabs import FLOOR, compute_dtype, row_blocks
from pdkernels.fused.passes import Objective, Passes, each_block
from pdkernels.row_filter import count_rows
from pdkernels.topk import TopK

NUM_PARTS = 4  # of each row: divergence, cross-entropy, log q_tail, agreement


@dataclass(slots=True)
class Outcome:
    """Hold what some rows give: the loss, its gradient, and parts of it.

    Args:
        loss_N: in nats.
        d_student_ND: the gradient of each row's loss, or None where none is wanted.
        parts_NP: the NUM_PARTS numbers of each row, or None where none are wanted.
    """

    loss_N: Tensor
    d_student_ND: Tensor | None
    parts_NP: Tensor | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what is computed beside the loss."""

    gradient: bool
    parts: bool


def compute(
    passes: Passes,
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    labels_N: Tensor | None,
    objective: Objective,
    wanted: Wanted,
    kept_M: Tensor | None,
) -> Outcome:
    """Return the outcome of all rows, in blocks; rows that are not kept are not read, and give 0.

    Args:
        passes: the implementation.
        student_ND: the student's rows.
        head_VD: the head, or this rank's part of it.
        topk: the teacher's rows.
        labels_N: the labels; every kept row has one. None leaves cross-entropy out.
        objective: what is asked for.
        wanted: what is computed beside the loss.
        kept_M: indices of the rows to do; None does all.
    """
    num_rows, dtype = len(topk), compute_dtype(student_ND)
    empty = student_ND.new_empty if kept_M is None else student_ND.new_zeros
    whole = Outcome(
        empty(num_rows, dtype=dtype),
        empty(student_ND.shape, dtype=dtype) if wanted.gradient else None,
        empty(num_rows, NUM_PARTS, dtype=dtype) if wanted.parts else None,
    )
    num_kept = num_rows if kept_M is None else len(kept_M)

    def do(block: slice) -> None:
        rows = block if kept_M is None else kept_M[block]
        labels_R = None if labels_N is None else labels_N[rows]
        part = _block(passes, student_ND[rows], head_VD, topk[rows], labels_R, objective, wanted)
        whole.loss_N[rows] = part.loss_N.to(dtype)
        if whole.d_student_ND is not None and part.d_student_ND is not None:
            whole.d_student_ND[rows] = part.d_student_ND
        if whole.parts_NP is not None and part.parts_NP is not None:
            whole.parts_NP[rows] = part.parts_NP.to(dtype)

    each_block(passes, do, num_kept, head_VD, topk.k, objective.shard)
    return whole


def _block(
    passes: Passes,
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    labels_N: Tensor | None,
    objective: Objective,
    wanted: Wanted,
) -> Outcome:
    shard, logits, dtype = objective.shard, objective.logits, compute_dtype(student_ND)
    all_ids_NJ = topk.ids_NK if labels_N is None else with_labels(topk.ids_NK, labels_N)
    ids_NJ = all_ids_NJ if shard is None else shard.local_ids(all_ids_NJ)
    has_tail = topk.k < objective.num_words(head_VD)
    has_sweep = has_tail and (objective.tail == "bucket" or labels_N is not None)
    top_NJ = passes.logits_at(student_ND, head_VD, ids_NJ, logits)
    log_own_N, words_ND = torch.full_like(topk.lse_N, -torch.inf), None
    if has_sweep:
        one_sweep = wanted.gradient and objective.row_filter == 0
        log_own_N, words_ND = passes.sweep(student_ND, head_VD, ids_NJ, logits, one_sweep)
    log_rest_N = log_own_N
    if shard is not None:
        top_NJ, log_rest_N = shard.merge_student(top_NJ, log_own_N, topk.lse_N)
    _mark_strangers(top_NJ, all_ids_NJ, topk.k, objective.num_words(head_VD))

    loss_N, grad_NJ, d_rest_N, parts_NP = _losses(
        topk, labels_N, top_NJ, log_rest_N, has_tail, objective, wanted
    )
    if not wanted.gradient:
        return Outcome(loss_N, None, parts_NP)
    slope_NJ = logits.slope_at(top_NJ)
    grad_NJ = (grad_NJ if slope_NJ is None else grad_NJ * slope_NJ).to(dtype)
    d_student_ND = passes.sum_of_words(grad_NJ.contiguous(), ids_NJ, head_VD)
    if d_rest_N is not None:
        d_rest_N = d_rest_N.to(dtype)
        # the exponent of this rank's share is at most 0, because the whole rest includes the share
        share_N = d_rest_N if shard is None else d_rest_N * _share(log_own_N, log_rest_N)
        if words_ND is not None:
            d_student_ND.addcmul_(share_N[:, None], words_ND)
        else:
            keep_N = ~(d_rest_N.abs() < objective.row_filter)  # a NaN stays
            count_rows(keep_N)
            kept = keep_N.nonzero()[:, 0]
            _, words_ND = passes.sweep(student_ND[kept], head_VD, ids_NJ[kept], logits, True)
            assert words_ND is not None
            d_student_ND.index_add_(0, kept, words_ND.mul_(share_N[kept, None]))
    return Outcome(loss_N, _finish(d_student_ND, objective), parts_NP)


def with_labels(ids_NK: Tensor, labels_N: Tensor) -> Tensor:
    """Return the ids with a last column: the label, or -1 where the row has it already."""
    labels_N1 = labels_N[:, None].to(ids_NK)
    is_there_N1 = (ids_NK == labels_N1).any(-1, keepdim=True)
    return torch.cat([ids_NK, labels_N1.masked_fill(is_there_N1, -1)], -1)


def _mark_strangers(top_NJ: Tensor, ids_NJ: Tensor, k: int, num_words: int) -> None:
    """Make the logits of ids that are no words NaN, and that of a label in S -inf, in place."""
    top_NJ.masked_fill_((ids_NJ < 0) | (ids_NJ >= num_words), torch.nan)
    if top_NJ.shape[1] > k:
        top_NJ[:, k].masked_fill_(ids_NJ[:, k] == -1, -torch.inf)


def _losses(
    topk: TopK,
    labels_N: Tensor | None,
    top_NJ: Tensor,
    log_rest_N: Tensor,
    has_tail: bool,
    objective: Objective,
    wanted: Wanted,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the loss, its derivatives by the logits of J and of the rest, and the parts.

    The derivative by the rest is None where the loss has no rest.
    """
    k, with_bucket = topk.k, has_tail and objective.tail == "bucket"
    log_tail_N = log_rest_N.to(top_NJ)
    if labels_N is not None:
        log_tail_N = torch.logaddexp(log_tail_N, top_NJ[:, k])
    log_q_NB, log_p_NB = top_NJ[:, :k], topk.log_p_NK.to(top_NJ)
    if with_bucket:  # with k = V there is no tail at all, rather than an empty one
        log_q_NB = torch.cat([log_q_NB, log_tail_N[:, None]], -1)
        log_p_NB = torch.cat([log_p_NB, topk.log_p_tail_N.to(top_NJ)[:, None]], -1)
    kl_N, grad_NB = _divergence(log_p_NB, log_q_NB, objective)
    d_rest_N = grad_NB[:, k] if with_bucket else None
    loss_N, grad_NJ, entropy_N = kl_N, grad_NB[:, :k], None
    if labels_N is not None:
        weight = objective.label_weight
        log_q_NC = torch.cat([top_NJ, log_rest_N.to(top_NJ)[:, None]], -1)
        entropy_N, d_entropy_NC = _cross_entropy(topk.ids_NK, labels_N, log_q_NC)
        loss_N = (1 - weight) * kl_N + weight * entropy_N
        d_rest_N = torch.zeros_like(kl_N) if d_rest_N is None else d_rest_N
        d_tail_N2 = d_rest_N[:, None] * _shares(log_q_NC[:, k:], log_tail_N)
        d_kl_NC = torch.cat([grad_NJ, d_tail_N2], -1)
        d_NC = (1 - weight) * d_kl_NC + weight * d_entropy_NC
        grad_NJ, d_rest_N = d_NC[:, :-1], (d_NC[:, -1] if has_tail else None)
    parts_NP = None
    if wanted.parts:
        top_NK, zero_N = top_NJ[:, :k], torch.zeros_like(kl_N)
        entropy_N = zero_N if entropy_N is None else entropy_N
        log_tail_N = log_tail_N - torch.logaddexp(top_NK.logsumexp(-1), log_tail_N)
        if has_tail and not with_bucket and labels_N is None:  # no sweep was made
            log_tail_N = torch.full_like(kl_N, torch.nan)
        agrees_N = top_NK.argmax(-1) == topk.log_p_NK.argmax(-1)
        parts_NP = torch.stack([kl_N, entropy_N, log_tail_N, agrees_N.to(kl_N)], 1)
    return loss_N, grad_NJ, d_rest_N, parts_NP


def _cross_entropy(ids_NK: Tensor, labels_N: Tensor, log_q_NC: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log q of the labels and its derivatives by the logits of S, the label and the rest.

    The label is one of S, or else column K.
    """
    log_q_NC = log_q_NC - log_q_NC.amax(-1, keepdim=True).clamp(min=FLOOR)
    log_q_NC = log_q_NC - log_q_NC.logsumexp(-1, keepdim=True)
    is_label_NK = ids_NK == labels_N[:, None]
    in_k_N = is_label_NK.any(-1)
    place_N = torch.where(in_k_N, is_label_NK.int().argmax(-1), ids_NK.shape[1])[:, None]
    log_q_N1 = log_q_NC.gather(-1, place_N)
    grad_NC = log_q_NC.exp().scatter(-1, place_N, torch.expm1(log_q_N1))
    return -log_q_N1[:, 0], grad_NC


def _shares(log_parts_NX: Tensor, log_whole_N: Tensor) -> Tensor:
    """Return the parts' shares of a whole; of an empty whole they are 0."""
    empty_N1 = (log_whole_N == -torch.inf)[:, None]
    return (log_parts_NX - log_whole_N[:, None]).masked_fill(empty_N1, -torch.inf).exp()


def _share(log_own_N: Tensor, log_rest_N: Tensor) -> Tensor:
    """Return this rank's share of the rest (N,); of an empty rest it is 0."""
    ratio_N = (log_own_N.double() - log_rest_N).masked_fill(log_rest_N == -torch.inf, -torch.inf)
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


def _finish(d_student_ND: Tensor, objective: Objective) -> Tensor:
    d_student_ND = d_student_ND.div_(objective.logits.temperature)
    if objective.logits.scale != 1:
        d_student_ND *= objective.logits.scale
    shard = objective.shard
    return d_student_ND if shard is None else shard.sum_over_ranks(d_student_ND)
