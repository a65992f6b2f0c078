"""Run work in threads that never hold up the end of the process."""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

Task = tuple["Future[Any]", Callable[[], Any]]


class Pool:
    """Run at most so many calls at the same time; more of them wait in a queue.

    Unlike those of `ThreadPoolExecutor`, its threads are not waited for when Python ends: a request
    that a server does not answer must not keep a stopped run alive. They end with the pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._queue: SimpleQueue[Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        weakref.finalize(self, _end, self._queue, size)

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """Return the future result of `work(*args)`, which sees the caller's context variables."""
        future: Future[Any] = Future()
        context = contextvars.copy_context()
        self._queue.put((future, lambda: context.run(work, *args)))
        with self._lock:
            if self._threads < self.size:
                self._threads += 1
                threading.Thread(target=_serve, args=(self._queue,), daemon=True).start()
        return future


def _serve(queue: SimpleQueue[Task | None]) -> None:
    """Do one task after the other; the thread knows the queue alone, so that the pool can go."""
    while task := queue.get():
        future, work = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # whoever asks for the result gets it
                future.set_exception(error)
        del task, future, work  # what a result holds must not live until the next task comes


def _end(queue: SimpleQueue[Task | None], size: int) -> None:
    for _ in range(size):
        queue.put(None)
