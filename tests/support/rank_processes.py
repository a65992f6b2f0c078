"""Ranks that share a stage through its folder, each in a process of its own."""

from __future__ import annotations

import multiprocessing

from pdtrain.processes.leading import Follower, Leader

fork = multiprocessing.get_context("fork")


def lead_or_follow(folder, name, rank, num_ranks, work):
    """Do what a rank of a launcher does: lead, or follow. `work` gets its share of the stage."""
    if rank:
        with Follower(folder, rank, patience_seconds=20, return_seconds=0.3) as follower:
            follower.work_on(name, work)
        return
    with Leader(folder, num_ranks, goodbye_seconds=20) as leader:
        work(leader.begin(name))
        leader.finish(name)


def start(run_rank, place, ranks, num_ranks, seconds=0.0):
    """Start `run_rank(place, rank, num_ranks, seconds)` for each rank, and return the processes."""
    found = {}
    for rank in ranks:
        found[rank] = fork.Process(target=run_rank, args=(place, rank, num_ranks, seconds))
        found[rank].start()
    return found


def join(processes, seconds):
    """Wait so long for each of the processes; all must end well."""
    for rank, process in processes.items():
        process.join(seconds)
        assert process.exitcode == 0, f"rank {rank}: {process.exitcode}"
