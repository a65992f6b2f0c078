"""Hold which part of a stage's units is a process's, and what processes tell one another of it.

`leading` says which process leads, and how the others follow it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pdtrain.files.notes import read_note, write_note

POLL_SECONDS = 0.5


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
        look_after: raises an error where a process that the leader waits for has failed.
    """

    rank: int = 0
    size: int = 1
    session: str = ""
    is_over: Callable[[], bool] = lambda: False
    take: Callable[[Mapping[str, Any], Any], object] | None = None
    pool: Pool | None = None
    look_after: Callable[[], object] = bool

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
        """Return the units that followers could not do, by key, with the reasons.

        Raises:
            ValueError: a follower has failed, and did not come back.
        """
        self.look_after()
        found: dict[str, str] = {}
        for path in folder.glob("failed-*.json"):
            said = read_note(path)
            if said.get("session") == self.session:
                found |= said["units"]
        return found


ALONE = Share()
