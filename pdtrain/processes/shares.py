"""Divide a stage's units among the processes of a launcher, with a shared folder and nothing else.

The first process leads: it alone writes what a stage puts out, and says in `ranks/leader.json`,
again and again, which stage it is at. Every other process, a follower, believes what it says only
once it has said something new since the follower was started, for the file may be of an earlier
launch. Then it takes the units at its place in the list, and waits until the leader has moved on.
No process needs to know whether another one was killed and came back.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pdtrain.files.notes import read_note, write_note
from pdtrain.progress import Stopped, detail, say

BEAT_SECONDS = 1.0
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 1800.0  # of a follower, for a first process that was not started yet
RETURN_SECONDS = 60.0  # of a follower that was killed, for a new session to begin
GOODBYE_SECONDS = 120.0  # of the first process, for followers that come late to a finished stage


class Pool(Protocol):
    """Work on units in other processes, as `ray_pool.RayPool` does."""

    def done(self, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield each key with its records, or with why there are none."""
        ...


@dataclass(frozen=True)
class Share:
    """Hold which part of a stage's units is this process's: every `size`-th, from its rank on.

    Args:
        session: of the leader whose stage this is; tells its followers' failures from older ones.
        is_over: returns whether the leader has left the stage, or has begun anew.
        take: takes the units, and what works on them, in place of doing them.
        pool: does the units in other processes.
    """

    rank: int = 0
    size: int = 1
    session: str = ""
    is_over: Callable[[], bool] = lambda: False
    take: Callable[[Mapping[str, Any], Any], object] | None = None
    pool: Pool | None = None

    @property
    def leads(self) -> bool:
        """Return whether this process writes what the stage puts out."""
        return self.rank == 0

    def of(self, units: Iterable[str]) -> Iterator[str]:
        """Yield this process's units."""
        return islice(units, self.rank, None, self.size)

    def agree(self, folder: Path, settings_hash: str, units_hash: str) -> str | None:
        """Return the leader's hash of the stage's settings, by which all journals are named.

        A follower's own may differ, where its machine has the same model in files of another date.

        Returns:
            None where the leader is over before it has said so.

        Raises:
            ValueError: the leader has other units.
        """
        path = folder / "agreed.json"
        if self.leads:
            self.tell(path, {"settings": settings_hash, "units": units_hash})
            return settings_hash
        said = self.hear(path)
        if said is None:
            return None
        if said["units"] != units_hash:
            raise ValueError(
                f"rank {self.rank} and the first process read other inputs for {folder}; start all "
                "with the same config, and out_dir on a file system that they share"
            )
        return str(said["settings"])

    def tell(self, path: Path, value: dict[str, Any]) -> None:
        """Tell the followers something about this session's stage; the leader calls this."""
        write_note(path, value | {"session": self.session})

    def hear(self, path: Path) -> dict[str, Any] | None:
        """Return what the leader tells, once it does; None where it is over before."""
        while (said := read_note(path)).get("session") != self.session:
            if self.is_over():
                return None
            time.sleep(POLL_SECONDS)
        return said

    def report(self, folder: Path, failed: dict[str, str]) -> None:
        """Tell the leader which units of this share could not be done, and why."""
        if failed:
            write_note(
                folder / f"failed-{self.rank}.json", {"session": self.session, "units": failed}
            )

    def reported(self, folder: Path) -> dict[str, str]:
        """Return the units that followers could not do, by key, with the reasons."""
        found: dict[str, str] = {}
        for path in folder.glob("failed-*.json"):
            said = read_note(path)
            if said.get("session") == self.session:
                found |= said["units"]
        return found


ALONE = Share()


@dataclass(frozen=True)
class Saying:
    """Hold what the leader says."""

    session: str = ""
    beat: int = 0
    stage: str = ""  # that it is at; empty before the first and after the last one
    num_workers: int = 1  # that share the stage
    ranks_each: int = 1  # that a worker takes: the first of them works, the others wait
    finished: tuple[str, ...] = ()  # stages that this session has left behind
    error: str = ""  # why it ended
    is_stopped: bool = False  # it ended because it was asked to
    has_ended: bool = False


@dataclass
class Leader:
    """Say where the first process is, until it ends; followers are waited for as it leaves.

    Args:
        folder: of the run; the processes meet in its folder `ranks`.
        num_ranks: how many processes the launcher has started.
    """

    folder: Path
    num_ranks: int
    goodbye_seconds: float = GOODBYE_SECONDS
    _said: Saying = field(default_factory=lambda: Saying(session=uuid.uuid4().hex))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def begin(self, stage: str, ranks_each: int = 1) -> Share:
        """Say that a stage begins, and return the leader's share of it.

        Args:
            ranks_each: how many processes make one worker; the first of them works.
        """
        num_workers = max(1, self.num_ranks // ranks_each)
        self._say(stage=stage, num_workers=num_workers, ranks_each=ranks_each)
        return Share(0, num_workers, self._said.session)

    def finish(self, stage: str) -> None:
        """Say that a stage is finished."""
        self._say(stage="", finished=(*self._said.finished, stage))

    def __enter__(self) -> Leader:
        self._say()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self._wait_for_followers()
        self._over.set()
        self.tell_end(error)

    def tell_end(self, error: BaseException | None) -> None:
        """Say that this process ends, and because of which error, if any."""
        is_worded = isinstance(error, ValueError | Stopped)
        reason = str(error) if is_worded else type(error).__name__ if error else ""
        self._say(has_ended=True, error=reason, is_stopped=isinstance(error, Stopped))

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

    def _wait_for_followers(self) -> None:
        """Wait until all followers have seen this session: nobody would tell them of its end."""
        deadline = time.monotonic() + self.goodbye_seconds
        waits = set(range(1, self.num_ranks))
        while waits and time.monotonic() < deadline:
            seen = {rank for rank in waits if self._is_seen_by(rank)}
            waits -= seen
            if waits:
                time.sleep(POLL_SECONDS)
        if waits:
            detail(f"ranks: {len(waits)} of {self.num_ranks} processes have not shown themselves")

    def _is_seen_by(self, rank: int) -> bool:
        said = read_note(_meeting(self.folder) / f"{rank}.json")
        return bool(said.get("session") == self._said.session)


@dataclass
class Follower:
    """Follow the first process from stage to stage.

    Args:
        folder: of the run.
        rank: of this process, from 1.
    """

    folder: Path
    rank: int
    patience_seconds: float = PATIENCE_SECONDS
    return_seconds: float = RETURN_SECONDS
    _first: Saying | None = None  # what the leader's file held at the beginning: perhaps old
    _session: str = ""  # that this process has shown itself to
    _left: str = ""  # that this process's forerunner was killed in

    def __enter__(self) -> Follower:
        found = read_note(self._own_file)
        self._left = "" if found.get("has_left") else found.get("session", "")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # one that was interrupted comes back, perhaps when the leader is long done
        if self._session and kind is None:
            write_note(self._own_file, {"session": self._session, "has_left": True})

    @property
    def _own_file(self) -> Path:
        return _meeting(self.folder) / f"{self.rank}.json"

    def work_on(self, stage: str, work: Callable[[Share], object]) -> None:
        """Do this process's share of a stage, if it has one, and wait for the stage's end.

        Another session of the leader, which was killed and came back, may have other units: the
        share is then looked at again.

        Raises:
            Stopped: the leader was asked to stop.
            ValueError: the leader has ended with an error, or does not come.
        """
        done = ""
        while stage not in (said := self._hear()).finished and not said.has_ended:
            if said.stage == stage and said.session != done:
                worker, others = divmod(self.rank, said.ranks_each)
                if not others and worker < said.num_workers:
                    is_over = partial(self._is_over, said.session, stage)
                    work(Share(worker, said.num_workers, said.session, is_over))
                done = said.session
            time.sleep(POLL_SECONDS)
        if said.error:
            end = Stopped if said.is_stopped else ValueError
            raise end(f"the first process has ended: {said.error}")

    def _is_over(self, session: str, stage: str) -> bool:
        said = self._hear()
        return said.session != session or said.has_ended or stage in said.finished

    def _hear(self) -> Saying:
        """Return what the leader says now; wait for it at first."""
        started = time.monotonic()
        while True:
            said, waited = self._read(), time.monotonic() - started
            self._first = self._first or said
            is_new = (said.session, said.beat) != (self._first.session, self._first.beat)
            if said.session and (is_new or said.session == self._session):
                self._show(said.session)
                return said
            # killed, and back when all was done
            is_over = said.has_ended and not said.error and said.session == self._left
            if is_over and waited > self.return_seconds:
                return said
            if waited > self.patience_seconds:
                raise ValueError(
                    f"rank {self.rank} has waited {self.patience_seconds:.0f} s for the first "
                    f"process, which says nothing in {_meeting(self.folder)}; start all processes "
                    "with the same out_dir on a file system that they share"
                )
            time.sleep(POLL_SECONDS)

    def _read(self) -> Saying:
        found = read_note(_meeting(self.folder) / "leader.json")
        return Saying(**(found | {"finished": tuple(found["finished"])})) if found else Saying()

    def _show(self, session: str) -> None:
        if session != self._session:
            self._session = session
            write_note(self._own_file, {"session": session})
            say(f"rank {self.rank}: follows the first process")


def _meeting(folder: Path) -> Path:
    return folder / "ranks"
