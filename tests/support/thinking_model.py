"""Stand in for a model that thinks before it answers, wherever its prompt lets it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fake_backend import FakeBackend, Reply

from pdtrain.config import SamplingConfig
from pdtrain.generation.sampling import Completion
from pdtrain.models.chat.chat_template import Chat

THOUGHT = (
    "Okay, the user wants me to look at the text and be short. Let me see what it says, step by "
    "step. First I read it again and find the part that matters."
)


class ThinkingModel(FakeBackend):
    """Write a thought before every reply unless the prompt ends with one that has ended.

    Completions are cut at `max_new_tokens`, and at `stop_ids`.

    Args:
        reply: what is said after the thought.
        opening: what begins a thought; left out where the prompt ends with it.
        ending: what ends one.
        silent: ends of prompts behind which it does not think; none where it cannot be silenced.
    """

    def __init__(
        self,
        reply: Reply,
        chat: Chat,
        opening: str = "<think>\n",
        ending: str = "\n</think>\n\n",
        silent: Sequence[str] = ("</think>\n\n",),
    ) -> None:
        super().__init__(self._with_thought, chat=chat)
        self.say, self.opening, self.ending, self.silent = reply, opening, ending, tuple(silent)

    def _with_thought(self, prompt: str, rng: random.Random) -> str:
        said = self.say(prompt, rng)
        if self.silent and prompt.endswith(self.silent):
            return said
        opening = "" if prompt.endswith(self.opening) else self.opening
        return f"{opening}{THOUGHT}{self.ending}{said}"

    def sample(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, seed: int, **rest: Any
    ) -> list[Completion]:
        done = super().sample(prompts, sampling, seed, **rest)
        return [self._cut(completion, sampling.max_new_tokens) for completion in done]

    def _cut(self, whole: Completion, most: int) -> Completion:
        ids = whole.token_ids[:most]
        return Completion(self.chat.text(ids), ids, len(whole.token_ids) <= most)
