"""Lead the processes of a launcher through the stages that they share, with a shared folder alone.

The first process leads: it alone writes what a stage puts out, and says in `ranks/leader.json`,
again and again, which stage it is at. Every other process, a follower, believes what it says only
once it has said something new since the follower was started, for the file may be of an earlier
launch. Then it takes the units at its place in the list, and waits until the leader has moved on.
No process needs to know whether another one was killed and came back. One that fails says so in its
file, and a leader that says nothing for long is asked elsewhere, and given up in the end; it gives
up a follower likewise (`followers`).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pdtrain.errors import in_words
from pdtrain.files.notes import read_note, write_note
from pdtrain.processes import shares
from pdtrain.processes.followers import (
    PATIENCE_SECONDS,
    RETURN_SECONDS,
    Followers,
    file_of,
    leave_signs,
)
from pdtrain.processes.saying import Saying, launch_of
from pdtrain.processes.shares import Share
from pdtrain.progress import Interrupted, StopFileFound, Stopped, detail, say, show_error
from pdtrain.run_folder import RunFolder

BEAT_SECONDS = 1.0
ASK_SECONDS = 5.0  # of silence, before one who waits asks elsewhere, and again
SECONDS_UNTIL_SAID = 60.0  # of silence, before it is said
GOODBYE_SECONDS = 120.0  # of the first process, for followers that come late to a finished stage
FAREWELL_SECONDS = 10.0  # the same where it failed or was asked to stop


@dataclass
class Leader:
    """Say where the first process is, until it ends; followers are waited for as it leaves.

    Args:
        folder: of the run; the processes meet in its folder `ranks`.
        num_ranks: how many processes the launcher has started.
        hear: raises an error where another process has told of a failure elsewhere.
        told: returns what one that does not follow has told elsewhere as it failed.
    """

    folder: Path
    num_ranks: int
    goodbye_seconds: float = GOODBYE_SECONDS
    farewell_seconds: float = FAREWELL_SECONDS
    return_seconds: float = RETURN_SECONDS
    hear: Callable[[], object] = bool
    told: Callable[[], str] = str
    patience_seconds: float = PATIENCE_SECONDS
    _said: Saying = field(
        default_factory=lambda: Saying(session=uuid.uuid4().hex, launch=launch_of())
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _followers: Followers = field(init=False)

    def __post_init__(self) -> None:
        self._followers = Followers(
            self.folder, self.num_ranks, self.return_seconds, self.patience_seconds, self.told
        )

    def begin(self, stage: str, ranks_each: int = 1) -> Share:
        """Say that a stage begins, and return the leader's share of it.

        Args:
            ranks_each: how many processes make one worker; the first of them works.
        """
        num_workers = max(1, self.num_ranks // ranks_each)
        self._say(stage=stage, num_workers=num_workers, ranks_each=ranks_each)
        return Share(0, num_workers, self._said.session, look_after=self._look_after)

    def finish(self, stage: str) -> None:
        """Say that a stage is finished."""
        self._say(stage="", finished=(*self._said.finished, stage))

    def __enter__(self) -> Leader:
        self._say()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            session = self._said.session
            if error is None:
                self._followers.wait_to_be_seen(session, self.goodbye_seconds)
            elif isinstance(error, Exception):  # no signal or Ctrl-C: those are in a hurry
                self._followers.wait_to_be_seen(session, self.farewell_seconds)
        finally:
            self._over.set()
            try:
                self.tell_end(error)
            except OSError:
                if error is None:  # else the first error is the one to say
                    raise

    def tell_end(self, error: BaseException | None) -> None:
        """Say that this process ends, and because of which error, if any."""
        reason = _reason(error, self.folder) if error else ""
        is_stopped = isinstance(error, Stopped | Interrupted | KeyboardInterrupt)
        self._say(has_ended=True, error=reason, is_stopped=is_stopped)

    def _look_after(self) -> None:
        """Raise an error where a follower is lost."""
        self.hear()
        self._followers.raise_if_lost(self._said.session)

    def _say(self, **changes: Any) -> None:
        with self._lock:
            said = asdict(self._said) | changes
            self._said = Saying(**(said | {"beat": said["beat"] + 1}))
            write_note(_meeting(self.folder) / "leader.json", asdict(self._said))

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._say()
            except OSError as error:  # a full disk, or a server that is away, may pass
                detail(f"ranks: {_meeting(self.folder)} cannot be written to: {error.strerror}")


@dataclass
class Follower:
    """Follow the first process from stage to stage.

    Args:
        folder: of the run.
        rank: of this process, from 1.
        ask: raises an error where the first process has told elsewhere that it failed; it is called
            while nothing is heard of it here.
        launch: of this process; a leader of another one is none.
    """

    folder: Path
    rank: int
    patience_seconds: float = PATIENCE_SECONDS
    return_seconds: float = RETURN_SECONDS
    ask: Callable[[], object] = bool
    launch: dict[str, str] = field(default_factory=launch_of)
    _over: threading.Event = field(default_factory=threading.Event)
    _first: Saying | None = None  # what the leader's file held at the beginning: perhaps old
    _session: str = ""  # that this process has shown itself to
    _left: str = ""  # that this process's forerunner was killed in
    _word: tuple[str, int] = ("", -1)  # the last session and beat that were heard
    _silent: float = 0.0  # seconds of looking since then
    _asked: float = 0.0  # of these, when `ask` was called
    _looked: float = 0.0  # when it was last looked

    def __enter__(self) -> Follower:
        found = read_note(self._own_file)
        self._left = "" if found.get("has_left") else found.get("session", "")
        signs = threading.Thread(target=leave_signs, args=(self._own_file, self._over), daemon=True)
        signs.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._over.set()
        # one that was interrupted comes back, perhaps when the leader is long done
        if self._session and error is None:
            write_note(self._own_file, {"session": self._session, "has_left": True})
        elif self._session and isinstance(error, Exception) and not isinstance(error, Stopped):
            with suppress(OSError):  # the disk may be what failed
                said = {"session": self._session, "error": _reason(error, self.folder)}
                write_note(self._own_file, said)

    @property
    def _own_file(self) -> Path:
        return file_of(self.folder, self.rank)

    def work_on(self, stage: str, work: Callable[[Share], object]) -> None:
        """Do this process's share of a stage, if it has one, and wait for the stage's end.

        Another session of the leader, which was killed and came back, may have other units: the
        share is then looked at again. One that finds the stop file waits until the leader has found
        it as well, or has finished the stage: then both go on, and find it together later.

        Raises:
            Stopped: the leader was asked to stop.
            ValueError: the leader has ended with an error, or does not come.
        """
        done = ""
        while stage not in (said := self._hear()).finished and not said.has_ended:
            if said.stage == stage and said.session != done:
                worker, others = divmod(self.rank, said.ranks_each)
                is_asked_to_stop = False
                if not others and worker < said.num_workers:
                    is_over = partial(self._is_over, said.session, stage)
                    try:
                        work(Share(worker, said.num_workers, said.session, is_over))
                    except StopFileFound:
                        is_asked_to_stop = True
                if is_asked_to_stop:  # outside of `except`, which keeps what the work held
                    self._wait_where_asked_to_stop(is_over)
                else:
                    done = said.session
            time.sleep(shares.POLL_SECONDS)
        if said.error:
            end = Stopped if said.is_stopped else ValueError
            raise end(f"the first process has ended: {said.error}")

    def _wait_where_asked_to_stop(self, is_over: Callable[[], bool]) -> None:
        """Wait until the leader has found the stop file or done without, or the file is gone."""
        stop_file = RunFolder(self.folder).stop_file
        while stop_file.exists() and not is_over():
            time.sleep(shares.POLL_SECONDS)

    def _is_over(self, session: str, stage: str) -> bool:
        said = self._hear()
        return said.session != session or said.has_ended or stage in said.finished

    def _hear(self) -> Saying:
        """Return what the leader says now; wait for it at first.

        Raises:
            ValueError: it failed, or has said nothing new for too long.
        """
        started = time.monotonic()
        while True:
            said, waited = self._read(), time.monotonic() - started
            self._first = self._first or said
            self._count_silence(said)
            is_new = (said.session, said.beat) != (self._first.session, self._first.beat)
            if said.session and (is_new or said.session == self._session):
                self._show(said.session)
                return said
            # killed, and back when all was done
            is_over = said.has_ended and not said.error and said.session == self._left
            if is_over and waited > self.return_seconds:
                return said
            time.sleep(shares.POLL_SECONDS)

    def _count_silence(self, said: Saying) -> None:
        """Say when the leader is silent for long, ask elsewhere whether it failed, and give up."""
        now, word = time.monotonic(), (said.session, said.beat)
        # it is no silence while this process was busy, or all were suspended
        seconds = min(now - self._looked, 2 * shares.POLL_SECONDS)
        self._looked = now
        if word != self._word or (said.has_ended and said.session == self._session):
            self._word, self._silent, self._asked = word, 0.0, 0.0
            return
        before, self._silent = self._silent, self._silent + seconds
        where = _meeting(self.folder)
        if before < SECONDS_UNTIL_SAID <= self._silent:
            # other ranks than the first are silent but for this
            show_error(
                f"pdtrain: rank {self.rank}: the first process says nothing in {where} for "
                f"{self._silent:.0f} s"
            )
        if self._silent > self.patience_seconds:
            raise ValueError(
                f"rank {self.rank} has waited {self.patience_seconds:.0f} s for the first process, "
                f"which says nothing in {where}; look at its output, and start all processes with "
                "the same out_dir on a file system that they share"
            )
        if self._silent - self._asked >= ASK_SECONDS:
            self._asked = self._silent
            self.ask()

    def _read(self) -> Saying:
        found = read_note(_meeting(self.folder) / "leader.json")
        if any(found.get("launch", {}).get(k, v) != v for k, v in self.launch.items()):
            return Saying()  # the same command was started twice, and that one has the run folder
        return Saying(**(found | {"finished": tuple(found["finished"])})) if found else Saying()

    def _show(self, session: str) -> None:
        if session != self._session:
            self._session = session
            write_note(self._own_file, {"session": session})
            say(f"rank {self.rank}: follows the first process")


def _meeting(folder: Path) -> Path:
    return folder / "ranks"


def _reason(error: BaseException, folder: Path) -> str:
    """Return why a process ends, in words where there are any."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return f"stopped by {str(error) or 'Ctrl-C'}"
    if isinstance(error, ValueError | Stopped):
        return str(error)
    return in_words(error, str(folder)) or type(error).__name__
