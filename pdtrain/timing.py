"""Measure where the time of a step goes: seconds by name, each moment counted under one name.

On a GPU moments are marked by events on its stream, which are read once the step is over, so that
nothing waits for the device in between. A wait for other ranks that overlaps with the GPU's work
does not show.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

# in the order in which they begin in a step; `other` is time without a name of its own
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
    """Count seconds under names, as in `with clock("student"): ...`.

    Inside a nested name the outer one does not count. A new clock is stopped, and between `take`
    and `start` nothing is counted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._on_gpu = device, device.type == "cuda"
        self._names: list[str] = []
        self._marks: list[tuple[str, Any]] = []  # the name that counted up to each moment

    def start(self) -> None:
        """Start counting, under the name `other`."""
        self._names, self._marks = ["other"], [("", self._now())]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside the block under `name`."""
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
        """Stop the clock and return the seconds since `start` by name; empty if it was stopped."""
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
