"""Give every micro-batch its teacher: the cache on disk, the base online, or the answers alone.

`pdtrain teach` only fills the cache, for example on other machines than those that train;
otherwise `pdtrain train` fills it first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pdtrain.config import RunConfig
from pdtrain.distillation import packing, teacher_cache
from pdtrain.distillation.batch import TwinBatch, counted, pinned
from pdtrain.distillation.examples import Example
from pdtrain.distillation.losses import labels_as_teacher
from pdtrain.distillation.micro_batches import MicroBatch, teacher_calls
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.teacher_cache import TeacherCache
from pdtrain.distillation.teacher_spans import drop_damaged_shards
from pdtrain.distillation.tokens import source
from pdtrain.distillation.tokens.table import columns
from pdtrain.distributed.engine import Engine
from pdtrain.distributed.process_group import connected, from_first, on_every_rank
from pdtrain.distributed.served_teacher import NoEngine, ServedTeacher, calls_of
from pdtrain.distributed.world import World, find_world
from pdtrain.models.attention.packed import forget_layouts
from pdtrain.models.base import end_ids, fingerprint, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.processes.interrupt import IsAskedToStop, stop_requests
from pdtrain.progress import Stopped, say
from pdtrain.storage import hash_json
from pdtrain.training import training_set, warm_start
from pdtrain.training.setup import set_up
from pdtrain.training.warm_start import WarmStart

MakeBatch = Callable[[MicroBatch], TwinBatch]


def batch_maker(schedule: Schedule, engine: Engine, is_asked_to_stop: IsAskedToStop) -> MakeBatch:
    """Return a function that makes the tensors of a micro-batch on the CPU, with its teacher.

    It may run in another thread; for a GPU the tensors are in pinned memory. The teacher's
    distributions come from the cache, which is filled first where that is needed; or the forward
    pass computes them online; or the answers' own tokens stand for them. All ranks take part.

    Raises:
        Stopped: filling the cache was stopped by request.
    """
    config, device = schedule.config, torch.device("cpu")
    distils = config.train.objective == "distill"
    cache = None
    if schedule.teacher_examples and config.is_teacher_cached:
        cache = filled_cache(schedule, engine, is_asked_to_stop)

    def make(micro_batch: MicroBatch) -> TwinBatch:
        has_teacher = distils or micro_batch.is_regularization
        batch = packing.twin_batch(
            micro_batch.examples,
            config.loss,
            device,
            with_teacher=has_teacher and cache is None,
            is_filler=micro_batch.is_filler,
            shares=schedule.is_packed,
        )
        if not has_teacher:
            batch = replace(batch, topk=labels_as_teacher(batch.targets))
        elif cache is not None:
            batch = replace(batch, topk=cache.topk(packing.in_order(micro_batch.examples), device))
        batch = counted(
            replace(
                batch,
                weights=batch.weights * micro_batch.weight,
                is_regularization=micro_batch.is_regularization,
            )
        )
        return pinned(batch) if engine.device.type == "cuda" else batch

    return make


def filled_cache(
    schedule: Schedule, engine: Engine | NoEngine, is_asked_to_stop: IsAskedToStop
) -> TeacherCache:
    """Compute the teacher's distributions that the cache lacks, and return the cache.

    All ranks take part.

    Raises:
        Stopped: a rank was asked to stop; the distributions computed by then are kept.
    """
    config, examples = schedule.config, schedule.teacher_examples
    is_served = config.teacher.source == "server"
    decides = {"model": fingerprint(config.model), **config.decisions("teacher")}
    if not is_served:  # so that caches of our own teacher keep their hash
        del decides["teacher.source"]
    inputs = from_first(hash_json(decides))
    parts = {name: hash_json(value) for name, value in decides.items()}
    folder = schedule.output.teacher_folder / inputs[:12]  # another teacher gets another folder
    packed = from_first(on_every_rank(lambda: _lacking(folder, inputs, parts, examples, engine)))
    are_lacking = np.unpackbits(packed, count=len(examples)).astype(bool)
    # the same calls as in an undisturbed run: other calls could change the last bits of a row
    limit, shares = schedule.limits.tokens, schedule.is_packed
    needed: Sequence[list[Example]] = []
    if are_lacking.any() and is_served:
        needed = calls_of(examples, are_lacking)
    elif are_lacking.any():
        needed = teacher_calls(examples, limit, shares=shares).of_any(are_lacking)
    vocab = schedule.shape.sizes.vocab
    ask = ServedTeacher(config, vocab) if is_served and needed else None
    is_filled = teacher_cache.fill(
        folder,
        vocab,
        needed,
        ask
        or (
            lambda chosen: engine.teach(
                packing.twin_batch(
                    chosen, config.loss, engine.device, with_teacher=True, shares=shares
                )
            )
        ),
        rank=engine.rank,
        num_ranks=engine.num_ranks,
        is_to_stop=lambda: engine.sum_over_ranks(is_asked_to_stop()) > 0,
    )
    engine.sum_over_ranks(0)
    if not is_filled:
        raise Stopped(
            "stopped before the first step; what the teacher has said is kept, and the same "
            f"command goes on from there (remove {config.run.stop_file} first if it is there)"
        )
    return on_every_rank(
        lambda: teacher_cache.read(
            folder,
            inputs,
            config.loss.temperature,
            examples,
            patience_seconds=0 if engine.num_ranks == 1 else 60,
            checked=engine.rank == 0 and bool(needed),  # the earlier ones were checked above
        )
    )


def _lacking(
    folder: Path,
    inputs: str,
    parts: dict[str, str],
    examples: Sequence[Example],
    engine: Engine | NoEngine,
) -> NDArray[np.uint8] | None:
    """Return a bit for each answer, set where no complete shard holds it, on the first rank."""
    if engine.rank:
        return None
    teacher_cache.open_folder(folder, inputs, parts)
    drop_damaged_shards(folder)
    return np.packbits(teacher_cache.are_missing(folder, examples))


def teach(config: RunConfig) -> None:
    """Run the `teach` stage: fill `teacher/` of the run folder with what it lacks.

    Under a launcher every rank calls this.

    Raises:
        ValueError: the config would never read a cache, or a stage before is missing.
        Stopped: a rank was asked to stop; the distributions computed by then are kept.
    """
    if config.train.objective != "distill" and not config.retain.weight:
        raise ValueError(
            f"train.objective={config.train.objective} asks no teacher, so there is nothing to "
            "cache; set train.objective=distill"
        )
    if config.rollout.share:
        raise ValueError(
            "rollout.share > 0 asks the teacher about answers that come once, so there is nothing "
            "to cache; set rollout.share=0"
        )
    if not config.is_teacher_cached:
        raise ValueError(
            f"teacher.cache={str(config.teacher.cache).lower()} with train.epochs="
            f"{config.train.epochs} never reads a cache: set teacher.cache=true and train.epochs=2 "
            "or more"
        )
    start = warm_start.of_config(config)
    training_set.inputs(config, start)  # names a missing stage before anything is loaded
    world = find_world()
    if world.is_first:  # before the others wait in a collective
        source.prepare(config)
    with (
        connected(config.engine, world),
        stop_requests(config.run) as is_asked_to_stop,
    ):
        schedule, engine = _schedule_and_engine(config, world, start)
        cache = filled_cache(schedule, engine, is_asked_to_stop)
        examples = schedule.teacher_examples
        tokens = int(columns(examples).answer.sum())
        say(
            f"teach: {len(examples)} answers, {tokens} answer tokens, "
            f"{cache.num_bytes / 1e6:.1f} MB ({cache.folder})"
        )
        engine.close()
        forget_layouts()


def _schedule_and_engine(
    config: RunConfig, world: World, start: WarmStart | None
) -> tuple[Schedule, Engine | NoEngine]:
    """Return what is taught and what teaches; one process that asks a server loads no weights."""
    if config.teacher.source == "own" or world.num_ranks > 1:
        setup = set_up(config, world, lambda chat: training_set.of_run(config, chat, start))
        return setup.schedule, setup.engine
    chat = prove(load_tokenizer(config.model), config.prompts, end_ids(config.model))
    found = training_set.of_run(config, chat, start)
    return Schedule(config, "", found.examples, found.regularization), NoEngine()
