"""Find out how a decoder continues a batch of prompts rightly: with what padding, mask and cache.

A batch is padded on the left, so that its rows end together. That suits attention, whose mask
hides the padding, and many recurrent layers, which set padded tokens to zero; some models mix in
what the padding left behind, or take a mask wrongly beside a cache. No list of names tells which.
A decoder is therefore given two short prompts of different lengths, and taken the first way that
gives the hidden states of each prompt alone, without a cache.

B rows · L tokens of a row · D hidden size: suffixes name dimensions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pdtrain.generation.sampling import pad
from pdtrain.models.attention import prefix

PROMPTS = ((5, 6, 7, 8, 9, 10, 11, 12, 13), (14, 15, 16, 17, 18))  # of any two lengths
NEXT = ((19, 20), (21, 22), (23, 24))  # tokens that follow, of both prompts
# the largest error that is rounding, as a share of the hidden states' norm
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


@dataclass(frozen=True, slots=True)
class Decoding:
    """Say how a batch is continued.

    Args:
        pads: prompts of different lengths share a batch, padded on the left.
        keeps_mask: the mask of the prompts is given with every later token, too.
        caches: what was read is kept; without it the whole row is read again for every token.
    """

    pads: bool = True
    keeps_mask: bool = True
    caches: bool = True


WAYS = (
    Decoding(),
    Decoding(keeps_mask=False),
    Decoding(pads=False, keeps_mask=False),
    Decoding(pads=False, keeps_mask=False, caches=False),
)


class Rows:
    """Hold the rows of a batch while they are continued.

    Args:
        decoder: a model without its head.
        prompts: token ids; of equal lengths unless the way pads.
        way: how they are continued.
        shared: how many tokens of a common prefix were read before.
    """

    def __init__(
        self, decoder: Any, prompts: Sequence[Sequence[int]], way: Decoding, shared: int = 0
    ) -> None:
        self.decoder, self.way = decoder, way
        device = decoder.get_input_embeddings().weight.device
        ids_BL, mask_BL = pad(prompts, left=True)
        self.ids_BL, self.mask_BL = ids_BL.to(device), mask_BL.to(device)
        self.positions_BL = shared + (mask_BL.cumsum(1) - 1).clamp(min=0).to(device)
        self.cache = DynamicCache(config=decoder.config) if way.caches else None
        self.unread = self.ids_BL.shape[1]
        known = inspect.signature(decoder.forward).parameters
        self.takes_positions = way.pads and "position_ids" in known

    def last_hidden(self) -> Tensor:
        """Read what is not read yet, and return the last hidden state of each row, (B, D)."""
        options: dict[str, Any] = {"input_ids": self.ids_BL[:, -self.unread :]}
        is_first = self.unread == self.ids_BL.shape[1]
        if self.cache is not None:
            options |= {prefix.cache_argument(self.decoder): self.cache, "use_cache": True}
        else:
            options["use_cache"] = False
        if is_first or self.way.keeps_mask:
            options["attention_mask"] = self.mask_BL
        if self.takes_positions:
            options["position_ids"] = self.positions_BL[:, -self.unread :]
        hidden_BD: Tensor = self.decoder(**options).last_hidden_state[:, -1]
        return hidden_BD

    def go_on(self, tokens: Sequence[int], keep: Sequence[int]) -> None:
        """Append a token to each row, and keep the rows of these numbers alone."""
        index = torch.tensor(list(keep))  # on the CPU: layers' keys may be on several GPUs
        if len(keep) < len(tokens) and self.cache is not None:
            keep_rows(self.cache, index)
        index = index.to(self.ids_BL.device)
        last_B1 = torch.tensor([[tokens[b]] for b in keep], device=self.ids_BL.device)
        mask_BL, positions_BL = self.mask_BL[index], self.positions_BL[index]
        self.ids_BL = torch.cat([self.ids_BL[index], last_B1], 1)
        self.mask_BL = torch.cat([mask_BL, mask_BL.new_ones(len(keep), 1)], 1)
        self.positions_BL = torch.cat([positions_BL, positions_BL[:, -1:] + 1], 1)
        self.unread = 1 if self.way.caches else self.ids_BL.shape[1]


def until_stopped(
    num_rows: int,
    most: int,
    stops: Set[int],
    draw: Callable[[list[int]], list[int]],
    go_on: Callable[[list[int], list[int]], None],
) -> list[list[int]]:
    """Return the tokens of each row; a row that stopped leaves the batch at once.

    Args:
        num_rows: rows of the batch.
        most: tokens of a row.
        stops: tokens that end a row.
        draw: returns the next token of each of the rows that go on, given their numbers.
        go_on: is given these tokens, and the places among them of the rows that still go on.
    """
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    live = list(range(num_rows))
    for _ in range(most):
        tokens = draw(live)
        for i, token in zip(live, tokens, strict=True):
            rows[i].append(token)
        keep = [b for b, token in enumerate(tokens) if token not in stops]
        if not keep:
            break
        go_on(tokens, keep)
        live = [live[b] for b in keep]
    return rows


def keep_rows(cache: Any, index: Tensor) -> None:
    """Keep these rows of a batch in a cache, of keys and values and of recurrent states alike."""
    for layer in cache.layers:
        if hasattr(layer, "recurrent_states"):  # its batch_select_indices leaves states out
            layer.reorder_cache(index)
        else:
            layer.batch_select_indices(index)


@torch.no_grad()
def find(decoder: Any) -> Decoding:
    """Return the first of WAYS that a decoder continues a batch rightly with.

    A decoder of packed rows needs no proof: tests compare each of these architectures.
    """
    if prefix.is_packed(decoder):
        return WAYS[0]
    wanted = _alone(decoder)
    for way in WAYS[:-1]:
        try:
            found = _continued(decoder, way)
        except Exception:  # whatever a model's own code raises over what it does not know
            continue
        if _agree(found, wanted if way.pads else [wanted[0]] * 2):
            return way
    return WAYS[-1]


def _alone(decoder: Any) -> list[Tensor]:
    """Return the hidden states at the last prompt token and after, (4, D), of each prompt."""
    found = []
    for row, prompt in enumerate(PROMPTS):
        ids = [*prompt, *(tokens[row] for tokens in NEXT)]
        device = decoder.get_input_embeddings().weight.device
        hidden_1LD = decoder(
            input_ids=torch.tensor([ids], device=device), use_cache=False
        ).last_hidden_state
        found.append(hidden_1LD[0, len(prompt) - 1 :])
    return found


def _continued(decoder: Any, way: Decoding) -> list[Tensor]:
    """Return the same of a batch in which the first row stops one token before the other."""
    chosen = range(len(PROMPTS)) if way.pads else [0, 0]
    prompts = [PROMPTS[row] for row in chosen]
    rows = Rows(decoder, prompts, way)
    found: list[list[Tensor]] = [[] for _ in prompts]
    live = list(range(len(prompts)))
    for step in range(len(NEXT) + 1):
        for number, hidden_D in zip(live, rows.last_hidden(), strict=True):
            found[number].append(hidden_D)
        if step < len(NEXT):
            tokens = [NEXT[step][chosen[number]] for number in live]
            keep = [1] if step == len(NEXT) - 1 else [0, 1]
            rows.go_on(tokens, keep)
            live = [live[b] for b in keep]
    return [torch.stack(own) for own in found]


def _agree(found: list[Tensor], wanted: list[Tensor]) -> bool:
    tolerance = TOLERANCE[wanted[0].dtype]
    return all(
        bool((mine - one[: len(mine)]).norm() <= tolerance * one[: len(mine)].norm())
        for mine, one in zip(found, wanted, strict=True)
    )
