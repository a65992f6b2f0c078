"""Refuse stages that this machine's GPUs cannot hold a model for, before the first of them starts.

Answers that take hours are of no use where the adapter cannot be trained, nor an adapter that
cannot be exported. Only what fails for certain is refused: weights and their optimizer against the
memory of the GPUs. Activations and buffers are estimates, for which `plan` and `doctor` warn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pdtrain.config import RunConfig
from pdtrain.distributed.process_group import uses_deepspeed
from pdtrain.distributed.world import World
from pdtrain.files.manifests import is_finished
from pdtrain.generation.workers import engine_of
from pdtrain.models import placement, quantization
from pdtrain.models.adapters import lora
from pdtrain.models.base import device_of, skeleton
from pdtrain.models.placement import CONTEXT_BYTES, GIB, Gpu
from pdtrain.models.shape import Shape, shape_of
from pdtrain.planning import memory_model

TRAINING = ("train", "teach", "rounds")
LEAST_RESERVE = 0.1  # of a small GPU's memory, where plan.reserve_gib would be more


def refuse(config: RunConfig, names: Sequence[str], world: World) -> None:
    """Raise ValueError where a stage among these cannot hold its model on the visible GPUs.

    A stage that has finished is left to itself: it may have nothing to do. A base that cannot be
    quantized as the config says is refused too, and so are names of layers that it does not have.
    """
    quantization.refuse(config.model, device_of(config.model))
    if set(names) & set(TRAINING) and uses_deepspeed(config.engine, world):
        quantization.refuse_deepspeed(config.model)
    training = [name for name in names if name in TRAINING and _is_to_do(config, name)]
    adapter = config.adapter
    if training and (adapter.target_modules != lora.ALL or adapter.target_parameters):
        lora.refuse_unknown(skeleton(config.model), adapter)
    if device_of(config.model).type != "cuda":
        return
    if whole := [name for name in names if _holds_whole_base(config, name)]:
        try:
            placement.device_map(config.model)
        except ValueError as error:
            raise ValueError(f"{', '.join(whole)}: {error}") from None
    if training and (reason := training_obstacle(config, world)):
        raise ValueError(f"{', '.join(training)}: {reason}")


def _holds_whole_base(config: RunConfig, name: str) -> bool:
    """Return whether one process loads the whole base in this stage."""
    run, reads = config.run, config.train.objective == "raw_text"
    if name in ("questions", "answers", "retain") and engine_of(config) != "huggingface":
        return False  # vLLM says itself what it cannot hold, and a server holds the base elsewhere
    folders = {
        "questions": None if reads else run.questions_folder,
        "answers": None if reads else run.answers_folder,
        "retain": run.regularization_folder if config.retain.weight else None,
        # its student answers by transformers
        "rounds": run.rounds_folder if config.rounds.most else None,
        "evaluate": run.scores_folder if config.evaluate.questions else None,
        "export": run.export,
    }
    folder = folders.get(name)
    return folder is not None and not is_finished(folder)


def _is_to_do(config: RunConfig, name: str) -> bool:
    if name == "rounds":
        return config.rounds.most > 0
    return name == "teach" or not is_finished(config.run.adapter)


def training_obstacle(config: RunConfig, world: World) -> str | None:
    """Return why training cannot even begin on the first of the GPUs; None where it can."""
    gpu = _training_gpu(config, world)
    shape = shape_for(config)
    if shape is None:
        return None
    need = training_bytes(config, shape, world, gpu)
    if need <= gpu.free:
        return None
    alone = not uses_deepspeed(config.engine, world)
    where = "one process" if alone else f"each of {world.num_ranks} ranks"
    held, remedy = _held_and_remedy(config, shape, gpu, alone)
    return (
        f"model.name={config.model.name!r} does not fit: in training {where} holds at least "
        f"{need / GIB:.1f} GiB on its GPU ({held}), and GPU {gpu.index} has "
        f"{gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free; {remedy}"
    )


def _held_and_remedy(config: RunConfig, shape: Shape, gpu: Gpu, alone: bool) -> tuple[str, str]:
    """Say what does not fit a GPU in training, and what to do."""
    if memory_model.whole_at_first(config, shape) + CONTEXT_BYTES > gpu.free:
        return "the whole base, before it is spread", memory_model.remedy(config)
    if alone:
        remedy = (
            "start one rank a GPU on several GPUs (docs/cluster.md), where engine.zero_stage=3 "
            "spreads the base"
        )
    else:
        remedy = (
            "start more ranks, or set engine.zero_stage=3, engine.hpz=false or "
            "engine.offload_base=true; `pdtrain plan` says what fits"
        )
    return "base, adapter, optimizer", remedy


def _training_gpu(config: RunConfig, world: World) -> Gpu:
    gpus = placement.gpus_of(config.model)
    return gpus[min(world.local_rank, len(gpus) - 1)]


def shape_for(config: RunConfig) -> Shape | None:
    """Return the shape of the config's model; None where its architecture has no known one."""
    try:
        return shape_of(
            skeleton(config.model), config.adapter.target_modules, config.adapter.target_parameters
        )
    except AttributeError:  # layers, heads or sizes have other names in it
        return None


def training_bytes(config: RunConfig, shape: Shape, world: World, gpu: Gpu) -> int:
    """Return the bytes that one rank holds for certain, and its CUDA context.

    It is what stays all through training, or before it a whole base that is spread later.
    """
    here = on_machine(config, world, gpu.total)
    memory = memory_model.memory_of(here, shape, world)
    kept = memory.base_shard + memory.second_shard + memory.adapter + memory.optimizer
    return max(kept, memory_model.whole_at_first(config, shape)) + CONTEXT_BYTES


def on_machine(config: RunConfig, world: World, gpu_bytes: int) -> RunConfig:
    """Return the config with the ranks and the GPUs that are there in the place of the planned."""
    gib = gpu_bytes / GIB
    plan = replace(
        config.plan,
        nodes=world.num_nodes,
        gpus_per_node=world.ranks_per_node,
        gpu_memory_gib=gib,
        reserve_gib=min(config.plan.reserve_gib, LEAST_RESERVE * gib),
    )
    return replace(config, plan=plan)
