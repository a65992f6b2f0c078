"""Say which answers every step of a training holds, and which micro-batches each rank gets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from pdtrain.config import LossConfig, RunConfig
from pdtrain.distillation.examples import Example
from pdtrain.distillation.micro_batches import (
    Costs,
    Limits,
    MicroBatch,
    micro_batches,
    refuse_oversized,
)
from pdtrain.distillation.rollout import Rollout
from pdtrain.models.base import skeleton
from pdtrain.models.flops import Weights
from pdtrain.models.shape import Shape, shape_of, weights_of
from pdtrain.records import rng_for, seed_for
from pdtrain.run_folder import RunFolder


@dataclass(frozen=True)
class Schedule:
    """Hold what is trained on, and divide it into steps and micro-batches.

    Args:
        config: the knobs.
        inputs: the hash of all that decides the adapter.
        examples: the answers.
        regularization: examples that hold the adapter to its base; may be empty.
        rollout: writes some of a step's answers anew, if any.
        folder: where checkpoints, metrics and adapter go; None is the run's own folder.
    """

    config: RunConfig
    inputs: str
    examples: list[Example]
    regularization: Sequence[Example] = ()
    rollout: Rollout | None = None
    folder: RunFolder | None = None

    @property
    def output(self) -> RunFolder:
        """Return the folder of checkpoints, metrics, the teacher's cache and the adapter."""
        return self.folder or self.config.run

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.examples), self.config.train.answers_per_step)

    @property
    def num_steps(self) -> int:
        """Return the number of optimizer steps of all epochs."""
        return self.steps_per_epoch * self.config.train.epochs

    @cached_property
    def shape(self) -> Shape:
        """Return the base's sizes, from its config: under ZeRO-3 no rank holds a whole weight."""
        return shape_of(skeleton(self.config.model), self.config.adapter.target_modules)

    @cached_property
    def weights(self) -> Weights:
        return weights_of(self.config, self.shape)

    @cached_property
    def teacher_examples(self) -> list[Example]:
        """Return the examples that the teacher gives its distributions on."""
        distils = self.config.train.objective == "distill"
        return [*(self.examples if distils else []), *self.regularization]

    @cached_property
    def costs(self) -> Costs:
        """Return what the answers cost; those of regularization may cost more."""
        return self._costs(online=self.config.is_teacher_online)

    def _costs(self, *, online: bool) -> Costs:
        """Return the FLOPs of a token and of a row; attention, a small part, is left out."""
        weights, passes = self.weights, 3 if self.config.train.gradient_checkpointing else 2
        return Costs(
            teacher=2 * weights.matmuls * online,
            student=2 * weights.matmuls * passes,
            row=weights.head * (4 + 2 * online),
        )

    @property
    def limits(self) -> Limits:
        """Return the limits of a micro-batch."""
        train = self.config.train
        return Limits(train.answers_per_micro_batch, train.tokens_per_micro_batch)

    def refuse_oversized(self) -> None:
        """Raise ValueError for an answer that no micro-batch may hold."""
        longest = self.config.rollout.sampling.max_new_tokens * bool(self.config.rollout.share)
        refuse_oversized(self.examples, self.costs, self.limits, answer_tokens=longest)
        if self.regularization:
            refuse_oversized(self.regularization, self._regularization_costs, self.limits)

    @property
    def _regularization_costs(self) -> Costs:
        return self._costs(online=not self.config.is_teacher_cached)

    def micro_batches(self, step: int, rank: int = 0, num_ranks: int = 1) -> list[MicroBatch]:
        """Return a rank's micro-batches of a step; what the step holds does not depend on ranks.

        Args:
            step: from 1 on.
            rank: which rank's.
            num_ranks: how many ranks share the step.
        """
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        chosen = [self.examples[i] for i in self._steps(epoch)[position]]
        if self.rollout:
            chosen = self.rollout(step, chosen)
        found = micro_batches(chosen, self.costs, self.limits, rank=rank, num_ranks=num_ranks)
        if not self.regularization:
            return found
        samples, weight = self._regularization_of(step, chosen)
        more = micro_batches(
            samples, self._regularization_costs, self.limits, rank=rank, num_ranks=num_ranks
        )
        return [*found, *(replace(one, is_regularization=True, weight=weight) for one in more)]

    def _regularization_of(self, step: int, chosen: list[Example]) -> tuple[list[Example], float]:
        """Return the regularization examples of a step, and the weight of each of their rows.

        With this weight their mean counts `retain.weight` times the mean of the step's answers.
        """
        settings, loss = self.config.retain, self.config.loss
        seed = seed_for(self.config.seed, "retain")
        taken = indices_in_turn(len(self.regularization), settings.per_step, step, seed)
        found = [self.regularization[i] for i in taken]
        share = total_weight(chosen, loss) / total_weight(found, loss)
        return found, settings.weight * share

    def _steps(self, epoch: int) -> list[Sequence[int]]:
        """Return the indices of the answers of every step of an epoch, shuffled once an epoch."""
        if epoch not in self._kept:
            passages = [example.passage_id for example in self.examples]
            group = self.config.answers_per_group
            order = epoch_order(passages, self.config.seed, epoch, group)
            self._kept.clear()
            self._kept[epoch] = split_evenly(order, self.steps_per_epoch)
        return self._kept[epoch]

    @cached_property
    def _kept(self) -> dict[int, list[Sequence[int]]]:
        return {}


def indices_in_turn(num_examples: int, per_step: int, step: int, seed: int) -> list[int]:
    """Return the indices of a step's examples: all are shuffled and taken in turn, repeatedly.

    Args:
        num_examples: how many there are.
        per_step: how many a step takes.
        step: from 1 on.
        seed: of the shuffles.
    """
    places = range((step - 1) * per_step, step * per_step)
    orders = {
        turn: epoch_order([""] * num_examples, seed, turn)
        for turn in {i // num_examples for i in places}
    }
    return [orders[i // num_examples][i % num_examples] for i in places]


def total_weight(chosen: Iterable[Example], loss: LossConfig) -> float:
    """Return the sum of the weights that `packing.twin_batch` gives the rows of these answers."""
    return sum(1.0 if loss.average == "answer" else len(e.answer) for e in chosen)


def steps_per_epoch(num_examples: int, answers_per_step: int) -> int:
    """Return how many steps an epoch has, so that a step has nearly the number asked for."""
    return max(1, round(num_examples / answers_per_step))


def epoch_order(
    passage_ids: Sequence[str], seed: int, epoch: int, answers_per_group: int = 1
) -> list[int]:
    """Return the order of an epoch: a new shuffle, the same on every machine and for any ranks.

    Args:
        passage_ids: the passage of every answer.
        seed: the run's seed.
        epoch: from 0 on.
        answers_per_group: this many answers of one passage, drawn anew every epoch, stay side by
            side, for a teacher that then reads the passage once for all of them.

    Returns:
        The indices of all answers.
    """
    rng, order = rng_for(seed, "epoch", epoch), list(range(len(passage_ids)))
    rng.shuffle(order)
    if answers_per_group == 1:
        return order
    by_passage: dict[str, list[int]] = {}
    for index in order:
        by_passage.setdefault(passage_ids[index], []).append(index)
    groups = [
        answers[first : first + answers_per_group]
        for answers in by_passage.values()
        for first in range(0, len(answers), answers_per_group)
    ]
    rng.shuffle(groups)
    return [index for group in groups for index in group]


def split_evenly(items: Sequence[int], num_parts: int) -> list[Sequence[int]]:
    """Return parts in order whose lengths differ by at most one: no step is a small remainder."""
    borders = [round(i * len(items) / num_parts) for i in range(num_parts + 1)]
    return [items[a:b] for a, b in pairwise(borders)]
