"""Check what this machine's GPUs will hold of a model: to write with it, and to train it."""

from __future__ import annotations

from dataclasses import replace

from pdtrain.config import RunConfig
from pdtrain.distributed.world import World
from pdtrain.models import placement
from pdtrain.models.placement import Gpu
from pdtrain.planning import automatic
from pdtrain.planning.checks.machine import GIB, Finding, Findings
from pdtrain.planning.estimate import estimate_of, world_of
from pdtrain.planning.fit import on_machine, shape_for, training_obstacle


def writing(config: RunConfig) -> Findings:
    """Check that one process can hold the whole base, which all stages but training do."""
    model, gpus = placement.skeleton_of(config.model), placement.gpus_of(config.model)
    need = placement.need_of(model, config.model)
    text = f"to write, evaluate and export: {need.weights / GIB:.1f} GiB of weights"
    try:
        found = placement.place(config.model, model, need, gpus)
    except ValueError as error:
        yield Finding("FAIL", str(error))
        return
    first = gpus[0]
    if found:
        yield Finding("ok", f"{text} over GPUs {sorted(set(found.values()))}")
    elif first.free < need.comfortable:
        yield Finding(
            "warn",
            f"{text} on GPU {first.index}, {first.free / GIB:.1f} GiB free: tight; lower "
            "evaluate.batch_size, or show this process more GPUs",
        )
    else:
        yield Finding("ok", f"{text} on GPU {first.index}, {first.free / GIB:.1f} GiB free")


def training(config: RunConfig, world: World) -> Findings:
    """Check that each rank can hold what training puts on its GPU.

    Without a launcher, a model that one process cannot train is judged by the cluster of the
    config's `plan` section: that is what it is meant to be started on.
    """
    judged, gpus = world, placement.gpus_of(config.model)
    if world.num_ranks == 1 and training_obstacle(config, world):
        judged = world_of(config)
        if judged.num_ranks == 1 or judged.ranks_per_node > len(gpus):
            reason = training_obstacle(config, world)
            yield Finding("FAIL", f"{reason}; {len(gpus)} GPUs are visible here")
            return
    if reason := training_obstacle(config, judged):
        yield Finding("FAIL", reason)
        return
    yield _peak(config, judged, gpus[min(world.local_rank, len(gpus) - 1)], world)


def _peak(config: RunConfig, judged: World, gpu: Gpu, world: World) -> Finding:
    """Compare the worst moment of a step, by the plan's arithmetic, with the memory of a GPU."""
    shape = shape_for(config)
    if shape is None:
        return Finding("warn", "to train: no estimate for this architecture")
    here = on_machine(config, judged, gpu.total)
    chosen = automatic.choose(config, here, shape, judged).config
    made = estimate_of(replace(chosen, plan=here.plan), shape)
    shards = (made.memory.base_shard + made.memory.second_shard) / GIB
    how = "one process" if judged.num_ranks == 1 else f"{judged.num_ranks} ranks"
    start = " (start it under a launcher)" if judged.num_ranks > world.num_ranks else ""
    text = (
        f"to train with {how}{start}: {shards:.1f} GiB of the base on each GPU, at most "
        f"{made.peak_bytes / GIB:.1f} GiB by the arithmetic of `pdtrain plan`, "
        f"{gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free"
    )
    if made.peak_bytes <= min(gpu.free + here.plan.reserve_gib * GIB, gpu.total):
        return Finding("ok", text)
    return Finding(
        "warn",
        f"{text}: tight; lower train.answers_per_micro_batch, or take what `pdtrain plan` proposes",
    )
