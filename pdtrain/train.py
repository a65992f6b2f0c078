"""answers → adapter: the loop and the step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from pdtrain import checkpoint, rows, teacher_cache
from pdtrain.chat import prove
from pdtrain.checkpoint import Checkpoint
from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.engine import Engine, PlainEngine
from pdtrain.files import hash_json, read_shards
from pdtrain.generate import Generator
from pdtrain.grading import gold_in_answer, read_questions
from pdtrain.losses import TopKLoss
from pdtrain.metrics import Metrics
from pdtrain.model import fingerprint, load_model, load_tokenizer
from pdtrain.progress import progress, say
from pdtrain.records import Answer, Passage, Question, StepStats, TwinBatch, seed_for
from pdtrain.rows import Example
from pdtrain.stage import is_current, mark_finished, output_hash, say_current
from pdtrain.twin import Twin, add_adapter

VERSION = 1  # part of the input hash: raise it when the same answers would train another adapter


def run(config: RunConfig) -> None:
    """The `train` stage: from the run's answers to `adapter/`, resuming where a kill left it."""
    folder = config.folder / "adapter"
    inputs = inputs_hash(config)
    if is_current(folder, inputs):
        say_current("train", folder)
        return
    tokenizer, base = load_tokenizer(config.model), load_model(config.model)
    chat = prove(tokenizer, config.prompts, base.generation_config.eos_token_id)
    examples = rows.examples(*_read(config), chat)
    if not examples:
        raise ValueError(
            f"{config.folder / 'answers'} holds no answer to train on: all were dropped; look at "
            "what `pdtrain answers` said, or set answers.grounded=false"
        )
    model = add_adapter(base, config.adapter, seed_for(config.seed, "adapter"))
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    twin = Twin(model, TopKLoss(config.loss))
    plan = Plan(config, inputs, examples)
    engine = PlainEngine(twin, config.train, plan.num_steps)
    make_batch = _batch_maker(config, twin, engine, examples)
    first = _resume(plan, engine)
    metrics = Metrics(config.folder / "metrics", first, enabled=engine.rank == 0)
    quiz = _quiz(config, Generator(model, chat, config.evaluate.batch_size))
    _loop(plan, engine, first, make_batch, metrics, quiz)
    metrics.close()
    (folder / "manifest.json").unlink(missing_ok=True)  # what follows is not what it names
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; export writes the real one
    mark_finished(folder, inputs, num_steps=plan.num_steps, num_answers=len(examples))


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

    def micro_batches(self, step: int) -> list[list[Example]]:
        """The answers of a step (from 1 on); the same for any number of ranks."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        order = rows.epoch_order(len(self.examples), self.config.seed, epoch)
        chosen = rows.split_evenly(order, self.steps_per_epoch)[position]
        return rows.micro_batches(self.examples, chosen, self.config.train.answers_per_micro_batch)


def _resume(plan: Plan, engine: Engine) -> int:
    """Steps already done by an earlier, interrupted run with the same inputs."""
    resumed = checkpoint.load_latest(plan.config.folder / "checkpoints", plan.inputs)
    if resumed is None:
        return 0
    engine.load_state(resumed.adapter, resumed.optimizer)
    say(f"train: resuming after step {resumed.step} of {plan.num_steps}")
    return resumed.step


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
                if not key.startswith(("save_", "log_", "evaluate_"))
            },
            **{s: asdict(getattr(config, s)) for s in ("prompts", "adapter", "loss")},
        }
    )


MakeBatch = Callable[[list[Example]], TwinBatch]
Quiz = Callable[[], float]


def _loop(
    plan: Plan,
    engine: Engine,
    first: int,
    make_batch: MakeBatch,
    metrics: Metrics,
    quiz: Quiz | None,
) -> None:
    settings = plan.config.train
    between_quizzes = settings.evaluate_every_epochs * plan.steps_per_epoch
    if quiz and not first:
        metrics.log(0, {"eval/gold_in_answer": quiz()})
    with progress("train", plan.num_steps, "steps", done=first) as advance:
        for step in range(first + 1, plan.num_steps + 1):
            started = time.perf_counter()
            engine.seed(seed_for(plan.config.seed, "step", step))
            batches = [make_batch(cut) for cut in plan.micro_batches(step)]
            stats = train_step(engine, batches)
            seconds = time.perf_counter() - started
            last = step == plan.num_steps
            if step % settings.log_every_steps == 0 or last:
                metrics.log(step, _named(stats, step / plan.steps_per_epoch, seconds))
            if quiz and step % between_quizzes == 0:
                metrics.log(step, {"eval/gold_in_answer": quiz()})
            if step % settings.save_every_steps == 0 and not last:
                state = Checkpoint(step, engine.adapter_state(), engine.optimizer_state())
                checkpoint.save(plan.config.folder / "checkpoints", plan.inputs, state)
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
    config: RunConfig, twin: Twin, engine: Engine, examples: list[Example]
) -> MakeBatch:
    """How a micro-batch gets its teacher: from the cache, or online inside the forward."""
    device = engine.device
    if not config.teacher.cache or config.train.epochs == 1:
        return lambda cut: rows.twin_batch(cut, config.loss, device, with_teacher=True)
    inputs = hash_json(
        {
            "answers": [[e.answer_id, e.teacher_prompt] for e in examples],
            "model": fingerprint(config.model),
            "loss": [config.loss.top_k, config.loss.temperature],
        }
    )
    cache = teacher_cache.build(
        config.folder / "teacher",
        inputs,
        config.loss.temperature,
        examples,
        lambda group: twin.teacher(rows.twin_batch(group, config.loss, device, with_teacher=True)),
    )

    def make_batch(cut: list[Example]) -> TwinBatch:
        made = rows.twin_batch(cut, config.loss, device, with_teacher=False)
        return replace(made, topk=cache.topk(made.answer_ids, device))

    return make_batch


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
