"""Fake a backend that says what a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from support import tiny_tokenizer

from pdtrain.config import PromptConfig, SamplingConfig
from pdtrain.generation.sampling import Completion
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.records import seed_for

Reply = Callable[[str, random.Random], str]  # of the prompt's text; drawn with a seed of its own
# the last turn of `Chat.few_shot`: the sentences shown, and the answer
SHOWN = re.compile(r"user\n(.*)\nAnswer: (.*)<\|im_end\|>\n<\|im_start\|>assistant\n$")


@dataclass(frozen=True)
class Call:
    """Hold one call of `sample`; empty ones are not kept."""

    prompts: list[str]
    sampling: SamplingConfig
    seed: int


class FakeBackend:
    """Be a `Backend` without a model; completions are whole, whatever `max_new_tokens` says."""

    can_score = False

    def __init__(
        self,
        reply: Reply,
        prompts: PromptConfig | None = None,
        window: int | None = None,
        chat: Chat | None = None,
    ) -> None:
        self.chat = chat or prove(tiny_tokenizer(), prompts or PromptConfig(), None)
        self.reply, self.window = reply, window
        self.calls: list[Call] = []

    @classmethod
    def in_turn(cls, *texts: str) -> FakeBackend:
        """Say these texts one after the other, and again from the first, whatever is asked."""
        turns = cycle(texts)
        return cls(lambda *_: next(turns))

    @property
    def asked(self) -> list[str]:
        """Return all prompts of all calls."""
        return [prompt for call in self.calls for prompt in call.prompts]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        texts = [self.chat.tokenizer.decode(list(prompt)) for prompt in prompts]
        if texts:
            self.calls.append(Call(texts, sampling, seed))
        if on_done:
            on_done(len(texts))
        # a greedy completion depends on its prompt alone
        seeds = [seed_for(seed, i) if sampling.temperature else 0 for i in range(len(texts))]
        rngs = map(random.Random, seeds)
        said = [self.reply(text, rng) for text, rng in zip(texts, rngs, strict=True)]
        return [self._completion(text, stop_ids) for text in said]

    def _completion(self, text: str, stop_ids: Sequence[int]) -> Completion:
        ids = self.chat.ids(text)
        first = next((i for i, token in enumerate(ids) if token in stop_ids), None)
        ids = ids[: first + 1] if first is not None else [*ids, self.chat.stop_ids[0]]
        return Completion(self.chat.text(ids), tuple(ids), finished=True)

    def log_likelihoods(self, *_: object, **__: object) -> list[float]:
        raise ValueError("a fake backend scores nothing")


def shown_and_answer(prompt: str) -> tuple[str, str] | None:
    """Return the sentence that a prompt of the writer shows last, and the answer to ask for."""
    found = SHOWN.search(prompt)
    return (found[1], found[2]) if found else None


OPENINGS = [
    f"{a} {b}".strip() for a in ("And", "So", "Then", "Or") for b in ("", "is it", "was it")
]


def ask_well(prompt: str, rng: random.Random) -> str:
    """Return a question that passes most checks: the sentence without the answer."""
    found = shown_and_answer(prompt)
    if found is None:
        return "I am asked for no question."
    shown, answer = found
    rest = shown.replace(answer, "").rstrip(".")
    return f"{rng.choice(OPENINGS)} {' '.join(rest.split())}?"
