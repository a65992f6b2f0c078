"""Token ids in, token ids out: batched sampling and scoring with one Hugging Face model.

Prompts of a batch that begin alike are read once: the key-value cache of their common prefix is
computed for one row and seen by all. A row's sample depends on its own seed alone, so cutting the
batch differently changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pdtrain.config import SamplingConfig
from pdtrain.models.attention import prefix
from pdtrain.models.chat_template import Chat, common_prefix
from pdtrain.records import seed_for

SHORTEST_SHARED_PREFIX = 8  # below this, a pass of its own costs more than it saves
TOKENS_WORTH_A_BATCH = 1024  # reading fewer prefix tokens twice beats decoding in smaller batches


@dataclass(frozen=True)
class Completion:
    """What the model said; `token_ids` include the stop token when it was reached."""

    text: str
    token_ids: tuple[int, ...]
    finished: bool


@dataclass(frozen=True)
class Generator:
    """One model, one wrapper. Not for use inside ZeRO-3, where every token would be a gather."""

    model: Any  # a PreTrainedModel, or a PeftModel around one
    chat: Chat
    batch_size: int = 32

    @torch.inference_mode()
    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """One completion a prompt, in order. Row i samples with a seed made of (seed, i).

        Args:
            prompts: token ids, none empty.
            on_done: called with the number of prompts finished since the last call.

        Raises:
            ValueError: a prompt is empty, or does not fit the model's window together with
                `sampling.max_new_tokens`; nothing is ever truncated.
        """
        self._check(prompts, sampling.max_new_tokens)
        results: dict[int, Completion] = {}
        for batch in self._batches(prompts):
            seeds = [seed_for(seed, i) for i in batch]
            rows = self._sample([prompts[i] for i in batch], sampling, seeds)
            for i, ids in zip(batch, rows, strict=True):
                finished = bool(ids) and ids[-1] in self.chat.stop_ids
                results[i] = Completion(self.chat.text(ids), tuple(ids), finished)
            if on_done:
                on_done(len(batch))
        return [results[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def log_likelihoods(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        on_done: Callable[[int], object] | None = None,
    ) -> list[float]:
        """Mean log-probability, in nats per token, of each continuation after its prompt."""
        whole = [[*p, *c] for p, c in zip(prompts, continuations, strict=True)]
        self._check(whole, 0)
        results = [0.0] * len(whole)
        for batch in self._batches(prompts):
            keys, shared = self._read_prefix([prompts[i] for i in batch])
            tails = [whole[i][shared:] for i in batch]
            state = self._state(*pad(tails, left=False), shared)
            with prefix.in_view(keys):
                hidden_BLD = self.model.get_decoder()(**state).last_hidden_state
            for row, i in enumerate(batch):
                # the head runs on the rows that predict the continuation, and on no others
                end, n = len(tails[row]), len(continuations[i])
                logits = self.model.get_output_embeddings()(hidden_BLD[row, end - n - 1 : end - 1])
                targets = torch.tensor(continuations[i], device=logits.device)[:, None]
                log_p = logits.float().log_softmax(-1).gather(-1, targets)
                results[i] = log_p.mean().item()
            if on_done:
                on_done(len(batch))
        return results

    def _check(self, sequences: Sequence[Sequence[int]], more: int) -> None:
        window = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(map(len, sequences), default=0) + more
        if window and longest > window:
            raise ValueError(
                f"a prompt of {longest - more} tokens with {more} to come does not fit the "
                f"model's window of {window}; lower corpus.max_passage_tokens (nothing is ever "
                "truncated)"
            )
        if any(not sequence for sequence in sequences):
            raise ValueError("a prompt without any token cannot be continued")

    def _batches(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Indices in batches of neighbours that begin alike, so that their prefix can be shared."""
        batches: list[list[int]] = []
        shared = 0
        for i in sorted(range(len(prompts)), key=lambda i: (prompts[i][:-1], len(prompts[i]))):
            if batches and len(batches[-1]) < self.batch_size:
                first = prompts[batches[-1][0]]
                still_shared = common_prefix([first, prompts[i]])
                if (shared - still_shared) * len(batches[-1]) <= TOKENS_WORTH_A_BATCH:
                    batches[-1].append(i)
                    shared = min(shared, still_shared)
                    continue
            batches.append([i])
            shared = len(prompts[i])
        return batches

    def _read_prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[prefix.Keys | None, int]:
        """Keys and values of the prompts' common prefix, and its length."""
        decoder = self.model.get_decoder()
        shared = common_prefix(prompts) if len(prompts) > 1 else 0
        if shared < SHORTEST_SHARED_PREFIX or not prefix.is_prepared(decoder):
            return None, 0
        ids = torch.tensor(list(prompts[0][:shared]), device=self.model.device)
        return prefix.read(decoder, ids), shared

    def _cache_argument(self) -> str:
        return prefix.cache_argument(self.model.get_decoder())

    def _state(self, ids_BL: Tensor, mask_BL: Tensor, shared: int) -> dict:
        """Arguments of the decoder for branches behind `shared` prefix tokens."""
        device = self.model.device
        return {
            "input_ids": ids_BL.to(device),
            "attention_mask": mask_BL.to(device),
            "position_ids": shared + (mask_BL.cumsum(1) - 1).clamp(min=0).to(device),
            self._cache_argument(): DynamicCache(config=self.model.config),
            "use_cache": True,
        }

    def _sample(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, seeds: Sequence[int]
    ) -> list[list[int]]:
        """Decode until every row has stopped; a row that stopped leaves the batch at once."""
        decoder, head = self.model.get_decoder(), self.model.get_output_embeddings()
        keys, shared = self._read_prefix(prompts)
        state = self._state(*pad([p[shared:] for p in prompts], left=True), shared)
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        rows: list[list[int]] = [[] for _ in prompts]
        live = list(range(len(prompts)))
        for _ in range(sampling.max_new_tokens):
            with prefix.in_view(keys):
                hidden_BD = decoder(**state).last_hidden_state[:, -1]
            tokens = choose(head(hidden_BD), sampling, [noise[i] for i in live])
            for i, token in zip(live, tokens, strict=True):
                rows[i].append(token)
            keep = [b for b, token in enumerate(tokens) if token not in self.chat.stop_ids]
            if not keep:
                break
            state = self._next_state(state, tokens, keep)
            live = [live[b] for b in keep]
        return rows

    def _next_state(self, state: dict, tokens: list[int], keep: list[int]) -> dict:
        device = self.model.device
        index = torch.tensor(keep, device=device)
        if len(keep) < len(tokens):
            state[self._cache_argument()].batch_select_indices(index)
        mask = state["attention_mask"][index]
        return state | {
            "input_ids": torch.tensor([[tokens[b]] for b in keep], device=device),
            "attention_mask": torch.cat([mask, mask.new_ones(len(keep), 1)], 1),
            "position_ids": state["position_ids"][index, -1:] + 1,
        }


def choose(logits_BV: Tensor, sampling: SamplingConfig, noise: list[torch.Generator]) -> list[int]:
    """The next token of each row: greedy at temperature 0, else sampled after top-k and top-p."""
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
    """Token ids (B, L) int64 and their mask (B, L) int64: 1 where a token is real."""
    length = max(map(len, sequences))
    ids = torch.zeros(len(sequences), length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        where = slice(length - len(sequence), None) if left else slice(0, len(sequence))
        ids[row, where] = torch.tensor(list(sequence), dtype=torch.int64)
        mask[row, where] = 1
    return ids, mask
