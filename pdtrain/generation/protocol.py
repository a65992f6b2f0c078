"""Say what an engine that generates text can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pdtrain.config import SamplingConfig
from pdtrain.generation.sampling import Completion
from pdtrain.models.chat.chat_template import Chat


class Backend(Protocol):
    """Sample completions from one model, and score texts with it where the engine can.

    Prompts and completions are token ids: no text is tokenised twice, so what was sampled is what
    is trained on.
    """

    @property
    def chat(self) -> Chat:
        """Return the model's proved chat template; any of its `stop_ids` ends a completion."""
        ...

    @property
    def window(self) -> int | None:
        """Return how many tokens the model can read; None where it has no limit."""
        ...

    @property
    def can_score(self) -> bool:
        """Return whether `log_likelihoods` works."""
        ...

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Return one completion for each prompt, in order; prompt i has a seed made of (seed, i).

        The same prompts and seed give the same completions.

        Args:
            prompts: token ids, none empty.
            stop_ids: further ids that end a completion, beside those of the chat.
            on_done: called with the number of prompts that were finished since the last call.

        Raises:
            ValueError: a prompt is empty, or does not fit the window together with
                `sampling.max_new_tokens`; nothing is ever truncated.
        """
        ...

    def log_likelihoods(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> list[float]:
        """Return the mean log-probability of each continuation after its prompt.

        Args:
            prompts: token ids, none empty.
            continuations: token ids, none empty.
            on_done: called with the number of prompts that were finished since the last call.

        Returns:
            In nats per token.

        Raises:
            ValueError: as for `sample`, or `can_score` is False.
        """
        ...


@runtime_checkable
class Guides(Protocol):
    """Say what a backend has that can hold completions to a JSON schema."""

    def guided(self, schema: dict[str, Any]) -> Backend:
        """Return a backend of the same model whose completions are JSON of this schema.

        It is the same backend where the engine turns out to be unable to do that.
        """
        ...


Inner = TypeVar("Inner", bound=Backend)


@dataclass(frozen=True)
class WrappedBackend(Generic[Inner]):
    """Be a `Backend` but for `sample`, by another one of the same model.

    Args:
        base: the backend inside.
    """

    base: Inner

    @property
    def chat(self) -> Chat:
        """Return the chat of the backend inside."""
        return self.base.chat

    @property
    def window(self) -> int | None:
        """Return how many tokens the model can read, a thought included."""
        return self.base.window

    @property
    def can_score(self) -> bool:
        """Return whether the backend inside can score."""
        return self.base.can_score

    def log_likelihoods(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        on_done: Callable[[int], object] | None = None,
    ) -> list[float]:
        """Return the mean log-probabilities, as `Backend.log_likelihoods`; nothing is thought."""
        return self.base.log_likelihoods(prompts, continuations, on_done=on_done)
