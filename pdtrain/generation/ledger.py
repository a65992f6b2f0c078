"""Keep the finished requests of a unit until the unit is done, and count what they took.

A stage keeps what a passage has made once the passage is done. Behind a server that may be a
hundred requests, which a kill, or one request that fails, must not cost again. So each request is
written down as soon as it is answered, into a file of its unit that goes when the unit is done.
What was written is small at any time, however large the corpus is.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pdtrain.progress import warn
from pdtrain.stage import SCRATCH
from pdtrain.storage import read_jsonl, sha256_text, to_line


@dataclass
class Usage:
    """Count what requests took, in tokens as the server counts them."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompts, that the server had read before
    completion_tokens: int = 0
    retokenised: int = 0  # completions that came as text alone

    @classmethod
    def of_reply(cls, found: Mapping[str, Any]) -> Usage:
        """Return what a server counts in a reply; zeros where it does not."""

        def number(inside: Any, name: str) -> int:
            value = inside.get(name) if isinstance(inside, Mapping) else None
            return value if type(value) is int else 0

        said = found.get("usage")
        details = said.get("prompt_tokens_details") if isinstance(said, Mapping) else None
        prompt, completion = number(said, "prompt_tokens"), number(said, "completion_tokens")
        return cls(1, prompt, number(details, "cached_tokens"), completion)

    def add(self, other: Usage) -> None:
        """Add another count to this one."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


class UnitRequests:
    """Hold the answered requests of one unit by their ids, in memory and in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.usage = path, Usage()
        self._lock = threading.Lock()
        self._found: dict[str, dict[str, Any]] = {}
        for line in _whole_lines(path):
            self._note(line)

    def find(self, request: str) -> dict[str, Any] | None:
        """Return what was answered to a request; None where it was not."""
        return self._found.get(request)

    def add(self, request: str, answer: Mapping[str, Any], usage: Usage) -> None:
        """Write down what was answered to a request."""
        line = {"id": request, **answer, "usage": asdict(usage)}
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(to_line(line))
            self._note(line)

    def _note(self, line: dict[str, Any]) -> None:
        if line["id"] not in self._found:
            self.usage.add(Usage(**line["usage"]))
        self._found[line["id"]] = line


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of requests, and cut off one that a kill left unfinished.

    What a damaged line held is asked again.
    """
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        path.write_bytes(whole)
    lines = [line for line in whole.split(b"\n") if line]
    found = [one for line in lines if (one := _read(line))]
    if left := len(lines) - len(found):
        warn(f"{path}: {left} of {len(lines)} lines are damaged; their requests are made again")
    return found


def _read(line: bytes) -> dict[str, Any] | None:
    """Return a request as `UnitRequests.add` writes it; None where a line is damaged."""
    try:
        found = json.loads(line)
        numbers = [*found["token_ids"], *asdict(Usage(**found["usage"])).values()]
        are_numbers = all(type(one) is int for one in numbers)
        is_whole = are_numbers and isinstance(found["id"], str) and type(found["finished"]) is bool
    except (ValueError, TypeError, KeyError):
        return None
    return found if is_whole else None


_current: ContextVar[UnitRequests | None] = ContextVar("unit_requests", default=None)


def current() -> UnitRequests | None:
    """Return the requests of the unit that is worked on in this context, if it keeps any."""
    return _current.get()


class Ledger:
    """Keep the requests of a stage's units, and count those of the units that are done.

    Args:
        folder: of the stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / SCRATCH
        self._usage_file = self.folder / f"usage-{uuid.uuid4().hex}.jsonl"  # of this process
        self._units: dict[str, UnitRequests] = {}

    @contextmanager
    def unit(self, key: str) -> Iterator[None]:
        """Let what a backend is asked inside count for this unit."""
        unit = self._units[key] = self._requests(key)
        token = _current.set(unit)
        try:
            yield
        finally:
            _current.reset(token)

    def _requests(self, key: str) -> UnitRequests:
        return UnitRequests(self.folder / f"{sha256_text(key)[:32]}.jsonl")

    def finish(self, key: str) -> None:
        """Count the requests of a unit that is done, and let go of them."""
        unit = self._units.pop(key, None) or self._requests(key)  # which another process made
        if unit.usage.requests:
            with self._usage_file.open("a", encoding="utf-8") as file:
                file.write(to_line(asdict(unit.usage)))
            unit.path.unlink(missing_ok=True)

    def about(self) -> dict[str, Any]:
        """Return what all processes' requests took, for the manifest; empty without any."""
        usage = Usage()
        for path in sorted(self.folder.glob("usage-*.jsonl")):
            for line in read_jsonl(path):
                usage.add(Usage(**line))
        return {"generation": asdict(usage)} if usage.requests else {}
