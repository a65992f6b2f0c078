"""Connect the ranks of one run, and let them tell one another things outside a step."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from pdtrain.config import EngineConfig
from pdtrain.distributed import shared_buffers
from pdtrain.distributed.meeting import meet
from pdtrain.distributed.world import World, publish
from pdtrain.progress import Stopped


def uses_deepspeed(config: EngineConfig, world: World) -> bool:
    """Return if DeepSpeed runs the steps; `auto` takes it under a launcher with several ranks.

    Raises:
        ValueError: one plain process was asked for, and several were started.
    """
    if config.kind == "plain" and world.num_ranks > 1:
        raise ValueError(
            f"engine.kind=plain is one process, but {world.launcher} started {world.num_ranks}; "
            "leave engine.kind at auto"
        )
    return config.kind == "deepspeed" or world.num_ranks > 1


def prepare_deepspeed() -> None:
    """Have DeepSpeed use the CPU where torch finds no accelerator; what the user has set stays.

    To be called before DeepSpeed is imported, which would look for device files by itself, and
    warn that it found none. Torch is asked, for it knows: a container may hold GPUs 4 to 7 alone,
    and WSL2 has no device file of that name at all.
    """
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def usual_patience() -> timedelta:
    """Return how long the first rank waits for the last one to come, and collectives for ranks."""
    return timedelta(minutes=float(os.environ.get("DEEPSPEED_TIMEOUT", "30")))


@contextmanager
def connected(
    config: EngineConfig, world: World, patience: timedelta | None = None
) -> Iterator[None]:
    """Connect all ranks; the others wait for the first, which may have stages to finish.

    One process that needs no DeepSpeed is connected to nothing.

    Args:
        patience: how long the others wait for the first one to appear, which it does before its
            first stage; at most, and by default, `usual_patience`. Once it has, they wait as long
            as it lives. It waits for them as long as they for it.

    Raises:
        RanksLost: a rank failed before it was connected, was lost, or did not come; it is named.
    """
    if not uses_deepspeed(config, world) or dist.is_initialized():
        yield
        return
    publish(world)
    prepare_deepspeed()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        if world.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"rank {world.rank} is number {world.local_rank} on its machine and sees "
                f"{torch.cuda.device_count()} GPUs; let every rank see all of them (Slurm: "
                "--gpus-per-node, not --gpus-per-task), or start fewer ranks"
            )
        torch.cuda.set_device(world.local_rank)
    elif world.local_rank == 0:
        shared_buffers.sweep()
    timeout = min(patience or usual_patience(), usual_patience())
    meeting = meet(world, timeout) if world.num_ranks > 1 else None
    if meeting:
        store = meeting.begin(timeout)
    else:
        store, _, _ = next(dist.rendezvous("env://", timeout=timeout))
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=world.rank,
        world_size=world.num_ranks,
        timeout=timeout,
        # NCCL would guess the GPU from the rank's number, and warn
        device_id=torch.device("cuda", world.local_rank) if on_gpu else None,
    )
    try:
        yield
    except Stopped:  # on every rank at once, as after a whole run
        if meeting:
            meeting.leave()
        shared_buffers.remove_own(world.rank)
        dist.destroy_process_group()
        raise
    if meeting:
        meeting.leave()
    shared_buffers.remove_own(world.rank)
    # After any other error the group is left as it is: NCCL's teardown waits for the other ranks,
    # which may sit in a collective that this one has left, and would hide the error for as long.
    dist.destroy_process_group()


def gathered(value: Any) -> list[Any]:
    """Return every rank's value in the order of the ranks; unconnected, this process's own."""
    if not dist.is_initialized():
        return [value]
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def on_every_rank(work: Callable[[], Any]) -> Any:
    """Return what `work` gives on this rank. All ranks take part.

    Raises:
        ValueError: on every rank, when it does on any: alone, one would leave the others waiting.
    """
    found, reason = None, ""
    try:
        found = work()
    except ValueError as error:
        reason = str(error)
    if reasons := [said for said in gathered(reason) if said]:
        raise ValueError(reasons[0])
    return found


def from_first(value: Any) -> Any:
    """Return the first rank's value on every rank; unconnected, this process's own.

    What ranks must agree on before they call collectives is decided by one of them: machines may
    see a shared folder at different times, or files with other dates.
    """
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def all_reduce_seconds(num_bytes: int, rounds: int = 5) -> float:
    """Return the median time of one all-reduce of so many bytes. All connected ranks take part."""
    buffer = torch.zeros(num_bytes // 4, device="cuda" if torch.cuda.is_available() else "cpu")
    seconds = []
    for _ in range(2 + rounds):  # the first ones open connections
        float(buffer[0])  # waits for a GPU
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(buffer)
        float(buffer[0])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])
