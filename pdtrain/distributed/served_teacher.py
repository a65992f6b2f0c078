"""Ask a server for the teacher's most probable tokens, by vLLM's `prompt_logprobs`.

What the teacher reads and the answer go out together as token ids. The server reads them once, and
says which tokens it holds likeliest in each place. Those of the answer's places are the teacher's
top-k, and the tail is what they leave. A machine that trains on the cache then needs no passage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pdkernels import TopK
from pdtrain.config import RunConfig
from pdtrain.distillation.batch import TwinBatch
from pdtrain.distillation.examples import Example, teacher_key
from pdtrain.distillation.micro_batches import Calls
from pdtrain.distillation.tokens.table import batch_order
from pdtrain.generation.endpoint import Endpoint, Refused, served
from pdtrain.processes.threads import Pool
from pdtrain.progress import say

ANSWERS_A_CALL = 256  # that are asked about together, and kept together


@dataclass(frozen=True)
class NoEngine:
    """Stand for the engine of one process that asks a server, and has no base of its own."""

    rank: int = 0
    num_ranks: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum_over_ranks(self, value: float) -> float:
        """Return the value: there is one rank."""
        return value

    def teach(self, batch: TwinBatch) -> TopK:
        """Refuse: there is no base."""
        raise AssertionError("a server was to be asked")

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class ServedTeacher:
    """Return the top-k of answers from a server; `Engine.teach` for one that is elsewhere.

    Args:
        config: names the server under `generation.server`, and k as `loss.top_k`.
        num_words: of the vocabulary.

    Raises:
        ValueError: the server cannot be used, or serves no such model.
    """

    def __init__(self, config: RunConfig, num_words: int) -> None:
        self.k, self.num_words = min(config.loss.top_k, num_words), num_words
        self.endpoint = Endpoint(config.generation.server)
        self.model, self.window = served(self.endpoint, config.generation.server.model)
        self._pool = Pool(config.generation.server.concurrent)
        say(f"teacher: {self.model} at {self.endpoint.config.url}, its {self.k} likeliest tokens")

    def __call__(self, examples: Sequence[Example]) -> TopK:
        """Return the rows of these answers, one after the other.

        Raises:
            ValueError: the server does not give log-probabilities of prompts, or reads other
                tokens than were sent.
        """
        asked = [self._pool.submit(self._one, example) for example in examples]
        try:
            return TopK.cat([future.result() for future in asked])
        finally:
            for future in asked:
                future.cancel()

    def _one(self, example: Example) -> TopK:
        ids = [*example.teacher_prompt, *example.answer]
        if self.window and len(ids) >= self.window:
            raise ValueError(
                f"an answer and what the teacher reads before it are {len(ids)} tokens, and "
                f"{self.model} reads {self.window} with one more: serve it with a larger "
                "--max-model-len, or lower corpus.max_passage_tokens"
            )
        body = {
            "model": self.model,
            "prompt": ids,
            "max_tokens": 1,  # the least that a server takes; it is thrown away
            "temperature": 0.0,
            "prompt_logprobs": self.k,
        }
        try:
            found = self.endpoint.complete(teacher_key(example), body)
        except Refused as refused:
            raise ValueError(
                f"{refused}; the teacher must be vLLM's server, started with --max-logprobs "
                f"{self.k} or more, for loss.top_k={self.k}"
            ) from None
        places = found["choices"][0].get("prompt_logprobs")
        if not isinstance(places, list) or len(places) != len(ids):
            raise ValueError(
                f"the server at {self.endpoint.config.url} gave no log-probabilities of the "
                f"{len(ids)} tokens that were sent; teacher.source=server needs vLLM's"
            )
        rows = zip(example.answer, places[len(example.teacher_prompt) :], strict=True)
        best = [self._best(token, place) for token, place in rows]
        return TopK.from_logprobs(
            torch.tensor([[token for token, _ in row] for row in best], dtype=torch.int32),
            torch.tensor([[value for _, value in row] for row in best], dtype=torch.float64),
            num_words=self.num_words,
        )

    def _best(self, token: int, place: Mapping[str, Any]) -> list[tuple[int, float]]:
        """Return the k likeliest tokens of a place with their log-probabilities, in rising order.

        A server adds the token that stands there, where it is not among them.
        """
        found = [(int(name), float(said["logprob"])) for name, said in place.items()]
        if str(token) not in place or len(found) < self.k:
            raise ValueError(
                f"the server at {self.endpoint.config.url} told {len(found)} of {self.k} tokens of "
                "a place, or not the one that was sent: it has another tokenizer than model.name"
            )
        # of equal ones the lower id, as our own teacher takes them
        best = sorted(found, key=lambda one: (-one[1], one[0]))[: self.k]
        return sorted(best)


def calls_of(examples: Sequence[Example], are_lacking: NDArray[np.bool_]) -> Calls:
    """Return the answers that are lacking, divided into calls that keep a server busy."""
    order = batch_order(examples)
    order = order[are_lacking[order]]
    starts = np.arange(0, len(order), ANSWERS_A_CALL)
    return Calls(examples, order, starts, np.minimum(starts + ANSWERS_A_CALL, len(order)))
