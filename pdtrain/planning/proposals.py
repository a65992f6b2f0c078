"""Propose configurations that fit where the one that was asked for does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from pdtrain.config import RunConfig
from pdtrain.models.shape import Shape
from pdtrain.planning import memory_model
from pdtrain.planning.estimate import Estimate, estimate_of
from pdtrain.planning.memory_model import GIB, MEANINGS

MOST_NODES = 64  # that are proposed


def refusal(config: RunConfig, shape: Shape, made: Estimate) -> Iterator[str]:
    """Say what is too large, and which configurations fit by the same estimate."""
    parts = {f.name: getattr(made.memory, f.name) for f in fields(made.memory)}
    largest = max(parts, key=lambda name: parts[name])
    over = (made.peak_bytes - made.limit_bytes) / GIB
    when = f"the largest part is {MEANINGS[largest]}, {parts[largest] / GIB:.1f} GiB"
    if made.memory.total < made.peak_bytes == made.caching_bytes:
        when = "most of it while passages are put before the teacher, for its cache"
    elif made.memory.total < made.peak_bytes:
        when = f"most of it while each rank holds the whole base: {memory_model.remedy(config)}"
    yield ""
    yield f"This does not fit: {over:.1f} GiB too much on every GPU; {when}."
    found = list(proposals(config, shape))
    if not found:
        yield (
            f"Nothing tried fits either, up to {MOST_NODES} nodes: take a smaller model, or GPUs "
            "with more memory."
        )
        return
    yield "These fit:"
    for changes, other in found:
        yield (
            f"  {' '.join(changes)}: {other.peak_bytes / GIB:.1f} GiB, "
            f"{other.step.span(1)} s a step"
        )


Changes = tuple[str, ...]


def proposals(config: RunConfig, shape: Shape) -> Iterator[tuple[Changes, Estimate]]:
    """Yield the smallest change of each kind that makes the plan fit, as on the command line."""
    made = estimate_of(config, shape)
    for family in _families(config, is_cache_too_large=made.caching_bytes > made.limit_bytes):
        for changes, changed in family:
            try:
                other = estimate_of(changed, shape)
            except ValueError:
                continue
            if other.fits:
                yield changes, other
                break


Family = Iterator[tuple[Changes, RunConfig]]


def _families(config: RunConfig, *, is_cache_too_large: bool) -> Iterator[Family]:
    """Yield kinds of changes, each from mild to harsh: micro-batches, copies, GPUs, CPU memory."""
    yield _smaller_batches((), config)
    if is_cache_too_large:
        online = replace(config, teacher=replace(config.teacher, cache=False))
        yield _smaller_batches(("teacher.cache=false",), online)
    for changes, changed in _lighter(config):
        yield _smaller_batches(changes, changed)
    yield (step for more in _more_nodes(config) for step in _smaller_batches(*more))


def _smaller_batches(changes: Changes, config: RunConfig) -> Family:
    """Yield the config, then with checkpointing, then with ever fewer answers in a micro-batch."""
    yield changes, config
    if not config.train.checkpoints:
        changes = (*changes, "train.gradient_checkpointing=true")
        config = replace(config, train=replace(config.train, gradient_checkpointing=True))
        yield changes, config
    size = config.train.answers_per_micro_batch
    while size > 1:
        size //= 2
        train = replace(config.train, answers_per_micro_batch=size)
        yield (*changes, f"train.answers_per_micro_batch={size}"), replace(config, train=train)


def _lighter(config: RunConfig) -> Family:
    """Yield configs that give up something else for memory."""
    engine = config.engine
    if engine.stage < 3:
        yield ("engine.zero_stage=3",), replace(config, engine=replace(engine, zero_stage=3))
        return
    if engine.hpz and config.plan.nodes > 1:
        yield ("engine.hpz=false",), replace(config, engine=replace(engine, hpz=False))
    if not engine.offload_base:
        changes: Changes = ("engine.offload_base=true",)
        if config.plan.nodes * config.plan.gpus_per_node == 1:  # where DeepSpeed must be asked for
            changes = ("engine.kind=deepspeed", *changes)
            engine = replace(engine, kind="deepspeed")
        yield changes, replace(config, engine=replace(engine, offload_base=True))


def _more_nodes(config: RunConfig) -> Family:
    nodes = config.plan.nodes
    while (nodes := nodes * 2) <= MOST_NODES:
        ranks = nodes * config.plan.gpus_per_node
        changes: Changes = (f"plan.nodes={nodes}",)
        train = config.train
        if train.answers_per_step < ranks:
            size = train.answers_per_micro_batch
            train = replace(train, answers_per_step=-(-ranks // size) * size)
            changes = (*changes, f"train.answers_per_step={train.answers_per_step}")
        yield changes, replace(config, plan=replace(config.plan, nodes=nodes), train=train)
