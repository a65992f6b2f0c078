"""Prepare what the next steps need in a thread, while this step runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch

from pdtrain.distillation.batch import TwinBatch
from pdtrain.distillation.schedule import Schedule
from pdtrain.distributed.engine import Engine
from pdtrain.training.teacher import MakeBatch

T = TypeVar("T")
STEPS_AHEAD = 2
SECONDS_BETWEEN_LOOKS = 0.1  # of a thread that waits, for whether it is to end


class Prefetched(Generic[T]):
    """Give the items of an iterator in order, which a thread makes ahead of time.

    Used as a context: outside of it no thread runs. An error of the iterator is raised where its
    item would have been given, with the traceback of the thread.

    Args:
        items: makes an item when it is asked for the next; from one thread alone.
        ahead: how many finished items may wait; 0 makes each when it is asked for, with no thread.
        device: the GPU that items are made for, if they are; it is the thread's current device.
    """

    def __init__(self, items: Iterator[T], ahead: int, device: torch.device | None = None) -> None:
        self._items, self._device = items, device
        self._made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(max(1, ahead))
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._has_thread = ahead > 0

    def __enter__(self) -> Self:
        if self._has_thread:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._has_thread:
            self._thread.join()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if not self._has_thread:
            return next(self._items)
        if self._is_over.is_set():
            raise StopIteration
        item, error = self._made.get()
        if error is not None:
            self._is_over.set()
            raise error
        return item  # type: ignore[return-value]  # there is an item where there is no error

    def _run(self) -> None:
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # a thread begins with the first GPU
        while not self._is_over.is_set():
            try:
                made: tuple[T | None, BaseException | None] = next(self._items), None
            except BaseException as error:
                made = None, error
            self._put(made)
            if made[1] is not None:
                return

    def _put(self, made: tuple[T | None, BaseException | None]) -> None:
        while not self._is_over.is_set():
            try:
                self._made.put(made, timeout=SECONDS_BETWEEN_LOOKS)
                return
            except queue.Full:
                continue


def prefetched_batches(
    schedule: Schedule, engine: Engine, first: int, make_batch: MakeBatch
) -> Prefetched[list[TwinBatch]]:
    """Return this rank's micro-batches of every step, in order, which are prepared ahead.

    Answers that the student writes just before a step cannot be; then nothing is.

    Args:
        schedule: the steps.
        engine: says which rank this is, and its device.
        first: the number of steps that were done before.
        make_batch: makes the tensors of a micro-batch.
    """

    def batches(step: int) -> list[TwinBatch]:
        own = schedule.micro_batches(step, engine.rank, engine.num_ranks)
        return [make_batch(micro_batch) for micro_batch in own]

    steps = range(first + 1, schedule.num_steps + 1)
    ahead = 0 if schedule.rollout else STEPS_AHEAD
    return Prefetched((batches(step) for step in steps), ahead, engine.device)
