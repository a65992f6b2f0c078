"""Choose the attention backend of packed rows: the one asked for, or what works on this machine.

`auto` takes the first of flash, flex and packed that gives the numbers of `packed`, value and
gradient, on this machine, and says which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
from torch import Tensor

from pdtrain.errors import how_to_install
from pdtrain.models.attention import packed
from pdtrain.models.attention.backends import BACKENDS
from pdtrain.models.attention.packed import Attend, Group, Layout
from pdtrain.progress import say

# what is compared on the GPU before training: two passages, a group without one, odd lengths
PROOF: Layout = (Group(37, (5, 19)), Group(0, (11, 3)), Group(150, (1, 40)))
PROOF_WINDOW = 48
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Heads:
    """Hold what of a model decides whether a backend works."""

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
    examine: Callable[[str, torch.device, Heads], str | None] | None = None,
) -> Attend:
    """Return the attention to use, the same on every rank, and say which it is.

    Args:
        kind: `engine.attention`.
        gathered: returns a value of every rank. All ranks call it equally often.
        examine: returns why a backend cannot be used on this rank; `obstacle` by default.

    Raises:
        ValueError: on every rank, where a backend that was asked for by name fails on one of them.
    """
    examine = examine or obstacle

    def obstacle_anywhere(name: str) -> str:
        return next(filter(None, gathered(examine(name, device, heads) or "")), "")

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
    return BACKENDS[name]


def obstacle(name: str, device: torch.device, heads: Heads) -> str | None:
    """Return why a backend cannot be used here, or None; a kernel is tried before it is trusted."""
    if name in ("packed", "sdpa"):
        return None
    if device.type != "cuda":
        return f"it needs a GPU, and the model is on {device}"
    if name == "flash" and find_spec("flash_attn") is None:
        return f"the package flash-attn is not installed ({how_to_install('gpu')})"
    if name == "flash" and heads.dtype == torch.float32:
        return "flash-attn computes in bf16 and fp16 only, and the model is fp32"
    return failure(BACKENDS[name], device, heads)


def failure(attend: Attend, device: torch.device, heads: Heads) -> str | None:
    """Try a kernel on this device, and return what is wrong with it, or None."""
    try:
        wrong = disagreement(attend, device, heads)
    except Exception as error:  # whatever a compiler or a kernel of this GPU raises
        return (
            f"it failed here ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]})"
        )
    if not wrong <= TOLERANCE[heads.dtype]:  # also where it is not a number
        return f"its numbers are off by {wrong:.1e} of the largest here"
    return None


def disagreement(attend: Attend, device: torch.device, heads: Heads) -> float:
    """Return the largest difference to `packed` in fp32 as a share of the largest value.

    Output and gradients are compared. A model with a sliding window may also have layers without
    one, so both are tried; the window is cut to one that is shorter than the rows compared.
    """
    windows = [None] if heads.window is None else [None, min(heads.window, PROOF_WINDOW)]
    return _largest(_disagreement(attend, device, replace(heads, window=w)) for w in windows)


def _largest(values: Iterable[float]) -> float:
    """Return the largest value; NaN where one is, which `max` may pass over."""
    found = list(values)
    return math.nan if any(map(math.isnan, found)) else max(found)


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
    return _largest(
        float((a.float() - b).abs().max() / b.abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


def _with_gradients(
    attend: Attend, given: list[Tensor], upstream: Tensor, heads: Heads
) -> list[Tensor]:
    query, key, value = (x.detach().requires_grad_() for x in given)
    out = attend(query, key, value, heads.size**-0.5, heads.window, PROOF)
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), upstream)]
