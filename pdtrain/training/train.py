"""answers → adapter: the loop and the step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from pdtrain.config import RunConfig, SamplingConfig, require
from pdtrain.distillation.rollout import Rollout
from pdtrain.distillation.schedule import Schedule
from pdtrain.distributed.engine import Engine
from pdtrain.distributed.process_group import connected, from_first, uses_deepspeed
from pdtrain.distributed.world import World, find_world
from pdtrain.evaluation.metrics import gold_in_answer
from pdtrain.generation.huggingface import Generator
from pdtrain.interrupt import stop_requests
from pdtrain.models import learnt_passages
from pdtrain.models.base import dtype_of, fingerprint
from pdtrain.models.chat_template import Chat
from pdtrain.models.flops import peak_per_second
from pdtrain.progress import Stopped, progress, say
from pdtrain.records import seed_for
from pdtrain.run_folder import RunFolder
from pdtrain.stage import is_current, mark_finished, say_current
from pdtrain.storage import hash_json
from pdtrain.synthesis.held_out import read_questions
from pdtrain.training import checkpoint, teacher, training_set, warm_start
from pdtrain.training.checkpoint import Checkpoint
from pdtrain.training.metrics_log import Metrics
from pdtrain.training.setup import Assembly, assemble
from pdtrain.training.step import model_flops, named_figures, train_step
from pdtrain.training.teacher import MakeBatch
from pdtrain.training.training_set import TrainingSet
from pdtrain.training.warm_start import WarmStart

VERSION = 1  # part of the input hash: raise it when the same answers would train another adapter


def run(config: RunConfig) -> None:
    """Run the `train` stage: from the run's answers to `adapter/`, going on after a kill.

    Under a launcher every rank calls this; the first alone writes files.
    """
    world = find_world()
    with connected(config.engine, world):
        start = warm_start.of_config(config)
        train_adapter(
            config,
            world,
            lambda chat: training_set.of_run(config, chat, start),
            start=start,
            output=config.run,
            inputs=from_first(inputs_hash(config, start) if world.is_first else ""),
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
    """Train an adapter and write it to `output.adapter`; do nothing where it is there already.

    All ranks call this alike. A killed training goes on from its last checkpoint.

    Args:
        config: the knobs.
        world: this process among the ranks.
        read: gives what is trained on, once the chat template is there to make examples with.
        start: the adapter that training goes on from, if any.
        output: the folder of checkpoints, metrics, the teacher's cache and the adapter.
        inputs: hash of all that decides the adapter.

    Raises:
        Stopped: asked to; a checkpoint was written.
        ValueError: the answers, the model or the ranks do not allow it.
    """
    folder = output.adapter
    if from_first(is_current(folder, inputs)):
        say_current("train", folder)
        return
    refuse_ranks(config, world)
    with stop_requests(config.run) as is_asked_to_stop:
        made = assemble(config, world, read, start=start, output=output, inputs=inputs)
        plan, engine = made.plan, made.engine
        make_batch = teacher.batch_maker(plan, engine, is_asked_to_stop)
        first = _resume(plan, engine, made.start, start)
        quiz = None
        if not made.is_spread:
            generator = Generator(made.model, made.chat, config.evaluate.batch_size)
            quiz = _quiz(config, generator)
            if config.rollout.share:
                plan = replace(plan, rollout=Rollout(generator, config.rollout, config.seed))
        elif config.evaluate.questions and config.train.evaluate_every_epochs:
            say("train: on several ranks no questions are asked while training; evaluate does it")
        with closing(Metrics(output, first, enabled=world.is_first)) as metrics:
            _loop(plan, engine, first, make_batch, metrics, quiz, is_asked_to_stop)
    _write_adapter(made, plan, folder)


def _write_adapter(made: Assembly, plan: Schedule, folder: Path) -> None:
    """Write the adapter on the first rank, whole, its manifest last."""
    adapter = made.engine.adapter_state()
    if made.engine.rank == 0:
        (folder / "manifest.json").unlink(missing_ok=True)  # what follows is not what it names
        whole = {name.removeprefix("model."): weight for name, weight in adapter.items()}
        made.model.save_pretrained(str(folder), state_dict=whole, save_embedding_layers=False)
        # PEFT's empty card; export writes the real one
        (folder / "README.md").unlink(missing_ok=True)
        (folder / learnt_passages.DOCUMENTS).unlink(missing_ok=True)
        if made.learnt:
            learnt_passages.write(folder, made.learnt)
        mark_finished(folder, plan.inputs, num_steps=plan.num_steps, num_answers=len(plan.examples))
    made.engine.sum_over_ranks(0)  # no rank leaves before the adapter is there


def refuse_ranks(config: RunConfig, world: World) -> None:
    """Raise ValueError where something is asked for that a base cannot do spread over ranks."""
    writing = (("rollout.share", config.rollout.share), ("rounds.most", config.rounds.most))
    for name, value in writing if uses_deepspeed(config.engine, world) else ():
        require(
            not value,
            f"{name} > 0 needs one plain process: a base that is spread over ranks cannot write; "
            f"set {name}=0, or start one rank with engine.kind=plain",
        )


def _resume(
    plan: Schedule, engine: Engine, weights: dict[str, Tensor] | None, start: WarmStart | None
) -> int:
    """Return how many steps an earlier, interrupted run with the same inputs has done.

    The first rank decides which checkpoint is whole; all load it. Before the first step the
    weights are those of the start, if there is one.
    """
    folder, found = plan.output.checkpoints_folder, None
    if engine.rank == 0:
        found = checkpoint.load_latest(folder, plan.inputs)
    step = int(engine.sum_over_ranks(found.step if found else 0))
    if not step:
        if weights and start:
            engine.load_adapter(weights)
            say(f"train: going on from {start.folder}")
        return 0
    found = found or checkpoint.load(folder, plan.inputs, step)
    engine.load_state(found.adapter, found.optimizer)
    say(f"train: resuming after step {step} of {plan.num_steps}")
    return step


def _save(plan: Schedule, engine: Engine, step: int) -> None:
    state = Checkpoint(step, engine.adapter_state(), engine.optimizer_state())
    if engine.rank == 0:
        epoch, steps_in_epoch = divmod(step, plan.steps_per_epoch)
        about = {
            "num_steps": plan.num_steps,
            "next": {"epoch": epoch, "step_in_epoch": steps_in_epoch},
            "config": asdict(plan.config),
        }
        checkpoint.save(plan.output.checkpoints_folder, plan.inputs, state, about)
    engine.sum_over_ranks(0)  # no rank goes on, or away, before it is there


def inputs_hash(config: RunConfig, start: WarmStart | None) -> str:
    """Return the hash of all that decides the adapter of a run."""
    return hash_json([knobs_hash(config), training_set.inputs(config, start)])


def knobs_hash(config: RunConfig) -> str:
    """Return the hash of model and knobs that decide an adapter, without what it is trained on."""
    knobs = [config.hash_for("train"), config.answers_per_group]
    return hash_json([VERSION, fingerprint(config.model), knobs])


Quiz = Callable[[], float]


def _loop(
    plan: Schedule,
    engine: Engine,
    first: int,
    make_batch: MakeBatch,
    metrics: Metrics,
    quiz: Quiz | None,
    is_asked_to_stop: Callable[[], bool],
) -> None:
    settings = plan.config.train
    between_quizzes = settings.evaluate_every_epochs * plan.steps_per_epoch
    peak = engine.num_ranks * peak_per_second(engine.device, dtype_of(plan.config.model))
    if quiz and not first:
        metrics.log(0, {"eval/gold_in_answer": quiz()})
    with progress("train", plan.num_steps, "steps", done=first) as advance:
        for step in range(first + 1, plan.num_steps + 1):
            engine.clock.start()
            engine.seed(seed_for(plan.config.seed, "step", step))
            with engine.clock("data"):
                cuts = plan.micro_batches(step, engine.rank, engine.num_ranks)
                batches = [make_batch(cut) for cut in cuts]
            stats = train_step(engine, batches)
            work = engine.sum_over_ranks(sum(model_flops(plan, batch) for batch in batches))
            seconds = engine.clock.take()
            last = step == plan.num_steps
            if step % settings.log_every_steps == 0 or last:
                named = named_figures(stats, step / plan.steps_per_epoch, seconds, work / peak)
                if plan.regularization:
                    named["train/retain_loss"] = stats.retain_loss
                metrics.log(step, named)
            if quiz and step % between_quizzes == 0:
                metrics.log(step, {"eval/gold_in_answer": quiz()})
            stop = engine.sum_over_ranks(is_asked_to_stop()) > 0 and not last
            if stop or (step % settings.save_every_steps == 0 and not last):
                _save(plan, engine, step)
            if stop:
                raise Stopped(
                    f"saved after step {step} of {plan.num_steps}; the same command goes on from "
                    f"there (remove {plan.config.run.stop_file} first if it is there)"
                )
            advance(1, f"loss {stats.loss:.4f}")


def _quiz(config: RunConfig, generator: Generator) -> Callable[[], float] | None:
    """Closed-book gold-in-answer on the first held-out questions, for the training curve."""
    settings = config.train
    if not (config.evaluate.questions and settings.evaluate_every_epochs):
        return None
    questions = read_questions(config.evaluate.questions)
    if 0 < settings.evaluate_questions < len(questions):  # spread over the documents
        stride = len(questions) / settings.evaluate_questions
        questions = [questions[int(i * stride)] for i in range(settings.evaluate_questions)]
    prompts = [generator.chat.student(q.question) for q in questions]
    greedy = SamplingConfig(temperature=0, max_new_tokens=config.evaluate.max_new_tokens)

    def quiz() -> float:
        done = generator(prompts, greedy, seed=0)
        hits = [gold_in_answer(c.text, q.answers) for c, q in zip(done, questions, strict=True)]
        return sum(hits) / len(hits)

    return quiz
