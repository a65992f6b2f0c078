"""Look after the processes that follow the first one: who has come, who failed, who is silent.

Each of them has a file in the run's folder `ranks`, and touches it again and again while it lives.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pdtrain.files.notes import read_note
from pdtrain.processes import shares
from pdtrain.progress import detail, warn

SIGN_SECONDS = 10.0  # between two signs of life
ASK_SECONDS = 5.0  # between two looks
SECONDS_UNTIL_SAID = 60.0  # of silence, before it is said
PATIENCE_SECONDS = 1800.0  # for a process that says nothing
RETURN_SECONDS = 60.0  # for a process that failed or was killed to come back
TOLD = re.compile(r"rank (\d+) failed: (.*)", re.DOTALL)  # what one says elsewhere as it fails


def file_of(folder: Path, rank: int) -> Path:
    """Return the path of a follower's file in a run folder."""
    return folder / "ranks" / f"{rank}.json"


def leave_signs(path: Path, over: threading.Event) -> None:
    """Touch a follower's file until all is over; a thread does this."""
    while not over.wait(SIGN_SECONDS):
        with suppress(OSError):  # it is not there yet, or its server is away for a while
            os.utime(path)


@dataclass
class Followers:
    """Watch the followers' files.

    Args:
        folder: of the run.
        num_ranks: how many processes there are, the first one included.
        told: returns what a process has told elsewhere as it failed; empty for nothing. It counts
            for one that does not follow, such as one that could not read its config.
    """

    folder: Path
    num_ranks: int
    return_seconds: float = RETURN_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    told: Callable[[], str] = str
    _failed: dict[int, float] = field(default_factory=dict)  # processes, and since when
    _signs: dict[int, tuple[int, float]] = field(default_factory=dict)  # last, and silence since
    _looked: float = 0.0  # when their files were looked into

    def raise_if_lost(self, session: str) -> None:
        """Raise an error where one has failed and did not come back, or is silent for too long.

        Args:
            session: of the first process; what files say of another one is old.
        """
        now = time.monotonic()
        seconds = now - self._looked
        if seconds < min(ASK_SECONDS, self.return_seconds):
            return
        self._looked = now
        told = TOLD.match(self.told())
        for rank in range(1, self.num_ranks):
            said = read_note(file_of(self.folder, rank))
            follows = said.get("session") == session
            reason = said.get("error")
            if not follows:
                reason = told[2] if told and int(told[1]) == rank else None
            if reason is None:
                self._failed.pop(rank, None)
            elif now - self._failed.setdefault(rank, now) >= self.return_seconds:
                raise ValueError(f"rank {rank} has failed: {reason}")
            if not (follows and said.get("has_left")):
                # it is no silence while the first process was busy, or all were suspended
                self._count_silence(rank, follows, min(seconds, 2 * ASK_SECONDS))

    def _count_silence(self, rank: int, follows: bool, seconds: float) -> None:
        sign = 0
        with suppress(OSError):  # one at work for an earlier session follows when that is done
            sign = file_of(self.folder, rank).stat().st_mtime_ns
        before, silent = self._signs.get(rank, (-1, 0.0))
        if sign != before:
            self._signs[rank] = (sign, 0.0)
            return
        self._signs[rank] = (sign, silent + seconds)
        what = "has given no sign of life" if follows else "has not come"
        if silent < SECONDS_UNTIL_SAID <= silent + seconds:
            warn(f"waiting for rank {rank}, which {what} for {silent + seconds:.0f} s")
        if silent + seconds > self.patience_seconds:
            raise ValueError(
                f"rank {rank} {what} for {silent + seconds:.0f} s; look at its output. What is "
                "done is kept: the same command goes on from there, with any number of ranks"
            )

    def wait_to_be_seen(self, session: str, seconds: float) -> None:
        """Wait until all have seen this session: nobody would tell them of its end.

        One that comes later takes what the first process's file holds for an earlier launch's.
        """
        deadline = time.monotonic() + seconds
        waits = set(range(1, self.num_ranks))
        while waits and time.monotonic() < deadline:
            waits -= {rank for rank in waits if self._has_seen(rank, session)}
            if waits:
                time.sleep(shares.POLL_SECONDS)
        if waits:
            detail(f"ranks: {len(waits)} of {self.num_ranks} processes have not shown themselves")

    def _has_seen(self, rank: int, session: str) -> bool:
        return bool(read_note(file_of(self.folder, rank)).get("session") == session)
