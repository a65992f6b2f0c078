"""Work on the units of a stage, one after the other or several at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from pdtrain.files.journal import Journal
from pdtrain.files.spans import Spans
from pdtrain.processes.interrupt import end_if_asked
from pdtrain.processes.shares import Share
from pdtrain.processes.threads import Pool
from pdtrain.progress import at_work, progress, say

# failures one after the other, beside those of units at work at the same time: nothing works then
MOST_FAILURES = 8
Unit = TypeVar("Unit")
Work = Callable[[str, Unit], list[dict[str, Any]]]


class UnitFailed(ValueError):  # noqa: N818 - the stage goes on
    """Say why a unit cannot be done now, though others perhaps can: the stage goes on with them."""


@dataclass
class Worker(Generic[Unit]):
    """Work on units, several at the same time, and give up where one after the other fails.

    Args:
        stop_file: is looked for after each unit.
    """

    work: Work[Unit]
    at_once: int = 1
    on_done: Callable[[str], object] = lambda _: None
    stop_file: Path | None = None
    _failures: int = field(default=0, init=False)  # since the last unit that was done

    def do_share(
        self,
        folder: Path,
        name: str,
        units: Mapping[str, Unit],
        unit_name: str,
        spans: Spans,
        settings_hash: str,
        share: Share,
    ) -> dict[str, str]:
        """Do what is missing of a share, and add it to the spans; return what failed, and why.

        Raises:
            Stopped: the stop file is there; the units that were done are in the journal.
        """
        num_own = sum(1 for _ in share.of(units))
        missing = sum(1 for unit in share.of(units) if unit not in spans)
        part = f" (rank {share.rank}'s share of {len(units)})" if share.size > 1 else ""
        say(f"{name}: {missing} of {num_own} {unit_name} to do{part}")
        failed: dict[str, str] = {}
        if not missing and not share.leads:
            return failed
        with (
            progress(name, num_own, unit_name, done=num_own - missing) as advance,
            Journal(folder, settings_hash, share.rank) as journal,
        ):
            left = (unit for unit in share.of(units) if unit not in spans)
            pairs = ((unit, units[unit]) for unit in left)
            for unit, made in share.pool.done(left) if share.pool else self.done(pairs):
                self._check(made)
                if isinstance(made, UnitFailed):
                    failed[unit] = str(made)
                else:
                    spans[unit] = journal.add(unit, made)
                    self.on_done(unit)
                advance()
                end_if_asked(self.stop_file, at_work())
        return failed

    def done(
        self, units: Iterable[tuple[str, Unit]]
    ) -> Iterator[tuple[str, list[dict[str, Any]] | UnitFailed]]:
        """Yield each unit's key and its records, or why there are none, as they come."""
        if self.at_once == 1:
            for key, unit in units:
                yield key, self._tried(key, unit)
            return
        pool, left = Pool(self.at_once), iter(units)
        running: dict[Future[Any], str] = {}
        try:
            while True:
                for key, unit in islice(left, 2 * self.at_once - len(running)):
                    running[pool.submit(self._tried, key, unit)] = key
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()

    def _tried(self, key: str, unit: Unit) -> list[dict[str, Any]] | UnitFailed:
        try:
            return self.work(key, unit)
        except UnitFailed as failure:
            return failure

    def _check(self, made: list[dict[str, Any]] | UnitFailed) -> None:
        """Raise ValueError where one unit after the other fails."""
        self._failures = self._failures + 1 if isinstance(made, UnitFailed) else 0
        if self._failures > MOST_FAILURES + 2 * self.at_once:
            raise ValueError(f"{self._failures} failures one after the other, the last: {made}")
