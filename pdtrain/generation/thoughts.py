"""Let a model think before it answers, and keep the answer alone.

A completion is made in two calls. The first lets the model think up to a budget; the second goes on
behind the end of the thought, which is written for the model where the budget cut it off. So limits
and stop tokens of the caller hold for the answer, whose token ids are those that were sampled.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pdtrain.config import SamplingConfig
from pdtrain.generation.protocol import Backend, WrappedBackend
from pdtrain.generation.sampling import Completion
from pdtrain.models.chat.thinking import Thinking
from pdtrain.records import seed_for


@dataclass(frozen=True)
class ThinkingBackend(WrappedBackend[Backend]):
    """Be a `Backend` whose model thinks first; completions hold no thought.

    Args:
        base: the backend that generates; its chat's prompts let the model think.
        thinking: how a thought ends.
        budget: tokens of a thought, at most.
    """

    thinking: Thinking
    budget: int

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Return one completion for each prompt, as `Backend.sample` says, without its thought.

        A prompt that is no chat, such as the beginning of a text, is continued without a thought.

        Raises:
            ValueError: as `Backend.sample`, or a prompt leaves no room for thought and answer.
        """
        header = _common_suffix(self.chat.student("Why?"), self.chat.student("Say more."))
        asked = [i for i, one in enumerate(prompts) if list(one)[-len(header) :] == header]
        self._refuse_long([prompts[i] for i in asked], sampling)
        ready = [list(prompt) for prompt in prompts]
        thoughts = self._think([ready[i] for i in asked], sampling, seed)
        for i, thought in zip(asked, thoughts, strict=True):
            ready[i] += thought
        seed = seed_for(seed, "answer")
        return self.base.sample(ready, sampling, seed, stop_ids=stop_ids, on_done=on_done)

    def _think(
        self, prompts: list[list[int]], sampling: SamplingConfig, seed: int
    ) -> list[list[int]]:
        """Return a thought for each prompt, up to where its answer begins."""
        if not prompts:
            return []
        own = self.chat.ids(self.thinking.end)
        stops = own if len(own) == 1 else []  # a mark of several tokens is found in the text
        longer = replace(sampling, max_new_tokens=self.budget)
        done = self.base.sample(prompts, longer, seed, stop_ids=stops)
        return [self._up_to_answer(completion) for completion in done]

    def _up_to_answer(self, completion: Completion) -> list[int]:
        """Return the ids of a thought and of what stands between it and the answer.

        A reply that ended without the mark was an answer, or a thought that broke off: it is asked
        for again behind an empty thought.
        """
        chat, thinking, ids = self.chat, self.thinking, list(completion.token_ids)
        size = self._size_of_thought(ids)
        if size is not None:
            # the last token of a mark may hold the line break behind it
            written = str(chat.tokenizer.decode(ids[:size])).rpartition(thinking.end)[2]
            return [*ids[:size], *chat.ids(thinking.after.removeprefix(written))]
        if completion.finished:
            return chat.ids(thinking.skip)
        return [*ids, *chat.ids(thinking.end + thinking.after)]

    def _size_of_thought(self, ids: list[int]) -> int | None:
        """Return how many tokens a thought has, the mark that ends it included."""
        end = self.thinking.end

        def has_ended(size: int) -> bool:
            return end in self.chat.tokenizer.decode(ids[:size])

        if not has_ended(len(ids)):
            return None
        return bisect_left(range(len(ids)), True, key=has_ended)

    def _refuse_long(self, prompts: list[Sequence[int]], sampling: SamplingConfig) -> None:
        longest = max(map(len, prompts), default=0)
        more = self.budget + len(self.chat.ids(self.thinking.end + self.thinking.after))
        more += sampling.max_new_tokens
        if self.window and prompts and longest + more > self.window:
            raise ValueError(
                f"a prompt of {longest} tokens, a thought of up to {self.budget} and an answer of "
                f"up to {sampling.max_new_tokens} do not fit the model's window of {self.window}; "
                "lower model.thinking_budget or corpus.max_passage_tokens"
            )


def _common_suffix(first: Sequence[int], second: Sequence[int]) -> list[int]:
    size = 0
    while size < min(len(first), len(second)) and first[-1 - size] == second[-1 - size]:
        size += 1
    return list(first)[len(first) - size :]
