"""Offer the two public operations: check their inputs and choose an implementation.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pdkernels import topk_kl_chunked
from pdkernels.buckets import Divergence
from pdkernels.checks import (
    check_choice,
    check_frozen,
    check_k,
    check_logits,
    check_row_weight,
    check_rows,
    check_shard,
    check_topk,
)
from pdkernels.logits import Logits
from pdkernels.topk import TopK
from pdkernels.topk_kl_fused import Objective, Passes, teacher_topk_fused, topk_kl_fused
from pdkernels.topk_kl_reference import teacher_topk_reference, topk_kl_reference
from pdkernels.vocab_shard import VocabShard

Impl = Literal["auto", "reference", "chunked", "triton"]
Tail = Literal["bucket", "renormalise"]


@torch.no_grad()
def teacher_topk(
    hidden_ND: Tensor,
    head_VD: Tensor,
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

    The result is not differentiable. Which of several tokens tied for the last place is taken is
    not specified; the loss does not depend on it beyond rounding. `chunked` and `triton` choose by
    fp32 logits, and compute the logits of the chosen tokens again in fp64.

    Args:
        hidden_ND: the teacher's hidden rows, bf16, fp16, fp32 or fp64.
        head_VD: the frozen output head. Padded words need finite rows.
        k: how many tokens, 1 <= k <= V.
        temperature: divides the logits, > 0.
        logit_scale: multiplies the logits, as in Cohere and (by its inverse) Granite, > 0.
        softcap: bounds the logits z to c tanh(z / c), as in Gemma 2, after `logit_scale` and before
            the temperature, > 0; None leaves them alone.
        bias: (V,) of the head, added to its products before `logit_scale`. With a `shard` it is
            this rank's part, as `head_VD` is.
        impl: `auto` is `triton` for CUDA rows where it can run, otherwise `chunked`.
        shard: for a head cut along the vocabulary over a process group: `head_VD` is then this
            rank's part. Every rank calls with the same rows and gets the same result.

    Raises:
        ValueError: shapes do not fit, the head is empty, or k or temperature is out of range.
    """
    check_rows("hidden_ND", hidden_ND, head_VD)
    check_shard(head_VD, shard)
    check_k(k, head_VD.shape[0] if shard is None else shard.num_words)
    logits = Logits(temperature, logit_scale, softcap, _contiguous(bias))
    check_logits(head_VD, logits)
    check_choice("impl", impl, get_args(Impl))
    passes = _passes(impl, hidden_ND, head_VD, k, shard)
    with _no_autocast(hidden_ND):
        if passes is None:
            return teacher_topk_reference(hidden_ND, head_VD, k, logits)
        return teacher_topk_fused(passes, hidden_ND, head_VD, k, logits, shard)


def topk_kl(
    student_ND: Tensor,
    head_VD: Tensor,
    topk: TopK,
    *,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    tail: Tail = "bucket",
    row_weight: Tensor | None = None,
    row_filter: float = 0.0,
    logit_scale: float = 1.0,
    softcap: float | None = None,
    bias: Tensor | None = None,
    impl: Impl = "auto",
    shard: VocabShard | None = None,
) -> Tensor:
    """Return the divergence of teacher and student over the teacher's top-k and one tail bucket.

    `topk_kl_reference` is the definition. Only `reference` stores the (N, V) logits. The gradient
    is taken in forward, so backward needs no head. The result is at the temperature of `topk` and
    is not rescaled by temperature**2. It repeats bitwise.

    Args:
        student_ND: the student's hidden rows, bf16, fp16, fp32 or fp64; receives the gradient.
        head_VD: the frozen output head. Padded words need finite rows.
        topk: the teacher's rows, from `teacher_topk` or a cache; row i belongs to row i here.
            Ids on a GPU are not checked against the vocabulary, since that would wait for it.
        divergence: `forward_kl` KL(p || q), `reverse_kl` KL(q || p), or `jsd`, which is
            beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q.
        beta: for `jsd` only, 0 < beta < 1.
        tail: `bucket` keeps the mass outside the k tokens as one more token; `renormalise` drops
            it on both sides, which costs no pass over the vocabulary.
        row_weight: (N,) factors of the rows' losses; not differentiated.
        row_filter: leave out the tail's part of a row's gradient where the derivative by the
            tail bucket's logit (|q_t - p_t| for forward_kl) is below this. The row's gradient is
            then off by less than row_filter * row_weight * max_j ||W_j|| * logit_scale /
            temperature in norm. `reference` ignores it; `report_row_filter` counts the rows.
        logit_scale: as in `teacher_topk`; teacher and student take the same, as one head has one.
        softcap: as in `teacher_topk`. The gradient includes its slope, 1 - (z / c)**2.
        bias: as in `teacher_topk`.
        impl: `auto` is `triton` for CUDA rows where it can run, otherwise `chunked`.
        shard: for a head cut along the vocabulary over a process group: `head_VD` is then this
            rank's part. Every rank calls with the same rows and gets the same result.

    Returns:
        (N,) fp32 in nats (fp64 for fp64 rows). No rows give an empty result.

    Raises:
        ValueError: inputs do not fit, or anything but `student_ND` requires grad.
    """
    check_rows("student_ND", student_ND, head_VD)
    check_shard(head_VD, shard)
    check_topk(student_ND, head_VD.shape[0] if shard is None else shard.num_words, topk)
    check_frozen(head_VD, topk, row_weight)
    logits = Logits(topk.temperature, logit_scale, softcap, _contiguous(bias))
    check_logits(head_VD, logits)
    _check_options(divergence, beta, tail, row_filter, impl)
    check_row_weight(row_weight, len(topk))
    passes = _passes(impl, student_ND, head_VD, topk.k, shard)
    with _no_autocast(student_ND):
        if passes is None:
            kinds: Any = {"divergence": divergence, "beta": beta, "tail": tail}
            options = kinds | {"row_weight": row_weight}
            return topk_kl_reference(student_ND, head_VD, topk, logits, **options)
        objective = Objective(logits, divergence, beta, tail, row_filter, shard)
        return topk_kl_fused(passes, student_ND, head_VD, topk, objective, row_weight)


def _contiguous(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()


def _no_autocast(rows: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast, so that logits have the precision that is promised."""
    return torch.autocast(rows.device.type, enabled=False)


def _check_options(divergence: str, beta: float, tail: str, row_filter: float, impl: str) -> None:
    check_choice("divergence", divergence, get_args(Divergence))
    check_choice("tail", tail, get_args(Tail))
    check_choice("impl", impl, get_args(Impl))
    if divergence == "jsd" and not 0 < beta < 1:
        raise ValueError(
            f"jsd needs 0 < beta < 1, got {beta}; use forward_kl or reverse_kl for the two ends"
        )
    if not row_filter >= 0:
        raise ValueError(f"row_filter must be >= 0, got {row_filter}")


def _passes(
    impl: str, rows: Tensor, head_VD: Tensor, k: int, shard: VocabShard | None
) -> Passes | None:
    """Return the implementation to use; None is the reference."""
    if impl == "reference":
        if shard is not None:
            raise ValueError("impl='reference' needs the whole head; use impl='chunked' for shards")
        return None
    if impl == "chunked" or (impl == "auto" and not rows.is_cuda):
        return topk_kl_chunked
    if find_spec("triton") is None:
        if impl == "auto":
            return topk_kl_chunked
        raise ValueError("impl='triton' needs the package triton; install it or use impl='chunked'")
    triton_passes = import_module("pdkernels.topk_kl_triton")  # triton is optional, and slow
    obstacle = triton_passes.obstacle(rows, head_VD, k)
    if obstacle is None:
        return triton_passes
    if impl == "auto":
        return topk_kl_chunked
    raise ValueError(f"impl='triton' {obstacle}; use impl='chunked'")
