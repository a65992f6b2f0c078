"""Sample and score in batches with one Hugging Face model.

Prompts of a batch that begin alike are read once: the key-value cache of their common prefix is
computed for one row and seen by all. A row's sample depends on its own seed alone, so dividing the
batches differently changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdtrain.config import ModelConfig, PromptConfig, RunConfig, SamplingConfig
from pdtrain.generation import decoding
from pdtrain.generation.decoding import Decoding, Rows
from pdtrain.generation.sampling import Completion, choose, pad, refuse_unfit
from pdtrain.models import head
from pdtrain.models.adapters.adapter import load_adapter, trained
from pdtrain.models.adapters.lora import adapter_off
from pdtrain.models.architectures import decoder_of
from pdtrain.models.attention import prefix
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import Chat, common_prefix, prove
from pdtrain.models.head import HeadRule
from pdtrain.models.placement import load_whole
from pdtrain.records import seed_for

SHORTEST_SHARED_PREFIX = 8  # below this, a pass of its own costs more than it saves
TOKENS_WORTH_A_BATCH = 1024  # reading fewer prefix tokens twice beats decoding in smaller batches


@dataclass(frozen=True)
class HuggingFaceBackend:
    """Generate with a transformers model: a `backend.Backend` for the base, or for a student.

    Not for use inside ZeRO-3, where every token would gather the weights from all ranks.

    Args:
        model: a PreTrainedModel, or a PeftModel around one.
        batch_size: prompts that are decoded together, at most.
    """

    model: Any
    chat: Chat
    batch_size: int = 32

    @classmethod
    def of_base(
        cls, model: ModelConfig, prompts: PromptConfig, *, batch_size: int = 32
    ) -> HuggingFaceBackend:
        """Load the base alone, and prove its chat template, which may let it think.

        Raises:
            ValueError: the model cannot be loaded, or its chat template does not fit.
        """
        tokenizer = load_tokenizer(model, thinks=model.thought_tokens > 0)
        base = load_whole(model)
        chat = prove(tokenizer, prompts, base.generation_config.eos_token_id)
        return cls(base, chat, batch_size)

    @classmethod
    def of_student(
        cls, config: RunConfig, adapter: Path | None = None, *, batch_size: int = 32
    ) -> HuggingFaceBackend:
        """Load the base with a trained adapter on it.

        Args:
            adapter: its folder; by default that of the run, or of its best round.

        Raises:
            ValueError: training has not finished, or the adapter is damaged or of another model.
        """
        return cls(*load_adapter(config, adapter or trained(config)), batch_size)

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Let the base alone answer; a student's adapter is on again afterwards."""
        with adapter_off(self.model):
            yield

    @property
    def window(self) -> int | None:
        """Return how many tokens the model can read; None where its config names no limit."""
        settings = self.model.config.get_text_config()
        found: int | None = getattr(settings, "max_position_embeddings", None)
        return found

    @property
    def can_score(self) -> bool:
        """Return True: the logits are at hand."""
        return True

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Return one completion for each prompt, as `Backend.sample` says."""
        batches = self.batches(prompts)
        found = self.sample_batches(
            prompts, batches, sampling, seed, stop_ids=stop_ids, on_done=on_done
        )
        return [found[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def sample_batches(
        self,
        prompts: Sequence[Sequence[int]],
        batches: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> dict[int, Completion]:
        """Return the completions of some of the prompts, each with the seed that `sample` gives it.

        Args:
            prompts: all of them.
            batches: places of those that are wanted, as `batches` returns them.
        """
        refuse_unfit(prompts, sampling.max_new_tokens, self.window)
        stops = {*self.chat.stop_ids, *stop_ids}
        results: dict[int, Completion] = {}
        for batch in batches:
            seeds = [seed_for(seed, i) for i in batch]
            rows = self._decode([prompts[i] for i in batch], sampling, seeds, stops)
            for i, ids in zip(batch, rows, strict=True):
                finished = bool(ids) and ids[-1] in stops
                results[i] = Completion(self.chat.text(ids), tuple(ids), finished)
            if on_done:
                on_done(len(batch))
        return results

    @torch.inference_mode()
    def log_likelihoods(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> list[float]:
        """Return the mean log-probability of each continuation, in nats per token."""
        whole = [[*p, *c] for p, c in zip(prompts, continuations, strict=True)]
        refuse_unfit(whole, 0, self.window)
        results = [0.0] * len(whole)
        for batch in self.batches(prompts):
            keys, shared = self._read_prefix([prompts[i] for i in batch])
            tails = [whole[i][shared:] for i in batch]
            with prefix.in_view(keys):
                hidden_BLD = self._read(tails, shared)
            for row, i in enumerate(batch):
                # the head runs on the rows that predict the continuation, and on no others
                end, n = len(tails[row]), len(continuations[i])
                logits = self._logits(hidden_BLD[row, end - n - 1 : end - 1])
                targets = torch.tensor(continuations[i], device=logits.device)[:, None]
                log_p = logits.float().log_softmax(-1).gather(-1, targets)
                results[i] = log_p.mean().item()
            if on_done:
                on_done(len(batch))
        return results

    def _read(self, tails: Sequence[Sequence[int]], shared: int) -> Tensor:
        """Return the last hidden states (B, L, D) of branches behind `shared` prefix tokens."""
        device = self.model.device
        ids_BL, mask_BL = (x.to(device) for x in pad(tails, left=False))
        state: dict[str, Any] = {"input_ids": ids_BL, "attention_mask": mask_BL}
        decoder = decoder_of(self.model)
        if prefix.is_packed(decoder):
            state["position_ids"] = shared + (mask_BL.cumsum(1) - 1).clamp(min=0)
        hidden_BLD: Tensor = decoder(**state, use_cache=False).last_hidden_state
        return hidden_BLD

    @cached_property
    def _head_rule(self) -> HeadRule:
        is_student = hasattr(self.model, "get_base_model")
        return head.find(self.model.get_base_model() if is_student else self.model)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Return the model's logits (..., V) of hidden rows (..., D)."""
        return self._head_rule.logits(self.model.get_output_embeddings(), hidden)

    def batches(self, prompts: Sequence[Sequence[int]], largest: int = 0) -> list[list[int]]:
        """Divide the prompts, by index, into batches of neighbours that share a prefix.

        The prompts of a batch, in its order, are again one batch.

        Args:
            largest: prompts in a batch at most; 0 is `batch_size`.
        """
        largest = largest or self.batch_size

        def order(i: int) -> Any:
            key = (prompts[i][:-1], len(prompts[i]))
            return key if self._decoding.pads else (len(prompts[i]), *key)

        batches: list[list[int]] = []
        shared = 0
        for i in sorted(range(len(prompts)), key=order):
            if batches and len(batches[-1]) < largest:
                first = prompts[batches[-1][0]]
                still_shared = common_prefix([first, prompts[i]])
                is_near = (shared - still_shared) * len(batches[-1]) <= TOKENS_WORTH_A_BATCH
                if is_near and (self._decoding.pads or len(first) == len(prompts[i])):
                    batches[-1].append(i)
                    shared = min(shared, still_shared)
                    continue
            batches.append([i])
            shared = len(prompts[i])
        return batches

    def _read_prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[prefix.Keys | None, int]:
        """Return keys and values of the prompts' common prefix, and its length."""
        decoder = decoder_of(self.model)
        shared = common_prefix(prompts) if len(prompts) > 1 else 0
        if shared < SHORTEST_SHARED_PREFIX or not prefix.is_prepared(decoder):
            return None, 0
        ids = torch.tensor(list(prompts[0][:shared]), device=self.model.device)
        return prefix.read(decoder, ids), shared

    @cached_property
    def _decoding(self) -> Decoding:
        return decoding.find(decoder_of(self.model))

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seeds: Sequence[int],
        stops: set[int],
    ) -> list[list[int]]:
        """Decode until every row has stopped."""
        keys, shared = self._read_prefix(prompts)
        batch = Rows(decoder_of(self.model), [p[shared:] for p in prompts], self._decoding, shared)
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]

        def draw(live: list[int]) -> list[int]:
            with prefix.in_view(keys):
                hidden_BD = batch.last_hidden()
            return choose(self._logits(hidden_BD), sampling, [noise[i] for i in live])

        most = sampling.max_new_tokens
        return decoding.until_stopped(len(prompts), most, stops, draw, batch.go_on)
