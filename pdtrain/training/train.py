"""Train an adapter on answers: resume, loop over the steps, save, and write the adapter."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from pdtrain.config import RunConfig, require
from pdtrain.distillation.batch import on_device
from pdtrain.distillation.rollout import Rollout
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.tokens import source
from pdtrain.distributed.engine import Engine
from pdtrain.distributed.process_group import (
    connected,
    from_first,
    on_every_rank,
    uses_deepspeed,
)
from pdtrain.distributed.world import World, find_world
from pdtrain.files.durable import flush_tree, make_folder, naming, remove
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.adapter import SETTINGS
from pdtrain.models.attention.packed import forget_layouts
from pdtrain.models.base import dtype_of, fingerprint
from pdtrain.models.chat.chat_template import Chat
from pdtrain.models.flops import peak_per_second
from pdtrain.processes.interrupt import stop_requests
from pdtrain.progress import Stopped, progress, say
from pdtrain.records import seed_for
from pdtrain.run_folder import RunFolder
from pdtrain.stage import is_current, mark_finished, say_current
from pdtrain.storage import ADAPTER_WEIGHTS, hash_json, sha256_file
from pdtrain.training import teacher, training_set, warm_start
from pdtrain.training.checkpoints import checkpoint
from pdtrain.training.checkpoints.saving import Saver
from pdtrain.training.metrics_log import Metrics
from pdtrain.training.prefetch import prefetched_batches
from pdtrain.training.setup import TrainingSetup, set_up
from pdtrain.training.step import model_flops, named_figures, stop_where_not_finite, take_step
from pdtrain.training.student import held_out_accuracy, open_student
from pdtrain.training.teacher import MakeBatch
from pdtrain.training.training_set import TrainingSet
from pdtrain.training.warm_start import WarmStart

VERSION = 1  # part of the input hash; raise it when the same inputs give another adapter


def run(config: RunConfig) -> None:
    """Run the `train` stage: train `adapter/` on the run's answers, or go on after a kill.

    Under a launcher every rank calls this, and the first alone writes files.
    """
    world, inputs = find_world(), ""
    start = warm_start.of_config(config)
    if world.is_first:
        inputs = inputs_hash(config, start)
        if not is_current(config.run.adapter, inputs):
            source.prepare(config)  # the other ranks wait for this as for a stage, without a limit
    with connected(config.engine, world):
        train_adapter(
            config,
            world,
            lambda chat: training_set.of_run(config, chat, start),
            start=start,
            output=config.run,
            inputs=from_first(inputs),
        )


def train_adapter(
    config: RunConfig,
    world: World,
    read: Callable[[Chat], TrainingSet],
    *,
    start: WarmStart | None,
    output: RunFolder,
    inputs: str,
) -> None:
    """Train an adapter and write it to `output.adapter`; do nothing if it is there already.

    All ranks call this with the same arguments. A killed training goes on from its last checkpoint.

    Args:
        config: the knobs.
        world: this process among the ranks.
        read: returns the training set; the chat template that it is given makes the prompts.
        start: the adapter that training goes on from, if any.
        output: the folder of checkpoints, metrics, the teacher's cache and the adapter.
        inputs: the hash of all that decides the adapter.

    Raises:
        Stopped: a rank was asked to stop, and a checkpoint was written.
        ValueError: the answers, the model or the ranks do not allow it.
    """
    folder = output.adapter
    if from_first(world.is_first and is_current(folder, inputs)):
        say_current("train", folder)
        return
    refuse_ranks(config, world)
    with stop_requests(config.run) as is_asked_to_stop:
        setup = set_up(config, world, read, start=start, output=output, inputs=inputs)
        schedule, engine = setup.schedule, setup.engine
        make_batch = teacher.batch_maker(schedule, engine, is_asked_to_stop)
        first = _resume(schedule, engine, setup.start_weights, start)
        student, evaluate = open_student(setup, config.evaluate.batch_size), None
        if student:
            evaluate = held_out_accuracy(config, student)
            if config.rollout.share:
                schedule = replace(schedule, rollout=Rollout(student, config.rollout, config.seed))
        elif config.evaluate.questions and config.train.evaluate_every_epochs:
            say("train: under ZeRO-3 no questions are asked while training; evaluate does it")
        logged = checkpoint.num_logged(output.checkpoints_folder, inputs, first)
        with (
            closing(Metrics(output, first, logged=logged, enabled=world.is_first)) as metrics,
            closing(Saver(schedule, engine, metrics)) as saver,
        ):
            _loop(schedule, engine, first, make_batch, metrics, saver, evaluate, is_asked_to_stop)
        _write_adapter(setup, folder)
    setup.engine.close()
    forget_layouts()


def _write_adapter(setup: TrainingSetup, folder: Path) -> None:
    """Write the adapter on the first rank, and its manifest last."""
    schedule, weights = setup.schedule, setup.engine.adapter_state()
    if setup.engine.rank == 0:
        make_folder(folder)
        remove(folder / "manifest.json")  # it names the files that are replaced
        state = {name.removeprefix("model."): weight for name, weight in weights.items()}
        with naming(folder):
            setup.model.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
        # PEFT's empty model card; export writes the real one
        (folder / "README.md").unlink(missing_ok=True)
        (folder / learned_passages.DOCUMENTS).unlink(missing_ok=True)
        files = [ADAPTER_WEIGHTS, SETTINGS]
        if setup.learned:
            learned_passages.write(folder, setup.learned)
            files.append(learned_passages.DOCUMENTS)
        flush_tree(folder)
        mark_finished(
            folder,
            schedule.inputs,
            files,
            num_steps=schedule.num_steps,
            num_answers=len(schedule.examples),
            metrics=sha256_file(schedule.output.metrics_file),
        )
    setup.engine.sum_over_ranks(0)  # no rank leaves before the adapter is there


def refuse_ranks(config: RunConfig, world: World) -> None:
    """Raise ValueError if the student has to write in training, and no rank holds a whole one."""
    if not uses_deepspeed(config.engine, world):
        return
    require(
        not config.rollout.share or config.engine.stage < 3,
        "rollout.share > 0 needs a base that each rank holds whole, and engine.zero_stage="
        f"{config.engine.zero_stage} spreads it; set engine.zero_stage=2, or rollout.share=0",
    )


def _resume(
    schedule: Schedule, engine: Engine, weights: dict[str, Tensor] | None, start: WarmStart | None
) -> int:
    """Load the state of an interrupted run with the same inputs, and return how many steps it did.

    The first rank decides which checkpoint is whole, and all load it. Without a checkpoint the
    weights are those of the warm start, if there is one.
    """
    folder, inputs = schedule.output.checkpoints_folder, schedule.inputs
    found = on_every_rank(
        lambda: checkpoint.load_latest(folder, inputs) if engine.rank == 0 else None
    )
    step = int(engine.sum_over_ranks(found.step if found else 0))
    if not step:
        if weights and start:
            engine.load_adapter(weights)
            say(f"train: going on from {start.folder}")
        return 0
    found = found or checkpoint.load(folder, inputs, step)
    engine.load_state(found.adapter, found.optimizer)
    say(f"train: resuming after step {step} of {schedule.num_steps}")
    return step


def inputs_hash(config: RunConfig, start: WarmStart | None) -> str:
    """Return the hash of all that decides the adapter of a run."""
    return hash_json([knobs_hash(config), training_set.inputs(config, start)])


def knobs_hash(config: RunConfig) -> str:
    """Return the hash of the model and the knobs that decide an adapter, without its examples."""
    unused = _unused_knobs(config)
    knobs = {k: v for k, v in config.decisions("train").items() if not k.startswith(unused)}
    return hash_json([VERSION, fingerprint(config.model), knobs, config.answers_per_group])


def _unused_knobs(config: RunConfig) -> tuple[str, ...]:
    """Return how the names of the knobs begin that this config has no use for."""
    uses = {
        "raw_text.": config.train.objective == "raw_text",
        "teacher.source": config.teacher.source != "own",
        "rollout.sampling.": config.rollout.share > 0,
        "retain.per_step": config.retain.weight > 0,
        "train.replay": bool(config.train.start),
    }
    return tuple(name for name, is_used in uses.items() if not is_used)


Evaluate = Callable[[], float]


def _loop(
    schedule: Schedule,
    engine: Engine,
    first: int,
    make_batch: MakeBatch,
    metrics: Metrics,
    saver: Saver,
    evaluate: Evaluate | None,
    is_asked_to_stop: Callable[[], bool],
) -> None:
    settings = schedule.config.train
    steps_between = settings.evaluate_every_epochs * schedule.steps_per_epoch
    peak = engine.num_ranks * peak_per_second(engine.device, dtype_of(schedule.config.model))
    note = ""  # the loss, as of the last step that was logged
    if evaluate and not first:
        metrics.log(0, {"eval/gold_in_answer": evaluate()})
    with (
        progress("train", schedule.num_steps, "steps", done=first) as advance,
        prefetched_batches(schedule, engine, first, make_batch) as prefetched,
    ):
        for step in range(first + 1, schedule.num_steps + 1):
            engine.clock.start()
            engine.seed(seed_for(schedule.config.seed, "step", step))
            with engine.clock("data"):
                batches = [on_device(batch, engine.device) for batch in next(prefetched)]
            taken = take_step(engine, batches)
            if not math.isfinite(taken.grad_norm):  # on every rank, for it is of all of them
                stop_where_not_finite(schedule, engine, taken, step)
            last = step == schedule.num_steps
            if step % settings.log_every_steps == 0 or last:
                stats = taken.stats(engine)
                if not math.isfinite(stats.loss):
                    stop_where_not_finite(schedule, engine, taken, step)
                work = engine.sum_over_ranks(sum(model_flops(schedule, one) for one in batches))
                seconds, note = engine.clock.take(), f"loss {stats.loss:.4f}"
                named = named_figures(stats, step / schedule.steps_per_epoch, seconds, work / peak)
                if schedule.regularization:
                    named["train/retain_loss"] = stats.retain_loss
                metrics.log(step, named)
            if evaluate and step % steps_between == 0:
                metrics.log(step, {"eval/gold_in_answer": evaluate()})
            stop = engine.sum_over_ranks(is_asked_to_stop()) > 0 and not last
            if stop or (step % settings.save_every_steps == 0 and not last):
                if engine.sum_over_ranks(taken.num_nonfinite()):
                    stop_where_not_finite(schedule, engine, taken, step)
                saver.save(step, wait=stop)
            if stop:
                raise Stopped(
                    f"saved after step {step} of {schedule.num_steps}; the same command goes on "
                    f"from there (remove {schedule.config.run.stop_file} first if it is there)"
                )
            advance(1, note)
