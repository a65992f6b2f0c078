"""The two public operations: checks, and the choice of an implementation.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from pdkernels.teacher_topk_chunked import teacher_topk_chunked
from pdkernels.topk import TopK
from pdkernels.topk_kl_chunked import Objective, topk_kl_chunked
from pdkernels.topk_kl_reference import teacher_topk_reference, topk_kl_reference

Impl = Literal["auto", "reference", "chunked", "triton"]
Divergence = Literal["forward_kl", "reverse_kl", "jsd"]
Tail = Literal["bucket", "renormalise"]


@torch.no_grad()
def teacher_topk(
    hidden_ND: Tensor,
    head_VD: Tensor,
    k: int,
    temperature: float = 1.0,
    *,
    impl: Impl = "auto",
) -> TopK:
    """The teacher's k most probable next tokens of each row, and the mass of all the others.

    Never differentiated. Which of several tokens tied for the last place is taken is not
    specified; the loss does not depend on it beyond rounding.

    Args:
        hidden_ND: the teacher's hidden rows, bf16, fp16, fp32 or fp64.
        head_VD: the frozen output head. Padded words need finite rows.
        k: how many tokens, 1 <= k <= V.
        temperature: divides the logits, > 0.
        impl: `auto` is `triton` for CUDA rows where it can run, otherwise `chunked`.

    Raises:
        ValueError: for shapes that do not fit, an empty head, k or temperature out of range.
    """
    _check_rows("hidden_ND", hidden_ND, head_VD)
    if not 1 <= k <= head_VD.shape[0]:
        raise ValueError(
            f"k must be between 1 and the head's vocabulary of {head_VD.shape[0]} words, got {k}; "
            "choose a smaller k"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    _check_choice("impl", impl, get_args(Impl))
    if _resolve(impl, hidden_ND) == "reference":
        return teacher_topk_reference(hidden_ND, head_VD, k, temperature)
    return teacher_topk_chunked(hidden_ND, head_VD, k, temperature)


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
    impl: Impl = "auto",
) -> Tensor:
    """The divergence of teacher and student over the teacher's top-k and one tail bucket.

    `topk_kl_reference` is the definition. The (N, V) logits are never stored (but by
    `reference`), and the gradient is taken in forward, so backward needs no head. The result is
    at the temperature of `topk` and is not rescaled by temperature**2. Repeats bitwise.

    Args:
        student_ND: the student's hidden rows, bf16, fp16, fp32 or fp64; receives the gradient.
        head_VD: the frozen output head. Padded words need finite rows.
        topk: the teacher's rows, from `teacher_topk` or a cache; row i belongs to row i here.
        divergence: `forward_kl` KL(p || q), `reverse_kl` KL(q || p), or `jsd`, which is
            beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q.
        beta: for `jsd` only, 0 < beta < 1.
        tail: `bucket` keeps the mass outside the k tokens as one more token; `renormalise` drops
            it on both sides, which costs no pass over the vocabulary.
        row_weight: (N,) factors of the rows' losses; not differentiated.
        row_filter: leave out the tail's part of a row's gradient where the loss's derivative
            with respect to the tail bucket's logit (|q_t - p_t| for forward_kl) is below this.
            The gradient of that row, before its weight, is then off by less than
            row_filter * max_j ||W_j|| / temperature in norm. 0 leaves out nothing; `reference`
            ignores it. See `report_row_filter` for the fraction of rows.
        impl: `auto` is `triton` for CUDA rows where it can run, otherwise `chunked`.

    Returns:
        (N,) fp32 in nats (fp64 for fp64 rows). No rows give an empty result.

    Raises:
        ValueError: for shapes that do not fit, an empty head, options out of range, or if
            anything but `student_ND` asks for a gradient.
    """
    _check_rows("student_ND", student_ND, head_VD)
    _check_topk(student_ND, head_VD, topk)
    _check_frozen(head_VD, topk, row_weight)
    _check_choice("divergence", divergence, get_args(Divergence))
    _check_choice("tail", tail, get_args(Tail))
    _check_choice("impl", impl, get_args(Impl))
    if divergence == "jsd" and not 0 < beta < 1:
        raise ValueError(
            f"jsd needs 0 < beta < 1, got {beta}; use forward_kl or reverse_kl for the two ends"
        )
    if not row_filter >= 0:
        raise ValueError(f"row_filter must be >= 0, got {row_filter}")
    if row_weight is not None and row_weight.shape != (len(topk),):
        raise ValueError(
            f"row_weight must have shape ({len(topk)},), one factor a row, "
            f"got {tuple(row_weight.shape)}"
        )
    if _resolve(impl, student_ND) == "reference":
        return topk_kl_reference(
            student_ND,
            head_VD,
            topk,
            divergence=divergence,
            beta=beta,
            tail=tail,
            row_weight=row_weight,
        )
    objective = Objective(divergence, beta, tail, row_filter)
    return topk_kl_chunked(student_ND, head_VD, topk, objective, row_weight)


def _resolve(impl: str, rows: Tensor) -> str:
    if impl == "triton":
        raise ValueError("impl='triton' is not available yet; use impl='chunked'")
    return "chunked" if impl == "auto" else impl


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_rows(name: str, rows: Tensor, head_VD: Tensor) -> None:
    if head_VD.numel() == 0:
        raise ValueError(
            f"the head has no elements (shape {tuple(head_VD.shape)}): a ZeRO-3 placeholder? "
            "Call this inside the head's own forward, or under deepspeed.zero.GatheredParameters"
        )
    if rows.ndim != 2 or head_VD.ndim != 2:
        raise ValueError(
            f"{name} must be (N, D) and the head (V, D), got {tuple(rows.shape)} and "
            f"{tuple(head_VD.shape)}; flatten batch and sequence first"
        )
    if rows.shape[1] != head_VD.shape[1]:
        raise ValueError(
            f"{name} has hidden size {rows.shape[1]} but the head expects {head_VD.shape[1]}; "
            "pass the rows that enter the head, and the head's weight as (V, D)"
        )
    for what, tensor in ((name, rows), ("the head", head_VD)):
        if not tensor.is_floating_point():
            raise ValueError(
                f"{what} must be bf16, fp16, fp32 or fp64, got {tensor.dtype}; dequantise it first"
            )
    if rows.device != head_VD.device:
        raise ValueError(
            f"{name} is on {rows.device} but the head is on {head_VD.device}; move one of them"
        )


def _check_topk(student_ND: Tensor, head_VD: Tensor, topk: TopK) -> None:
    if len(topk) != student_ND.shape[0]:
        raise ValueError(
            f"student_ND has {student_ND.shape[0]} rows but the teacher has {len(topk)}; "
            "row i of both must predict the same token"
        )
    if topk.k > head_VD.shape[0]:
        raise ValueError(
            f"the teacher keeps k = {topk.k} tokens but the head has a vocabulary of "
            f"{head_VD.shape[0]} words; make topk with this head, or choose a smaller k"
        )
    if topk.ids_NK.device.type == "cpu" and topk.ids_NK.numel():  # on a GPU it would wait
        largest = int(topk.ids_NK.max())
        if largest >= head_VD.shape[0] or int(topk.ids_NK.min()) < 0:
            raise ValueError(
                f"the teacher names token {largest} but the head has a vocabulary of "
                f"{head_VD.shape[0]} words; make topk with this head"
            )
    if topk.ids_NK.device != student_ND.device:
        raise ValueError(
            f"student_ND is on {student_ND.device} but topk is on {topk.ids_NK.device}; "
            "use topk.to(device)"
        )


def _check_frozen(head_VD: Tensor, topk: TopK, row_weight: Tensor | None) -> None:
    if head_VD.requires_grad:
        raise ValueError(
            "topk_kl differentiates student_ND only, but the head requires grad; "
            "freeze it with head.requires_grad_(False) or pass head.detach()"
        )
    if topk.log_p_NK.requires_grad or topk.log_p_tail_N.requires_grad:
        raise ValueError(
            "topk_kl differentiates student_ND only, but the teacher requires grad; "
            "make it with teacher_topk, or detach its log-probabilities"
        )
    if row_weight is not None and row_weight.requires_grad:
        raise ValueError(
            "topk_kl differentiates student_ND only, but row_weight requires grad; detach it"
        )
