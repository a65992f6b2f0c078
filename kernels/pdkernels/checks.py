"""Check the inputs of the public operations; errors say what is wrong and what to do.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

import math

import torch
from torch import Tensor

from pdkernels.logits import Logits
from pdkernels.topk import TopK
from pdkernels.vocab_shard import VocabShard

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError for an option that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_rows(name: str, rows: Tensor, head_VD: Tensor) -> None:
    """Raise ValueError for rows (N, D) and a head (V, D) that do not fit each other."""
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
        if tensor.dtype not in DTYPES:
            raise ValueError(
                f"{what} must be bf16, fp16, fp32 or fp64, got {tensor.dtype}; dequantise it first"
            )
    if rows.device != head_VD.device:
        raise ValueError(
            f"{name} is on {rows.device} but the head is on {head_VD.device}; move one of them"
        )


def check_k(k: int, num_words: int) -> None:
    """Raise ValueError unless 1 <= k <= num_words."""
    if not 1 <= k <= num_words:
        raise ValueError(
            f"k must be between 1 and the head's vocabulary of {num_words} words, got {k}; "
            "choose a smaller k"
        )


def check_logits(head_VD: Tensor, logits: Logits) -> None:
    """Raise ValueError for a temperature, scale, soft cap or bias that gives no logits."""
    numbers = (
        ("temperature", logits.temperature),
        ("logit_scale", logits.scale),
        ("softcap", 1.0 if logits.softcap is None else logits.softcap),
    )
    for name, value in numbers:
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be > 0 and finite, got {value}")
    bias = logits.bias_V
    if bias is None:
        return
    if bias.shape != head_VD.shape[:1] or bias.dtype not in DTYPES:
        raise ValueError(
            f"bias must have shape ({head_VD.shape[0]},), one number a word of the head, and be "
            f"bf16, fp16, fp32 or fp64, got {tuple(bias.shape)} and {bias.dtype}"
        )
    if bias.device != head_VD.device:
        raise ValueError(
            f"the bias is on {bias.device} but the head is on {head_VD.device}; move one of them"
        )
    if bias.requires_grad:
        raise ValueError(
            "only the student's rows are differentiated, but the bias requires grad; freeze it "
            "with bias.requires_grad_(False) or pass bias.detach()"
        )


def check_topk(student_ND: Tensor, num_words: int, topk: TopK) -> None:
    """Raise ValueError for a top-k that fits neither the student's rows nor the vocabulary."""
    parts = (topk.log_p_NK.shape, topk.ids_NK.shape, topk.lse_N.shape, topk.log_p_tail_N.shape)
    shape = tuple(topk.ids_NK.shape)
    if len(shape) != 2 or parts != (shape, shape, shape[:1], shape[:1]):
        raise ValueError(
            "topk must hold log_p_NK and ids_NK of shape (N, K), lse_N and log_p_tail_N of shape "
            f"(N,), got {', '.join(str(tuple(part)) for part in parts)}; make it with teacher_topk"
        )
    if not 0 < topk.temperature < math.inf:
        raise ValueError(f"the temperature of topk must be > 0 and finite, got {topk.temperature}")
    if len(topk) != student_ND.shape[0]:
        raise ValueError(
            f"student_ND has {student_ND.shape[0]} rows but the teacher has {len(topk)}; "
            "row i of both must predict the same token"
        )
    if topk.k > num_words:
        raise ValueError(
            f"the teacher keeps k = {topk.k} tokens but the head has a vocabulary of "
            f"{num_words} words; make topk with this head, or choose a smaller k"
        )
    if topk.ids_NK.device.type == "cpu" and topk.ids_NK.numel():  # on a GPU it would wait
        for extreme in (int(topk.ids_NK.min()), int(topk.ids_NK.max())):
            if not 0 <= extreme < num_words:
                raise ValueError(
                    f"the teacher names token {extreme} but the head has a vocabulary of "
                    f"{num_words} words; make topk with this head"
                )
    if topk.ids_NK.device != student_ND.device:
        raise ValueError(
            f"student_ND is on {student_ND.device} but topk is on {topk.ids_NK.device}; "
            "use topk.to(device)"
        )


def check_frozen(head_VD: Tensor, topk: TopK, row_weight: Tensor | None) -> None:
    """Raise ValueError where anything but the student's rows requires grad."""
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


def check_shard(head_VD: Tensor, shard: VocabShard | None) -> None:
    """Raise ValueError for a part of the head that reaches beyond the vocabulary."""
    if shard is None:
        return
    last_word = shard.first_word + head_VD.shape[0]
    if shard.first_word < 0 or last_word > shard.num_words:
        raise ValueError(
            f"this rank's head holds words {shard.first_word} to {last_word} of a vocabulary of "
            f"{shard.num_words}; pass head[first:last] and the same first_word"
        )


def check_row_weight(row_weight: Tensor | None, num_rows: int) -> None:
    """Raise ValueError for weights of another shape than (num_rows,)."""
    if row_weight is not None and row_weight.shape != (num_rows,):
        raise ValueError(
            f"row_weight must have shape ({num_rows},), one factor a row, "
            f"got {tuple(row_weight.shape)}"
        )
