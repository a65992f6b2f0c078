"""Share blocks of rows among threads, of which each does its own arithmetic alone.

A slab takes a dozen operations of a millisecond or less. PyTorch would divide each of them over
its threads, and these would wait for each other a dozen times a slab: where another process keeps
a core busy, every time for a thread that is not running. Here a thread does whole blocks of rows,
each operation by itself, and takes the next block when it has done one: the thread on the busy
core does fewer of them.

Which thread does a block changes nothing in its numbers.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch

LEAST_ROWS = 64  # of a block: fewer make products so narrow that a thread's work goes to waste
MOST_ROWS = 256  # of a block: a slab of so many stays in a core's own cache

_guard = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}  # by the number of threads


def num_workers(num_rows: int, device: torch.device) -> int:
    """Return how many threads share the rows; 1 leaves each operation to PyTorch's threads.

    A few rows on many cores are better divided along the vocabulary, as PyTorch does.
    """
    if device.type != "cpu":
        return 1
    threads = torch.get_num_threads()
    return threads if num_rows >= LEAST_ROWS * threads else 1


def for_each(work: Callable[[slice], None], items: Sequence[slice], num_threads: int) -> None:
    """Call `work` on every item, by so many threads; one does them here, in order.

    What PyTorch keeps for each thread is not inherited, but for inference mode: nothing is recorded
    for autograd, and a profiler or a dispatch mode of the calling thread does not see the work.

    Raises:
        BaseException: the first that `work` raised; no further item is begun then.
    """
    num_threads = min(num_threads, len(items))
    if num_threads <= 1:
        for item in items:
            work(item)
        return
    todo, taking = iter(items), threading.Lock()
    is_inference = torch.is_inference_mode_enabled()

    def take() -> slice | None:
        with taking:
            return next(todo, None)

    def begin_nothing_more() -> None:
        while take() is not None:
            pass

    def work_off() -> None:
        with torch.inference_mode(is_inference), torch.no_grad():
            try:
                while (item := take()) is not None:
                    work(item)
            finally:
                begin_nothing_more()

    running = [_pool(num_threads).submit(work_off) for _ in range(num_threads)]
    try:
        for one in running:
            one.result()
    finally:
        begin_nothing_more()  # after an interrupt of this thread
        wait(running)


def _pool(num_threads: int) -> ThreadPoolExecutor:
    """Return as many threads, each of which computes alone; they are kept for the next call."""
    with _guard:
        if num_threads not in _pools:
            _pools[num_threads] = _start(num_threads)
        return _pools[num_threads]


def _start(num_threads: int) -> ThreadPoolExecutor:
    """Start the threads.

    `torch.set_num_threads` is of the thread that calls it, and is also what threads get that start
    later: a last short thread puts that back, and so the caller's own number is never touched.
    """
    former = torch.get_num_threads()
    all_there = threading.Barrier(num_threads + 1)

    def compute_alone() -> None:
        torch.get_num_threads()  # a thread's first question would set it to the common number
        torch.set_num_threads(1)
        all_there.wait()

    pool = ThreadPoolExecutor(num_threads, "pdkernels", initializer=compute_alone)
    for _ in range(num_threads):  # none of them is idle before all are there
        pool.submit(lambda: None)
    all_there.wait()
    restore = threading.Thread(target=torch.set_num_threads, args=(former,))
    restore.start()
    restore.join()
    return pool


def _forget() -> None:
    """Let go of the threads: a forked process has none of them."""
    global _guard
    _guard = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
