"""Attend to a prefix that all branches of a batch share, without a copy for each.

The keys and values of the prefix are kept once. One matrix product multiplies the queries of all
branches with them, another one with the branches' own keys, and the two parts of the softmax are
joined by their log-sum-exp. Up to rounding, the result is that of attention over prefix + branch.

The function is registered with transformers under `NAME`. Without a prefix or a packed row in view
it is plain SDPA.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pdtrain.models import architectures
from pdtrain.models.attention import packed

NAME = "pdtrain_shared_prefix"
OLD_NAME = "past_key_values"
Keys = list[tuple[Tensor, Tensor]]  # by layer, each (1, key-value heads, P, head size)
_in_view: ContextVar[Keys | None] = ContextVar("prefix", default=None)


def shares(config: Any) -> bool:
    """Return whether a prefix can be shared: a known architecture with full attention alone."""
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return architectures.obstacle(config) is None and kinds == {"full_attention"} and not window


def prepare(model: PreTrainedModel, batching: str = "auto") -> PreTrainedModel:
    """Register our attention with a model whose batches are packed, and return the model.

    Args:
        batching: `model.batching`.

    Raises:
        ValueError: packed batches are asked for, and would be wrong.
    """
    if architectures.is_packed(model.config, batching):
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return model


def keep_out_of_graphs() -> None:
    """Let torch.compile leave our attention as it is, wherever it is called from.

    What it does depends on the layout of a packed row, of which each micro-batch has its own.
    """
    AttentionInterface.register(NAME, torch.compiler.disable(attention))


def is_prepared(decoder: nn.Module) -> bool:
    """Return whether a prefix can be put in the decoder's view."""
    return is_packed(decoder) and shares(decoder.config)


def is_packed(decoder: nn.Module) -> bool:
    """Return whether the decoder takes packed rows: whether our attention is registered with it."""
    # transformers says under no public name which attention is set
    return getattr(decoder.config, "_attn_implementation", None) == NAME


def cache_argument(decoder: nn.Module) -> str:
    """Return what the decoder's forward calls its cache: `cache` from transformers 5.24 on."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else OLD_NAME


def read(decoder: Any, ids_P: Tensor) -> Keys:
    """Compute the keys and values of a prefix, (P,) int64, layer by layer."""
    cache = DynamicCache(config=decoder.config)
    decoder(input_ids=ids_P[None], use_cache=True, **{cache_argument(decoder): cache})
    layers: list[Any] = list(cache.layers)
    return [(layer.keys, layer.values) for layer in layers]


@contextmanager
def in_view(keys: Keys | None) -> Iterator[None]:
    """Let forward passes inside attend to the prefix before their own tokens; None for no prefix.

    The caller gives positions that count on from the prefix, and masks over its own tokens alone.
    """
    token = _in_view.set(keys)
    try:
        yield
    finally:
        _in_view.reset(token)


def attention(
    module: nn.Module,
    query_BHLD: Tensor,
    key_BGSD: Tensor,
    value_BGSD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the attention of H query heads over G key-value heads, (B, L, H, D).

    The signature is that of transformers' attention interface.

    B branches · L queries and S keys of a branch · P prefix tokens · M query heads a key head.
    """
    if row := packed.row_in_view():
        layout, attend = row
        architectures.refuse_unknown(options)
        scale = query_BHLD.shape[-1] ** -0.5 if scaling is None else scaling
        window = options.get("sliding_window")
        return attend(query_BHLD, key_BGSD, value_BGSD, scale, window, layout), None
    keys = _in_view.get()
    if keys is None:
        return sdpa_attention_forward(
            module, query_BHLD, key_BGSD, value_BGSD, attention_mask, dropout, scaling, **options
        )
    prefix_key, prefix_value = (part[0] for part in keys[module.layer_idx])  # type: ignore[index]
    B, H, L, D = query_BHLD.shape
    G, S = key_BGSD.shape[1:3]
    M = H // G
    scale = D**-0.5 if scaling is None else scaling
    query_BGMLD = (query_BHLD * scale).view(B, G, M, L, D)
    query_GRD = query_BGMLD.transpose(0, 1).reshape(G, B * M * L, D)
    at_least_fp32 = torch.promote_types(query_BHLD.dtype, torch.float32)
    far = (query_GRD @ prefix_key.mT).to(at_least_fp32)  # (G, B·M·L, P)
    near = (query_BGMLD.reshape(B, G, M * L, D) @ key_BGSD.mT).view(B, G, M, L, S)
    near = near.to(at_least_fp32)
    near = near.masked_fill(~_visible(attention_mask, L, S, near.device), -torch.inf)
    far_lse = far.logsumexp(-1).view(G, B, M, L).transpose(0, 1)
    lse = torch.logaddexp(far_lse, near.logsumexp(-1))  # a prefix token is always visible
    far_p = (far - lse.transpose(0, 1).reshape(G, -1, 1)).exp_().to(query_BHLD.dtype)
    near_p = (near - lse[..., None]).exp_().to(query_BHLD.dtype)
    out = (far_p @ prefix_value).view(G, B, M, L, D).transpose(0, 1)
    out = out + (near_p.view(B, G, M * L, S) @ value_BGSD).view(B, G, M, L, D)
    return out.reshape(B, H, L, D).transpose(1, 2).contiguous(), None


def _visible(mask: Tensor | None, length: int, seen: int, device: torch.device) -> Tensor:
    """Return which of a branch's own keys each query sees, broadcastable to (B, G, M, L, S)."""
    if mask is not None:
        return (mask if mask.dtype == torch.bool else mask == 0)[:, :, None]
    ones = torch.ones(length, seen, dtype=torch.bool, device=device)
    return ones.tril(seen - length)
