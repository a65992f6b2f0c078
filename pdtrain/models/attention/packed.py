"""Attend over packed rows: groups of branches behind a prefix, in one sequence without padding.

A layout lists the groups one after the other, each as its prefix and then its branches. A branch
attends to its group's prefix and to itself, and not to other branches. Every prefix is read once
for all its branches: one matrix product multiplies their queries with its keys, another one with
their own keys, and the two parts of the softmax are joined by their log-sum-exp. Up to rounding,
the result is that of attention over prefix + branch.

T tokens of a row · H query heads · G key-value heads · M query heads a key head · D head size ·
P tokens of a prefix · R tokens of its branches · B branches · L longest branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

KEPT = 256  # groups whose places are kept: those of both sides of the micro-batches at work

_in_view: ContextVar[tuple[Layout, Attend] | None] = ContextVar("layout", default=None)


class Group(NamedTuple):
    """Hold numbers of tokens: of a prefix, which may be empty, and of each branch behind it."""

    prefix: int
    branches: tuple[int, ...]


Layout = tuple[Group, ...]

# (1, H, T, D) queries, (1, G, T, D) keys and values, scale, window, layout → (1, T, H, D)
Attend = Callable[[Tensor, Tensor, Tensor, float, "int | None", Layout], Tensor]


def refuse_longer(layout: Layout, most: int | None) -> None:
    """Raise ValueError for a branch that ends beyond `most`, if that is not None."""
    reach = max(prefix + max(branches) for prefix, branches in layout)
    if most is not None and reach > most:
        raise ValueError(
            f"a prompt and its answer have {reach} tokens, but beyond {most} this model's rotary "
            "embedding depends on what else is in the batch; set corpus.max_passage_tokens lower"
        )


def positions(layout: Layout) -> list[int]:
    """Return the position of every token of the row: a branch counts on from its prefix's end."""
    found: list[int] = []
    for prefix, branches in layout:
        found += range(prefix)
        for length in branches:
            found += range(prefix, prefix + length)
    return found


@contextmanager
def in_view(layout: Layout, attend: Attend | None = None) -> Iterator[None]:
    """Let attention inside treat its one row as packed.

    Args:
        layout: of the row.
        attend: computes the attention; `attention` by default.
    """
    token = _in_view.set((layout, attend or attention))
    try:
        yield
    finally:
        _in_view.reset(token)


def row_in_view() -> tuple[Layout, Attend] | None:
    """Return layout and attention of the packed row whose forward pass is running, if one is."""
    return _in_view.get()


def attention(
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    scale: float,
    window: int | None,
    layout: Layout,
) -> Tensor:
    """Return the attention of a packed row, (1, T, H, D), in the queries' dtype.

    Args:
        window: how many tokens a token attends to, itself included; None for all before it.
    """
    lengths = [n for group in layout for n in (group.prefix, sum(group.branches))]
    query, key, value = (x[0].split(lengths, 1) for x in (query_1HTD, key_1GTD, value_1GTD))
    outputs_HTD: list[Tensor] = []
    for number, (prefix, branches) in enumerate(layout):
        shared, own = 2 * number, 2 * number + 1
        if prefix:
            outputs_HTD += [
                _causal(query[shared], key[shared], value[shared], scale, window),
                _behind(
                    (query[own], key[own], value[own]),
                    (key[shared], value[shared]),
                    scale,
                    window,
                    branches,
                ),
            ]
        else:
            parts = (x[own].split(branches, 1) for x in (query, key, value))
            outputs_HTD += [_causal(q, k, v, scale, window) for q, k, v in zip(*parts, strict=True)]
    return torch.cat(outputs_HTD, 1).transpose(0, 1)[None]


def _causal(
    query_HLD: Tensor, key_GLD: Tensor, value_GLD: Tensor, scale: float, window: int | None
) -> Tensor:
    """Return the causal attention of one sequence to itself, (H, L, D)."""
    length, num_repeats = query_HLD.shape[1], len(query_HLD) // len(key_GLD)
    key_HLD, value_HLD = (x.repeat_interleave(num_repeats, 0) for x in (key_GLD, value_GLD))
    mask_LL = None
    if window is not None and window < length:
        mask_LL = torch.ones(length, length, dtype=torch.bool, device=query_HLD.device)
        mask_LL = mask_LL.tril().triu(1 - window)
    return functional.scaled_dot_product_attention(
        query_HLD[None],
        key_HLD[None],
        value_HLD[None],
        attn_mask=mask_LL,
        is_causal=mask_LL is None,
        scale=scale,
    )[0]


def _behind(
    own: tuple[Tensor, Tensor, Tensor],
    prefix: tuple[Tensor, Tensor],
    scale: float,
    window: int | None,
    branches: tuple[int, ...],
) -> Tensor:
    """Return the attention of branches to their prefix and to themselves, (H, R, D)."""
    query_HRD, key_GRD, value_GRD = own
    prefix_key_GPD, prefix_value_GPD = prefix
    device, (H, R, D), G = query_HRD.device, query_HRD.shape, len(key_GRD)
    M, B, L, P = H // G, len(branches), max(branches), prefix_key_GPD.shape[1]
    dtype, at_least_fp32 = query_HRD.dtype, torch.promote_types(query_HRD.dtype, torch.float32)
    flat, real = _padded(branches, device)
    query_GMRD = (query_HRD * scale).view(G, M, R, D)

    far_GMRP = (query_GMRD.reshape(G, M * R, D) @ prefix_key_GPD.mT).view(G, M, R, P)
    far_GMRP = far_GMRP.to(at_least_fp32)
    if window is not None and window < P + L:
        place_R = flat.new_tensor([place for length in branches for place in range(length)])
        distance_RP = P + place_R[:, None] - torch.arange(P, device=device)
        far_GMRP = far_GMRP.masked_fill(distance_RP >= window, -torch.inf)
    far_lse_GMR = far_GMRP.logsumexp(-1)

    key_GBLD, value_GBLD = (x.index_select(1, flat).view(G, B, L, D) for x in (key_GRD, value_GRD))
    query_GBMLD = query_GMRD.index_select(2, flat).view(G, M, B, L, D).transpose(1, 2)
    near_GBMLS = (query_GBMLD.reshape(G, B, M * L, D) @ key_GBLD.mT).view(G, B, M, L, L)
    visible_LS = torch.ones(L, L, dtype=torch.bool, device=device).tril()
    if window is not None:
        visible_LS = visible_LS.triu(1 - window)
    near_GBMLS = near_GBMLS.to(at_least_fp32).masked_fill(~visible_LS, -torch.inf)
    near_lse_GMR = near_GBMLS.logsumexp(-1).transpose(1, 2).flatten(2).index_select(2, real)

    lse_GMR = torch.logaddexp(far_lse_GMR, near_lse_GMR)  # a token always sees itself
    far_p = (far_GMRP - lse_GMR[..., None]).exp_().to(dtype).reshape(G, M * R, P)
    lse_GMBL = lse_GMR.index_select(2, flat).view(G, M, B, L)
    near_p = (near_GBMLS - lse_GMBL.transpose(1, 2)[..., None]).exp_().to(dtype)
    near_GBMLD = (near_p.view(G, B, M * L, L) @ value_GBLD).view(G, B, M, L, D)
    out_GMRD = (far_p @ prefix_value_GPD).view(G, M, R, D)
    out_GMRD = out_GMRD + near_GBMLD.transpose(1, 2).flatten(2, 3).index_select(2, real)
    return out_GMRD.reshape(H, R, D)


@lru_cache(KEPT)
def _padded(branches: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where the tokens of each branch stand in their row, and where these are among them.

    A shorter branch is padded with its last token on the right, where no real token of a causal
    model attends to. The places depend on the layout alone, so every layer takes the same tensors,
    and they are worked out on the CPU: a GPU would have to be waited for.

    Returns:
        (B * L,) int64 into the row's tokens, padding included; (R,) int64 into those.
    """
    longest, index, real, first = max(branches), list[int](), list[int](), 0
    for length in branches:
        real += range(len(index), len(index) + length)
        index += range(first, first + length)
        index += [first + length - 1] * (longest - length)
        first += length
    return torch.tensor(index, device=device), torch.tensor(real, device=device)


def forget_layouts() -> None:
    """Let go of the tensors that are kept of layouts; the next batch makes its own."""
    _padded.cache_clear()
