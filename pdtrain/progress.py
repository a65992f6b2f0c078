"""Progress of long work: a bar with rate and ETA on a terminal, a rare plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS_BETWEEN_LINES = 60.0
_silent = False


class Stopped(Exception):  # noqa: N818 - a request was met, nothing went wrong
    """The work was asked to stop, and has been saved; the message says how to go on."""


def be_silent() -> None:
    """Of several ranks one talks."""
    global _silent
    _silent = True


class Advance(Protocol):
    def __call__(self, amount: float = 1, note: str = "") -> None: ...


def say(text: str) -> None:
    """One line for the user, on standard error, so that standard output holds results alone."""
    if not _silent:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """`with progress("answers", 400, "questions") as advance: advance(3)`.

    `done` units were finished by an earlier run; they do not count towards the rate.
    """
    bar = _bar if sys.stderr.isatty() and not _silent else _lines
    with bar(title, total, unit, done) as advance:
        yield advance


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
        if now - shown_at >= SECONDS_BETWEEN_LINES and count < total:
            shown_at = now
            rate = (count - done) / (now - started)
            left = (total - count) / rate if rate else float("inf")
            say(
                f"  {title}: {count:.0f}/{total} {unit}, {rate:.2f} {unit}/s, "
                f"about {left:.0f} s left{', ' + note if note else ''}"
            )

    yield advance
