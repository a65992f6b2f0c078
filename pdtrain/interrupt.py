"""Notice requests to stop, so that work can be saved and the same command goes on from there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pdtrain.run_folder import RunFolder

IsAskedToStop = Callable[[], bool]


@contextmanager
def stop_requests(run: RunFolder) -> Iterator[IsAskedToStop]:
    """Yield a function that tells if SIGTERM or SIGUSR1 has come, or the run's stop file is there.

    Schedulers send a signal shortly before they end a job. Not all launchers pass it on to the
    ranks, but the file reaches every rank that sees the folder. A request during the set-up is met
    once it is done. A second signal has its usual effect, which for SIGTERM is to end the process.
    """
    asked = False
    numbers = (signal.SIGTERM, signal.SIGUSR1)

    def note(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, before[signal.Signals(number)])

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in numbers} if main else {}
    try:
        yield lambda: asked or run.stop_file.exists()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
