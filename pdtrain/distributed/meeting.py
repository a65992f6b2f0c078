"""Let ranks wait for one another in sight: who is missing is named, and a failure reaches all.

The first rank, or torchrun's agent, holds a store of keys from the beginning on, long before the
ranks are connected. In each rank a thread leaves a sign of life there and looks for the others'; a
second thread watches the first, which hangs where the process that holds the store is frozen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from pdtrain.distributed.world import (
    STOPPED,
    TOLD,
    TRY,
    RanksLost,
    World,
    first_line,
    open_store,
    prefix,
    publish,
    raise_reason,
)
from pdtrain.progress import show_error

SECONDS_BETWEEN_BEATS = 2.0
SECONDS_UNTIL_SAID = 60.0  # of waiting, or of silence
SECONDS_OF_SILENCE = 600.0  # then a rank is lost; PDTRAIN_SILENCE_SECONDS sets another time
SECONDS_TO_BE_HEARD = 10.0  # that a rank that failed stays for those that are here
BEATS_UNTIL_GONE = 2.5  # without which a rank is not waited for by one that failed
SECONDS_FOR_LATE_RANKS = 60.0  # that the first one stays for those that have not come yet
FAILED = 1


class Meeting:
    """Hold the store that the ranks of a run meet at.

    Args:
        world: this process among the ranks.
        patience: how long the first rank's store is waited for.

    Raises:
        RanksLost: nobody answers at the first rank's address.
    """

    def __init__(self, world: World, patience: timedelta) -> None:
        publish(world)
        self.world = world
        self.address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        self.store = self._open(world.is_first and not is_agents, patience)
        self._pulse_store = self._open(False, patience)  # the other one may wait inside a call
        self._answered = time.monotonic()  # when the store last did
        self.is_watching = False
        self.heard = ""  # what another rank said when it failed
        self._counts: dict[int, tuple[int, float]] = {}  # of each rank's signs of life, and when
        self._said: set[int] = set()
        self._rounds = 0
        self._holds_store = world.is_first and not is_agents
        self._gave_up = False  # waiting for a rank that did not come
        self._silence = float(os.environ.get("PDTRAIN_SILENCE_SECONDS", SECONDS_OF_SILENCE))
        for work in (self._beat, self._guard):
            threading.Thread(target=work, name=f"meeting{work.__name__}", daemon=True).start()

    def _open(self, is_master: bool, patience: timedelta) -> Any:
        store = open_store(
            self.world,
            self.address,
            patience,
            is_master=is_master,
            say=self._say,
            seconds_until_said=SECONDS_UNTIL_SAID,
        )
        return dist.PrefixStore(prefix(), store)

    def begin(self, patience: timedelta) -> Any:
        """Wait until all ranks are here, and return a store for their process group.

        The others wait as long as the first one lives, for it has stages to finish.

        Raises:
            RanksLost: a rank failed, gives no sign of life, or did not come in time.
        """
        self._rounds += 1
        self.is_watching = True
        try:
            self._gather(patience)
        except BaseException:
            self.is_watching = False
            raise
        # NCCL waits in this store for the first rank, by the store's own patience
        group = self._open(False, patience)
        group.set_timeout(patience)
        return dist.PrefixStore(f"{self._rounds}/group", group)

    def _gather(self, patience: timedelta) -> None:
        own = f"{self._rounds}/here/"
        self.store.set(f"{own}{self.world.rank}", "")
        if self.world.is_first:
            ranks = range(self.world.num_ranks)
            self._wait(
                lambda: [rank for rank in ranks if not self.store.check([f"{own}{rank}"])],
                patience.total_seconds(),
            )
            self.store.set(f"{self._rounds}/go", "")
        else:
            go = [f"{self._rounds}/go"]
            self._wait(lambda: [] if self.store.check(go) else [0], None)

    def _wait(self, missing: Callable[[], list[int]], seconds: float | None) -> None:
        """Wait until nobody is missing, and say after a minute who is."""
        started = time.monotonic()
        said = False
        while True:
            self.raise_if_lost()
            try:
                left = missing()
            except RuntimeError as error:
                raise RanksLost(self._gone(error)) from None
            if not left:
                return
            waited = time.monotonic() - started
            names = _names(left)
            if waited > SECONDS_UNTIL_SAID and not said:
                self._say(f"waiting for {names}")
                said = True
            if seconds is not None and waited > seconds:
                self._gave_up = True
                raise RanksLost(
                    f"rank {self.world.rank} waited {waited:.0f} s for {names}, which did not "
                    f"come to {self.address}; look at the output of {names}"
                )
            time.sleep(0.1 if waited < 5 else 0.5)

    def raise_if_lost(self) -> None:
        """Raise RanksLost where another rank has failed or given no sign of life for long."""
        raise_reason(self.heard)

    def leave(self) -> None:
        """Stop watching the others, and let them stop watching this rank.

        The first one waits some seconds for all: its store goes with it.
        """
        self.is_watching = False
        until = time.monotonic() + SECONDS_TO_BE_HEARD
        with suppress(RuntimeError):
            self.store.set(self._left(self.world.rank), "")
            names = [self._left(rank) for rank in range(self.world.num_ranks)]
            while self.world.is_first and time.monotonic() < until and not self.heard:
                if self.store.check(names):
                    break
                time.sleep(0.05)

    def _left(self, rank: int) -> str:
        return f"{self._rounds}/left/{rank}"

    def tell_failure(self, reason: str) -> None:
        """Tell the other ranks that this one failed; the first stays until they have heard it."""
        self.is_watching = False
        with suppress(RuntimeError):
            if not self.heard:
                self.store.set("failed", f"rank {self.world.rank} failed: {reason}")
            self.store.set(f"heard/{self.world.rank}", "")
            if self.world.is_first:
                self._stay_to_be_heard()

    def _stay_to_be_heard(self) -> None:
        """Keep the store until all have heard why this rank failed, a late one for a minute.

        Nothing is waited for of a rank that came and leaves no signs of life any more.
        """
        started, said = time.monotonic(), False
        stays = self._holds_store and not self._gave_up  # torchrun's agent keeps its store
        most = SECONDS_FOR_LATE_RANKS if stays else SECONDS_TO_BE_HEARD
        names = [f"heard/{rank}" for rank in range(self.world.num_ranks)]
        beats = dict(self._counts)  # of each rank, how many, and since when so many
        while not self.store.check(names):
            now = time.monotonic()
            for rank, name in enumerate(names):
                count = self._pulse_store.add(f"beat/{rank}", 0)
                if self.store.check([name]):
                    beats.pop(rank, None)
                elif beats.get(rank, (-1, now))[0] != count:
                    beats[rank] = (count, now)
            late = [rank for rank, (count, _) in beats.items() if not count]
            gone = now - BEATS_UNTIL_GONE * SECONDS_BETWEEN_BEATS
            is_here = any(count and since > gone for count, since in beats.values())
            waited = now - started
            if not ((is_here and waited <= SECONDS_TO_BE_HEARD) or (late and waited <= most)):
                return
            if late and waited > SECONDS_TO_BE_HEARD and not said:
                said = True
                self._say(f"staying a minute to tell {_names(late)}, late so far, why it failed")
            time.sleep(0.1)

    def _beat(self) -> None:
        """Leave signs of life and look for the others', until the process ends."""
        while not self.heard:
            try:
                self._pulse_store.add(f"beat/{self.world.rank}", 1)
                if self._pulse_store.check(["failed"]):
                    self.heard = self._pulse_store.get("failed").decode()
                    self._pulse_store.set(f"heard/{self.world.rank}", "")
                elif self.is_watching:
                    self._look()
            except RuntimeError as error:
                self.heard = self._gone(error)
            self._answered = time.monotonic()
            time.sleep(SECONDS_BETWEEN_BEATS)

    def _guard(self) -> None:
        """End this process where another rank is lost and the main thread cannot notice."""
        name = "rank 0, which the others meet at,"
        while not self.heard:
            time.sleep(SECONDS_BETWEEN_BEATS)
            silent = time.monotonic() - self._answered
            if self.is_watching and self._is_lost(0, name, silent):
                self.heard = f"{name} gave no sign of life for {silent:.0f} s"
        time.sleep(SECONDS_BETWEEN_BEATS)  # if it can, the main thread ends first
        if self.is_watching:
            self._say(f"{self.heard}; this rank ends too")
            os._exit(FAILED)  # it sits in a collective that nobody will finish

    def _is_lost(self, rank: int, name: str, seconds: float) -> bool:
        """Say once that a rank has been silent for long, and return if it has been for too long."""
        if seconds > min(SECONDS_UNTIL_SAID, self._silence / 2) and rank not in self._said:
            self._said.add(rank)
            self._say(f"{name} has given no sign of life for {seconds:.0f} s")
        return seconds > self._silence

    def _look(self) -> None:
        """Find out who has given no sign of life for long."""
        ranks = range(1, self.world.num_ranks) if self.world.is_first else [0]
        now = time.monotonic()
        for rank in ranks:
            count = self._pulse_store.add(f"beat/{rank}", 0)
            before, since = self._counts.get(rank, (-1, now))
            if count != before or self._pulse_store.check([self._left(rank)]):
                self._counts[rank] = (count, now)
                continue
            if self._is_lost(rank, f"rank {rank}", now - since):
                self.heard = f"rank {rank} gave no sign of life for {now - since:.0f} s"
                self._pulse_store.set("failed", self.heard)

    def _gone(self, error: RuntimeError) -> str:
        return (
            f"rank 0, which the others meet at, has gone from {self.address} "
            f"({first_line(error)}); look at its output"
        )

    def _say(self, text: str) -> None:
        # other ranks than the first are silent but for this
        show_error(f"pdtrain: rank {self.world.rank}: {text}")


_met: list[Meeting] = []


def meet(world: World, patience: timedelta = TRY) -> Meeting:
    """Return the meeting of this process's ranks, which is opened the first time."""
    if not _met:
        _met.append(Meeting(world, patience))
    return _met[0]


def listen(world: World) -> Callable[[], str]:
    """Return what says why another rank failed; where ranks cannot reach this one, it says nothing.

    For stages that ranks share through the run folder, which need no network.
    """
    try:
        meeting = meet(world)
    except ValueError:  # no address is set, or another program listens there
        return str
    return lambda: meeting.heard


def tell_failure(world: World, reason: str) -> None:
    """Tell the other ranks that this one failed, connected or not; nothing is raised.

    A rank that was stopped before it came is not missed: it may be started again. One that ends
    because another told so has nothing to tell.
    """
    is_news = not reason.endswith(STOPPED) and not TOLD.match(reason)
    if world.num_ranks > 1 and (_met or world.is_first or is_news):
        with suppress(ValueError, RuntimeError, OSError):
            meet(world).tell_failure(reason)


def reason_heard(seconds: float) -> str:
    """Return what another rank said when it failed, if it says so within some seconds."""
    until = time.monotonic() + seconds
    while _met and not _met[0].heard and time.monotonic() < until:
        time.sleep(0.1)
    return _met[0].heard if _met else ""


def _names(ranks: list[int]) -> str:
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks[:8]))}"
