"""Take a head that PyTorch has spread over ranks, as FSDP2 does: a DTensor cut by its words.

Each rank has rows of its own. All ranks' rows are gathered, every rank sums its part of the
vocabulary for all of them, and takes its own rows of the result: the head, which is the larger,
does not move.

N this rank's rows · M all ranks' rows · D hidden size · V vocabulary: suffixes name dimensions.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pdkernels.metrics import TopKMetrics
from pdkernels.sharded.vocab_shard import VocabShard
from pdkernels.topk import IGNORED, TopK

_known: dict[tuple[Any, tuple[int, ...]], VocabShard] = {}


def is_dtensor(head: Tensor) -> bool:
    """Return whether a head is spread over ranks; the module is imported by whoever made it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(head, module.DTensor)


def part_of(head: Any) -> tuple[Tensor, VocabShard | None]:
    """Return this rank's words, and which they are; None for all of them.

    Raises:
        ValueError: the head is spread in another way than by its words over one dimension of ranks.
    """
    cuts = [p for p in head.placements if not p.is_replicate()]
    if not cuts:
        return head.to_local(), None
    if len(head.placements) != 1 or not cuts[0].is_shard(0):
        raise ValueError(
            "a DTensor head must be cut by its words over one dimension of ranks, got placements "
            f"{head.placements}; pass head.full_tensor()"
        )
    group, local_VD = head.device_mesh.get_group(), head.to_local()
    key = (group, tuple(head.shape))
    if key not in _known:  # the rule of Shard(0): chunks of ceil(V / R), the last ones shorter
        chunk = -(-head.shape[0] // group.size())
        first = min(group.rank() * chunk, head.shape[0])
        _known[key] = VocabShard(group, first, head.shape[0], local_VD.shape[0])
    return local_VD, _known[key]


def teacher_of_own_rows(one: Callable[..., TopK], teacher_ND: Tensor, head: Any, bias: Any) -> TopK:
    """Return the top-k of this rank's rows; `one` is `teacher_topk` with its options."""
    words_VD, shard = part_of(head)
    bias = bias.to_local() if bias is not None and is_dtensor(bias) else bias
    if shard is None:
        return one(teacher_ND, words_VD, bias=bias)
    rows_MD, mine = _gathered(teacher_ND, shard)
    return one(rows_MD, words_VD, bias=_own_bias(bias, shard), shard=shard)[mine]


def student_of_own_rows(
    one: Callable[..., tuple[Tensor, TopKMetrics]],
    student_ND: Tensor,
    head: Any,
    topk: TopK,
    labels: Tensor | None,
    row_weight: Tensor | None,
    bias: Any,
) -> tuple[Tensor, TopKMetrics]:
    """Return the losses of this rank's rows, without their weights; `one` is `topk_kl`."""
    words_VD, shard = part_of(head)
    words_VD = words_VD.detach() if not head.requires_grad else words_VD
    bias = bias.to_local() if bias is not None and is_dtensor(bias) else bias
    labels_N = labels
    if row_weight is not None:  # rows of weight 0 are left out on every rank alike
        labels_N, topk = _without_weightless(labels_N, topk, row_weight)
    if shard is None:
        return one(student_ND, words_VD, topk, bias=bias, labels=labels_N)
    rows_MD, mine = _gathered(student_ND, shard)
    parts = [_gathered(part, shard)[0] for part in topk.tensors()]
    everyone = TopK.unchecked(*parts, topk.temperature)
    labels_M = None if labels_N is None else _gathered(labels_N, shard)[0]
    options = {"bias": _own_bias(bias, shard), "labels": labels_M, "shard": shard}
    loss_M, metrics = one(rows_MD, words_VD, everyone, **options)
    return loss_M[mine], metrics[mine]


def _own_bias(bias: Tensor | None, shard: VocabShard) -> Tensor | None:
    if bias is None or len(bias) == shard.own_words:
        return bias
    return bias[shard.first_word : shard.first_word + (shard.own_words or 0)]


def _without_weightless(
    labels_N: Tensor | None, topk: TopK, row_weight: Tensor
) -> tuple[Tensor | None, TopK]:
    ignored_N = row_weight == 0
    ids_NK = topk.ids_NK.masked_fill(ignored_N[:, None], IGNORED)
    labels_N = None if labels_N is None else labels_N.masked_fill(ignored_N, IGNORED)
    parts = (topk.log_p_NK, ids_NK, topk.lse_N, topk.log_p_tail_N)
    return labels_N, TopK.unchecked(*parts, topk.temperature)


def _gathered(rows_ND: Tensor, shard: VocabShard) -> tuple[Tensor, slice]:
    """Return all ranks' rows, and where this rank's are among them; the gradient comes back."""
    sizes = torch.zeros(shard.group.size(), dtype=torch.int64, device=rows_ND.device)
    sizes[shard.group.rank()] = len(rows_ND)
    torch.distributed.all_reduce(sizes, group=shard.group)
    counts = sizes.tolist()
    start = sum(counts[: shard.group.rank()])
    rows_MD = _Gather.apply(rows_ND, shard.group, counts, start)
    return rows_MD, slice(start, start + len(rows_ND))


class _Gather(torch.autograd.Function):
    """Gather rows. Each rank's loss is of its own rows, so that backward needs no collective."""

    @staticmethod
    def forward(ctx, rows_ND, group, counts, start):
        ctx.mine = slice(start, start + len(rows_ND))
        padded = rows_ND.new_zeros(max(counts), *rows_ND.shape[1:])
        padded[: len(rows_ND)] = rows_ND
        ranks = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(ranks, padded, group=group)
        return torch.cat([rank[:count] for rank, count in zip(ranks, counts, strict=True)])

    @staticmethod
    def backward(ctx, d_rows_MD):
        return d_rows_MD[ctx.mine], None, None, None
