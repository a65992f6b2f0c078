"""Which attention packed rows get: `engine.attention`, or by device and by what is installed.

`packed` is plain matrix products and runs anywhere; `sdpa` puts the whole (T, T) mask before torch
and is the obvious way that tests hold the others to; `flex` compiles FlexAttention over a block
mask, and `flash` is flash-attn's varlen kernel, both on GPUs. `auto` takes the first of flash, flex
and packed that gives packed's numbers, value and gradient, on this machine, and says which.

T tokens of a row · H query heads · G key-value heads · D head size: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pdtrain.models.attention import packed
from pdtrain.models.attention.packed import Attend, Group, Layout
from pdtrain.progress import say

KEPT = 16  # masks of layouts seen last: one is used by all layers of a micro-batch
# a proof that is made on the GPU at the start: two passages, one branch alone, odd lengths
PROOF: Layout = (Group(37, (5, 19)), Group(0, (11, 3)), Group(150, (1, 40)))
PROOF_WINDOW = 48
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Heads:
    """What of a model decides whether a way works."""

    query: int
    keys: int
    size: int
    dtype: torch.dtype
    window: int | None = None


def choose(
    kind: str,
    device: torch.device,
    heads: Heads,
    gathered: Callable[[str], list[str]] = lambda reason: [reason],
) -> Attend:
    """The way to attend, the same on every rank; said on standard error.

    Args:
        gathered: every rank's value. All ranks take part as often.

    Raises:
        ValueError: on every rank, when a way that was asked for by name does not work on one.
    """

    def obstacle_anywhere(name: str) -> str:
        return next(filter(None, gathered(obstacle(name, device, heads) or "")), "")

    if kind == "auto" and device.type == "cuda":
        for name in ("flash", "flex"):
            reason = obstacle_anywhere(name)
            if not reason:
                break
            say(f"attention: not {name}: {reason}")
        else:
            name = "packed"
    else:
        name = "packed" if kind == "auto" else kind
        if reason := obstacle_anywhere(name):
            raise ValueError(
                f"engine.attention={name} cannot be used: {reason}; set engine.attention=auto"
            )
    say(f"attention: {name}" + (" (auto)" if kind == "auto" else ""))
    return WAYS[name]


def obstacle(name: str, device: torch.device, heads: Heads) -> str | None:
    """Why a way cannot be used here, or None; a kernel is tried before it is trusted."""
    if name in ("packed", "sdpa"):
        return None
    if device.type != "cuda":
        return f"it needs a GPU, and the model is on {device}"
    if name == "flash" and find_spec("flash_attn") is None:
        return "the package flash-attn is not installed (pip install 'pdtrain[gpu]')"
    if name == "flash" and heads.dtype == torch.float32:
        return "flash-attn computes in bf16 and fp16 only, and the model is fp32"
    try:
        wrong = disagreement(WAYS[name], device, heads)
    except Exception as error:  # whatever a compiler or a kernel of this GPU raises
        return f"it failed here ({type(error).__name__}: {str(error).splitlines()[0][:200]})"
    if wrong > TOLERANCE[heads.dtype]:
        return f"its numbers are off by {wrong:.1e} of the largest here"
    return None


def disagreement(attend: Attend, device: torch.device, heads: Heads) -> float:
    """The largest difference to `packed` in fp32, output and gradients, of the largest value.

    A model with a sliding window has layers without one, too; the proof's is short enough to tell.
    """
    windows = [None] if heads.window is None else [None, min(heads.window, PROOF_WINDOW)]
    return max(_disagreement(attend, device, replace(heads, window=w)) for w in windows)


def _disagreement(attend: Attend, device: torch.device, heads: Heads) -> float:
    tokens = sum(group.prefix + sum(group.branches) for group in PROOF)
    noise = torch.Generator(device).manual_seed(0)

    def random(num_heads: int) -> Tensor:
        shape = (1, num_heads, tokens, heads.size)
        return torch.randn(shape, generator=noise, device=device).to(heads.dtype)

    given = [random(heads.query), random(heads.keys), random(heads.keys)]
    upstream = random(heads.query).transpose(1, 2)
    found = _with_gradients(attend, given, upstream, heads)
    wanted = _with_gradients(packed.attention, [x.float() for x in given], upstream.float(), heads)
    return max(
        float((a.float() - b).abs().max() / b.abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


def _with_gradients(
    attend: Attend, given: list[Tensor], upstream: Tensor, heads: Heads
) -> list[Tensor]:
    query, key, value = (x.detach().requires_grad_() for x in given)
    out = attend(query, key, value, heads.size**-0.5, heads.window, PROOF)
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), upstream)]


# --- The ways ---------------------------------------------------------------------------------


@lru_cache(KEPT)
def places(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(T,) int64 each: a token's group, its branch (-1 in a prefix), its position."""
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
    """Of a token q and one k of the row: whether q sees k. FlexAttention's signature."""
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
    """(T, T) bool: which token of the row sees which."""
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
    """(1, T, H, D) by torch's own attention over the whole mask, T * T numbers a head."""
    repeats = query_1HTD.shape[1] // key_1GTD.shape[1]
    key_1HTD, value_1HTD = (x.repeat_interleave(repeats, 1) for x in (key_1GTD, value_1GTD))
    seen_TT = mask_TT(layout, window, query_1HTD.device)
    out_1HTD = functional.scaled_dot_product_attention(
        query_1HTD, key_1HTD, value_1HTD, attn_mask=seen_TT, scale=scale
    )
    return out_1HTD.transpose(1, 2)


@lru_cache(KEPT)
def _block_mask(layout: Layout, window: int | None, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    tokens = len(places(layout, device)[0])
    sees = _sees(layout, window, device)
    compiled = device.type == "cuda"  # otherwise the whole (T, T) mask is made first
    return create_block_mask(
        sees, None, None, tokens, tokens, device=str(device), _compile=compiled
    )


@lru_cache
def _flex_attention(is_compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention import flex_attention

    plain: Any = flex_attention.flex_attention
    # sizes of micro-batches differ: one kernel for all of them
    return torch.compile(plain, dynamic=True) if is_compiled else plain


def flex(
    query_1HTD: Tensor,
    key_1GTD: Tensor,
    value_1GTD: Tensor,
    scale: float,
    window: int | None,
    layout: Layout,
) -> Tensor:
    """(1, T, H, D) by FlexAttention, which leaves out blocks that no token sees."""
    device = query_1HTD.device
    out_1HTD = _flex_attention(device.type == "cuda")(
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
    """A packed row as the sequences of flash-attn, in which a branch sees its prefix too.

    Causal attention is aligned at the last tokens there, so a branch's queries alone, behind the
    keys of prefix and branch, see what they should. Prefixes are no part of more queries, but
    their keys stand once for every branch.

    Returns:
        (K,) which token's key and value stands at each place of the keys; the borders of sequences
        among queries and among keys, int32; the longest of each.
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
    """(1, T, H, D) by flash-attn's varlen kernel, the keys of a prefix laid out for each branch."""
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


WAYS: dict[str, Attend] = {
    "packed": packed.attention,
    "sdpa": sdpa,
    "flex": flex,
    "flash": flash,
}
