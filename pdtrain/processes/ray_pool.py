"""Work on a stage's units with the actors of a Ray cluster, each of which holds a backend.

An actor calls the stage's own function, which hands over its units and how to work on them instead
of beginning. Then it is told keys, one after the other, and returns records, which the process that
was started writes. So the records are those of one process, and only keys and records travel.

An actor that is lost takes its units to others, and a new one is started where there is room. The
cluster may grow and shrink: every few seconds as many actors are started as it holds.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from typing import Any

from pdtrain.errors import how_to_install
from pdtrain.processes.shares import Share
from pdtrain.processes.workers import UnitFailed
from pdtrain.progress import detail, say

MOST_LOSSES = 4  # of a unit's actors, after which the unit counts as what ends them
MOST_DEATHS = 8  # of actors one after the other, before any unit was done
SECONDS_BETWEEN_COUNTS = 5.0  # of what the cluster holds
IN_FLIGHT = 2  # units that an actor is told, for each that it works on


class Actor:
    """Work on the units that it is told; an instance lives in a process of the cluster.

    Args:
        settings: the config, as YAML.
        stage: whose units these are.
    """

    def __init__(self, settings: str, stage: str) -> None:
        self.settings, self.stage = settings, stage
        self.units: Mapping[str, Any] = {}
        self.work: Any = None

    def open(self) -> None:
        """Read the stage's units; the backend is opened with the first one."""
        from pdtrain.config import from_yaml

        share = Share(1, 2, take=self._take)
        function = import_module("pdtrain.api").stage_function(self.stage)
        function(from_yaml(self.settings), share=share)
        if self.work is None:
            raise ValueError("an actor finds nothing to do where the first process does")

    def _take(self, units: Mapping[str, Any], work: Any) -> None:
        self.units, self.work = units, work

    def do(self, key: str) -> dict[str, Any]:
        """Return the records of a unit, or why it failed."""
        if key not in self.units:
            raise ValueError(
                "an actor and the first process read other inputs; out_dir and all inputs must lie "
                "on a file system that all machines of the cluster share, under the same paths"
            )
        try:
            return {"records": self.work(key, self.units[key])}
        except UnitFailed as failure:
            return {"failed": str(failure)}


@dataclass
class RayPool:
    """Keep as many actors as a cluster holds, and divide keys among them.

    Args:
        stage: whose units are worked on.
        settings: the config, as YAML.
        address: of the cluster; empty starts one on this machine, or takes that of RAY_ADDRESS.
        most: actors at the same time; 0 for as many as the cluster holds at the time.
        cpus, gpus: that an actor takes.
        at_once: units that an actor works on at the same time.
    """

    stage: str
    settings: str
    address: str = ""
    most: int = 0
    cpus: float = 1.0
    gpus: float = 0.0
    at_once: int = 1
    _opening: dict[Any, Any] = field(default_factory=dict)  # actors by the future of their opening
    _load: Counter[Any] = field(default_factory=Counter)  # units that an open actor was told
    _deaths: int = 0  # since a unit was done

    def done(self, keys: Iterable[str]) -> Iterator[tuple[str, list[dict[str, Any]] | UnitFailed]]:
        """Yield each key with its records, or with why there are none, as they come.

        Raises:
            ValueError: there is no Ray or no such cluster, it has no room for an actor, or an
                actor could not open the stage.
        """
        left = iter(keys)
        first = next(left, None)
        if first is None:
            return
        ray = _connected(self.address)
        try:
            yield from self._work(ray, chain([first], left))
        finally:
            for actor in [*self._load, *self._opening.values()]:
                ray.kill(actor)
            self._load.clear()
            self._opening.clear()
            ray.shutdown()

    def _work(
        self, ray: Any, left: Iterator[str]
    ) -> Iterator[tuple[str, list[dict[str, Any]] | UnitFailed]]:
        running: dict[Any, tuple[str, Any]] = {}
        again: list[str] = []
        losses: Counter[str] = Counter()
        counted_at = -SECONDS_BETWEEN_COUNTS
        is_over = False  # all keys were given to somebody
        while not (is_over and not running and not again):
            if time.monotonic() - counted_at > SECONDS_BETWEEN_COUNTS:
                counted_at = time.monotonic()
                self._grow(ray)
            for actor in self._load:
                while self._load[actor] < IN_FLIGHT * self.at_once and not is_over:
                    key = again.pop() if again else next(left, None)
                    if key is None:
                        is_over = True
                        break
                    running[actor.do.remote(key)] = key, actor
                    self._load[actor] += 1
            futures = [*running, *self._opening]
            if not futures:  # until there are actors again
                time.sleep(0.1)
            ready, _ = ray.wait(futures, num_returns=1, timeout=1.0) if futures else ([], None)
            for future in ready:
                if future in self._opening:
                    self._open(ray, future)
                    continue
                if future not in running:  # of an actor whose loss another one has told
                    continue
                key, actor = running[future]
                made = self._result(ray, future)
                if made is None:
                    self._lose(actor)
                    told = [one for one, (_, who) in running.items() if who is actor]
                    is_over = False
                    for place, one in enumerate(told):
                        key, _ = running.pop(one)
                        losses[key] += place < self.at_once  # it was not waiting
                        if losses[key] < MOST_LOSSES:
                            again.append(key)
                        else:
                            yield key, UnitFailed(f"{MOST_LOSSES} workers were lost over it")
                    continue
                del running[future]
                self._deaths = 0
                if actor in self._load:
                    self._load[actor] -= 1
                failed = made.get("failed")
                yield key, made["records"] if failed is None else UnitFailed(failed)

    def _grow(self, ray: Any) -> None:
        """Start as many actors as were asked for, or as the cluster holds now.

        Those for which there is no room yet wait, and a cluster that scales itself makes room.
        """
        there = ray.cluster_resources()
        holds = int(there.get("CPU", 0) // self.cpus) if self.cpus else 10**6
        if self.gpus:
            holds = min(holds, int(there.get("GPU", 0) // self.gpus))
        if not holds and not self.most:
            raise ValueError(
                f"the Ray cluster has {there.get('CPU', 0):.0f} CPUs and {there.get('GPU', 0):.0f} "
                f"GPUs, and a worker takes {self.cpus:g} and {self.gpus:g}; lower "
                "generation.ray.cpus or generation.ray.gpus, or set generation.ray.workers to wait "
                "until there is room"
            )
        number = self.most or holds
        more = number - len(self._load) - len(self._opening)
        kind = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_concurrency=self.at_once)
        for _ in range(more):
            actor = kind(Actor).remote(self.settings, self.stage)
            self._opening[actor.open.remote()] = actor
        if more > 0:
            detail(f"ray: {number} workers")

    def _open(self, ray: Any, future: Any) -> None:
        actor = self._opening.pop(future)
        self._load[actor] = 0
        if self._result(ray, future) is None:
            self._lose(actor)

    def _lose(self, actor: Any) -> None:
        """Take note that an actor is lost; all units that it was told say so."""
        if actor not in self._load:
            return
        del self._load[actor]
        say(f"{self.stage}: a worker of the Ray cluster was lost; others do its work")
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise ValueError(
                f"{self._deaths} workers of the Ray cluster were lost one after the other; Ray's "
                "logs say why, most often too little memory: set generation.ray.workers"
            )

    def _result(self, ray: Any, future: Any) -> dict[str, Any] | None:
        """Return what an actor returned; None where the actor was lost.

        Raises:
            ValueError: as the actor raised it.
        """
        try:
            return ray.get(future) or {}
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            raise cause if isinstance(cause, Exception) else error from None
        except ray.exceptions.RayError as error:  # of its process, its machine, or the way to it
            detail(f"ray: {type(error).__name__}")
            return None


def _connected(address: str) -> Any:
    """Return the module ray, connected to a cluster."""
    try:
        import ray
    except ImportError:
        raise ValueError(
            "generation.executor=ray needs Ray, which is not installed here: "
            f"{how_to_install('ray')}"
        ) from None
    try:
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"no Ray cluster at {address or 'this machine'} ({type(error).__name__}); start one "
            "with `ray start --head`, and give its address as generation.ray.address"
        ) from None
    return ray
