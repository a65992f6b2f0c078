"""Sample completions from a server with OpenAI's completions, many requests at the same time.

A prompt is sent as token ids, and completions come back as token ids, where the server can do that
(vLLM can): then nothing is tokenised twice. Otherwise prompts or completions are text. A prompt as
text is only sent where it is tokenised to the same ids here, and a completion as text is tokenised
here, which the stage's manifest counts. What the server can do is found out by one short request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.generation import ledger
from pdtrain.generation.endpoint import Endpoint, Refused, served
from pdtrain.generation.ledger import Usage
from pdtrain.generation.sampling import Completion, refuse_unfit
from pdtrain.models.base import end_ids, load_tokenizer, window
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.processes.threads import Pool
from pdtrain.processes.workers import UnitFailed
from pdtrain.progress import say, warn
from pdtrain.records import content_id, seed_for

SEEDS = 2**31  # a server may hold a seed in 32 bits, one of them for the sign
UNFINISHED = " \ufffd"  # what the text of half a letter ends in
PROBE = SamplingConfig(temperature=0, max_new_tokens=8)
# what only a server that holds completions to a schema answers to "Say yes."
PROBED_SCHEMA = {"type": "array", "items": {"enum": [7]}, "minItems": 1, "maxItems": 1}


@dataclass(frozen=True)
class Dialect:
    """Say what a server can do.

    Args:
        takes_ids: a prompt may be token ids.
        knows_more: it takes vLLM's fields beside OpenAI's, such as `top_k` and `stop_token_ids`.
        gives_ids: a completion comes with its token ids.
    """

    takes_ids: bool = True
    knows_more: bool = True
    gives_ids: bool = True


DIALECTS = tuple(Dialect(ids, more) for ids in (True, False) for more in (True, False))


@dataclass(frozen=True)
class ServerBackend:
    """Be a `backend.Backend` whose base is behind a server; several threads may ask it.

    Args:
        model: the base's name on the server.
        schema: of JSON that completions are held to; None where they may be any text.
    """

    endpoint: Endpoint
    model: str
    chat: Chat
    window: int | None
    dialect: Dialect = Dialect()
    schema: dict[str, Any] | None = None
    _pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pool", Pool(self.endpoint.config.concurrent))

    @classmethod
    def of_base(cls, config: RunConfig, adapter: str = "") -> ServerBackend:
        """Prove the base's chat template, and find out what the server can do; loads no weights.

        Args:
            adapter: the name on the server of an adapter that answers in the base's place; it does
                not think.

        Raises:
            ValueError: the server cannot be used, serves no such model, or reads prompts otherwise.
        """
        thinks = config.model.thought_tokens > 0 and not adapter
        tokenizer = load_tokenizer(config.model, thinks=thinks)
        chat = prove(tokenizer, config.prompts, end_ids(config.model))
        endpoint = Endpoint(config.generation.server)
        model, longest = served(endpoint, adapter or config.generation.server.model)
        limits = [size for size in (window(config.model), longest) if size]
        base = cls(endpoint, model, chat, min(limits, default=None))
        found = base.probed()
        sent, back = (
            "token ids" if is_ids else "text"
            for is_ids in (found.dialect.takes_ids, found.dialect.gives_ids)
        )
        say(f"server: {model} at {endpoint.config.url} takes {sent} and gives {back}")
        if not found.dialect.knows_more:
            warn("server: it takes OpenAI's fields alone, so that top_k has no effect")
        return found

    @property
    def can_score(self) -> bool:
        """Return False: the server is asked for completions alone."""
        return False

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Return one completion for each prompt, as `Backend.sample` says.

        Raises:
            UnitFailed: some prompts have none, after all attempts; the others' are kept.
            ValueError: as for `Backend.sample`, or the server takes no request at all.
        """
        refuse_unfit(prompts, sampling.max_new_tokens, self.window)
        stops = tuple(dict.fromkeys([*self.chat.stop_ids, *stop_ids]))
        places: dict[Future[Any], int] = {}
        for i, prompt in enumerate(prompts):
            one = self._pool.submit(self._one, tuple(prompt), sampling, seed_for(seed, i), stops)
            places[one] = i
        results: dict[int, Completion] = {}
        failed: list[UnitFailed] = []
        try:
            for future in as_completed(places):
                try:
                    results[places[future]] = future.result()
                except UnitFailed as failure:
                    failed.append(failure)
                if on_done:
                    on_done(1)
        finally:
            for future in places:
                future.cancel()
        if failed:
            more = f" (and {len(failed) - 1} more requests)" if len(failed) > 1 else ""
            raise UnitFailed(f"{failed[0]}{more}")
        return [results[i] for i in range(len(prompts))]

    def guided(self, schema: dict[str, Any]) -> ServerBackend:
        """Return this backend with completions that are JSON of a schema, if the server can."""
        return self._with_schema(schema) if self._can_guide else self

    def _with_schema(self, schema: dict[str, Any]) -> ServerBackend:
        found = copy(self)  # with the same threads
        object.__setattr__(found, "schema", schema)
        return found

    @cached_property
    def _can_guide(self) -> bool:
        """Return whether the server holds completions to a schema: some take one and do not."""
        prompt, one = self.chat.student("Say yes."), self._with_schema(PROBED_SCHEMA)
        try:
            found = self.endpoint.complete(
                "probe", one.body_of(prompt, PROBE, 0, self.chat.stop_ids, self.dialect)
            )
            can = json.loads(found["choices"][0]["text"]) == [7]
        except (Refused, ValueError):
            can = False
        said = "holds completions to a JSON schema" if can else "knows no JSON schemas"
        say(f"server: {self.model} {said}")
        return can

    def log_likelihoods(self, *_: object, **__: object) -> list[float]:
        """Refuse: `can_score` is False."""
        raise ValueError("a server scores no texts; set generation.backend=huggingface")

    def probed(self) -> ServerBackend:
        """Return this backend with what the server can do, found out by one short request.

        Raises:
            ValueError: the server takes a request in no form, or reads other tokens than we do.
        """
        prompt = self.chat.student("Say yes.")
        for dialect in DIALECTS:
            body = self.body_of(prompt, PROBE, 0, self.chat.stop_ids, dialect)
            try:
                found = self.endpoint.complete("probe", body)
            except Refused as refusal:
                reason = refusal
                continue
            choice = found["choices"][0]
            self._check_tokenizer(prompt, found)
            gives_ids = choice.get("token_ids") is not None
            known = Dialect(dialect.takes_ids, dialect.knows_more, gives_ids)
            return ServerBackend(self.endpoint, self.model, self.chat, self.window, known)
        raise ValueError(f"{reason}; pdtrain needs a server with /v1/completions")

    def _check_tokenizer(self, prompt: Sequence[int], found: Mapping[str, Any]) -> None:
        choice, counted = found["choices"][0], Usage.of_reply(found).prompt_tokens
        if counted and counted != len(prompt):
            raise ValueError(
                f"the server at {self.endpoint.config.url} read {counted} tokens where "
                f"{len(prompt)} were sent: it has another tokenizer than model.name, or adds tokens"
            )
        ids = choice.get("token_ids")
        # a server may hold back a letter that is not whole yet
        said = choice["text"].strip().rstrip(UNFINISHED)
        if ids is not None and self.chat.text(ids).rstrip(UNFINISHED) != said:
            raise ValueError(
                f"the server at {self.endpoint.config.url} writes other texts for its token ids "
                f"than the tokenizer of model.name does: {self.model} is another model"
            )

    def body_of(
        self,
        prompt: Sequence[int],
        sampling: SamplingConfig,
        seed: int,
        stops: Sequence[int],
        dialect: Dialect,
    ) -> dict[str, Any]:
        """Return the fields of a request."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": list(prompt) if dialect.takes_ids else self._as_text(prompt),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed % SEEDS,
        }
        if dialect.knows_more:  # what a server would otherwise take from the model's own settings
            body |= {
                "top_k": sampling.top_k or -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "stop_token_ids": list(stops),
                "return_token_ids": True,
            }
        if self.schema:
            shape = {"name": "reply", "schema": self.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        return body

    def _as_text(self, prompt: Sequence[int]) -> str:
        """Return a text that a server tokenises to this prompt.

        A server writes the tokens before a text that the tokenizer writes there, such as the
        beginning of a sequence, which a chat template may have written too: they are left out.
        """
        tokenizer, ids = self.chat.tokenizer, list(prompt)
        for first in (0, 1):
            text = str(tokenizer.decode(ids[first:]))
            if tokenizer(text)["input_ids"] == ids:
                return text
        raise UnitFailed(
            "a prompt is not tokenised to the same tokens again, and the server at "
            f"{self.endpoint.config.url} takes text alone; use a server that takes token ids"
        )

    def _one(
        self, prompt: tuple[int, ...], sampling: SamplingConfig, seed: int, stops: tuple[int, ...]
    ) -> Completion:
        """Return the completion of one prompt: the one that is written down, if there is one."""
        body = self.body_of(prompt, sampling, seed, stops, self.dialect)
        name = content_id(self.model, prompt, *body.items(), stops)
        unit = ledger.current()
        known = unit.find(name) if unit else None
        if known is None:
            found = self.endpoint.complete(name, body)
            known = self._answer(found["choices"][0], stops, sampling.max_new_tokens)
            if unit:
                usage = Usage.of_reply(found)
                usage.retokenised = int(found["choices"][0].get("token_ids") is None)
                unit.add(name, known, usage)
        ids = tuple(known["token_ids"])
        return Completion(self.chat.text(ids), ids, known["finished"])

    @cached_property
    def _num_tokens(self) -> int:
        return len(self.chat.tokenizer)

    def _answer(self, choice: Mapping[str, Any], stops: Sequence[int], most: int) -> dict[str, Any]:
        """Return the token ids of a completion, up to the one that ends it.

        A server leaves that token out of a text, but may name it, and a text may be tokenised to
        more tokens than were sampled.
        """
        given = choice.get("token_ids")
        ids = list(self.chat.ids(choice["text"]) if given is None else given)
        if not all(0 <= one < self._num_tokens for one in ids):
            raise UnitFailed(
                f"the server at {self.endpoint.config.url} gave token ids that the tokenizer of "
                "model.name does not have; serve the same model there"
            )
        end = next((i for i, token in enumerate(ids) if token in stops), None)
        if end is not None:
            return {"token_ids": ids[: end + 1], "finished": True}
        if choice["finish_reason"] == "stop" and len(ids) < most:
            named = [choice.get(name) for name in ("stop_reason", "matched_stop")]
            ends = [one for one in named if type(one) is int and one in stops]
            return {"token_ids": [*ids, *(ends or self.chat.stop_ids)[:1]], "finished": True}
        return {"token_ids": ids[:most], "finished": False}
