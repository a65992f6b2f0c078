"""Compute what comes before the first step: the memory of a node's CPUs, and time to load."""

from __future__ import annotations

from dataclasses import dataclass

from pdtrain.config import RunConfig
from pdtrain.distributed.world import World
from pdtrain.models.shape import Shape
from pdtrain.planning import memory_model, workload
from pdtrain.planning.memory_model import bytes_of

TOKEN_BYTES = 4  # an int32 in a token file
KEY_BYTES = 64  # of an answer, beside its tokens: keys and where it begins; assumed


@dataclass(frozen=True)
class Startup:
    """Hold the bytes of the first node's CPUs, and the seconds before the first step.

    Args:
        pinned: of an offloaded base, all through training.
        base_files: mapped while the first rank reads the base; the system takes them back.
        whole_bases: of all the node's ranks, where weights of quantized files are made whole by the
            CPUs; until the GPUs have them.
        token_files: mapped by all ranks of a node together; the system takes them back.
        tokenise_seconds: once a run, by one process, however many ranks there are.
        load_seconds: of reading the base, at the rate of the disk.
    """

    pinned: int
    base_files: int
    whole_bases: int
    token_files: int
    tokenise_seconds: float
    load_seconds: float


def startup_of(config: RunConfig, shape: Shape, world: World) -> Startup:
    """Return what comes before the first step.

    Under ZeRO-3 the first rank reads the base for all, and then every rank compares its part with
    the files, which reads them a second time. Otherwise each node reads them once, into the memory
    that its ranks share; so it is with a base that is quantized, or made whole, while it is read.
    One that is made whole is no longer what lies in the files: each rank has its own in the CPUs'
    memory, while one that is quantized goes to the GPU weight by weight.
    """
    plan, base = config.plan, shape.sizes.total * bytes_of(config)
    is_later = memory_model.whole_at_first(config, shape) > 0
    is_compared = config.engine.stage == 3 and world.num_ranks > 1 and not is_later
    answers = workload.num_answers(config)
    tokens, _ = workload.per_answer(config)
    return Startup(
        pinned=memory_model.host_memory(config, shape, world),
        base_files=base,
        whole_bases=world.ranks_per_node * base if shape.is_made_whole else 0,
        token_files=answers * (tokens * TOKEN_BYTES + KEY_BYTES),
        tokenise_seconds=answers / plan.answers_tokenised_per_second,
        load_seconds=base * (2 if is_compared else 1) / (plan.disk_gb_per_second * 1e9),
    )
