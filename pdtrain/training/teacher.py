"""Give every micro-batch its teacher: from the cache on disk, online, or its own answers.

`pdtrain teach` fills the cache alone. That is worth its own call where filling it wants other
machines than training does; otherwise `pdtrain train` does the same first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pdtrain.config import RunConfig
from pdtrain.distillation import packing, teacher_cache
from pdtrain.distillation.batch import TwinBatch
from pdtrain.distillation.examples import Example
from pdtrain.distillation.losses import sure_of
from pdtrain.distillation.micro_batches import Cut, calls
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.teacher_cache import TeacherCache
from pdtrain.distributed.engine import Engine
from pdtrain.distributed.process_group import connected, from_first, on_every_rank
from pdtrain.distributed.world import find_world
from pdtrain.interrupt import IsAskedToStop, stop_requests
from pdtrain.models.base import fingerprint
from pdtrain.progress import Stopped, say
from pdtrain.storage import hash_json
from pdtrain.training import training_set, warm_start
from pdtrain.training.setup import assemble

MakeBatch = Callable[[Cut], TwinBatch]


def batch_maker(plan: Schedule, engine: Engine, is_asked_to_stop: IsAskedToStop) -> MakeBatch:
    """How a micro-batch gets its teacher: from the cache, online inside the forward, or none but
    its own answers."""
    config, device = plan.config, engine.device
    distils = config.train.objective == "distill"
    cache = None
    if plan.taught and config.is_teacher_cached:
        cache = filled_cache(plan, engine, is_asked_to_stop)

    def make(cut: Cut) -> TwinBatch:
        has_teacher = distils or cut.is_regularization
        made = packing.twin_batch(
            cut.examples,
            config.loss,
            device,
            with_teacher=has_teacher and cache is None,
            is_filler=cut.is_filler,
        )
        if not has_teacher:
            made = replace(made, topk=sure_of(made.targets))
        elif cache is not None:
            made = replace(made, topk=cache.topk(packing.in_order(cut.examples), device))
        return replace(
            made, weights=made.weights * cut.weight, is_regularization=cut.is_regularization
        )

    return make


def filled_cache(plan: Schedule, engine: Engine, is_asked_to_stop: IsAskedToStop) -> TeacherCache:
    """The teacher's distributions on all it is asked about; what is missing is asked for first.

    All ranks take part.

    Raises:
        Stopped: asked to, on any rank; what the teacher had said by then is kept.
    """
    config, examples = plan.config, plan.taught
    decides = {"model": fingerprint(config.model), **config.decisions("teacher")}
    inputs = from_first(hash_json(decides))
    parts = {name: hash_json(value) for name, value in decides.items()}
    folder = plan.output.teacher_folder / inputs[:12]  # another teacher gets another folder
    lacking = from_first(on_every_rank(lambda: _lacking(folder, inputs, parts, examples, engine)))
    # calls are those of an undisturbed run: in others a row's last bits could be other ones
    needed = [
        call
        for call in calls(examples, plan.limits.tokens)
        if any(teacher_cache.key(example) in lacking for example in call)
    ]
    is_filled = teacher_cache.fill(
        folder,
        plan.shape.sizes.vocab,
        needed,
        lambda chosen: engine.teach(
            packing.twin_batch(chosen, config.loss, engine.device, with_teacher=True)
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
            checked=engine.rank == 0,
        )
    )


def _lacking(
    folder: Path, inputs: str, parts: dict[str, str], examples: list[Example], engine: Engine
) -> set[str]:
    """Keys of the answers that no complete shard holds; looked up by the first rank alone."""
    if engine.rank:
        return set()
    teacher_cache.open_folder(folder, inputs, parts)
    return {teacher_cache.key(example) for example in teacher_cache.missing(folder, examples)}


def teach(config: RunConfig) -> None:
    """Fill `teacher/` of the run folder; what is there already is left alone.

    Under a launcher every rank calls this.

    Raises:
        ValueError: the config trains with the teacher online, and would never read it.
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
    training_set.inputs(config, start)  # says which stage is missing, before anything is loaded
    world = find_world()
    with (
        connected(config.engine, world),
        stop_requests(config.run) as is_asked_to_stop,
    ):
        made = assemble(config, world, lambda chat: training_set.of_run(config, chat, start))
        cache = filled_cache(made.plan, made.engine, is_asked_to_stop)
        taught = made.plan.taught
        tokens = sum(len(example.answer) for example in taught)
        say(
            f"teach: {len(taught)} answers, {tokens} answer tokens, "
            f"{cache.num_bytes / 1e6:.1f} MB ({cache.folder})"
        )
