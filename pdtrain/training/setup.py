"""Set up one training: base, adapter, training set, schedule, twin and engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pdtrain.config import RunConfig, require
from pdtrain.distillation.loss_proof import Impl, Problem, choose_impl
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.twin import Twin
from pdtrain.distributed import sharded_loading, zero
from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine
from pdtrain.distributed.engine import Engine, PlainEngine
from pdtrain.distributed.process_group import gathered, on_every_rank, uses_deepspeed
from pdtrain.distributed.world import World
from pdtrain.models import head, quantization
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.models.adapters.lora import add_adapter, tuners_of
from pdtrain.models.adapters.lora_precision import use_tf32, uses_tf32
from pdtrain.models.architectures import decoder_of
from pdtrain.models.attention import choice, packed, prefix
from pdtrain.models.attention.packed import Attend
from pdtrain.models.base import (
    device_of,
    dtype_of,
    is_spread_later,
    load_model,
    load_tokenizer,
)
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.models.shape import sizes_of
from pdtrain.progress import say
from pdtrain.records import seed_for
from pdtrain.run_folder import RunFolder
from pdtrain.storage import write_json
from pdtrain.training import warm_start
from pdtrain.training.training_set import TrainingSet
from pdtrain.training.warm_start import WarmStart


@dataclass(frozen=True)
class TrainingSetup:
    """Hold everything that the steps of one training need.

    Args:
        schedule: the steps and their answers.
        engine: runs the steps.
        model: the base with the adapter on it.
        chat: makes prompts.
        is_spread: True where DeepSpeed runs the model, so that a forward pass takes all ranks.
        start_weights: the warm start's weights, which are not loaded yet; None from scratch.
        learned: the passages that the adapter has learned once it is trained, if that is known;
            on the first rank alone.
    """

    schedule: Schedule
    engine: Engine
    model: PeftModel
    chat: Chat
    is_spread: bool
    start_weights: dict[str, Tensor] | None
    learned: LearnedPassages | None


def set_up(
    config: RunConfig,
    world: World,
    read: Callable[[Chat], TrainingSet],
    *,
    start: WarmStart | None = None,
    output: RunFolder | None = None,
    inputs: str = "",
) -> TrainingSetup:
    """Load and put together everything that the steps need. All ranks take part.

    Args:
        config: the knobs.
        world: this process among the ranks.
        read: returns the training set; the chat template that it is given makes the prompts.
        start: the adapter that training goes on from, if any.
        output: the folder of checkpoints, metrics and adapter; by default the run's own.
        inputs: the hash of all that decides the adapter.

    Raises:
        ValueError: the answers, the model or the ranks do not allow it.
    """
    settings = _deepspeed_settings(config, world)
    tokenizer, base = _load_base(config, settings)
    chat = prove(tokenizer, config.prompts, base.generation_config.eos_token_id)
    training_set = read(chat)
    schedule = Schedule(
        config,
        inputs,
        training_set.examples,
        training_set.regularization,
        folder=output or config.run,
    )
    schedule.refuse_oversized()
    # DeepSpeed wants one dtype, and itself keeps fp32 copies of the weights that it trains
    model = add_adapter(
        base, config.adapter, seed_for(config.seed, "adapter"), in_fp32=settings is None
    )
    asked = config.adapter.fp32_precision
    if uses_tf32(asked, device_of(config.model), dtype_of(config.model)):
        use_tf32(tuners_of(model))
    start_weights = on_every_rank(
        lambda: warm_start.weights(start, config, model) if start else None
    )
    twin = Twin(
        model,
        TopKLoss(config.loss, _loss_impl(schedule, base)),
        checkpointing=config.train.checkpoints,
        attend=_attention(schedule, base),
        compiled=config.engine.compile,
    )
    engine = _engine(twin, schedule, world, settings)
    learned = training_set.learned() if world.is_first else None
    return TrainingSetup(
        schedule, engine, model, chat, settings is not None, start_weights, learned
    )


def _deepspeed_settings(config: RunConfig, world: World) -> dict[str, Any] | None:
    """Return DeepSpeed's settings, and keep them in the run folder; None for the plain engine."""
    if not uses_deepspeed(config.engine, world):
        require(
            not config.engine.offload_base,
            "engine.offload_base=true is DeepSpeed's, which does not run in one plain process; set "
            "engine.kind=deepspeed, start several ranks, or leave engine.offload_base off",
        )
        return None
    quantization.refuse_deepspeed(config.model)
    _refuse_shared_device(config, world)
    settings = zero.settings(config, sizes_of(config.model), world, dtype_of(config.model))
    if world.is_first:
        write_json(config.run.deepspeed_file, settings)
    return settings


def _load_base(
    config: RunConfig, settings: dict[str, Any] | None
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return tokenizer and base; under ZeRO-3 each rank holds its part of the base's weights.

    A base that is spread later is compared with no file.
    """
    later = is_spread_later(config.model)
    with sharded_loading.spread(None if later else settings):
        tokenizer, base = load_tokenizer(config.model), load_model(config.model)
    if (
        settings
        and not later
        and config.engine.stage == 3
        and (unknown := sharded_loading.verify(base, config.model))
    ):
        say(f"train: {unknown} weights of the base have no safetensors file to compare them with")
    return tokenizer, base


def _engine(
    twin: Twin, schedule: Schedule, world: World, settings: dict[str, Any] | None
) -> Engine:
    train = schedule.config.train
    if settings is None:
        return PlainEngine(twin, train, schedule.num_steps)
    return DeepSpeedEngine(
        twin,
        train,
        schedule.num_steps,
        world,
        settings,
        time_communication=schedule.config.engine.time_communication,
    )


def _loss_impl(schedule: Schedule, base: PreTrainedModel) -> Impl:
    """Return what computes the loss, proved on this machine, the same on every rank."""
    config, sizes = schedule.config, schedule.shape.sizes
    rule, has_bias = head.find(base), base.get_output_embeddings().bias is not None
    dtype = dtype_of(config.model)
    problem = Problem(sizes.hidden, sizes.vocab, dtype, config.loss, rule, has_bias)
    return choose_impl(config.loss.impl, device_of(config.model), problem, gathered)


def _attention(schedule: Schedule, base: PreTrainedModel) -> Attend:
    """Return the attention over packed rows; padded ones take the model's own."""
    if not prefix.is_packed(decoder_of(base)):
        say("batches: padded, through the model's own layers (model.batching)")
        return packed.attention
    config = schedule.config
    return choice.choose(
        config.engine.attention, device_of(config.model), _heads(schedule, base), gathered
    )


def _heads(schedule: Schedule, base: PreTrainedModel) -> choice.Heads:
    """Return the sizes of the attention heads, by which a backend is chosen."""
    shape, settings = schedule.shape, base.config.get_text_config()
    size = shape.query // shape.heads
    window = getattr(settings, "sliding_window", None)
    return choice.Heads(
        shape.heads, shape.keys // size, size, dtype_of(schedule.config.model), window
    )


def _refuse_shared_device(config: RunConfig, world: World) -> None:
    device = device_of(config.model)
    if world.num_ranks > 1 and device.index is not None:
        raise ValueError(
            f"model.device={config.model.device} would put all {world.num_ranks} ranks on one GPU; "
            "leave it at auto, and choose GPUs by CUDA_VISIBLE_DEVICES"
        )
