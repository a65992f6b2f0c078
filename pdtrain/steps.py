"""What a run trains on: its answers, the order of every epoch, each rank's batches and teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial

import torch

from pdtrain import cuts, estimate, rows, teacher_cache
from pdtrain.chat import Chat
from pdtrain.config import RunConfig
from pdtrain.cuts import Costs, Cut, Limits
from pdtrain.engine import Engine, from_first
from pdtrain.estimate import Shape
from pdtrain.files import hash_json, read_shards
from pdtrain.flops import Weights
from pdtrain.model import fingerprint, skeleton
from pdtrain.records import Answer, Passage, Question, TwinBatch
from pdtrain.rows import Example
from pdtrain.teacher_cache import TeacherCache

MakeBatch = Callable[[Cut], TwinBatch]


def examples(config: RunConfig, chat: Chat) -> list[Example]:
    """The run's answers as both sides read them.

    Raises:
        ValueError: there is none.
    """
    folder = config.folder
    found = rows.examples(
        [Passage.from_json(row) for row in read_shards(folder / "passages")],
        [Question.from_json(row) for row in read_shards(folder / "questions")],
        [Answer.from_json(row) for row in read_shards(folder / "answers")],
        chat,
    )
    if not found:
        raise ValueError(
            f"{folder / 'answers'} holds no answer to train on: all were dropped; look at what "
            "`pdtrain answers` said, or set answers.grounded=false"
        )
    return found


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

    @cached_property
    def shape(self) -> Shape:
        """From the model's config alone: under ZeRO-3 no rank sees a weight whole."""
        return estimate.shape_of(skeleton(self.config.model), self.config.adapter.target_modules)

    @cached_property
    def weights(self) -> Weights:
        return estimate.weights_of(self.config, self.shape)

    @cached_property
    def costs(self) -> Costs:
        """FLOPs of a token and of a row; attention, small beside the rest, is left out."""
        online, weights = not self.config.is_teacher_cached, self.weights
        passes = 3 if self.config.train.gradient_checkpointing else 2
        return Costs(
            teacher=2 * weights.matmuls * online,
            student=2 * weights.matmuls * passes,
            row=weights.head * (4 + 2 * online),
        )

    @property
    def limits(self) -> Limits:
        train = self.config.train
        return Limits(train.answers_per_micro_batch, train.tokens_per_micro_batch)

    def refuse_oversized(self) -> None:
        """Raise ValueError for an answer that no micro-batch may hold."""
        cuts.refuse_oversized(self.examples, self.costs, self.limits)

    def micro_batches(self, step: int, rank: int = 0, num_ranks: int = 1) -> list[Cut]:
        """The rank's part of a step (from 1 on), which is the same for any number of ranks."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        chosen = self._steps(epoch)[position]
        return cuts.micro_batches(
            [self.examples[i] for i in chosen],
            self.costs,
            self.limits,
            rank=rank,
            num_ranks=num_ranks,
        )

    def _steps(self, epoch: int) -> list[Sequence[int]]:
        """The answers of every step of an epoch, by number; shuffled once an epoch."""
        if epoch not in self._kept:
            passages = [example.passage_id for example in self.examples]
            group = self.config.answers_per_group
            order = rows.epoch_order(passages, self.config.seed, epoch, group)
            self._kept.clear()
            self._kept[epoch] = rows.split_evenly(order, self.steps_per_epoch)
        return self._kept[epoch]

    @cached_property
    def _kept(self) -> dict[int, list[Sequence[int]]]:
        return {}


def batch_maker(plan: Plan, engine: Engine) -> MakeBatch:
    """How a micro-batch gets its teacher: from the cache, or online inside the forward."""
    config, device = plan.config, engine.device
    made = partial(_twin_batch, config, device)
    if not config.is_teacher_cached:
        return partial(made, with_teacher=True)
    cache = filled_cache(plan, engine)

    def cached(cut: Cut) -> TwinBatch:
        batch = made(cut, with_teacher=False)
        return replace(batch, topk=cache.topk(rows.in_order(cut.examples), device))

    return cached


def _twin_batch(
    config: RunConfig, device: torch.device, cut: Cut, *, with_teacher: bool
) -> TwinBatch:
    return rows.twin_batch(
        cut.examples, config.loss, device, with_teacher=with_teacher, is_filler=cut.is_filler
    )


def filled_cache(plan: Plan, engine: Engine) -> TeacherCache:
    """The teacher's distributions on all answers; what is missing is asked for first.

    All ranks take part.
    """
    config = plan.config
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
        keys = [teacher_cache.key(e) for e in teacher_cache.missing(folder, plan.examples)]
    order = {key: number for number, key in enumerate(from_first(keys))}
    missing = [e for e in plan.examples if teacher_cache.key(e) in order]
    missing.sort(key=lambda e: order[teacher_cache.key(e)])
    teacher_cache.fill(
        folder,
        plan.shape.sizes.vocab,
        cuts.calls(missing, plan.limits.tokens),
        lambda chosen: engine.teach(
            rows.twin_batch(chosen, config.loss, engine.device, with_teacher=True)
        ),
        rank=engine.rank,
        num_ranks=engine.num_ranks,
    )
    engine.sum_over_ranks(0)
    return teacher_cache.read(
        folder,
        inputs,
        config.loss.temperature,
        plan.examples,
        patience_seconds=0 if engine.num_ranks == 1 else 60,
        checked=engine.rank == 0,
    )
