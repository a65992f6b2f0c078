"""Compute the bytes that ranks exchange in a step, and the links that they cross."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pdtrain.config import RunConfig
from pdtrain.distributed.world import World
from pdtrain.models.shape import (
    Shape,
    adapter_parameters,
    adapter_weights,
    fused_parameters,
    stored,
)
from pdtrain.planning.memory_model import FP32, adapter_bytes, bytes_of, zero_settings

LAYERS_KEPT = 1  # at the turn, beside the head: tests


@dataclass(frozen=True)
class Traffic:
    """Hold the bytes that ranks exchange; of gathered tensors the whole, own part included."""

    base_per_micro_step: int  # gathered by every rank
    adapter_per_micro_step: int
    adapter_per_step: int
    gradients_per_micro_step: int  # reduced, fp32
    is_base_inside_nodes: bool  # no weight of the base crosses nodes


def traffic_of(config: RunConfig, shape: Shape, world: World) -> Traffic:
    """Return what a rank gathers and reduces under DeepSpeed's settings.

    tests/planning/test_plan.py compares it with counted traffic.

    The base, P with a head H and an embedding of the same size: each layer, a ZeRO-3 leaf, once
    in forward and once in backward for teacher and student alike; the head in forward and, as
    its hooks want, in backward; the embedding in forward alone: 2P - H. A tied weight serves as
    embedding and as head, and is gathered for each: 2P + H. Padded batches whose teacher is online
    gather embedding and layers for its pass alone, once more. With prefetch, the head and the last
    layers stay gathered over the turn from forward to backward, and are gathered once less.

    The adapter's weights stay gathered over a step where they are below the persistence
    threshold, else they travel with their layer, as often as it does; those on fused experts are
    larger than those on linear layers, and are compared by themselves. Its gradients are reduced in
    fp32 in every micro-step.
    """
    sizes = stored(config.model, shape.sizes, bytes_of(config))
    adapter = adapter_weights(config, shape)
    reduced = adapter * FP32 if world.num_ranks > 1 else 0
    if config.engine.stage < 3 or world.num_ranks == 1:
        return Traffic(0, 0, 0, reduced, True)
    settings = zero_settings(config, shape.sizes, world)
    parameters = 2 * sizes.total + (sizes.head if sizes.is_tied else -sizes.head)
    if settings["stage3_prefetch_bucket_size"] >= sizes.matrices:
        parameters -= sizes.head + min(LAYERS_KEPT, sizes.num_layers) * sizes.layer
    times = 2
    if config.model.batching == "padded" and config.is_teacher_online:
        times = 3
        parameters += sizes.total - (0 if sizes.is_tied else sizes.head)
    threshold = settings["stage3_param_persistence_threshold"]
    kept = sum(size for size, largest in _adapters(config, shape) if largest <= threshold)
    return Traffic(
        base_per_micro_step=parameters * bytes_of(config),
        adapter_per_micro_step=times * (adapter - kept) * adapter_bytes(config),
        adapter_per_step=kept * adapter_bytes(config),
        gradients_per_micro_step=reduced,
        is_base_inside_nodes=world.num_nodes == 1 or settings["zero_hpz_partition_size"] > 1,
    )


def _adapters(config: RunConfig, shape: Shape) -> Iterator[tuple[int, int]]:
    """Yield the adapter's parameters on linear layers, and on others, with its largest weight."""
    rank = config.adapter.rank
    yield (
        adapter_parameters(rank, list(shape.adapted)),
        rank * max(max(pair) for pair in shape.adapted),
    )
    if shape.fused:
        yield (
            fused_parameters(rank, shape.fused),
            rank * max(one.experts * max(one.out, one.into) for one in shape.fused),
        )


@dataclass(frozen=True)
class Moved:
    """Hold the bytes of one step: over a node's links into each GPU, and into each node."""

    inside_per_gpu: float
    between_per_node: float


def moved(found: Traffic, micro_batches: int, world: World) -> Moved:
    """Return what ring collectives move in one step.

    Of b bytes over r ranks each receives b (r-1)/r, and of a ring through several nodes that is
    also what enters each node. hpZ's rings stay inside a node.
    """
    ring = (world.num_ranks - 1) / world.num_ranks
    inner = (world.ranks_per_node - 1) / world.ranks_per_node
    base = micro_batches * found.base_per_micro_step
    small = found.adapter_per_step + micro_batches * (
        found.adapter_per_micro_step + found.gradients_per_micro_step
    )
    if world.num_nodes == 1:
        return Moved((base + small) * ring, 0.0)
    if found.is_base_inside_nodes:
        return Moved(base * inner + small * ring, small * ring)
    return Moved((base + small) * ring, (base + small) * ring)
