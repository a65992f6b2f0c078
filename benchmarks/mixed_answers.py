"""Answer questions with tokens of two kinds: the base's with the passage in view, and without it.

This is how MixSD makes its answers (Liu et al., arXiv 2605.16865): where some tokens come from the
base as it is, an answer stays near to what the base would say, and training on it changes less.
Each token is drawn from the base that reads the passage or, with a probability of `share`, from the
base that does not; both go on behind the same token. Answers are checked as the stage checks them.

B rows · V words: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.generation.decoding import Rows, until_stopped
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.generation.sampling import choose
from pdtrain.models.architectures import decoder_of
from pdtrain.models.attention import prefix
from pdtrain.models.chat.chat_template import Chat
from pdtrain.records import Passage
from pdtrain.synthesis import answers

Ids = tuple[int, ...]


@dataclass(frozen=True)
class PairedChat(Chat):
    """Remember for each of the teacher's prompts the same question's prompt without a passage."""

    without: dict[Ids, list[int]] = field(default_factory=dict)

    def teacher(self, passage: Passage, question: str, sentence: int = -1) -> list[int]:
        """Return the prompt of the question and the passage, as `Chat.teacher` does."""
        prompt = super().teacher(passage, question, sentence)
        self.without[tuple(prompt)] = self.student(question)
        return prompt


@dataclass(frozen=True)
class MixedBackend(HuggingFaceBackend):
    """Generate with the base that reads and the base that does not.

    Args:
        share: the probability that a token comes from the base that does not read.
    """

    share: float = 0.0

    @classmethod
    def of(cls, backend: HuggingFaceBackend, share: float) -> MixedBackend:
        """Return a backend that mixes; `backend` is of the base alone."""
        known: dict[str, Any] = {f.name: getattr(backend.chat, f.name) for f in fields(Chat)}
        return cls(backend.model, PairedChat(**known), backend.batch_size, share)

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seeds: Sequence[int],
        stops: set[int],
    ) -> list[list[int]]:
        assert isinstance(self.chat, PairedChat)
        keys, shared = self._read_prefix(prompts)
        decoder = decoder_of(self.model)
        reading = Rows(decoder, [p[shared:] for p in prompts], self._decoding, shared)
        plain = Rows(decoder, [self.chat.without[tuple(p)] for p in prompts], self._decoding)
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]

        def draw(live: list[int]) -> list[int]:
            own = [noise[i] for i in live]
            with prefix.in_view(keys):
                logits_BV = self._logits(reading.last_hidden())
            read = choose(logits_BV, sampling, own)
            said = choose(self._logits(plain.last_hidden()), sampling, own)
            is_plain = [float(torch.rand((), generator=g)) < self.share for g in own]
            return [b if no else a for a, b, no in zip(read, said, is_plain, strict=True)]

        def go_on(tokens: list[int], keep: list[int]) -> None:
            reading.go_on(tokens, keep)
            plain.go_on(tokens, keep)

        return until_stopped(len(prompts), sampling.max_new_tokens, stops, draw, go_on)


def collect(config: RunConfig, share: float) -> None:
    """Run the `answers` stage with mixed tokens; the folder says nothing of the share.

    The model in this process writes them, whatever `generation` and `model.thinking` say.

    Args:
        config: of a run whose questions are there. `answers.checks` and `answers.mark_known` do not
            hold here: a further sample would be mixed as well.
        share: the probability that a token comes from the base that does not read.
    """
    sampled = replace(config, answers=replace(config.answers, checks=0, mark_known=False))
    backend = HuggingFaceBackend.of_base(config.model, config.prompts, batch_size=128)
    answers.collect(sampled, MixedBackend.of(backend, share))
