"""Detect this process's rank and world size from the launcher's environment.

`deepspeed`, `torchrun`, `srun` and Open MPI's `mpirun` each say them in variables of their own. An
indexed job of Kubernetes numbers its pods; how many there are must be set as WORLD_SIZE beside it.
What is found here is written back under torch's names, which DeepSpeed and torch read. At the first
rank's address there is a store of keys, which all ranks open before they are connected.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pdtrain.progress import Stopped

DEFAULT_PORT = 29500
TRY = timedelta(seconds=5)  # until the store is tried again
STOPPED = "the same command goes on from there"  # how the reason of a rank that was stopped ends
TOLD = re.compile(r"rank \d+ failed: ")  # how begins what a rank that failed tells the others


@dataclass(frozen=True)
class World:
    """Hold a process's place among the ranks, which count from 0; local is on this machine."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    ranks_per_node: int = 1
    launcher: str = "none"

    @property
    def num_nodes(self) -> int:
        """Return the number of machines."""
        return self.num_ranks // self.ranks_per_node

    @property
    def is_first(self) -> bool:
        """Return if this is the one rank that writes files, logs and talks."""
        return self.rank == 0


def find_world(variables: Mapping[str, str] | None = None) -> World:
    """Read this process's place from the launcher's variables; without any it is alone.

    Raises:
        ValueError: the variables contradict one another, or ranks are not spread evenly.
    """
    found = os.environ if variables is None else variables
    said = [n for n, names in LAUNCHERS.items() if all(name in found for name in names[:3])]
    if not said:
        if INDEX in found and "WORLD_SIZE" in found and not {"RANK", "LOCAL_RANK"} & found.keys():
            place, size = _number(found, INDEX), _number(found, "WORLD_SIZE")
            return _checked(World(place, size, 0, 1, "an indexed job"))
        if "WORLD_SIZE" in found and _number(found, "WORLD_SIZE") > 1:
            raise ValueError(
                "WORLD_SIZE is set, but not RANK and LOCAL_RANK: start one process a rank with "
                "`deepspeed`, `torchrun`, `srun` or `mpirun`, or unset WORLD_SIZE"
            )
        return World()
    _check_by_hand(found, said)
    return _checked(_world(found, said[0]))


INDEX = "JOB_COMPLETION_INDEX"  # of a pod, in an indexed job of Kubernetes
TORCH = "torchrun or deepspeed"
# Rank, number of ranks, rank on this machine; then what may hold the number on this machine. A
# launcher stands before those it may have been started with: mpirun reaches its nodes by srun.
LAUNCHERS = {
    TORCH: ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"),
    "mpirun": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    # the last is the job's wish, which a step may differ from, and is not always there
    "srun": (
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
        "SLURM_NTASKS_PER_NODE",
    ),
}


def _world(found: Mapping[str, str], launcher: str) -> World:
    names = LAUNCHERS[launcher]
    rank, num_ranks, local_rank = (_number(found, name) for name in names[:3])
    here = next((name for name in names[3:] if name in found), None)
    ranks_per_node = num_ranks if here is None else _even(found, here)
    return World(rank, num_ranks, local_rank, ranks_per_node, launcher)


def _check_by_hand(found: Mapping[str, str], said: list[str]) -> None:
    """Refuse a RANK that somebody exported, once for all ranks, before `srun` or `mpirun`.

    torchrun and deepspeed may run below another launcher, and number their ranks anew.
    """
    if said[0] != TORCH or "TORCHELASTIC_RUN_ID" in found or "CROSS_RANK" in found:
        return
    for other in said[1:2]:
        for mine, its in zip(LAUNCHERS[TORCH][:2], LAUNCHERS[other][:2], strict=True):
            if _number(found, mine) != _number(found, its):
                raise ValueError(
                    f"{mine}={found[mine]}, but {other} says {its}={found[its]}: unset RANK, "
                    f"WORLD_SIZE and LOCAL_RANK before {other}"
                )


def publish(world: World, variables: MutableMapping[str, str] | None = None) -> None:
    """Write the world under torch's names, for those who read only these.

    Raises:
        ValueError: several ranks and no address of the first.
    """
    found = os.environ if variables is None else variables
    if world.num_ranks > 1 and "MASTER_ADDR" not in found:
        if world.num_nodes > 1:
            raise ValueError(
                f"{world.launcher} started {world.num_ranks} ranks on {world.num_nodes} machines, "
                "but MASTER_ADDR is not set; set it to the address of rank 0's machine, for "
                'example with `export MASTER_ADDR=$(scontrol show hostnames "$SLURM_NODELIST" '
                "| head -n 1)`"
            )
        found["MASTER_ADDR"] = "127.0.0.1"
    found.setdefault("MASTER_ADDR", "127.0.0.1")
    found.setdefault("MASTER_PORT", str(DEFAULT_PORT))
    found["RANK"], found["WORLD_SIZE"] = str(world.rank), str(world.num_ranks)
    found["LOCAL_RANK"] = str(world.local_rank)
    found["LOCAL_WORLD_SIZE"] = str(world.ranks_per_node)
    found["LOCAL_SIZE"] = str(world.ranks_per_node)  # DeepSpeed's name, on CPUs


def _number(found: Mapping[str, str], name: str) -> int:
    try:
        return int(found[name])
    except ValueError:
        raise ValueError(f"{name}={found[name]!r} is not a number") from None


def _even(found: Mapping[str, str], name: str) -> int:
    """Return the ranks on each machine.

    Slurm writes 8(x2) for eight on two machines, and 8(x2),4 with a third.
    """
    parts = {re.sub(r"\(x\d+\)$", "", part) for part in found[name].split(",")}
    if len(parts) > 1:
        raise ValueError(
            f"{name}={found[name]}: the ranks are not the same number on every machine; set "
            "--ntasks-per-node"
        )
    return _number({name: parts.pop()}, name)


def _checked(world: World) -> World:
    if not (0 <= world.local_rank < world.ranks_per_node and 0 <= world.rank < world.num_ranks):
        raise ValueError(
            f"{world.launcher} says rank {world.rank} of {world.num_ranks}, and on this machine "
            f"{world.local_rank} of {world.ranks_per_node}: these cannot be"
        )
    if world.num_ranks % world.ranks_per_node:
        raise ValueError(
            f"{world.num_ranks} ranks are not {world.ranks_per_node} on every machine: start the "
            "same number on each"
        )
    if world.rank % world.ranks_per_node != world.local_rank:
        raise ValueError(
            f"rank {world.rank} is number {world.local_rank} of {world.ranks_per_node} on its "
            "machine: the ranks of a machine must follow one another; use `srun "
            "--distribution=block` or `mpirun --map-by slot`"
        )
    return world


# --- The store that the ranks meet at -----------------------------------------------------------


class RanksLost(ValueError):  # noqa: N818 - it is said to the user as it stands
    """Say that another rank failed, was lost, or did not come."""


def open_store(
    world: World,
    address: str,
    patience: timedelta,
    *,
    is_master: bool,
    say: Callable[[str], None],
    seconds_until_said: float,
) -> Any:
    """Return the store at an address, which one process holds and the others try until it is there.

    Args:
        world: this process among the ranks.
        address: host and port of the first rank.
        patience: how long the store is waited for.
        is_master: hold the store in this process.
        say: tells once, after so many seconds, that the store is waited for.

    Raises:
        RanksLost: nobody answers there, or this process cannot listen there.
    """
    import torch.distributed as dist  # the commands that only look at the world do without

    host, _, port = address.rpartition(":")
    started = time.monotonic()
    said = False
    while True:
        try:
            return dist.TCPStore(
                host, int(port), world.num_ranks, is_master, TRY, False, multi_tenant=True
            )
        except RuntimeError as error:
            waited = time.monotonic() - started
            if is_master or waited > patience.total_seconds():
                raise RanksLost(
                    f"rank {world.rank} cannot {'listen' if is_master else 'reach rank 0'}"
                    f" at {address} after {waited:.0f} s ({first_line(error)}); look at "
                    "rank 0's output, at MASTER_ADDR and at MASTER_PORT"
                ) from None
        if waited > seconds_until_said and not said:
            say(f"waiting for rank 0 at {address}")
            said = True


def prefix() -> str:
    """Return how the keys of this start of the ranks begin; torchrun's agent keeps its store."""
    return f"pdtrain/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def raise_reason(reason: str) -> None:
    """Raise what a rank told the others as it ended; nothing where that is empty."""
    if reason.endswith(STOPPED):
        raise Stopped(reason)
    if reason:
        raise RanksLost(reason)


def raise_if_told(world: World) -> None:
    """Raise why another rank has failed, where the first one's store is there and says so.

    Nothing is waited for: ranks that are not connected yet ask this while the first one is silent.

    Raises:
        RanksLost: a rank has failed.
        Stopped: a rank was stopped.
    """
    reason = ""
    with suppress(ValueError, OSError, RuntimeError):
        publish(world)
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        socket.create_connection((host, port), TRY.total_seconds()).close()
        import torch.distributed as dist  # the commands that only look at the world do without

        found = dist.TCPStore(host, port, world.num_ranks, False, TRY, False, multi_tenant=True)
        store = dist.PrefixStore(prefix(), found)
        if store.check(["failed"]):
            reason = store.get("failed").decode()
            store.set(f"heard/{world.rank}", "")
    raise_reason(reason)


def first_line(error: Exception) -> str:
    """Return the first line of an error of the store, which may have many."""
    return str(error).strip().splitlines()[0][:200]
