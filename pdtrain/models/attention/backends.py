"""Compute the attention of packed rows in several ways, by the names of `engine.attention`.

`packed` is made of plain matrix products and runs anywhere. `sdpa` gives torch the whole (T, T)
mask; it is the obvious implementation, which tests compare the others with. `flex` compiles
FlexAttention over a block mask, and `flash` is flash-attn's varlen kernel; both need a GPU.

T tokens of a row · H query heads · G key-value heads · D head size: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pdtrain.models.attention import packed
from pdtrain.models.attention.packed import Attend, Layout

KEPT = 16  # masks of layouts seen last: one is used by all layers of a micro-batch


@lru_cache(KEPT)
def places(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return each token's group, branch (-1 in a prefix) and position, (T,) int64 each."""
    groups, branches = [], []
    for number, (prefix, lengths) in enumerate(layout):
        groups += [number] * (prefix + sum(lengths))
        branches += [-1] * prefix
        for branch, length in enumerate(lengths):
            branches += [branch] * length
    found = (groups, branches, packed.positions(layout))
    group_T, branch_T, position_T = (torch.tensor(x, device=device) for x in found)
    return group_T, branch_T, position_T


def _sees(layout: Layout, window: int | None, device: torch.device) -> Callable[..., Tensor]:
    """Return a function that says whether token q attends to k, with FlexAttention's signature."""
    group_T, branch_T, position_T = places(layout, device)

    def sees(batch: Any, head: Any, q: Tensor, k: Tensor) -> Tensor:
        mine = (branch_T[k] == -1) | (branch_T[k] == branch_T[q])
        seen = (group_T[q] == group_T[k]) & mine & (k <= q)
        if window is not None:
            seen = seen & (position_T[q] - position_T[k] < window)
        return seen

    return sees


@lru_cache(2)
def mask_TT(layout: Layout, window: int | None, device: torch.device) -> Tensor:
    """Return which token of the row attends to which, (T, T) bool."""
    tokens = torch.arange(len(places(layout, device)[0]), device=device)
    return _sees(layout, window, device)(None, None, tokens[:, None], tokens[None, :])


def sdpa(
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    scale: float,
    window: int | None,
    layout: Layout,
) -> Tensor:
    """Return the attention, (1, T, H, D), by torch's own over the mask of T * T numbers."""
    repeats = query_1HTD.shape[1] // key_1GTD.shape[1]
    key_1HTD, value_1HTD = (x.repeat_interleave(repeats, 1) for x in (key_1GTD, value_1GTD))
    seen_TT = mask_TT(layout, window, query_1HTD.device)
    out_1HTD = functional.scaled_dot_product_attention(
        query_1HTD, key_1HTD, value_1HTD, attn_mask=seen_TT, scale=scale
    )
    return out_1HTD.transpose(1, 2)


def _is_compiled(device: torch.device) -> bool:
    return device.type == "cuda"


@lru_cache
def _function(name: str, is_compiled: bool) -> Callable[..., Any]:
    """Return a function of torch's FlexAttention by its name."""
    from torch.nn.attention import flex_attention

    plain: Callable[..., Any] = getattr(flex_attention, name)
    # sizes of micro-batches differ: one kernel for all of them
    return torch.compile(plain, dynamic=True) if is_compiled else plain


@lru_cache(KEPT)
def _block_mask(layout: Layout, window: int | None, device: torch.device) -> Any:
    tokens = len(places(layout, device)[0])
    # without the compiler the whole (T, T) mask is made first
    create = _function("create_block_mask", _is_compiled(device))
    return create(_sees(layout, window, device), None, None, tokens, tokens, device=str(device))


def flex(
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    scale: float,
    window: int | None,
    layout: Layout,
) -> Tensor:
    """Return the attention, (1, T, H, D), by FlexAttention, which skips blocks nobody sees."""
    device = query_1HTD.device
    out_1HTD = _function("flex_attention", _is_compiled(device))(
        query_1HTD,
        key_1GTD,
        value_1GTD,
        block_mask=_block_mask(layout, window, device),
        scale=scale,
        enable_gqa=query_1HTD.shape[1] != key_1GTD.shape[1],
    )
    return out_1HTD.transpose(1, 2)


@lru_cache(KEPT)
def sequences(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Describe a packed row as sequences for flash-attn, in which a branch attends to its prefix.

    flash-attn aligns causal attention at the last tokens, so the queries of a branch, behind the
    keys of prefix and branch, attend to what they should. The queries of a prefix occur once, its
    keys once for every branch.

    Returns:
        The token whose key and value stand at each place of the keys, (K,); the borders of the
        sequences among queries and among keys, int32; the longest sequence of each.
    """
    taken: list[int] = []
    queries, keys, start = [], [], 0
    for prefix, lengths in layout:
        shared = range(start, start + prefix)
        if prefix:
            taken += shared
            queries.append(prefix)
            keys.append(prefix)
        start += prefix
        for length in lengths:
            taken += (*shared, *range(start, start + length))
            queries.append(length)
            keys.append(prefix + length)
            start += length
    borders = [
        torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32) for lengths in (queries, keys)
    ]
    return torch.tensor(taken, device=device), borders[0], borders[1], max(queries), max(keys)


def flash(
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    scale: float,
    window: int | None,
    layout: Layout,
) -> Tensor:
    """Return the attention, (1, T, H, D), by flash-attn, with a prefix's keys for each branch."""
    from flash_attn import flash_attn_varlen_func

    taken, of_queries, of_keys, longest_query, longest_key = sequences(layout, query_1HTD.device)
    key_KGD, value_KGD = (x[0].transpose(0, 1)[taken] for x in (key_1GTD, value_1GTD))
    out_THD = flash_attn_varlen_func(
        query_1HTD[0].transpose(0, 1).contiguous(),
        key_KGD,
        value_KGD,
        of_queries,
        of_keys,
        longest_query,
        longest_key,
        softmax_scale=scale,
        causal=True,
        deterministic=True,  # a resumed run repeats the undisturbed one
        window_size=(-1, -1) if window is None else (window - 1, 0),
    )
    return out_THD[None]


BACKENDS: dict[str, Attend] = {
    "packed": packed.attention,
    "sdpa": sdpa,
    "flex": flex,
    "flash": flash,
}
