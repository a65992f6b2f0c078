"""Choose ZeRO's stage and gradient checkpointing where they are `auto`, by the plan's arithmetic.

Of what fits the GPUs with a margin, the fastest is taken, and of equals the simplest. On a CPU
`auto` is stage 3 without checkpointing. A value that the config gives is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from pdtrain.config import RunConfig
from pdtrain.distributed.process_group import gathered, uses_deepspeed
from pdtrain.distributed.world import World
from pdtrain.models.base import device_of
from pdtrain.models.shape import Shape
from pdtrain.planning.estimate import estimate_of
from pdtrain.planning.fit import on_machine, shape_for
from pdtrain.planning.memory_model import GIB

MARGIN = 0.1  # of a GPU's memory that a choice leaves free, beside plan.reserve_gib
STAGES: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)  # stage 0 keeps no fp32 masters


@dataclass(frozen=True)
class Choice:
    """Hold a config without `auto`, and why each knob has its value: a line for each."""

    config: RunConfig
    reasons: tuple[str, ...] = ()


def for_machine(config: RunConfig, world: World) -> Choice:
    """Return the choice for the GPUs that are there, the same on every rank. All ranks take part.

    The smallest GPU of all ranks counts, by its whole memory: what is free differs between them.
    """
    if not config.is_automatic:
        return Choice(config)
    device = device_of(config.model)
    own = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    smallest = min(gathered(own))
    if not smallest:
        return _chosen(config, _without_estimate(config, world), "on a CPU")
    if (shape := shape_for(config)) is None:
        made = _without_estimate(config, world)
        return _chosen(config, made, "no estimate for this architecture")
    return choose(config, on_machine(config, world, smallest), shape, world)


def choose(config: RunConfig, planned: RunConfig, shape: Shape, world: World) -> Choice:
    """Return the choice for the cluster that a config's `plan` section describes, if one is asked.

    Args:
        config: what the choice is put into.
        planned: the same with the cluster to choose for.
    """
    if not config.is_automatic:
        return Choice(config)
    try:
        found = [(estimate_of(one, shape), one) for one in _candidates(planned, world)]
    except ValueError as error:  # training will say it
        return _chosen(config, planned, f"no estimate: {error}")
    limit = planned.plan.gpu_memory_gib * GIB
    fits = [pair for pair in found if pair[0].peak_bytes <= (1 - MARGIN) * limit]
    on = f"on {world.num_ranks} GPUs of {limit / GIB:.0f} GiB"
    if fits:
        made, best = min(fits, key=lambda pair: (pair[0].step.worst, _simplicity(pair[1])))
        why = f"the fastest that fits {on} with {MARGIN:.0%} to spare"
    else:
        made, best = min(found, key=lambda pair: (pair[0].peak_bytes, _simplicity(pair[1])))
        why = f"takes the least memory, for nothing fits {on} with {MARGIN:.0%} to spare"
    return _chosen(
        config, best, f"{why}: {made.peak_bytes / GIB:.1f} GiB, {made.step.span(1)} s a step"
    )


def _candidates(config: RunConfig, world: World) -> Iterator[RunConfig]:
    """Yield the config with each value of what is left to `auto`."""
    given = config.engine.zero_stage
    stages = STAGES if given == "auto" else (given,)
    if given == "auto" and (config.engine.offload_base or not uses_deepspeed(config.engine, world)):
        stages = (3,)  # what is offloaded is spread; and one process spreads nothing
    elif given == "auto" and config.rollout.share:
        stages = (1, 2)  # the student writes with a base that its rank holds whole
    again = config.train.gradient_checkpointing
    for stage in stages:
        for checkpoints in (False, True) if again == "auto" else (again,):
            yield _with(config, stage, checkpoints)


def _without_estimate(config: RunConfig, world: World) -> RunConfig:
    """Return the config with stage 2 in the place of `auto` where 3 would leave nobody to write."""
    writes = bool(config.rollout.share) and uses_deepspeed(config.engine, world)
    if config.engine.zero_stage != "auto" or config.engine.offload_base or not writes:
        return config
    return _with(config, 2, config.train.checkpoints)


def _simplicity(config: RunConfig) -> tuple[int, bool]:
    return config.engine.stage, config.train.checkpoints


def _with(config: RunConfig, stage: int, checkpoints: bool) -> RunConfig:
    engine = replace(config.engine, zero_stage=stage)  # type: ignore[arg-type]
    return replace(
        config, engine=engine, train=replace(config.train, gradient_checkpointing=checkpoints)
    )


def _chosen(config: RunConfig, like: RunConfig, why: str) -> Choice:
    """Return the config with another's stage and checkpointing, and what was left to `auto`."""
    chosen = _with(config, like.engine.stage, like.train.checkpoints)
    values = {
        "engine.zero_stage": (config.engine.zero_stage, str(chosen.engine.stage)),
        "train.gradient_checkpointing": (
            config.train.gradient_checkpointing,
            str(chosen.train.checkpoints).lower(),
        ),
    }
    reasons = (
        f"{key}={value} (auto): {why}" for key, (was, value) in values.items() if was == "auto"
    )
    return Choice(chosen, tuple(reasons))
