"""Compute how long a step takes at the rates of the plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pdtrain.config import RunConfig
from pdtrain.distributed import zero
from pdtrain.distributed.world import World
from pdtrain.models import flops
from pdtrain.models.flops import Reading
from pdtrain.models.shape import Shape, stored, weights_of
from pdtrain.planning.memory_model import bytes_of, offloads
from pdtrain.planning.traffic import Traffic, moved, traffic_of
from pdtrain.planning.workload import Work, largest_call, passage_work, per_answer, work_of


@dataclass(frozen=True)
class Time:
    """Hold seconds of work; links work beside the GPU at best, and after it at worst."""

    compute: float
    links: float

    @property
    def best(self) -> float:
        """Return the seconds where links work beside the GPU."""
        return max(self.compute, self.links)

    @property
    def worst(self) -> float:
        """Return the seconds where links work after the GPU."""
        return self.compute + self.links

    def span(self, scale: float) -> str:
        """Return the best and the worst time as text, in seconds times `scale`."""
        return f"{self.best * scale:,.2f} to {self.worst * scale:,.2f}"


def step_time(config: RunConfig, shape: Shape, world: World) -> Time:
    """Return the time of one step at plan.*'s rates, without the update of the adapter."""
    work = work_of(config, world.num_ranks)
    compute = work.micro_batches * micro_step_flops(config, shape, work) / _flops_rate(config)
    found = traffic_of(config, shape, world)
    return Time(compute, _link_time(config, world, found, work.micro_batches))


def caching_time(config: RunConfig, shape: Shape, world: World) -> Time:
    """Return the time of filling the teacher's cache.

    The base is gathered once for each call, and a passage is read once, or again where its answers
    do not fit into one call.
    """
    if not config.is_teacher_cached:
        return Time(0.0, 0.0)
    answers = config.plan.answers_per_passage
    calls = math.ceil(answers / largest_call(config).answers)
    turns = math.ceil(config.plan.passages * calls / world.num_ranks)
    compute = micro_step_flops(
        config, shape, passage_work(config, math.ceil(answers / calls))
    ) / _flops_rate(config)
    found = traffic_of(config, shape, world)
    width = bytes_of(config)
    base = (
        stored(config.model, shape.sizes, width).total * width if found.base_per_micro_step else 0
    )
    once = replace(
        found,
        base_per_micro_step=base,
        adapter_per_micro_step=0,
        adapter_per_step=0,
        gradients_per_micro_step=0,
    )
    links = _link_time(config, world, once, 1)
    return Time(turns * compute, turns * links)


def micro_step_flops(config: RunConfig, shape: Shape, work: Work) -> float:
    """Return the FLOPs of a rank's matrix products, those that checkpointing repeats included."""
    passage, (branch, _) = config.corpus.max_passage_tokens, per_answer(config)
    weights = weights_of(config, shape)
    of_teacher = Reading(work.teacher, work.teacher * (passage / 2 + branch))
    of_student = Reading(work.student, work.student * branch / 2)
    again = config.train.checkpoints
    teacher_rows, student_rows = (work.rows * (n > 0) for n in (work.teacher, work.student))
    return (
        flops.teacher(weights, of_teacher)
        + flops.student(weights, of_student, again=again)
        + weights.head * (2 * teacher_rows + 4 * student_rows)
    )


def _link_time(config: RunConfig, world: World, found: Traffic, micro_batches: int) -> float:
    """Return the seconds of the slowest of three links, which work side by side."""
    plan, there = config.plan, moved(found, micro_batches, world)
    times = [
        there.inside_per_gpu / (plan.node_gb_per_second * 1e9),
        there.between_per_node / (plan.network_gb_per_second * 1e9),
    ]
    if offloads(config, world):  # each rank's own part comes from the CPU at every gather
        hpz = zero.hpz_ranks(config, world)
        own = found.base_per_micro_step * micro_batches / (hpz if hpz > 1 else world.num_ranks)
        times.append(own / (plan.host_gb_per_second * 1e9))
    return max(times) / plan.links_reached


def _flops_rate(config: RunConfig) -> float:
    return config.plan.gpu_tflops * 1e12 * config.plan.compute_reached
