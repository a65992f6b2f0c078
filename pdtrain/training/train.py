"""answers → adapter: the loop and the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace

from torch import Tensor

from pdtrain.config import RunConfig, SamplingConfig, require
from pdtrain.distillation.batch import Side, StepStats, TwinBatch
from pdtrain.distillation.rollout import Rollout
from pdtrain.distillation.schedule import Schedule
from pdtrain.distributed.engine import Engine
from pdtrain.distributed.process_group import connected, from_first, uses_deepspeed
from pdtrain.distributed.world import World, find_world
from pdtrain.evaluation.metrics import gold_in_answer
from pdtrain.generation.huggingface import Generator
from pdtrain.interrupt import stop_requests
from pdtrain.models import flops, learnt_passages
from pdtrain.models.base import dtype_of, fingerprint
from pdtrain.models.flops import peak_per_second
from pdtrain.progress import Stopped, progress, say
from pdtrain.records import seed_for
from pdtrain.stage import is_current, mark_finished, say_current
from pdtrain.storage import hash_json
from pdtrain.synthesis.held_out import read_questions
from pdtrain.training import checkpoint, teacher, training_set
from pdtrain.training.checkpoint import Checkpoint
from pdtrain.training.metrics_log import Metrics
from pdtrain.training.setup import assemble
from pdtrain.training.teacher import MakeBatch

# they decide how a step is cut and where its activations stay, not what it computes
CUTS = ("answers_per_micro_batch", "tokens_per_micro_batch", "gradient_checkpointing")
# knobs of train.* that came later: with these values an adapter is what it was without them
LATER = {"objective": "distill", "answers_per_group": 1, "answer_tokens": 0}
# in the hash by what stands in the folder they speak of, where there is one
OF_THE_START = ("start", "replay")
VERSION = 1  # part of the input hash: raise it when the same answers would train another adapter


def run(config: RunConfig) -> None:
    """The `train` stage: from the run's answers to `adapter/`, resuming where a kill left it.

    Under a launcher every rank calls this; the first alone writes files.
    """
    world = find_world()
    with connected(config.engine, world):
        _run(config, world)


def _run(config: RunConfig, world: World) -> None:
    folder = config.run.adapter
    inputs = from_first(inputs_hash(config) if world.is_first else "")
    if from_first(is_current(folder, inputs)):
        say_current("train", folder)
        return
    refuse_ranks(config, world)
    with stop_requests(config.run) as is_asked_to_stop:
        made = assemble(config, world, inputs)
        plan, engine = made.plan, made.engine
        outcome = training_set.outcome(config, plan.examples, made.chat)  # while the start is there
        make_batch = teacher.batch_maker(plan, engine, is_asked_to_stop)
        first = _resume(plan, engine, made.start)
        quiz = None
        if not made.is_spread:
            generator = Generator(made.model, made.chat, config.evaluate.batch_size)
            quiz = _quiz(config, generator)
            if config.rollout.share:
                plan = replace(plan, rollout=Rollout(generator, config.rollout, config.seed))
        elif config.evaluate.questions and config.train.evaluate_every_epochs:
            say("train: on several ranks no questions are asked while training; evaluate does it")
        with closing(Metrics(config.run, first, enabled=world.is_first)) as metrics:
            _loop(plan, engine, first, make_batch, metrics, quiz, is_asked_to_stop)
    adapter = engine.adapter_state()
    if world.is_first:
        (folder / "manifest.json").unlink(missing_ok=True)  # what follows is not what it names
        whole = {name.removeprefix("model."): weight for name, weight in adapter.items()}
        made.model.save_pretrained(str(folder), state_dict=whole, save_embedding_layers=False)
        # PEFT's empty card; export writes the real one
        (folder / "README.md").unlink(missing_ok=True)
        learnt_passages.write(folder, outcome)
        mark_finished(folder, inputs, num_steps=plan.num_steps, num_answers=len(plan.examples))
    engine.sum_over_ranks(0)  # no rank leaves before the adapter is there


def refuse_ranks(config: RunConfig, world: World) -> None:
    """Raise ValueError where something is asked for that a base cannot do spread over ranks."""
    writing = (("rollout.share", config.rollout.share), ("rounds.most", config.rounds.most))
    for name, value in writing if uses_deepspeed(config.engine, world) else ():
        require(
            not value,
            f"{name} > 0 needs one plain process: a base that is spread over ranks cannot write; "
            f"set {name}=0, or start one rank with engine.kind=plain",
        )


def _resume(plan: Schedule, engine: Engine, start: dict[str, Tensor] | None) -> int:
    """Steps already done by an earlier, interrupted run with the same inputs.

    The first rank decides which checkpoint is whole; all load it. Before the first step the
    weights are those of the start, if there is one.
    """
    folder, found = plan.config.run.checkpoints_folder, None
    if engine.rank == 0:
        found = checkpoint.load_latest(folder, plan.inputs)
    step = int(engine.sum_over_ranks(found.step if found else 0))
    if not step:
        if start:
            engine.load_adapter(start)
            say(f"train: going on from {plan.config.train.start}")
        return 0
    found = found or checkpoint.load(folder, step)
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
        checkpoint.save(plan.config.run.checkpoints_folder, plan.inputs, state, about)
    engine.sum_over_ranks(0)  # no rank goes on, or away, before it is there


def inputs_hash(config: RunConfig) -> str:
    """All that decides the adapter."""
    settings = asdict(config.train) | {"answers_per_group": config.answers_per_group}
    return hash_json(
        {
            "version": VERSION,
            "seed": config.seed,
            **training_set.inputs(config),
            "model": fingerprint(config.model),
            "train": {
                key: value
                for key, value in settings.items()
                if not key.startswith(("save_", "log_", "evaluate_"))
                and key not in (*CUTS, *OF_THE_START)
                and LATER.get(key) != value
            },
            "prompts": asdict(config.prompts),
            "adapter": asdict(config.adapter),
            "loss": {k: v for k, v in asdict(config.loss).items() if k != "labels" or v},
        }
    )


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
            work = engine.sum_over_ranks(sum(_flops(plan, batch) for batch in batches))
            seconds = engine.clock.take()
            last = step == plan.num_steps
            if step % settings.log_every_steps == 0 or last:
                named = _named(stats, step / plan.steps_per_epoch, seconds, work / peak)
                if plan.retained:
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


def train_step(engine: Engine, batches: Sequence[TwinBatch]) -> StepStats:
    """One optimizer step.

    The loss is the sum of all ranks' weighted row losses divided once by the sum of all their
    weights: with weights of 1, the mean in nats over the step's answer tokens.
    """
    total_weight = engine.sum_over_ranks(sum(batch.total_weight for batch in batches))
    loss_sum = mass_sum = retain_sum = 0.0
    for batch in batches:
        loss, mass = engine(batch)
        engine.backward(loss / total_weight, last=batch is batches[-1])
        loss_sum += float(loss.detach())
        mass_sum += float(mass)
        retain_sum += float(loss.detach()) if batch.is_regularization else 0.0
    grad_norm, rate = engine.step()
    real = [batch for batch in batches if not batch.is_filler]
    fillers = [batch for batch in batches if batch.is_filler]
    sums = engine.sums_over_ranks(
        [
            loss_sum,
            mass_sum,
            sum(batch.num_answer_tokens for batch in real),
            sum(_tokens(batch.student) for batch in real),
            sum(_tokens(batch.teacher) for batch in real),
            sum(_tokens(batch.student) + _tokens(batch.teacher) for batch in fillers),
            retain_sum,
            sum(batch.total_weight for batch in batches if batch.is_regularization),
        ]
    )
    return StepStats(
        loss=sums[0] / total_weight,
        grad_norm=grad_norm,
        learning_rate=rate,
        answer_tokens=int(sums[2]),
        student_tokens=int(sums[3]),
        teacher_tokens=int(sums[4]),
        padding_tokens=int(sums[5]),
        teacher_mass=sums[1] / total_weight,
        retain_loss=sums[6] / (sums[7] or 1.0),
    )


def _tokens(side: Side | None) -> int:
    return 0 if side is None else len(side.ids)


def _flops(plan: Schedule, batch: TwinBatch) -> float:
    """Model FLOPs of a micro-batch; a filler's are for nothing and do not count."""
    if batch.is_filler or batch.student is None:
        return 0.0
    online = batch.topk is None and batch.teacher is not None
    found = flops.student(plan.weights, flops.reading(batch.student.layout))
    found += flops.loss(plan.weights, batch.num_answer_tokens, online=online)
    if online and batch.teacher:
        found += flops.teacher(plan.weights, flops.reading(batch.teacher.layout))
    return found


def _named(
    stats: StepStats, epoch: float, seconds: dict[str, float], peak_seconds: float
) -> dict[str, float]:
    """Args: peak_seconds: how long the step's model FLOPs take at the machine's measured peak."""
    total = sum(seconds.values())
    read = stats.student_tokens + stats.teacher_tokens
    return {
        "train/loss": stats.loss,
        "train/grad_norm": stats.grad_norm,
        "train/learning_rate": stats.learning_rate,
        "train/epoch": epoch,
        "train/answer_tokens": stats.answer_tokens,
        "train/student_tokens_per_second": stats.student_tokens / total,
        "train/teacher_tokens_per_second": stats.teacher_tokens / total,
        "train/answer_fraction": stats.answer_tokens / read,
        "train/padding_fraction": stats.padding_tokens / (read + stats.padding_tokens),
        "train/model_flops_utilization": peak_seconds / total,
        "distillation/teacher_mass": stats.teacher_mass,
        **{f"time/{name}_seconds": value for name, value in seconds.items()},
    }


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
