"""Examine if the ranks of a launcher and their machines fit one another, for `pdtrain doctor`.

Every rank tells what it sees; the first one compares, and talks.
"""

from __future__ import annotations

import importlib.metadata
import platform
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import torch

from pdtrain.config import EngineConfig, RunConfig
from pdtrain.distributed.process_group import all_reduce_seconds, connected, gathered
from pdtrain.distributed.world import World
from pdtrain.planning.checks.machine import Finding
from pdtrain.storage import hash_json, sha256_file

PATIENCE = timedelta(minutes=2)  # for the last rank to come
PACKAGES = ("torch", "deepspeed", "transformers", "peft", "triton", "safetensors", "numpy")
CLOCK_SECONDS = 2.0  # clocks further apart mix up logs and the ages of files
MIB = 2**20
REDUCED_BYTES = {"nccl": 256 * MIB, "gloo": 16 * MIB}


@dataclass(frozen=True)
class Facts:
    """Hold what one rank sees."""

    host: str
    world: World
    versions: dict[str, str]
    config: str  # hash
    num_gpus: int
    clock: float  # seconds, read by all ranks at once
    problems: tuple[Finding, ...] = ()  # of its machine


def together(
    config: RunConfig | None,
    world: World,
    found: list[Finding],
    tell: Callable[[Finding], None],
    patience: timedelta = PATIENCE,
) -> bool:
    """Return if anything failed on any rank; all ranks take part and learn the same.

    Args:
        config: None where it could not be read.
        found: what this rank's own checks found; `tell` adds to it.
    """
    with connected(EngineConfig(), world, patience):
        gathered(None)  # all are here: the clocks are read at once
        facts = gathered(facts_here(config, world, time.time(), found))
        shared = folder_is_shared(config.folder.absolute() if config else None, world)
        bandwidth = all_reduce()
        if world.is_first:
            for finding in (*compare(facts), *shared, bandwidth):
                tell(finding)
        return gathered(any(finding.status == "FAIL" for finding in found))[0]


def facts_here(
    config: RunConfig | None, world: World, clock: float, found: Iterable[Finding]
) -> Facts:
    """Return what this rank sees, with what its machine's checks found wrong."""
    return Facts(
        host=socket.gethostname(),
        world=world,
        versions=versions(),
        config=hash_json(asdict(config)) if config else "",
        num_gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        clock=clock,
        problems=tuple(finding for finding in found if finding.status != "ok"),
    )


def versions() -> dict[str, str]:
    """Return the versions of Python, of what computes, and of pdtrain's own files."""
    known = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            known[name] = "missing"
    sources = [sha256_file(path) for path in sorted(Path(__file__).parents[2].rglob("*.py"))]
    return known | {"pdtrain's files": hash_json(sources)[:12]}


def compare(facts: list[Facts]) -> Iterator[Finding]:
    """Compare what all ranks see, given in their order."""
    yield from spread(facts)
    for name in facts[0].versions:
        yield from same(name, {fact.versions[name]: fact.host for fact in reversed(facts)})
    if differ := [n for n, fact in enumerate(facts) if fact.config != facts[0].config]:
        yield Finding("FAIL", f"ranks {differ} read another config than rank 0: one file for all")
    else:
        yield Finding("ok", "config: the same on all ranks")
    yield from clocks(facts)
    elsewhere: dict[Finding, list[str]] = {}
    for fact in facts:
        if fact.host != facts[0].host:  # the first rank has told its own
            for problem in fact.problems:
                elsewhere.setdefault(problem, []).append(fact.host)
    for problem, hosts in elsewhere.items():
        yield Finding(problem.status, f"{', '.join(hosts)}: {problem.text}")


def spread(facts: list[Facts]) -> Iterator[Finding]:
    """Check that each machine has the ranks that the launcher says, machine after machine."""
    world, counts = facts[0].world, Counter(fact.host for fact in facts)
    text = f"{world.num_ranks} ranks by {world.launcher}: " + ", ".join(
        f"{count} on {host}" for host, count in counts.items()
    )
    if set(counts.values()) != {world.ranks_per_node}:
        yield Finding(
            "FAIL",
            f"{text}; the launcher says {world.ranks_per_node} on each of {world.num_nodes} "
            "machines: start the same number on all, each with a hostname of its own",
        )
    elif len(list(groupby(facts, key=lambda fact: fact.host))) > len(counts):
        yield Finding(
            "FAIL",
            f"{text}, but not one machine after another, which engine.hpz needs: use `srun "
            "--distribution=block` or `mpirun --map-by slot`",
        )
    else:
        yield Finding("ok", text)
    blind = [n for n, fact in enumerate(facts) if 0 < fact.num_gpus <= fact.world.local_rank]
    if blind:
        yield Finding(
            "FAIL",
            f"ranks {blind} see fewer GPUs than there are ranks on their machine: let every rank "
            "see them all (--gpus-per-node, not --gpus-per-task), one rank a GPU",
        )
    if len({fact.num_gpus for fact in facts}) > 1:
        numbers = {fact.host: fact.num_gpus for fact in facts}
        yield Finding("FAIL", f"the machines' numbers of GPUs differ: {numbers}")


def same(name: str, found: dict[str, str]) -> Iterator[Finding]:
    """Check that there is one version; `found` maps each to the first machine that has it."""
    if len(found) > 1:
        listed = ", ".join(f"{version} on {host}" for version, host in found.items())
        yield Finding("FAIL", f"{name} differs: {listed}; install the same on all machines")


def clocks(facts: list[Facts]) -> Iterator[Finding]:
    """Check that the clocks of several machines agree."""
    if len({fact.host for fact in facts}) < 2:
        return
    read = [fact.clock for fact in facts]
    apart = max(read) - min(read)
    if apart > CLOCK_SECONDS:
        yield Finding("warn", f"the machines' clocks are {apart:.1f} s apart: set them by NTP")
    else:
        yield Finding("ok", f"the machines' clocks are within {max(apart, 0.1):.1f} s")


def folder_is_shared(folder: Path | None, world: World) -> list[Finding]:
    """Check that all ranks see what the first one writes into the run folder. All take part."""
    token, existed = "", bool(folder and folder.exists())
    if folder and world.is_first:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            token = secrets.token_hex(8)
            (folder / f".doctor-{token}").write_text(token)
        except OSError:
            token = ""  # the check of the disk has said why
    token = gathered(token)[0]
    seen = gathered((socket.gethostname(), not token or _reads(folder, token)))
    if folder and token and world.is_first:
        (folder / f".doctor-{token}").unlink()
        if not existed:
            folder.rmdir()
    blind = sorted({host for host, sees in seen if not sees})
    if not token:
        return []
    if blind:
        return [
            Finding(
                "FAIL",
                f"{folder}: {', '.join(blind)} does not see what rank 0 writes there; set out_dir "
                "to a folder that all machines share, by an absolute path",
            )
        ]
    return [Finding("ok", f"{folder}: all ranks see it")]


def _reads(folder: Path | None, token: str, patience_seconds: float = 5.0) -> bool:
    """Return if the file is there; a network's file system may show it some seconds late."""
    deadline = time.monotonic() + patience_seconds
    while folder:
        try:
            return (folder / f".doctor-{token}").read_text() == token
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
    return False


def all_reduce() -> Finding:
    """Measure the bytes of one all-reduce over its time. All ranks take part."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    size = REDUCED_BYTES[backend]
    seconds = all_reduce_seconds(size)
    return Finding(
        "ok",
        f"all-reduce of {size // MIB} MiB over {backend}: {size / seconds / 1e9:.2f} GB/s "
        f"({1000 * seconds:.1f} ms, median of 5)",
    )
