"""Put together every number that is said about one config on one cluster."""

from __future__ import annotations

from dataclasses import dataclass

from pdtrain.config import RunConfig
from pdtrain.distributed.world import World
from pdtrain.models import quantization
from pdtrain.models.shape import Shape
from pdtrain.planning import memory_model, step_time, traffic, workload
from pdtrain.planning.memory_model import GIB, Memory
from pdtrain.planning.startup import Startup, startup_of
from pdtrain.planning.step_time import Time
from pdtrain.planning.traffic import Traffic


@dataclass(frozen=True)
class Estimate:
    """Hold everything that is said about one config on one cluster; sizes are bytes."""

    memory: Memory
    caching_bytes: int  # of one GPU while the teacher's cache is filled; 0 without
    loading_bytes: int  # of one GPU with a whole base that is spread later; 0 for others
    limit_bytes: int
    startup: Startup
    traffic: Traffic
    step: Time
    caching: Time
    num_steps: int
    world: World

    @property
    def peak_bytes(self) -> int:
        """Return the most bytes that one GPU holds at any time."""
        return max(self.memory.total, self.caching_bytes, self.loading_bytes)

    @property
    def fits(self) -> bool:
        """Return if one GPU's memory is enough."""
        return self.peak_bytes <= self.limit_bytes


def world_of(config: RunConfig) -> World:
    """Return the ranks of the planned cluster, one to a GPU."""
    nodes, each = config.plan.nodes, config.plan.gpus_per_node
    return World(num_ranks=nodes * each, ranks_per_node=each, launcher="plan")


def estimate_of(config: RunConfig, shape: Shape) -> Estimate:
    """Compute all the numbers of one plan.

    Raises:
        ValueError: the GPUs cannot share the work or the base as the config says.
    """
    config = workload.with_batching(config, shape)
    world, train = world_of(config), config.train
    if config.engine.kind == "plain" and world.num_ranks > 1:
        raise ValueError(
            f"engine.kind=plain runs in one process, but the plan is for {world.num_ranks} GPUs; "
            "set engine.kind=auto, or --nodes 1 --gpus-per-node 1"
        )
    if config.engine.kind == "deepspeed" or world.num_ranks > 1:
        quantization.refuse_deepspeed(config.model)
    answers = workload.num_answers(config) * train.epochs
    return Estimate(
        memory=memory_model.memory_of(config, shape, world),
        caching_bytes=memory_model.caching_memory(config, shape, world)
        if config.is_teacher_cached
        else 0,
        loading_bytes=memory_model.loading_memory(config, shape),
        limit_bytes=int(config.plan.gpu_memory_gib * GIB),
        startup=startup_of(config, shape, world),
        traffic=traffic.traffic_of(config, shape, world),
        step=step_time.step_time(config, shape, world),
        caching=step_time.caching_time(config, shape, world),
        num_steps=max(1, round(answers / train.answers_per_step)),
        world=world,
    )
