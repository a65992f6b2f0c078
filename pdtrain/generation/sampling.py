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


def refuse_unfit(sequences: Sequence[Sequence[int]], more: int, window: int | None) -> None:
    """Raise ValueError where a sequence is empty, or does not fit the window with more to come.

    Args:
        more: tokens that may follow each.
        window: how many tokens the model can read; None for no limit.
    """
    longest = max(map(len, sequences), default=0) + more
    if window and longest > window:
        raise ValueError(
            f"a prompt of {longest - more} tokens with {more} to come does not fit the "
            f"model's window of {window}; lower corpus.max_passage_tokens (nothing is "
            "ever truncated)"
        )
    if any(not sequence for sequence in sequences):
        raise ValueError("a prompt without any token cannot be continued")


def choose(logits_BV: Tensor, sampling: SamplingConfig, noise: list[torch.Generator]) -> list[int]:
    """Return the next token of each row: greedy at temperature 0, else after top-k and top-p.

    On a GPU the probabilities stay there: each row takes one uniform number from its generator and
    inverts its cumulative distribution, and the chosen tokens alone are copied back. On a CPU rows
    are drawn one by one with `torch.multinomial`, from the same distribution.

    Args:
        logits_BV: of B rows over V words, of any float dtype; computed on in fp32.
        noise: one generator a row, on the CPU.
    """
    if sampling.temperature == 0:
        return logits_BV.argmax(-1).tolist()
    p_BK, ids_BK = _candidates(logits_BV, sampling)
    if p_BK.device.type == "cpu":
        picks = [torch.multinomial(row, 1, generator=g) for row, g in zip(p_BK, noise, strict=True)]
        pick_B1 = torch.stack(picks)
    else:
        uniform = torch.stack([torch.rand((), dtype=torch.float64, generator=g) for g in noise])
        pick_B1 = inverse_cdf(p_BK, uniform.to(p_BK.device, non_blocking=True))
    return (pick_B1 if ids_BK is None else ids_BK.gather(-1, pick_B1))[:, 0].tolist()


def _candidates(logits_BV: Tensor, sampling: SamplingConfig) -> tuple[Tensor, Tensor | None]:
    """Return the weights of the tokens that may be drawn, and their ids; None where all may be.

    Weights are probabilities of the tempered softmax over the top-k, 0 beyond top-p, and need not
    add up to 1. They are sorted, the largest first, where top-k or top-p asks for it, and always on
    a CPU, where a draw depends on the order.
    """
    num_words, k = logits_BV.shape[-1], sampling.top_k or logits_BV.shape[-1]
    if k >= num_words and sampling.top_p >= 1 and logits_BV.device.type != "cpu":
        return (logits_BV.float() / sampling.temperature).softmax(-1), None
    top_BK, ids_BK = logits_BV.float().topk(min(k, num_words), dim=-1)
    p_BK = (top_BK / sampling.temperature).softmax(-1)
    # a token stays while the tokens before it hold less than top_p
    return p_BK.masked_fill(p_BK.cumsum(-1) - p_BK >= sampling.top_p, 0.0), ids_BK


def inverse_cdf(weights_BK: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the place in each row at which its cumulative weights pass a share of their sum.

    A place of weight 0 is never returned.

    Args:
        weights_BK: not negative, with a positive sum in each row; summed in fp64.
        uniform_B: from 0 to below 1, fp64.

    Returns:
        (B, 1) int64.
    """
    cumulated_BK = weights_BK.double().cumsum(-1)
    wanted_B1 = uniform_B[:, None] * cumulated_BK[:, -1:]
    # the first place whose cumulative weight is above what is wanted has a weight above 0
    return (cumulated_BK <= wanted_B1).sum(-1, keepdim=True).clamp(max=weights_BK.shape[-1] - 1)


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
