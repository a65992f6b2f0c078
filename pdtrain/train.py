"""answers → adapter: the loop and the step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pdtrain import checkpoint, load, rows, teacher_cache, zero
from pdtrain.chat import Chat, prove
from pdtrain.checkpoint import Checkpoint
from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.engine import (
    DeepSpeedEngine,
    Engine,
    PlainEngine,
    connected,
    from_first,
    uses_deepspeed,
)
from pdtrain.files import hash_json, read_shards, write_json
from pdtrain.generate import Generator
from pdtrain.grading import gold_in_answer, read_questions
from pdtrain.losses import TopKLoss
from pdtrain.metrics import Metrics
from pdtrain.model import device_of, dtype_of, fingerprint, load_model, load_tokenizer
from pdtrain.progress import Stopped, progress, say
from pdtrain.records import Answer, Passage, Question, StepStats, TwinBatch, seed_for
from pdtrain.rows import Cut, Example
from pdtrain.stage import is_current, mark_finished, output_hash, say_current
from pdtrain.teacher_cache import TeacherCache
from pdtrain.twin import Twin, add_adapter
from pdtrain.world import World, find_world

STOP = "STOP"  # a file of this name in the run folder asks for a checkpoint and an end
# they decide how a step is cut and where its activations stay, not what it computes
CUTS = ("answers_per_micro_batch", "gradient_checkpointing")
VERSION = 1  # part of the input hash: raise it when the same answers would train another adapter


def run(config: RunConfig) -> None:
    """The `train` stage: from the run's answers to `adapter/`, resuming where a kill left it.

    Under a launcher every rank calls this; the first alone writes files.
    """
    world = find_world()
    with connected(config.engine, world):
        _run(config, world)


def _run(config: RunConfig, world: World) -> None:
    folder = config.folder / "adapter"
    inputs = from_first(inputs_hash(config) if world.is_first else "")
    if from_first(is_current(folder, inputs)):
        say_current("train", folder)
        return
    with stop_requests(config.folder) as is_asked_to_stop:
        twin, chat, settings = _twin(config, world)
        plan = Plan(config, inputs, _examples(config, chat))
        engine: Engine
        if settings is None:
            engine = PlainEngine(twin, config.train, plan.num_steps)
        else:
            engine = DeepSpeedEngine(twin, config.train, plan.num_steps, world, settings)
        make_batch = _batch_maker(config, engine, plan.examples, is_asked_to_stop)
        first = _resume(plan, engine)
        quiz = None
        if settings is None:
            quiz = _quiz(config, Generator(twin.model, chat, config.evaluate.batch_size))
        elif config.evaluate.questions and config.train.evaluate_every_epochs:
            say("train: on several ranks no questions are asked while training; evaluate does it")
        with closing(Metrics(config.folder / "metrics", first, enabled=world.is_first)) as metrics:
            _loop(plan, engine, first, make_batch, metrics, quiz, is_asked_to_stop)
    adapter = engine.adapter_state()
    if world.is_first:
        (folder / "manifest.json").unlink(missing_ok=True)  # what follows is not what it names
        whole = {name.removeprefix("model."): weight for name, weight in adapter.items()}
        twin.model.save_pretrained(str(folder), state_dict=whole, save_embedding_layers=False)
        # PEFT's empty card; export writes the real one
        (folder / "README.md").unlink(missing_ok=True)
        mark_finished(folder, inputs, num_steps=plan.num_steps, num_answers=len(plan.examples))
    engine.sum_over_ranks(0)  # no rank leaves before the adapter is there


def _twin(config: RunConfig, world: World) -> tuple[Twin, Chat, dict[str, Any] | None]:
    """With DeepSpeed's settings, where it trains; the base is spread over the ranks then."""
    settings = None
    if uses_deepspeed(config.engine, world):
        _refuse_shared_device(config, world)
        settings = zero.settings(config, zero.sizes_of(config.model), world, dtype_of(config.model))
        if world.is_first:
            write_json(config.folder / "deepspeed.json", settings)
    with load.spread(settings):
        tokenizer, base = load_tokenizer(config.model), load_model(config.model)
    if settings and config.engine.zero_stage == 3 and (unknown := load.verify(base, config.model)):
        say(f"train: {unknown} weights of the base have no safetensors file to compare them with")
    chat = prove(tokenizer, config.prompts, base.generation_config.eos_token_id)
    # DeepSpeed wants one dtype, and keeps fp32 masters of what it trains
    in_fp32 = settings is None
    model = add_adapter(base, config.adapter, seed_for(config.seed, "adapter"), in_fp32=in_fp32)
    checkpointing = config.train.gradient_checkpointing
    return Twin(model, TopKLoss(config.loss), checkpointing=checkpointing), chat, settings


def _examples(config: RunConfig, chat: Chat) -> list[Example]:
    found = rows.examples(*_read(config), chat)
    if not found:
        raise ValueError(
            f"{config.folder / 'answers'} holds no answer to train on: all were dropped; look at "
            "what `pdtrain answers` said, or set answers.grounded=false"
        )
    return found


def _refuse_shared_device(config: RunConfig, world: World) -> None:
    device = device_of(config.model)
    if world.num_ranks > 1 and device.index is not None:
        raise ValueError(
            f"model.device={config.model.device} would put all {world.num_ranks} ranks on one GPU; "
            "leave it at auto, and choose GPUs by CUDA_VISIBLE_DEVICES"
        )


@dataclass(frozen=True)
class Plan:
    """What is trained on, and in how many steps."""

    config: RunConfig
    inputs: str  # hash of all that decides the adapter
    examples: list[Example]

    @property
    def steps_per_epoch(self) -> int:
        return rows.steps_per_epoch(len(self.examples), self.config.train.answers_per_step)

    @property
    def num_steps(self) -> int:
        return self.steps_per_epoch * self.config.train.epochs

    def micro_batches(self, step: int, rank: int = 0, num_ranks: int = 1) -> list[Cut]:
        """The rank's part of a step (from 1 on), which is the same for any number of ranks."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        order = rows.epoch_order(len(self.examples), self.config.seed, epoch)
        chosen = rows.split_evenly(order, self.steps_per_epoch)[position]
        return rows.micro_batches(
            self.examples,
            chosen,
            self.config.train.answers_per_micro_batch,
            rank=rank,
            num_ranks=num_ranks,
        )


def _resume(plan: Plan, engine: Engine) -> int:
    """Steps already done by an earlier, interrupted run with the same inputs.

    The first rank decides which checkpoint is whole; all load it.
    """
    folder, found = plan.config.folder / "checkpoints", None
    if engine.rank == 0:
        found = checkpoint.load_latest(folder, plan.inputs)
    step = int(engine.sum_over_ranks(found.step if found else 0))
    if not step:
        return 0
    found = found or checkpoint.load(folder, step)
    engine.load_state(found.adapter, found.optimizer)
    say(f"train: resuming after step {step} of {plan.num_steps}")
    return step


def _save(plan: Plan, engine: Engine, step: int) -> None:
    state = Checkpoint(step, engine.adapter_state(), engine.optimizer_state())
    if engine.rank == 0:
        epoch, steps_in_epoch = divmod(step, plan.steps_per_epoch)
        about = {
            "num_steps": plan.num_steps,
            "next": {"epoch": epoch, "step_in_epoch": steps_in_epoch},
            "config": asdict(plan.config),
        }
        checkpoint.save(plan.config.folder / "checkpoints", plan.inputs, state, about)
    engine.sum_over_ranks(0)  # no rank goes on, or away, before it is there


@contextmanager
def stop_requests(folder: Path) -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGUSR1 has come, or a file named STOP stands in the run folder.

    Schedulers send the one shortly before they end a job; not all launchers pass it on to the
    ranks, and the file reaches all that see the folder. What comes while the base is loaded waits
    until it is there. A second SIGTERM ends the process.
    """
    asked = False
    numbers = (signal.SIGTERM, signal.SIGUSR1)

    def note(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, before[signal.Signals(number)])

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in numbers} if main else {}
    try:
        yield lambda: asked or (folder / STOP).exists()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def inputs_hash(config: RunConfig) -> str:
    """All that decides the adapter."""
    return hash_json(
        {
            "version": VERSION,
            "seed": config.seed,
            "answers": [
                output_hash(config.folder / name) for name in ("passages", "questions", "answers")
            ],
            "model": fingerprint(config.model),
            "train": {
                key: value
                for key, value in asdict(config.train).items()
                if not key.startswith(("save_", "log_", "evaluate_")) and key not in CUTS
            },
            **{s: asdict(getattr(config, s)) for s in ("prompts", "adapter", "loss")},
        }
    )


MakeBatch = Callable[[Cut], TwinBatch]
Quiz = Callable[[], float]


def _loop(
    plan: Plan,
    engine: Engine,
    first: int,
    make_batch: MakeBatch,
    metrics: Metrics,
    quiz: Quiz | None,
    is_asked_to_stop: Callable[[], bool],
) -> None:
    settings = plan.config.train
    between_quizzes = settings.evaluate_every_epochs * plan.steps_per_epoch
    if quiz and not first:
        metrics.log(0, {"eval/gold_in_answer": quiz()})
    with progress("train", plan.num_steps, "steps", done=first) as advance:
        for step in range(first + 1, plan.num_steps + 1):
            started = time.perf_counter()
            engine.seed(seed_for(plan.config.seed, "step", step))
            cuts = plan.micro_batches(step, engine.rank, engine.num_ranks)
            batches = [make_batch(cut) for cut in cuts]
            stats = train_step(engine, batches)
            seconds = time.perf_counter() - started
            last = step == plan.num_steps
            if step % settings.log_every_steps == 0 or last:
                metrics.log(step, _named(stats, step / plan.steps_per_epoch, seconds))
            if quiz and step % between_quizzes == 0:
                metrics.log(step, {"eval/gold_in_answer": quiz()})
            stop = engine.sum_over_ranks(is_asked_to_stop()) > 0 and not last
            if stop or (step % settings.save_every_steps == 0 and not last):
                _save(plan, engine, step)
            if stop:
                raise Stopped(
                    f"saved after step {step} of {plan.num_steps}; the same command goes on from "
                    f"there (remove {plan.config.folder / STOP} first if it is there)"
                )
            advance(1, f"loss {stats.loss:.4f}")


def train_step(engine: Engine, batches: Sequence[TwinBatch]) -> StepStats:
    """One optimizer step.

    The loss is the sum of all ranks' weighted row losses divided once by the sum of all their
    weights: with weights of 1, the mean in nats over the step's answer tokens.
    """
    total_weight = engine.sum_over_ranks(sum(batch.total_weight for batch in batches))
    loss_sum = mass_sum = 0.0
    for batch in batches:
        loss, mass = engine(batch)
        engine.backward(loss / total_weight, last=batch is batches[-1])
        loss_sum += float(loss.detach())
        mass_sum += float(mass)
    grad_norm, rate = engine.step()
    return StepStats(
        loss=engine.sum_over_ranks(loss_sum) / total_weight,
        grad_norm=grad_norm,
        learning_rate=rate,
        answer_tokens=int(engine.sum_over_ranks(sum(b.num_answer_tokens for b in batches))),
        student_tokens=int(
            engine.sum_over_ranks(sum(len(b.student.ids) for b in batches if b.student))
        ),
        teacher_mass=engine.sum_over_ranks(mass_sum) / total_weight,
    )


def _named(stats: StepStats, epoch: float, seconds: float) -> dict[str, float]:
    return {
        "train/loss": stats.loss,
        "train/grad_norm": stats.grad_norm,
        "train/learning_rate": stats.learning_rate,
        "train/epoch": epoch,
        "train/answer_tokens": stats.answer_tokens,
        "train/tokens_per_second": stats.student_tokens / seconds,
        "distillation/teacher_mass": stats.teacher_mass,
    }


def _batch_maker(
    config: RunConfig,
    engine: Engine,
    examples: list[Example],
    is_asked_to_stop: Callable[[], bool],
) -> MakeBatch:
    """How a micro-batch gets its teacher: from the cache, or online inside the forward."""
    device, loss = engine.device, config.loss

    def online(cut: Cut) -> TwinBatch:
        return rows.twin_batch(
            cut.examples, loss, device, with_teacher=True, is_filler=cut.is_filler
        )

    if not config.teacher.cache or config.train.epochs == 1:
        return online
    cache = _cache(config, engine, examples, is_asked_to_stop)

    def cached(cut: Cut) -> TwinBatch:
        made = rows.twin_batch(
            cut.examples, loss, device, with_teacher=False, is_filler=cut.is_filler
        )
        return replace(made, topk=cache.topk(rows.in_order(cut.examples), device))

    return cached


def _cache(
    config: RunConfig,
    engine: Engine,
    examples: list[Example],
    is_asked_to_stop: Callable[[], bool],
) -> TeacherCache:
    """The teacher's distributions on all answers; what is missing is asked for first.

    Raises:
        Stopped: asked to, on any rank; what the teacher had said by then is kept.
    """
    inputs = from_first(
        hash_json(
            {
                "model": fingerprint(config.model),
                "prompts": asdict(config.prompts),
                "loss": [config.loss.top_k, config.loss.temperature],
            }
        )
    )
    folder = config.folder / "teacher" / inputs[:12]  # another teacher gets another folder
    keys: list[str] = []
    if engine.rank == 0:
        teacher_cache.open_folder(folder, inputs)
        keys = [teacher_cache.key(e) for e in teacher_cache.missing(folder, examples)]
    order = {key: number for number, key in enumerate(from_first(keys))}
    missing = [e for e in examples if teacher_cache.key(e) in order]
    missing.sort(key=lambda e: order[teacher_cache.key(e)])

    is_filled = teacher_cache.fill(
        folder,
        zero.sizes_of(config.model).vocab,
        missing,
        lambda group: engine.teach(
            rows.twin_batch(group, config.loss, engine.device, with_teacher=True)
        ),
        rank=engine.rank,
        num_ranks=engine.num_ranks,
        is_to_stop=lambda: engine.sum_over_ranks(is_asked_to_stop()) > 0,
    )
    engine.sum_over_ranks(0)
    if not is_filled:
        raise Stopped(
            "stopped before the first step; what the teacher has said is kept, and the same "
            f"command goes on from there (remove {config.folder / STOP} first if it is there)"
        )
    return teacher_cache.read(
        folder,
        inputs,
        config.loss.temperature,
        examples,
        patience_seconds=0 if engine.num_ranks == 1 else 60,
        checked=engine.rank == 0,
    )


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


def _read(config: RunConfig) -> tuple[list[Passage], list[Question], list[Answer]]:
    return (
        [Passage.from_json(row) for row in read_shards(config.folder / "passages")],
        [Question.from_json(row) for row in read_shards(config.folder / "questions")],
        [Answer.from_json(row) for row in read_shards(config.folder / "answers")],
    )
