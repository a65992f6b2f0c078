"""A stand-in for flash-attn, which needs a GPU."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch


def varlen(q, k, v, of_q, of_k, longest_q, longest_k, **options):
    """What flash-attn documents of flash_attn_varlen_func: causal, aligned at the last tokens."""
    softmax_scale, window_size = options["softmax_scale"], options["window_size"]
    assert options["causal"] and options["deterministic"]
    assert q.is_contiguous() and of_q.dtype == of_k.dtype == torch.int32
    repeats, out = q.shape[1] // k.shape[1], []
    pairs = zip(of_q.tolist(), of_q[1:].tolist(), of_k.tolist(), of_k[1:].tolist(), strict=False)
    for a, b, c, d in pairs:
        assert b - a <= longest_q and d - c <= longest_k
        mine, keys, values = (x.transpose(0, 1) for x in (q[a:b], k[c:d], v[c:d]))
        keys, values = (x.repeat_interleave(repeats, 0) for x in (keys, values))
        distance = torch.arange(d - c - (b - a), d - c)[:, None] - torch.arange(d - c)
        left, right = window_size
        hidden = distance < 0
        if left >= 0:
            hidden = hidden | (distance > left)
        assert right in (-1, 0)
        scores = (softmax_scale * mine @ keys.mT).masked_fill(hidden, -torch.inf)
        out.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(out)


@pytest.fixture
def flash_attn(monkeypatch):
    module = ModuleType("flash_attn")
    module.__spec__ = ModuleSpec("flash_attn", None)
    module.flash_attn_varlen_func = varlen
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return module
