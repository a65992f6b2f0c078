"""Choose next tokens from logits, put sequences into batches, and hold what was sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pdtrain.config import SamplingConfig


@dataclass(frozen=True)
class Completion:
    """Hold what the model said; `token_ids` include the token that ended it, if one did."""

    text: str
    token_ids: tuple[int, ...]
    finished: bool  # the model ended it; False when the limit of tokens cut it


def choose(logits_BV: Tensor, sampling: SamplingConfig, noise: list[torch.Generator]) -> list[int]:
    """Return the next token of each row: greedy at temperature 0, else after top-k and top-p.

    Args:
        logits_BV: of B rows over V words, of any float dtype; computed on in fp32.
        noise: one generator a row, on the CPU.
    """
    if sampling.temperature == 0:
        return logits_BV.argmax(-1).tolist()
    k = sampling.top_k or logits_BV.shape[-1]
    top, ids = logits_BV.float().topk(min(k, logits_BV.shape[-1]), dim=-1)
    p = (top / sampling.temperature).softmax(-1).cpu()
    # a token stays while the tokens before it hold less than top_p
    p = p.masked_fill(p.cumsum(-1) - p >= sampling.top_p, 0.0)
    picks = [torch.multinomial(row, 1, generator=g) for row, g in zip(p, noise, strict=True)]
    return ids.cpu().gather(-1, torch.stack(picks))[:, 0].tolist()


def pad(sequences: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
    """Return token ids (B, L) int64 and their mask (B, L) int64: 1 where a token is real."""
    length = max(map(len, sequences))
    ids = torch.zeros(len(sequences), length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        where = slice(length - len(sequence), None) if left else slice(0, len(sequence))
        ids[row, where] = torch.tensor(list(sequence), dtype=torch.int64)
        mask[row, where] = 1
    return ids, mask
