"""Notice requests to stop, so that work can be saved and the same command goes on from there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pdtrain.progress import Interrupted, StopFileFound, Stopped, forget_work, note_request

if TYPE_CHECKING:
    from pdtrain.run_folder import RunFolder

IsAskedToStop = Callable[[], bool]
NUMBERS = (signal.SIGTERM, signal.SIGUSR1)  # schedulers send one shortly before they end a job


@contextmanager
def stops_at_once() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 drop the unit at work, by raising Interrupted wherever Python is.

    Units are on the disk when they are finished, and files are replaced whole, so that nothing
    else is lost. Training finishes its step instead: see `stop_requests`.
    """

    def drop(number: int, frame: object) -> None:
        name = signal.Signals(number).name
        note_request(name)  # or a library that catches everything would lose it
        raise Interrupted(name)

    forget_work()
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, drop) for number in NUMBERS} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        note_request("")


def end_if_asked(stop_file: Path | None, work: str) -> None:
    """Raise StopFileFound if the run's stop file is there; units of work call this once kept.

    The file stays, as in training: who made it removes it, or the script that starts the ranks.

    Args:
        stop_file: None where nobody is to look for it.
        work: what is at work and how far, for the message.
    """
    if stop_file and stop_file.exists():
        raise StopFileFound(
            f"stopped at {work}; what was finished is kept, and the same command goes on from "
            f"there (remove {stop_file} first if it is there)"
        )


@contextmanager
def stop_requests(run: RunFolder) -> Iterator[IsAskedToStop]:
    """Yield a function that tells if SIGTERM or SIGUSR1 has come, or the run's stop file is there.

    Schedulers send a signal shortly before they end a job. Not all launchers pass it on to the
    ranks, but the file reaches every rank that sees the folder. A request during the set-up is met
    once it is done. A second signal has the effect that it has outside: it drops what is at work.

    Raises:
        Stopped: the work was done before a request could be met.
    """
    asked = ""

    def note(number: int, frame: object) -> None:
        nonlocal asked
        asked = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in NUMBERS} if main else {}
    try:
        yield lambda: bool(asked) or run.stop_file.exists()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Stopped(f"stopped by {asked}; this stage was finished, and is kept in {run.path}")
