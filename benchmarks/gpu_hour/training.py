"""Take training steps as `pdtrain train` takes them, on a random-weight model, and the paper's."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from baselines.official import Official
from gpu_hour import model as models
from gpu_hour.report import Task
from peft import PeftModel

from pdtrain.config import LossConfig, ModelConfig, RunConfig, TeacherConfig, TrainConfig
from pdtrain.distillation.batch import StepStats, TwinBatch, on_device
from pdtrain.distillation.loss_proof import Impl, Problem, choose_impl
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.models.adapters.lora import add_adapter, tuners_of
from pdtrain.models.adapters.lora_precision import use_tf32, uses_tf32
from pdtrain.models.attention import prefix
from pdtrain.models.attention.backends import BACKENDS
from pdtrain.models.attention.choice import Heads, choose
from pdtrain.run_folder import RunFolder
from pdtrain.training.step import model_flops, train_step
from pdtrain.training.teacher import batch_maker

NUM_STEPS = 1000  # of the learning rate's schedule; far fewer are taken
PADDED = 4  # answers that the paper's recipe pads to one another


@dataclass(frozen=True)
class Sizes:
    """Say how much a step trains on; a micro-batch holds a whole step."""

    num_passages: int = 4
    per_passage: int = 16
    lengths: models.Lengths = models.USUAL_LENGTHS
    tokens_per_micro_batch: int = 16_384


TOY = Sizes(2, 2, models.TOY_LENGTHS)


class Trainee:
    """Hold a random-weight model with one adapter, which all ways of training share."""

    def __init__(self, shape: str, task: Task) -> None:
        self.task = task
        self.shape, self.sizes = ("toy", TOY) if task.is_dry else (shape, Sizes())
        sizes = self.sizes
        self.examples = models.examples(
            self.shape, sizes.num_passages, sizes.per_passage, sizes.lengths
        )
        self.config = _config(models.save_config(self.shape, task.folder / "model"), task, sizes)
        base = models.build(self.shape, task.device, task.dtype)
        self.base_bytes = sum(weight.nbytes for weight in base.parameters())
        self.model: PeftModel = add_adapter(base, self.config.adapter, 1)
        if uses_tf32(self.config.adapter.fp32_precision, task.device, task.dtype):
            use_tf32(tuners_of(self.model))  # of the recipe's steps, too: it is the same model
        self.attention = _chosen_attention(self.shape, task)
        self.impl = _chosen_impl(self.shape, self.config, task)

    def ours(self, folder: str, *, is_cached: bool, checkpointing: bool = False) -> Ours:
        """Return pdtrain's step with the teacher online, or from a cache that is filled here."""
        train = replace(self.config.train, gradient_checkpointing=checkpointing)
        config = replace(self.config, train=train, teacher=TeacherConfig(cache=is_cached))
        return Ours(self, config, RunFolder(self.task.folder / folder))

    def official(self) -> Theirs:
        """Return the step of the paper's recipe: two padded passes with all logits."""
        return Theirs(self)


class Ours:
    """Take pdtrain's steps; every one has all of the trainee's answers.

    As in training, a thread prepares the next step's batches while one is taken. A step ends when
    both are done, which `Prefetched` does not wait for: nothing is then made in others' time.
    """

    def __init__(self, trainee: Trainee, config: RunConfig, folder: RunFolder) -> None:
        self.trainee = trainee
        twin = Twin(
            trainee.model,
            TopKLoss(config.loss, trainee.impl),
            checkpointing=config.train.checkpoints,
            attend=BACKENDS[trainee.attention],
        )
        self.engine = PlainEngine(twin, config.train, NUM_STEPS)
        self.schedule = Schedule(config, "", trainee.examples, folder=folder)
        self._use_attention()
        self.make_batch = batch_maker(self.schedule, self.engine, lambda: False)
        self.stats: StepStats | None = None
        self.seconds: dict[str, float] = {}
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._next: Future[list[TwinBatch]] | None = None

    def step(self) -> None:
        """Take one step; leaves its figures in `stats` and its seconds by part in `seconds`."""
        self._use_attention()
        self.engine.clock.start()
        with self.engine.clock("data"):
            prepared = self._next.result() if self._next else self._prepared()
            batches = [on_device(batch, self.engine.device) for batch in prepared]
        self._next = self._thread.submit(self._prepared)
        self.stats = train_step(self.engine, batches)
        self._next.result()
        self.seconds = self.engine.clock.take()

    def work(self) -> float:
        """Return the model FLOPs of a step."""
        return sum(model_flops(self.schedule, batch) for batch in self._prepared())

    def state_bytes(self) -> int:
        return _state_bytes(self.engine.optimizer)

    def _prepared(self) -> list[TwinBatch]:
        return [self.make_batch(cut) for cut in self.schedule.micro_batches(1)]

    def _use_attention(self) -> None:
        self.trainee.model.get_base_model().set_attn_implementation(prefix.NAME)


class Theirs:
    """Take the steps of the paper's recipe, on the same answers, with transformers' SDPA."""

    def __init__(self, trainee: Trainee) -> None:
        self.trainee = trainee
        self.recipe = Official(
            trainee.model, trainee.config.loss, trainee.config.train, NUM_STEPS, batch=PADDED
        )
        self.loss = float("nan")

    def step(self) -> None:
        """Take one step; leaves its loss in `loss`."""
        self.trainee.model.get_base_model().set_attn_implementation("sdpa")
        self.loss, _ = self.recipe.step(self.trainee.examples)

    def work(self) -> float:
        """Return the FLOPs of a step as torch counts them: products and attention."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.step()
        return float(counter.get_total_flops())

    def num_tokens(self) -> tuple[int, int]:
        return self.recipe.num_tokens(self.trainee.examples)

    def state_bytes(self) -> int:
        return _state_bytes(self.recipe.optimizer)


def _config(folder: Path, task: Task, sizes: Sizes) -> RunConfig:
    """From dataclasses alone: a bare machine may lack OmegaConf."""
    num_answers = sizes.num_passages * sizes.per_passage
    dtype: Any = str(task.dtype).removeprefix("torch.")
    return RunConfig(
        out_dir=str(task.folder / "run"),
        model=ModelConfig(name=str(folder), device=str(task.device), dtype=dtype),
        loss=LossConfig(top_k=64),
        train=TrainConfig(
            epochs=2,  # with one a cache would not be used
            learning_rate=1e-5,  # what is learnt does not matter, and must not become infinite
            answers_per_step=num_answers,
            answers_per_micro_batch=num_answers,
            tokens_per_micro_batch=sizes.tokens_per_micro_batch,
        ),
    )


def heads_of(shape: str, dtype: torch.dtype, window: int | None = None) -> Heads:
    """Return what of a model's shape decides its attention."""
    settings = models.SHAPES[shape]
    return Heads(
        settings.num_attention_heads,
        settings.num_key_value_heads,
        settings.head_dim,
        dtype,
        window,
    )


def _chosen_attention(shape: str, task: Task) -> str:
    chosen = choose("auto", task.device, heads_of(shape, task.dtype))
    return next(name for name, way in BACKENDS.items() if way is chosen)


def _chosen_impl(shape: str, config: RunConfig, task: Task) -> Impl:
    settings = models.SHAPES[shape]
    problem = Problem(settings.hidden_size, settings.vocab_size, task.dtype, config.loss)
    return choose_impl("chunked" if "triton" in task.avoid else "auto", task.device, problem)


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    tensors = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in tensors if isinstance(value, torch.Tensor))
