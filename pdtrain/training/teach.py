"""`pdtrain teach`: the teacher's distributions on all answers, on disk, without any training.

Worth its own call where filling the cache wants other machines than training, or a night before
it; otherwise `pdtrain train` does the same first.
"""

from __future__ import annotations

from pdtrain.config import RunConfig
from pdtrain.distillation import schedule
from pdtrain.distributed.process_group import connected
from pdtrain.distributed.world import find_world
from pdtrain.interrupt import stop_requests
from pdtrain.progress import say
from pdtrain.training import training_set
from pdtrain.training.setup import assemble


def run(config: RunConfig) -> None:
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
    training_set.inputs(config)  # says which stage is missing, before anything is loaded
    world = find_world()
    with (
        connected(config.engine, world),
        stop_requests(config.folder) as is_asked_to_stop,
    ):
        made = assemble(config, world, inputs="")
        cache = schedule.filled_cache(made.plan, made.engine, is_asked_to_stop)
        taught = made.plan.taught
        tokens = sum(len(example.answer) for example in taught)
        say(
            f"teach: {len(taught)} answers, {tokens} answer tokens, "
            f"{cache.num_bytes / 1e6:.1f} MB ({cache.folder})"
        )
