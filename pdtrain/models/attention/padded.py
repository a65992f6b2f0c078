"""Lay packed sequences out as padded rows, one for each branch, for layers that know no branches.

A row is a branch behind a copy of its prefix, padded on the right. No token of a causal model, be
it of attention, a convolution or a recurrence, depends on what stands to its right.

T tokens of a packed sequence · B branches · L longest of them with its prefix: suffixes name
dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pdtrain.models.attention.packed import Layout

KEPT = 16  # of layouts seen last


class Rows(NamedTuple):
    """Say which token of a packed sequence stands where in padded rows.

    Args:
        token_BL: int64, the token at each place; in padding the row's last token again.
        mask_BL: int64, 1 where a token is real, and 0 in padding.
        place_T: int64, where in the flattened rows each branch's token stands; of a prefix's token
            its place in the first row that holds it.
    """

    token_BL: Tensor
    mask_BL: Tensor
    place_T: Tensor


@lru_cache(KEPT)
def rows(layout: Layout, device: torch.device) -> Rows:
    """Return the padded rows of a packed sequence."""
    found: list[list[int]] = []
    start = 0
    for prefix, branches in layout:
        shared = list(range(start, start + prefix))
        start += prefix
        for length in branches:
            found.append([*shared, *range(start, start + length)])
            start += length
    longest = max(map(len, found))
    token_BL = torch.tensor([row + row[-1:] * (longest - len(row)) for row in found])
    length_B1 = torch.tensor([[len(row)] for row in found])
    mask_BL = (torch.arange(longest) < length_B1).long()
    place_T = torch.empty(start, dtype=torch.int64)
    for number in reversed(range(len(found))):  # so that of a prefix the first row is kept
        place_T[found[number]] = number * longest + torch.arange(len(found[number]))
    return Rows(token_BL.to(device), mask_BL.to(device), place_T.to(device))
