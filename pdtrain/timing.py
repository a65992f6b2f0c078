"""Where the time of a step goes: seconds by name, each moment under one name alone.

On a GPU moments are marked by events on its stream and read once, when the step is over: nothing
waits for the device in between. A wait for other ranks that the GPU's work hides does not show.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

# of a step, in the order in which they begin; `other` is what has no name of its own
NAMES = (
    "data",
    "teacher",
    "student",
    "loss",
    "backward",
    "optimizer",
    "communication",
    "other",
)


class Clock:
    """`with clock("student"): ...`; inside another name, the outer one stands still.

    Starts stopped: between `take` and `start` nothing is counted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._on_gpu = device, device.type == "cuda"
        self._names: list[str] = []
        self._marks: list[tuple[str, Any]] = []  # what was going on until each moment

    def start(self) -> None:
        self._names, self._marks = ["other"], [("", self._now())]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if not self._names:
            yield
            return
        self._mark()
        self._names.append(name)
        try:
            yield
        finally:
            if self._names:
                self._mark()
                self._names.pop()

    def take(self) -> dict[str, float]:
        """Seconds by each of NAMES since `start`; their sum is the whole time. Stops the clock."""
        if not self._names:
            return {}
        self._mark()
        marks, self._names, self._marks = self._marks, [], []
        if self._on_gpu:
            marks[-1][1].synchronize()
        found: dict[str, float] = defaultdict(float)
        for (_, before), (name, after) in pairwise(marks):
            found[name] += self._seconds(before, after)
        return {name: found[name] for name in NAMES}

    def _mark(self) -> None:
        self._marks.append((self._names[-1], self._now()))

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _seconds(self, before: Any, after: Any) -> float:
        return before.elapsed_time(after) / 1000 if self._on_gpu else after - before
