"""Check the inputs of the public operations; errors say what is wrong and what to do.

N rows · D hidden size · V vocabulary · K top-k: suffixes name dimensions.
"""

import math
from typing import Any

import torch
from torch import Tensor

from pdkernels.logits import Logits
from pdkernels.topk import TopK, check_structure

CHOICES = {
    "divergence": ("forward_kl", "reverse_kl", "jsd"),
    "tail": ("bucket", "renormalise"),
    "impl": ("auto", "reference", "chunked", "triton"),
    "reduction": ("none", "sum", "mean"),
}
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


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
    """Raise ValueError unless k is a whole number, 1 <= k <= num_words."""
    if not isinstance(k, int) or isinstance(k, bool):
        raise ValueError(f"k must be an int, got {k!r}")
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


def check_topk(student: Tensor, num_words: int, topk: TopK) -> None:
    """Raise ValueError for a top-k that fits neither the student's rows nor the vocabulary."""
    check_structure(topk)
    if len(topk) != student.shape[0]:
        raise ValueError(
            f"student has {student.shape[0]} rows but the teacher has {len(topk)}; "
            "row i of both must predict the same token"
        )
    if topk.k > num_words:
        raise ValueError(
            f"the teacher keeps k = {topk.k} tokens but the head has a vocabulary of "
            f"{num_words} words; make topk with this head, or choose a smaller k"
        )
    if topk.ids_NK.device != student.device:
        raise ValueError(
            f"student is on {student.device} but topk is on {topk.ids_NK.device}; "
            "use topk.to(device)"
        )


def check_frozen(head_VD: Tensor, topk: TopK, row_weight: Tensor | None) -> None:
    """Raise ValueError where anything but the student's rows requires grad."""
    if head_VD.requires_grad:
        raise ValueError(
            "topk_kl differentiates student only, but the head requires grad; "
            "freeze it with head.requires_grad_(False) or pass head.detach()"
        )
    if topk.log_p_NK.requires_grad or topk.log_p_tail_N.requires_grad:
        raise ValueError(
            "topk_kl differentiates student only, but the teacher requires grad; "
            "make it with teacher_topk, or detach its log-probabilities"
        )
    if row_weight is not None and row_weight.requires_grad:
        raise ValueError(
            "topk_kl differentiates student only, but row_weight requires grad; detach it"
        )


def check_row_weight(row_weight: Tensor | None, num_rows: int) -> None:
    """Raise ValueError for weights of another shape than (num_rows,)."""
    if row_weight is not None and row_weight.shape != (num_rows,):
        raise ValueError(
            f"row_weight must have shape ({num_rows},), one factor a row, "
            f"got {tuple(row_weight.shape)}"
        )


def check_labels(
    labels: Tensor | None, label_weight: float | None, num_rows: int, temperature: float
) -> None:
    """Raise ValueError for labels without a weight, of another shape, or at a temperature."""
    if labels is None:
        if label_weight:
            raise ValueError(f"label_weight={label_weight} needs labels")
        return
    if label_weight is None:
        raise ValueError(
            "labels need a label_weight, their share of the loss in [0, 1]; at 0 they only say "
            "which rows count"
        )
    if labels.shape != (num_rows,) or labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"labels must have shape ({num_rows},), one token a row, and be int64 or int32, "
            f"got {tuple(labels.shape)} and {labels.dtype}"
        )
    if label_weight and temperature != 1:
        raise ValueError(
            "the cross-entropy of labels is of the distributions that are compared, so that it "
            f"needs a teacher at temperature 1, got {temperature}; call topk_kl with "
            "TopK.one_hot(labels) for it, and add the two losses"
        )


def check_ids(ids: Tensor, num_words: int, kept_M: Tensor | None, what: str) -> None:
    """Raise ValueError for ids on a CPU that are no words, in rows that count.

    On a GPU this would wait for the device.
    """
    if ids.device.type != "cpu":
        return
    ids = ids if kept_M is None else ids[kept_M]
    if not ids.numel():
        return
    for extreme in (int(ids.min()), int(ids.max())):
        if not 0 <= extreme < num_words:
            raise ValueError(
                f"{what} {extreme} but the head has a vocabulary of {num_words} words; make topk "
                "with this head"
            )


def check_options(**options: Any) -> None:
    """Raise ValueError for an option of `teacher_topk` or `topk_kl` that is out of range."""
    for name, choices in CHOICES.items():
        if name in options and options[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {options[name]!r}")
    if options.get("divergence") == "jsd" and not 0 < options["beta"] < 1:
        raise ValueError(
            f"jsd needs 0 < beta < 1, got {options['beta']}; use forward_kl or reverse_kl for the "
            "two ends"
        )
    if not options.get("row_filter", 0) >= 0:
        raise ValueError(f"row_filter must be >= 0, got {options['row_filter']}")
    if not 0 <= (options.get("label_weight") or 0) <= 1:
        raise ValueError(f"label_weight must be in [0, 1], got {options['label_weight']}")
