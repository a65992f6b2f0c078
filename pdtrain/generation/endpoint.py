"""Ask a server with OpenAI's interface, and ask again where that may help.

What fails is of three kinds. A server that is away, or asks to wait, is waited for: it may be
loading its model again. A request that the server fails, does not answer in time, or answers with
something that cannot be read is tried a few times. What it refuses is not tried again. No message
holds a prompt, a key, or what the server wrote.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pdtrain.config import ServerConfig
from pdtrain.processes.bounded_replies import ReplyTooLarge, ReplyTooSlow, hooks, within
from pdtrain.processes.workers import UnitFailed
from pdtrain.progress import warn

if TYPE_CHECKING:
    from openai import OpenAI

LONGEST_PAUSE = 30.0  # seconds between two attempts, unless the server asks for more
# it asks to wait, has too much to do, or a proxy before it says that it is away
WAIT_STATUSES = (429, 502, 503, 504, 529)
WHOLE = 2.5  # times as long as the wait for a first line may a call take, to the end of its reply
TOLD_AFTER = 30.0  # seconds without the server
STOP_STATUSES = (401, 402, 403, 404, 405)  # every other request would be answered with the same
STOP_ERRORS = ("LocalProtocolError", "UnsupportedProtocol")  # httpx's, of what no server is sent


class Refused(UnitFailed):
    """Say that the server refused a request as it stands; asking again would not help."""


@dataclass
class _Failure(Exception):  # noqa: N818 - it may be tried again
    """Say why one attempt failed, and how long the server asks to wait."""

    reason: str
    is_away: bool = False  # it could not be reached, or asks to wait
    wait_seconds: float = 0.0


@dataclass
class Gate:
    """Hold requests back while the server asks to wait, and keep to a rate."""

    per_minute: int = 0
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Return when a request may begin."""
        while True:
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + 60 / self.per_minute if self.per_minute else self._next
                    return
                left = self._next - now
            time.sleep(left)

    def close_for(self, seconds: float) -> None:
        """Let no request begin for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Endpoint:
    """Ask one server; several threads may.

    Args:
        pause_seconds: before the second attempt, at most; it doubles with each further one.
        section: the section of the knobs that name the server, for messages.
    """

    def __init__(
        self,
        config: ServerConfig,
        pause_seconds: float = 0.5,
        section: str = "generation.server",
    ) -> None:
        self.config, self.pause_seconds, self.section = config, pause_seconds, section
        self.gate = Gate(config.requests_per_minute)
        self.num_retries = 0
        self._lock, self._told_until = threading.Lock(), 0.0
        self._jitter = random.Random()
        self.client = _client(config)
        weakref.finalize(self, self.client.close)

    @property
    def advice(self) -> str:
        """Return what to check where the server takes no requests."""
        return (
            f"check {self.section}.url (it ends in /v1 with most servers), {self.section}.model "
            f"and the key in the environment variable {self.config.key_variable}"
        )

    def models(self) -> list[dict[str, Any]]:
        """Return what the server says of the models that it has, where it names them."""
        headers = key_headers(self.config.key_variable)

        def ask() -> Any:
            return self.client.with_options(max_retries=0).models.list(extra_headers=headers)

        found = self.repeated("the list of models", ask, _check_models)
        return [dict(model) for model in found["data"] or () if model.get("id")]

    def complete(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the server's answer to one request for a completion, which has a choice.

        Args:
            name: of the request, for messages.
            body: OpenAI's fields and others.

        Raises:
            Refused: the server takes no such request.
            UnitFailed: all attempts failed.
            ValueError: the server takes no request at all, such as for a wrong key.
        """
        headers = key_headers(self.config.key_variable)
        known = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed"}
        usual = {key: value for key, value in body.items() if key in known}
        others = {key: value for key, value in body.items() if key not in known}

        def ask() -> Any:
            made: Any = self.client.completions
            return made.create(**usual, extra_body=others, extra_headers=headers)

        return self.repeated(f"request {name}", ask, _check)

    def repeated(
        self, name: str, ask: Callable[[], Any], check: Callable[[Mapping[str, Any]], object]
    ) -> dict[str, Any]:
        """Return the fields of the server's answer, and ask again where that may help.

        Args:
            name: of the request, for messages.
            ask: makes one attempt by `client`.
            check: raises ValueError, KeyError or the like for an answer that is none.

        Raises:
            Refused: the server takes no such request.
            UnitFailed: all attempts failed.
            ValueError: the server takes no request at all, such as for a wrong key.
        """
        tries, waits, started = 0, 0, time.monotonic()
        was_away, away_since = False, 0.0  # in seconds from the start
        while True:
            self.gate.wait()
            try:
                return _read(lambda: within(WHOLE * self.config.timeout_seconds, ask), check)
            except _Failure as failure:
                spent = time.monotonic() - started
                # what it spent on a request before it went away is no time of its absence
                away_since = away_since if was_away and failure.is_away else spent
                was_away = failure.is_away
                tries, waits = tries + (not failure.is_away), waits + failure.is_away
                absent = spent - away_since + failure.wait_seconds
                too_long = absent > self.config.patience_seconds
                if tries >= self.config.attempts or (failure.is_away and too_long):
                    raise UnitFailed(
                        f"{name}: the server at {self.config.url} {failure.reason}, after "
                        f"{tries + waits} attempts in {spent:.0f} s"
                    ) from None
                self.num_retries += 1
                self._tell_of_absence(failure, absent, started + spent)
                if failure.wait_seconds:
                    self.gate.close_for(failure.wait_seconds)
                most = min(LONGEST_PAUSE, self.pause_seconds * 2.0 ** min(tries + waits - 1, 32))
                # a random pause, lest all threads come back at the same time
                time.sleep(self._jitter.uniform(most / 2, most))
            except Refused as refused:
                raise Refused(f"{name}: the server at {self.config.url} {refused}") from None
            except PermissionError as stop:
                raise ValueError(f"the server at {self.config.url} {stop}; {self.advice}") from None

    def _tell_of_absence(self, failure: _Failure, absent: float, now: float) -> None:
        """Say that the server is away and how long it is waited for, once for all requests."""
        patience = self.config.patience_seconds
        with self._lock:
            if not failure.is_away or absent < TOLD_AFTER or now < self._told_until:
                return
            self._told_until = now + patience
        warn(
            f"the server at {self.config.url} {failure.reason}; it is asked again until it has "
            f"been away for {patience:.0f} s ({self.section}.patience_seconds)"
        )


def served(endpoint: Endpoint, wanted: str) -> tuple[str, int | None]:
    """Return the name of the model to ask for, and how many tokens the server lets it read.

    Args:
        wanted: its name; empty for the only one that the server has.

    Raises:
        ValueError: no name was given and the server lists several, or it has no model of the given.
    """
    try:
        models = {str(one["id"]): one.get("max_model_len") for one in endpoint.models()}
    except ValueError:
        if not wanted:
            raise
        return wanted, None  # some servers keep no list
    if not wanted and len(models) == 1:
        wanted = next(iter(models))
    if wanted not in models and not (wanted and _answers(endpoint, wanted)):
        raise ValueError(
            f"the server at {endpoint.config.url} has {', '.join(sorted(models)) or 'no models'}; "
            f"set generation.server.model to the one that is model.name, not {wanted!r}"
        )
    return wanted, models.get(wanted)


def _answers(endpoint: Endpoint, model: str) -> bool:
    """Return whether a server answers for a model that it does not list.

    `transformers serve` lists what lies in its cache, whatever it serves.
    """
    try:
        endpoint.complete("probe", {"model": model, "prompt": "Yes", "max_tokens": 1})
    except ValueError:
        return False
    return True


def _client(config: ServerConfig) -> OpenAI:
    import openai  # takes a second, and most runs need none

    limits = openai.DefaultHttpxClient(
        follow_redirects=False,  # one would take the key elsewhere
        event_hooks=hooks(config.timeout_seconds),
    )
    return openai.OpenAI(
        base_url=config.url,
        api_key="none",  # it insists on one, and would look for it in OPENAI_API_KEY
        timeout=config.timeout_seconds,
        max_retries=0,  # they are made here
        http_client=limits,
    )


def _read(ask: Any, check: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
    """Return the fields of one answer.

    Args:
        check: raises ValueError, KeyError or the like for an answer that is none.

    Raises:
        _Failure: it may be asked for again.
        Refused: not this request.
        PermissionError: nor any other.
    """
    import openai

    try:
        found = ask().to_dict()
        check(found)
        return dict(found)
    except (ReplyTooSlow, ReplyTooLarge) as error:
        raise _Failure(f"could not be read: {error}") from None
    except openai.APITimeoutError:
        raise _Failure("did not answer in time") from None
    except openai.APIStatusError as error:
        reason, status = f"answered with status {error.status_code}", error.status_code
        if status in STOP_STATUSES or 300 <= status < 400:
            raise PermissionError(reason) from None
        if status in WAIT_STATUSES:
            raise _Failure(reason, True, _wait_seconds(error.response.headers)) from None
        if status >= 500 or status in (408, 409):
            raise _Failure(reason) from None
        raise Refused(reason) from None
    except openai.APIConnectionError as error:
        if isinstance(bound := error.__cause__, ReplyTooSlow | ReplyTooLarge):
            raise _Failure(f"could not be read: {bound}") from None
        cause = type(error.__cause__ or error).__name__
        if cause in STOP_ERRORS:
            raise PermissionError(f"cannot be asked ({cause})") from None
        raise _Failure(f"could not be reached: {cause}", True) from None
    except (openai.OpenAIError, ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        raise _Failure(f"gave an answer that cannot be read: {type(e).__name__}") from None


def _check_models(found: Mapping[str, Any]) -> None:
    """Raise an error where a list of models is none; it may be empty."""
    if not all(isinstance(model, Mapping) for model in found["data"] or ()):
        raise ValueError("a model that is no object")


def _check(found: Mapping[str, Any]) -> None:
    """Raise ValueError where an answer has not what one must have."""
    choice = found["choices"][0]
    if not isinstance(choice["text"], str) or choice["finish_reason"] not in ("stop", "length"):
        raise ValueError("no text, or an end of another kind")
    ids = choice.get("token_ids")
    if ids is not None and not all(type(one) is int for one in ids):
        raise ValueError("token ids that are no numbers")


def _wait_seconds(headers: Mapping[str, str]) -> float:
    """Return how long a server asks to wait, by its header; 0 where it does not say."""
    if "retry-after-ms" in headers:
        try:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        except ValueError:
            return 0.0
    said = headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def key_headers(variable: str) -> dict[str, Any]:
    """Return the key of an environment variable in a header, and nothing else of the environment.

    The client would look there for a key and an organization of its own. Blanks and line breaks
    around the key, as files have them that it was read from, are left out.

    Raises:
        ValueError: no header can hold the key.
    """
    from openai import Omit

    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"the key in the environment variable {variable} has a character that is not printable "
            "ASCII, which no request can carry; set the variable to the key alone"
        )
    return {
        "Authorization": f"Bearer {key}" if key else Omit(),
        "OpenAI-Organization": Omit(),
        "OpenAI-Project": Omit(),
    }
