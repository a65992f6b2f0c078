"""Divide rows and words into pieces whose logits take a bounded amount of memory.

N rows · D hidden size · V vocabulary · K top-k · R rows of a block: suffixes name dimensions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

SLAB_WIDTH = 2048  # words; so narrow, a block's slab stays in a last-level cache
SLAB_ELEMENTS = 2**22  # 16 MiB of fp32 logits at once, whatever N and V are
GATHER_ELEMENTS = 2**18  # of gathered words at once: the second-level cache of a CPU core
FLOOR = -1e30  # running maxima start here: -inf would give inf - inf in an all-masked slab


def row_blocks(num_rows: int, per_row: int, elements: int | None = None) -> Iterator[slice]:
    """Yield nearly equal slices of the rows, of at most `elements` if a row takes `per_row`."""
    most = max(1, (elements or SLAB_ELEMENTS) // max(1, per_row))
    num_blocks = -(-num_rows // most)
    for block in range(num_blocks):
        yield slice(block * num_rows // num_blocks, (block + 1) * num_rows // num_blocks)


def word_slabs(num_words: int) -> Iterator[slice]:
    """Yield slices of the vocabulary, at most SLAB_WIDTH wide."""
    for start in range(0, num_words, SLAB_WIDTH):
        yield slice(start, min(start + SLAB_WIDTH, num_words))


def compute_dtype(rows: Tensor) -> torch.dtype:
    """Return the dtype of logits and sums: fp32, or fp64 for fp64 rows."""
    return torch.float64 if rows.dtype == torch.float64 else torch.float32


def scaled_rows(rows_RD: Tensor, factor: float) -> Tensor:
    """Return the rows times a factor, in the dtype that their logits get."""
    return rows_RD.to(compute_dtype(rows_RD)) * factor


def places_in_slabs(ids_RK: Tensor, num_words: int) -> list[Tensor]:
    """Return for each slab the flat positions (row by row) of the ids that fall into it.

    Ids outside [0, num_words) fall into none. One sort serves all slabs; on a GPU this waits once,
    for the counts.
    """
    rows = torch.arange(ids_RK.shape[0], device=ids_RK.device)[:, None]
    inside = (ids_RK >= 0) & (ids_RK < num_words)
    ids, row = ids_RK.long()[inside], rows.expand_as(ids_RK)[inside]
    slab = ids // SLAB_WIDTH
    order = slab.argsort(stable=True)
    counts = torch.bincount(slab, minlength=-(-num_words // SLAB_WIDTH)).tolist()
    start = slab * SLAB_WIDTH
    width = (num_words - start).clamp(max=SLAB_WIDTH)
    return list((row * width + ids - start)[order].split(counts))
