"""Put base, adapter, twin and engine together, once for a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from pdtrain.config import RunConfig
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.twin import Twin
from pdtrain.distributed import sharded_loading, zero
from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine
from pdtrain.distributed.engine import Engine, PlainEngine
from pdtrain.distributed.process_group import gathered, on_every_rank, uses_deepspeed
from pdtrain.distributed.world import World
from pdtrain.models.attention import backends
from pdtrain.models.base import device_of, dtype_of, load_model, load_tokenizer
from pdtrain.models.chat_template import Chat, prove
from pdtrain.models.learnt_passages import Learnt
from pdtrain.models.lora import add_adapter
from pdtrain.models.shape import sizes_of
from pdtrain.progress import say
from pdtrain.records import seed_for
from pdtrain.run_folder import RunFolder
from pdtrain.storage import write_json
from pdtrain.training import warm_start
from pdtrain.training.training_set import TrainingSet
from pdtrain.training.warm_start import WarmStart


@dataclass(frozen=True)
class Assembly:
    plan: Schedule
    engine: Engine
    model: PeftModel
    chat: Chat
    is_spread: bool  # DeepSpeed runs it: a forward pass takes all ranks
    start: dict[str, Tensor] | None  # weights that training goes on from; not loaded yet
    learnt: Learnt | None  # the passages that the adapter has learnt once it is trained


def assemble(
    config: RunConfig,
    world: World,
    read: Callable[[Chat], TrainingSet],
    *,
    start: WarmStart | None = None,
    output: RunFolder | None = None,
    inputs: str = "",
) -> Assembly:
    """Put together everything that is needed for steps. All ranks take part.

    Args:
        config: the knobs.
        world: this process among the ranks.
        read: gives what is trained on, once the chat template is there to make examples with.
        start: the adapter that training goes on from, if any.
        output: the folder of checkpoints, metrics and adapter; by default the run's own.
        inputs: hash of all that decides the adapter.

    Raises:
        ValueError: the answers, the model or the ranks do not allow it; said before any step.
    """
    settings = None
    if uses_deepspeed(config.engine, world):
        _refuse_shared_device(config, world)
        settings = zero.settings(config, sizes_of(config.model), world, dtype_of(config.model))
        if world.is_first:
            write_json(config.run.deepspeed_file, settings)
    with sharded_loading.spread(settings):
        tokenizer, base = load_tokenizer(config.model), load_model(config.model)
    if (
        settings
        and config.engine.zero_stage == 3
        and (unknown := sharded_loading.verify(base, config.model))
    ):
        say(f"train: {unknown} weights of the base have no safetensors file to compare them with")
    chat = prove(tokenizer, config.prompts, base.generation_config.eos_token_id)
    material = read(chat)
    plan = Schedule(
        config, inputs, material.examples, material.regularization, folder=output or config.run
    )
    plan.refuse_oversized()
    # DeepSpeed wants one dtype, and keeps fp32 masters of what it trains
    model = add_adapter(
        base, config.adapter, seed_for(config.seed, "adapter"), in_fp32=settings is None
    )
    begun = on_every_rank(lambda: warm_start.weights(start, config, model) if start else None)
    twin = Twin(
        model,
        TopKLoss(config.loss),
        checkpointing=config.train.gradient_checkpointing,
        attend=backends.choose(
            config.engine.attention, device_of(config.model), _heads(plan, base), gathered
        ),
    )
    engine: Engine
    if settings is None:
        engine = PlainEngine(twin, config.train, plan.num_steps)
    else:
        engine = DeepSpeedEngine(
            twin,
            config.train,
            plan.num_steps,
            world,
            settings,
            time_communication=config.engine.time_communication,
        )
    return Assembly(plan, engine, model, chat, settings is not None, begun, material.learnt)


def _heads(plan: Schedule, base: PreTrainedModel) -> backends.Heads:
    shape, settings = plan.shape, base.config.get_text_config()
    size = shape.query // shape.heads
    window = getattr(settings, "sliding_window", None)
    return backends.Heads(
        shape.heads, shape.keys // size, size, dtype_of(plan.config.model), window
    )


def _refuse_shared_device(config: RunConfig, world: World) -> None:
    device = device_of(config.model)
    if world.num_ranks > 1 and device.index is not None:
        raise ValueError(
            f"model.device={config.model.device} would put all {world.num_ranks} ranks on one GPU; "
            "leave it at auto, and choose GPUs by CUDA_VISIBLE_DEVICES"
        )
