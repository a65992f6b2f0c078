"""Let the ranks of a launcher share what one stage asks, one part after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pdtrain.config import RunConfig
from pdtrain.distributed.world import find_world
from pdtrain.generation.workers import on_rank, ranks_each
from pdtrain.models.placement import give_back_memory
from pdtrain.processes.leading import Follower, Leader
from pdtrain.processes.shares import ALONE, POLL_SECONDS, Share
from pdtrain.progress import Stopped

LATE_SECONDS = 60.0  # longest that a shared file system hides a new file; NFS by default


@dataclass(frozen=True)
class Crew:
    """Share the parts of a stage with the other ranks of a launcher.

    Every rank calls `work_on` with the same parts in the same order, and leaves it when all are
    done with the part. One process does all by itself.

    Args:
        place: tells the others where the first of several ranks is, or follows it; None where this
            process is alone.
        num_ranks: how many share the work.
        ranks_per_node: of a machine.
        local_rank: this process's place among the ranks of its machine.
    """

    place: Leader | Follower | None = None
    num_ranks: int = 1
    ranks_per_node: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Return whether this process writes what the stage puts out."""
        return not isinstance(self.place, Follower)

    def work_on(
        self,
        config: RunConfig,
        part: str,
        work: Callable[[RunConfig, Share], object],
        *,
        stage: str = "",
    ) -> None:
        """Do this process's share of a part, if it has one, and wait for the others.

        Args:
            config: the run's config.
            part: a name that no other part of the run's stages has.
            work: does a share, with the config that names this process's GPUs.
            stage: whose engine the part uses, as `of_stage` says; by default the config's.

        Raises:
            Stopped: the run's stop file is there.
            ValueError: the first process has ended with an error, or does not come.
        """
        if self.place is None:
            _work(work, config, ALONE)
        elif isinstance(self.place, Follower):
            self.place.work_on(part, partial(self._follow, config, stage, work))
        else:
            each = ranks_each(config, self.num_ranks, self.ranks_per_node, stage)
            share = self.place.begin(part, each)
            try:
                mine = on_rank(config, 0, each, stage) if share.size > 1 else config
                _work(work, mine, share)
            except Stopped as stopped:  # connected ranks end together: those that wait must hear
                self.place.tell_end(stopped)
                raise
            self.place.finish(part)

    def wait_for(self, paths: Collection[Path], seconds: float = LATE_SECONDS) -> None:
        """Wait for files of the first process, which a shared file system may show others later.

        It ends without an error when the time is over: who reads the files says what is missing.
        """
        deadline = time.monotonic() + (0 if self.leads else seconds)
        while not all(path.exists() for path in paths) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _follow(
        self,
        config: RunConfig,
        stage: str,
        work: Callable[[RunConfig, Share], object],
        share: Share,
    ) -> None:
        each = self.num_ranks // share.size
        _work(work, on_rank(config, self.local_rank, each, stage), share)


def _work(work: Callable[[RunConfig, Share], object], config: RunConfig, share: Share) -> None:
    """Do a share, and give its memory back: the next part may be another process's, or training."""
    try:
        work(config, share)
    finally:
        give_back_memory()


ONE_PROCESS = Crew()


def crew_of(place: Leader | Follower | None) -> Crew:
    """Return the crew of this process, whose launcher says how many ranks there are."""
    world = find_world()
    return Crew(place, world.num_ranks, world.ranks_per_node, world.local_rank)
