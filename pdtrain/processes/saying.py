"""Hold what the first process says of itself, and by which launch it is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

# variables in which processes of one launch never differ, though not all of them may have each
LAUNCH = ("MASTER_PORT", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")
# of Slurm's jobs whose parts may have ids of their own, and that torchrun may join all the same
APART = frozenset({"SLURM_ARRAY_JOB_ID", "SLURM_HET_SIZE"})


def launch_of(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return by what a process's launch is told from another one in the same run folder."""
    found = {name: variables[name] for name in LAUNCH if name in variables}
    if APART.intersection(variables):
        found.pop("SLURM_JOB_ID", None)
    return found


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
    launch: dict[str, str] = field(default_factory=dict)  # see `launch_of`
