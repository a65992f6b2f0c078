"""Offer the two public operations: check their inputs, choose an implementation and call it.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

import inspect
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from pdkernels.checks import (
    check_frozen,
    check_k,
    check_labels,
    check_logits,
    check_options,
    check_row_weight,
    check_rows,
    check_topk,
)
from pdkernels.choose import Impl
from pdkernels.fused import registered
from pdkernels.fused.eager import run_student, run_teacher
from pdkernels.logits import Logits
from pdkernels.metrics import TopKMetrics
from pdkernels.sharded import dtensor
from pdkernels.sharded.vocab_shard import VocabShard, check_shard
from pdkernels.topk import IGNORED, TopK

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]
Tail = Literal["bucket", "renormalise"]
Reduction = Literal["none", "sum", "mean"]


@torch.no_grad()
def teacher_topk(
    teacher: Tensor,
    head: Tensor,
    k: int,
    temperature: float = 1.0,
    *,
    logit_scale: float = 1.0,
    softcap: float | None = None,
    bias: Tensor | None = None,
    impl: Impl = "auto",
    shard: VocabShard | None = None,
) -> TopK:
    """Return the teacher's k most probable next tokens of each row, and the mass of the others.

    The result is not differentiable. Tokens are chosen by their logits in fp32 (fp64 for fp64
    rows), and of equal ones those of lower id, in every implementation and on any number of ranks.
    `chunked` and `triton` compute the logits of the chosen tokens again in fp64.

    Args:
        teacher: (N, D) hidden rows that enter the head, bf16, fp16, fp32 or fp64.
        head: (V, D) the frozen output head's weight. Rows that pad the vocabulary are to be left
            out: pass `head[:V]`, a view that copies nothing.
        k: how many tokens, 1 <= k <= V.
        temperature: divides the logits, > 0.
        logit_scale: multiplies the logits, as in Cohere and (by its inverse) Granite, > 0.
        softcap: bounds the logits z to c tanh(z / c), as in Gemma 2, after `logit_scale` and before
            the temperature, > 0; None leaves them alone.
        bias: (V,) of the head, added to its products before `logit_scale`. With a `shard` it is
            this rank's part, as `head` is.
        impl: `auto` is `triton` for CUDA rows where it can run, otherwise `chunked`.
        shard: for a head cut along the vocabulary over a process group: `head` is then this rank's
            part. Every rank calls with the same rows and gets the same result. A head that is a
            DTensor is cut like that without a shard, and each rank calls with rows of its own.

    Raises:
        ValueError: shapes do not fit, the head is empty, or an option is out of range. With a
            shard it is raised on every rank if on one.
    """
    if dtensor.is_dtensor(head):
        one = partial(
            teacher_topk, k=k, temperature=temperature, logit_scale=logit_scale, softcap=softcap,
            impl=impl,
        )  # fmt: skip
        return dtensor.teacher_of_own_rows(one, teacher, head, bias)
    logits = Logits(temperature, logit_scale, softcap, _contiguous(bias))
    with check_shard(head, shard, teacher):
        check_rows("teacher", teacher, head)
        check_k(k, head.shape[0] if shard is None else shard.num_words)
        check_logits(head, logits)
        check_options(impl=impl)
    if registered.is_traced(teacher):
        return registered.teacher(teacher, head, k, logits, impl, shard)
    return run_teacher(teacher, head, k, logits, impl, shard)


def topk_kl(
    student: Tensor,
    head: Tensor,
    topk: TopK,
    *,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    tail: Tail = "bucket",
    labels: Tensor | None = None,
    label_weight: float | None = None,
    ignore_index: int = IGNORED,
    row_weight: Tensor | None = None,
    reduction: Reduction = "none",
    row_filter: float = 0.0,
    logit_scale: float = 1.0,
    softcap: float | None = None,
    bias: Tensor | None = None,
    impl: Impl = "auto",
    shard: VocabShard | None = None,
) -> Tensor:
    """Return the divergence of teacher and student over the teacher's top-k and one tail bucket.

    `pdkernels.reference` is the definition. Only `reference` stores the (N, V) logits. The gradient
    is taken in forward, so backward needs no head; a second derivative is refused, and PyTorch
    refuses forward mode (`torch.func.jvp`) with NotImplementedError. The result is at the
    temperature of `topk` and is not rescaled by temperature**2. It repeats bitwise.

    Args:
        student: (N, D) hidden rows that enter the head, bf16, fp16, fp32 or fp64; they alone
            receive a gradient.
        head: (V, D) the frozen output head's weight, without rows that pad it: `head[:V]`.
        topk: the teacher's rows, from `teacher_topk` or a cache; row i belongs to row i here. An
            id that is no word is refused on a CPU, and makes its row NaN on a GPU, which is not
            waited for. Rows whose ids are all `ignore_index` are left out.
        divergence: `forward_kl` KL(p || q), `reverse_kl` KL(q || p), or `jsd`, which is
            beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q.
        beta: for `jsd` only, 0 < beta < 1.
        tail: `bucket` keeps the mass outside the k tokens as one more token; `renormalise` drops
            it on both sides, which costs no pass over the vocabulary.
        labels: (N,) int64 or int32 tokens, for a loss of (1 - label_weight) times the divergence
            plus label_weight times the cross-entropy -log q of the label, in the same sweep.
        label_weight: in [0, 1]; must be given with labels. At 0 labels only say which rows count.
        ignore_index: rows with this label, or with no other id, are left out: not read, loss 0.
        row_weight: (N,) factors of the rows' losses; not differentiated. Rows of weight 0 are left
            out: not read, loss 0, whatever they hold.
        reduction: `none` for (N,), `sum`, or `mean`: the sum over the sum of `row_weight` (without
            one: the number) of the rows that count, and 0 if none does.
        row_filter: leave out the tail's part of a row's gradient where the derivative by the
            tail bucket's logit (|q_t - p_t| for forward_kl) is below this. The row's gradient is
            then off by less than row_filter * row_weight * max_j ||W_j|| * logit_scale /
            temperature in norm. `reference` ignores it; `report_row_filter` counts the rows.
        logit_scale: as in `teacher_topk`; teacher and student take the same, as one head has one.
        softcap: as in `teacher_topk`. The gradient includes its slope, 1 - (z / c)**2.
        bias: as in `teacher_topk`.
        impl: `auto` is `triton` for CUDA rows where it can run, otherwise `chunked`.
        shard: as in `teacher_topk`.

    Returns:
        The losses (N,) or their reduction, fp32 in nats (fp64 for fp64 rows). No rows give an empty
        result.

    Raises:
        ValueError: inputs do not fit, or anything but `student` requires grad. With a shard it is
            raised on every rank if on one.
    """
    options = {
        "divergence": divergence, "beta": beta, "tail": tail, "row_filter": row_filter,
        "label_weight": label_weight, "ignore_index": ignore_index, "impl": impl,
        "logit_scale": logit_scale, "softcap": softcap, "reduction": reduction,
    }  # fmt: skip
    tensors = {"labels": labels, "row_weight": row_weight, "bias": bias}
    return _topk_kl(student, head, topk, tensors, options, shard, wants_metrics=False)[0]


def topk_kl_and_metrics(
    student: Tensor,
    head: Tensor,
    topk: TopK,
    *,
    shard: VocabShard | None = None,
    labels: Tensor | None = None,
    row_weight: Tensor | None = None,
    bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, TopKMetrics]:
    """Return what `topk_kl` does, and numbers of each row that cost no pass over the vocabulary.

    Args:
        student: this and all others are as in `topk_kl`.
        head: see there.
        topk: see there.
        shard: see there.
        labels: see there.
        row_weight: see there.
        bias: see there.
        options: the other options of `topk_kl`.
    """
    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        raise TypeError(f"topk_kl has no option {', '.join(sorted(unknown))}")
    tensors = {"labels": labels, "row_weight": row_weight, "bias": bias}
    loss, metrics = _topk_kl(
        student, head, topk, tensors, DEFAULTS | options, shard, wants_metrics=True
    )
    assert metrics is not None
    return loss, metrics


DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(topk_kl).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
    and name not in ("labels", "row_weight", "bias", "shard")
}


def _topk_kl(
    student: Tensor,
    head: Tensor,
    topk: TopK,
    tensors: dict[str, Tensor | None],
    options: dict[str, Any],
    shard: VocabShard | None,
    *,
    wants_metrics: bool,
) -> tuple[Tensor, TopKMetrics | None]:
    labels, row_weight, bias = tensors["labels"], tensors["row_weight"], tensors["bias"]
    metrics: TopKMetrics | None = None
    if dtensor.is_dtensor(head):
        check_options(**options)
        check_frozen(head, topk, row_weight)
        check_row_weight(row_weight, len(topk))
        one = partial(topk_kl_and_metrics, **options | {"reduction": "none"})
        loss_N, metrics = dtensor.student_of_own_rows(one, student, head, topk, **tensors)
    else:
        scale, softcap = options["logit_scale"], options["softcap"]
        logits = Logits(topk.temperature, scale, softcap, _contiguous(bias))
        with check_shard(head, shard, student, topk.ids_NK):
            check_rows("student", student, head)
            check_topk(student, head.shape[0] if shard is None else shard.num_words, topk)
            check_frozen(head, topk, row_weight)
            check_logits(head, logits)
            check_options(**options)
            check_row_weight(row_weight, len(topk))
            check_labels(labels, options["label_weight"], len(topk), topk.temperature)
        run = registered.student if registered.is_traced(student) else run_student
        loss_N, parts_NP = run(
            student, head, topk, logits, labels, row_weight, options, shard, wants_metrics
        )
        if wants_metrics:
            metrics = TopKMetrics.of(topk, parts_NP)
    if row_weight is not None:
        loss_N = loss_N * row_weight.to(loss_N)
    reduction, ignore_index = options["reduction"], options["ignore_index"]
    return _reduce(loss_N, reduction, topk, labels, row_weight, ignore_index), metrics


def _reduce(
    loss_N: Tensor,
    reduction: str,
    topk: TopK,
    labels: Tensor | None,
    row_weight: Tensor | None,
    ignore_index: int,
) -> Tensor:
    if reduction == "none":
        return loss_N
    if reduction == "sum":
        return loss_N.sum()
    counts_N = ~topk.ignored(ignore_index)
    if labels is not None:
        counts_N = counts_N & (labels != ignore_index)
    weight_N = counts_N.to(loss_N) if row_weight is None else counts_N * row_weight.to(loss_N)
    whole = weight_N.sum()
    return loss_N.sum() / torch.where(whole == 0, 1, whole)


def _contiguous(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()
