"""Run the two operations on tensors that hold data: choose rows and an implementation, and call it.

N rows · D hidden size · V vocabulary · K top-k · M rows that count · P parts: suffixes name
dimensions.
"""

from typing import Any

import torch
from torch import Tensor

from pdkernels.checks import check_ids
from pdkernels.choose import choose_passes, rows_for_products
from pdkernels.fused.operator import TopkKL
from pdkernels.fused.passes import Objective
from pdkernels.fused.student import Outcome, Wanted, compute
from pdkernels.fused.teacher import teacher_topk_fused
from pdkernels.logits import Logits
from pdkernels.reference import teacher_topk_reference, topk_kl_reference
from pdkernels.sharded.vocab_shard import VocabShard
from pdkernels.topk import TopK


def run_teacher(
    hidden_ND: Tensor,
    head_VD: Tensor,
    k: int,
    logits: Logits,
    impl: str,
    shard: VocabShard | None,
) -> TopK:
    """Return the teacher's top-k by the implementation asked for."""
    passes = choose_passes(impl, hidden_ND, head_VD, k, shard)
    if passes is not None:
        hidden_ND = rows_for_products(hidden_ND, head_VD, passes)
    with torch.autocast(hidden_ND.device.type, enabled=False), torch.cuda.device_of(hidden_ND):
        if passes is None:
            return teacher_topk_reference(hidden_ND, head_VD, k, logits)
        return teacher_topk_fused(passes, hidden_ND, head_VD, k, logits, shard)


def run_student(
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    logits: Logits,
    labels_N: Tensor | None,
    row_weight: Tensor | None,
    options: dict[str, Any],
    shard: VocabShard | None,
    wants_parts: bool,
) -> tuple[Tensor, Tensor]:
    """Return the losses (N,) with their gradient, and the parts (N, P)."""
    passes = choose_passes(options["impl"], student_ND, head_VD, topk.k, shard)
    objective = objective_of(logits, options, shard)
    kept_M = kept_rows(topk, labels_N, row_weight, options["ignore_index"])
    num_words = objective.num_words(head_VD)
    check_ids(topk.ids_NK, num_words, kept_M, "the teacher names token")
    if labels_N is not None:
        check_ids(labels_N, num_words, kept_M, "a label names token")
    if passes is None:
        if kept_M is not None:
            return _reference_of_some(student_ND, head_VD, topk, labels_N, objective, kept_M)
        with torch.autocast(student_ND.device.type, enabled=False):
            return topk_kl_reference(student_ND, head_VD, topk, labels_N, objective)
    wanted = Wanted(torch.is_grad_enabled() and student_ND.requires_grad, wants_parts)

    dtype = rows_for_products(student_ND.detach()[:0], head_VD, passes).dtype

    def work(rows_ND: Tensor) -> Outcome:
        with torch.autocast(rows_ND.device.type, enabled=False), torch.cuda.device_of(rows_ND):
            given = rows_ND.to(dtype), head_VD, topk, labels_N, objective, wanted, kept_M
            outcome = compute(passes, *given)
        return _without_ignored(outcome, topk, kept_M, options["ignore_index"])

    loss_N, _, parts_NP = TopkKL.apply(student_ND, work)
    return loss_N, parts_NP


def objective_of(logits: Logits, options: dict[str, Any], shard: VocabShard | None) -> Objective:
    """Return the options of a call in the form that the passes take."""
    return Objective(
        logits,
        options["divergence"],
        options["beta"],
        options["tail"],
        options["row_filter"],
        options["label_weight"] or 0.0,
        shard,
    )


def kept_rows(
    topk: TopK, labels_N: Tensor | None, row_weight: Tensor | None, ignore_index: int
) -> Tensor | None:
    """Return the indices of the rows that count (M,), or None for all of them.

    On a GPU the teacher's ids alone are no reason to wait for the device: rows they leave out are
    computed and then set to 0.
    """
    if topk.ids_NK.is_cuda and labels_N is None and row_weight is None:
        return None
    is_kept_N = ~topk.ignored(ignore_index)
    if labels_N is not None:
        is_kept_N &= labels_N != ignore_index
    if row_weight is not None:
        is_kept_N &= row_weight != 0
    return None if bool(is_kept_N.all()) else is_kept_N.nonzero()[:, 0]


def _without_ignored(
    outcome: Outcome, topk: TopK, kept_M: Tensor | None, ignore_index: int
) -> Outcome:
    """Set the rows to 0 that `kept_rows` could not leave out, in place."""
    if kept_M is None and topk.ids_NK.is_cuda:
        ignored_N = topk.ignored(ignore_index)
        outcome.loss_N.masked_fill_(ignored_N, 0)
        for rows in (outcome.d_student_ND, outcome.parts_NP):
            if rows is not None:
                rows.masked_fill_(ignored_N[:, None], 0)
    return outcome


def _reference_of_some(
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    labels_N: Tensor | None,
    objective: Objective,
    kept_M: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return what the definition gives for some of the rows, and 0 for the others."""
    labels_M = None if labels_N is None else labels_N[kept_M]
    with torch.autocast(student_ND.device.type, enabled=False):
        loss_M, parts_MP = topk_kl_reference(
            student_ND[kept_M], head_VD, topk[kept_M], labels_M, objective
        )
    loss_N = loss_M.new_zeros(len(topk)).index_put((kept_M,), loss_M)
    parts_NP = parts_MP.new_zeros(len(topk), parts_MP.shape[1]).index_put((kept_M,), parts_MP)
    return loss_N, parts_NP
