"""Tell the user what happens: lines of a log, and the progress of long work.

Everything goes through the standard library's logger `pdtrain`. Where nobody has given that logger
a handler, its lines are printed plainly on standard error from the first one on, so that standard
output holds results alone. A program that has given it one gets the records there and nowhere else.
No line holds a passage, a prompt or an answer.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TextIO

LOGGER = logging.getLogger("pdtrain")
SECONDS_BETWEEN_LINES = 60.0
SECONDS_WHEN_VERBOSE = 10.0


class Stopped(Exception):  # noqa: N818 - a request was met, nothing went wrong
    """Say that the work was asked to stop and has been saved; the message says how to go on."""


class StopFileFound(Stopped):
    """Say so where it was the run's stop file that asked."""


class Interrupted(BaseException):
    """Say that a signal asked to drop the work; no handler of errors may take it for one."""


_asked = ""  # the name of the signal that asked to drop the work
_at_work: list[str] = []  # what is at work, as a text for the user, innermost last


def note_request(name: str) -> None:
    """Take note of the signal that asked to drop the work; an empty name forgets it."""
    global _asked
    _asked = name


def raise_if_interrupted() -> None:
    """Raise Interrupted if a signal asked to drop the work, and somebody caught what it raised."""
    if _asked:
        raise Interrupted(_asked)


def forget_work() -> None:
    """Forget what was at work in an earlier command of this process."""
    _at_work.clear()


def at_work() -> str:
    """Return what is at work and how far, such as "answers: 3 of 8 questions", or an empty text."""
    return _at_work[-1] if _at_work else ""


class _StandardError(logging.Handler):
    """Print to what standard error is at the time, which notebooks and tests replace."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


_printer = _StandardError()


# control characters, which a terminal obeys, and marks that turn the direction of a text
LIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]"
)


def printable(text: str) -> str:
    """Return a text without characters that a terminal would obey.

    Names of files, titles and answers come from elsewhere and may hold any. Line feeds and tabs
    stay.
    """
    return LIVE.sub("\ufffd", text).encode("utf-8", "replace").decode()


def set_level(level: int) -> None:
    """Show messages of this level and above: `logging.DEBUG`, `INFO` (the default), `WARNING`."""
    LOGGER.setLevel(level)


def be_silent() -> None:
    """Show nothing from this process: of several ranks, one talks."""
    set_level(logging.CRITICAL + 1)


def say(text: str) -> None:
    """Tell the user one line about the run."""
    _log(logging.INFO, text)


def warn(text: str) -> None:
    """Tell the user one line that also a quiet run should show."""
    _log(logging.WARNING, text)


def detail(text: str) -> None:
    """Tell one line to those who asked for more of them."""
    _log(logging.DEBUG, text)


def show_line(text: str, to: TextIO | None = None) -> None:
    """Print a line of a command's result, in which nothing steers the terminal.

    Args:
        to: where it goes; standard output by default.
    """
    out = to or sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"  # other locales lack some characters
    print(printable(text).encode(encoding, "replace").decode(encoding), file=out, flush=True)


def show_error(text: str) -> None:
    """Print a line on standard error, if it can be: a log may lie on the disk that is full."""
    with suppress(OSError):
        show_line(text, sys.stderr)


def _log(level: int, text: str) -> None:
    if _shows(level):
        LOGGER.log(level, printable(text), stacklevel=3)


def _shows(level: int) -> bool:
    """Return if messages of a level are shown; nobody's logger becomes ours at the first call."""
    if not LOGGER.handlers:
        LOGGER.addHandler(_printer)
        LOGGER.propagate = False  # or a program that logs to standard error would print them twice
        if LOGGER.level == logging.NOTSET:
            LOGGER.setLevel(logging.INFO)
    return LOGGER.isEnabledFor(level)


class Advance(Protocol):
    """Count finished work, with a short note on how it goes."""

    def __call__(self, amount: float = 1, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show a bar with rate and time left on a terminal, and a rare plain line elsewhere.

    `with progress("answers", 400, "questions") as advance: advance(3)`.

    Args:
        done: units that were finished by an earlier run; they do not count towards the rate.
    """
    # a daemon's standard error may be closed, and is None then
    is_seen = sys.stderr is not None and sys.stderr.isatty()
    bar = _bar if _shows(logging.INFO) and is_seen else _lines
    count = float(done)
    with bar(title, total, unit, done) as advance:

        def counted(amount: float = 1, note: str = "") -> None:
            nonlocal count
            raise_if_interrupted()
            count += amount
            _at_work[-1] = f"{title}: {count:.0f} of {total} {unit}"
            advance(amount, note)

        _at_work.append(f"{title}: {count:.0f} of {total} {unit}")
        yield counted
        _at_work.pop()


@contextmanager
def _bar(title: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    from tqdm import tqdm

    with tqdm(
        total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True, mininterval=0.5
    ) as shown:

        def advance(amount: float = 1, note: str = "") -> None:
            if note:
                shown.set_postfix_str(note, refresh=False)
            shown.update(amount)

        yield advance


@contextmanager
def _lines(title: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    started = shown_at = time.monotonic()
    count = float(done)

    def advance(amount: float = 1, note: str = "") -> None:
        nonlocal count, shown_at
        count += amount
        now = time.monotonic()
        pause = SECONDS_WHEN_VERBOSE if _shows(logging.DEBUG) else SECONDS_BETWEEN_LINES
        if now - shown_at >= pause and count < total:
            shown_at = now
            rate = (count - done) / (now - started)
            left = (total - count) / rate if rate else float("inf")
            say(
                f"  {title}: {count:.0f}/{total} {unit}, {rate:.2f} {unit}/s, "
                f"about {left:.0f} s left{', ' + note if note else ''}"
            )

    yield advance
