"""Bounded pieces of the logits: which rows and which words are looked at together.

N rows · D hidden size · V vocabulary · K top-k · R rows of a block: suffixes name dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SLAB_WIDTH = 2048  # words; a block's slab then stays in a last-level cache
SLAB_ELEMENTS = 2**21  # 8 MiB of fp32 logits at once, whatever N and V are
FLOOR = -1e30  # running maxima start here: -inf would give inf - inf in an all-masked slab


def row_blocks(num_rows: int, per_row: int) -> Iterator[slice]:
    """Slices of the rows, as long as `per_row` elements for each stay within SLAB_ELEMENTS."""
    size = max(1, SLAB_ELEMENTS // max(1, per_row))
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def word_slabs(num_words: int) -> Iterator[slice]:
    """Slices of the vocabulary, at most SLAB_WIDTH wide."""
    for start in range(0, num_words, SLAB_WIDTH):
        yield slice(start, min(start + SLAB_WIDTH, num_words))


def scaled_rows(hidden_RD: Tensor, temperature: float) -> Tensor:
    """Rows divided by the temperature, in the dtype the logits get: fp32, or fp64 for fp64."""
    dtype = torch.float64 if hidden_RD.dtype == torch.float64 else torch.float32
    return hidden_RD.to(dtype) / temperature


def slab_logits(rows_RD: Tensor, head_VD: Tensor, words: slice) -> Tensor:
    """A fresh slab of logits, never rounded below the rows' dtype."""
    return rows_RD @ head_VD[words].to(rows_RD.dtype).T


@dataclass(frozen=True, slots=True)
class Places:
    """Where a block's top-k ids fall: for each slab, flat positions in it and in (R, K)."""

    in_slab: list[Tensor]
    in_topk: list[Tensor]

    @staticmethod
    def find(ids_RK: Tensor, num_words: int) -> "Places":
        """One sort for all slabs; on a GPU it waits once for the counts."""
        k = ids_RK.shape[1]
        ids = ids_RK.reshape(-1).long()
        slab = ids // SLAB_WIDTH
        in_topk = slab.argsort(stable=True)
        num_slabs = -(-num_words // SLAB_WIDTH)
        counts = torch.bincount(slab, minlength=num_slabs).tolist()
        row, ids, slab = in_topk // max(1, k), ids[in_topk], slab[in_topk]
        width = (num_words - slab * SLAB_WIDTH).clamp(max=SLAB_WIDTH)
        in_slab = row * width + ids - slab * SLAB_WIDTH
        return Places(list(in_slab.split(counts)), list(in_topk.split(counts)))
