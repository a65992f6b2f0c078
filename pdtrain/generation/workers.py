"""Choose the engine that generates, and which processes of a launcher generate with it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

import torch

from pdtrain.config import RunConfig, as_yaml
from pdtrain.generation import vllm_engine
from pdtrain.models import placement
from pdtrain.models.base import device_of
from pdtrain.processes.leading import Leader
from pdtrain.processes.ray_pool import RayPool
from pdtrain.processes.shares import ALONE, Share

Engine = Literal["huggingface", "vllm", "server"]
UNITS_OF_AN_ENGINE = 64  # passages that vLLM works on at the same time, to fill its batch


def engine_of(config: RunConfig) -> Engine:
    """Return which engine generates; `auto` is vLLM where it is installed and there is a GPU."""
    asked = config.generation.backend
    if asked != "auto":
        return asked
    is_whole = config.model.quantization == "none"  # vLLM would load other weights
    has_gpu = device_of(config.model).type == "cuda"
    return "vllm" if has_gpu and is_whole and vllm_engine.is_installed() else "huggingface"


def of_stage(config: RunConfig, stage: str) -> RunConfig:
    """Return the config with the engine that a stage uses: the evaluation always transformers."""
    if stage != "evaluate":
        return config
    return replace(config, generation=replace(config.generation, backend="huggingface"))


def of_first(
    config: RunConfig, stage: str, leader: Leader | None, num_ranks: int, ranks_per_node: int
) -> tuple[RunConfig, Share]:
    """Return the first process's config in a stage, and its share, which begins with that.

    Args:
        leader: tells the other ranks; None where there are none, or they share nothing.

    Raises:
        ValueError: several ranks and a Ray cluster are to share the same units.
    """
    if leader is None:
        return config, alone(config, stage)
    if config.generation.executor != "local":
        raise ValueError(
            f"generation.executor={config.generation.executor} divides the work itself: start "
            f"`pdtrain {stage}` as one process, without a launcher"
        )
    each = ranks_each(config, num_ranks, ranks_per_node, stage)
    share = leader.begin(stage, each)
    return on_rank(config, 0, each, stage) if share.size > 1 else config, share


def alone(config: RunConfig, stage: str) -> Share:
    """Return the share of the only process: all units, which a Ray cluster may work on for it."""
    if config.generation.executor == "local":
        return ALONE
    config, knobs = of_stage(config, stage), config.generation.ray
    engine = engine_of(config)
    gpus = 0.0 if engine == "server" or config.model.device == "cpu" else knobs.gpus
    if engine == "vllm" and gpus:
        gpus = max(gpus, config.generation.vllm.tensor_parallel)
    settings = as_yaml(replace(config, out_dir=os.path.abspath(config.out_dir)))
    at_once = units_at_once(config) if stage != "evaluate" else 1
    pool = RayPool(stage, settings, knobs.address, knobs.workers, knobs.cpus, gpus, at_once)
    return Share(pool=pool)


def units_at_once(config: RunConfig) -> int:
    """Return how many passages are worked on at the same time, each in a thread that waits.

    A passage that has one request left must not keep the requests of others waiting.
    """
    engine = engine_of(config)
    if engine == "server":
        return config.generation.server.concurrent
    return UNITS_OF_AN_ENGINE if engine == "vllm" else 1


def ranks_each(config: RunConfig, num_ranks: int, ranks_per_node: int, stage: str = "") -> int:
    """Return how many ranks of a launcher one worker takes; all of them if there is one worker.

    Behind a server, and on CPUs, each rank is a worker. On GPUs each is one where its GPU holds the
    base with room for a batch. Otherwise the GPUs of a machine make one vLLM engine, or, with
    transformers, the first rank works alone, over the GPUs of its machine.
    """
    config = of_stage(config, stage)
    if num_ranks == 1 or engine_of(config) == "server" or device_of(config.model).type != "cuda":
        return 1
    engine, asked = engine_of(config), config.generation.vllm.tensor_parallel
    if engine == "vllm" and asked:
        if ranks_per_node % asked:
            raise ValueError(
                f"generation.vllm.tensor_parallel={asked} does not divide the {ranks_per_node} "
                "ranks of a machine; set one that does, or 0"
            )
        return asked
    if _holds_base(config, ranks_per_node):
        return 1
    return ranks_per_node if engine == "vllm" else num_ranks


def _holds_base(config: RunConfig, ranks_per_node: int) -> bool:
    """Return whether each rank has a GPU of its own that holds the base and a batch."""
    if torch.cuda.device_count() < ranks_per_node or device_of(config.model).index is not None:
        return False
    need = placement.need_of(placement.skeleton_of(config.model), config.model)
    gpus = placement.gpus_of(config.model)[:ranks_per_node]
    return all(gpu.total >= need.comfortable for gpu in gpus)


def on_rank(config: RunConfig, local_rank: int, ranks: int, stage: str = "") -> RunConfig:
    """Return the config with the GPUs of one worker, of several on its machine.

    Args:
        local_rank: the worker's first rank on its machine.
        ranks: how many ranks, and so GPUs, the worker takes.
    """
    config = of_stage(config, stage)
    if device_of(config.model).type != "cuda" or engine_of(config) == "server":
        return config
    vllm = replace(config.generation.vllm, tensor_parallel=ranks)
    generation = replace(config.generation, vllm=vllm)
    model = replace(config.model, device=f"cuda:{local_rank}")
    return replace(config, model=model, generation=generation)
