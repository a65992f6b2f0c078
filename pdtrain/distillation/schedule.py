"""Say which answers every step of a training holds, and which micro-batches each rank gets."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from pdtrain.distillation.tokens.table import columns, joined
from pdtrain.models import architectures
from pdtrain.models.base import skeleton
from pdtrain.models.flops import Weights
from pdtrain.models.shape import Shape, shape_of, weights_of
from pdtrain.records import rng_for, seed_for
from pdtrain.run_folder import RunFolder

Order = NDArray[np.int32]  # indices of examples


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
    examples: Sequence[Example]
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
        adapter = self.config.adapter
        return shape_of(
            skeleton(self.config.model), adapter.target_modules, adapter.target_parameters
        )

    @cached_property
    def is_packed(self) -> bool:
        """Return whether batches are packed, so that a passage is read once for its answers."""
        model = self.config.model
        return architectures.is_packed(skeleton(model).config, model.batching)

    @cached_property
    def weights(self) -> Weights:
        return weights_of(self.config, self.shape)

    @cached_property
    def teacher_examples(self) -> Sequence[Example]:
        """Return the examples that the teacher gives its distributions on."""
        distils = self.config.train.objective == "distill"
        return joined(self.examples if distils else [], self.regularization)

    @cached_property
    def costs(self) -> Costs:
        """Return what the answers cost; those of regularization may cost more."""
        return self._costs(online=self.config.is_teacher_online)

    def _costs(self, *, online: bool) -> Costs:
        """Return the FLOPs of a token and of a row; attention, a small part, is left out."""
        weights, passes = self.weights, 3 if self.config.train.checkpoints else 2
        return Costs(
            teacher=2 * weights.matmuls * online,
            student=2 * weights.matmuls * passes,
            row=weights.head * (4 + 2 * online),
            shares=self.is_packed,
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
        chosen = [self.examples[i] for i in self._indices(epoch, position)]
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
        taken = indices_in_turn(
            len(self.regularization), settings.per_step, step, seed, self._turns
        )
        found = [self.regularization[i] for i in taken]
        share = total_weight(chosen, loss) / total_weight(found, loss)
        return found, settings.weight * share

    def _indices(self, epoch: int, position: int) -> Order:
        """Return the indices of the answers of a step; they are shuffled once an epoch."""
        if epoch not in self._orders:
            passages, group = columns(self.examples).passages, self.config.answers_per_group
            self._orders.clear()
            self._orders[epoch] = epoch_order(passages, self.config.seed, epoch, group)
        return part(self._orders[epoch], position, self.steps_per_epoch)

    @cached_property
    def _orders(self) -> dict[int, Order]:
        return {}

    @cached_property
    def _turns(self) -> dict[int, Order]:
        return {}


def indices_in_turn(
    num_examples: int,
    per_step: int,
    step: int,
    seed: int,
    known: dict[int, Order] | None = None,
) -> list[int]:
    """Return the indices of a step's examples: all are shuffled and taken in turn, repeatedly.

    Args:
        num_examples: how many there are.
        per_step: how many a step takes.
        step: from 1 on.
        seed: of the shuffles.
        known: keeps the shuffles that this step needs for the next one, which mostly needs them.
    """
    places = range((step - 1) * per_step, step * per_step)
    known = {} if known is None else known
    turns = {i // num_examples for i in places}
    found = {turn: known.get(turn) for turn in turns}
    known.clear()
    for turn, order in found.items():
        known[turn] = _shuffled(num_examples, seed, turn) if order is None else order
    return [int(known[i // num_examples][i % num_examples]) for i in places]


def total_weight(chosen: Iterable[Example], loss: LossConfig) -> float:
    """Return the sum of the weights that `packing.twin_batch` gives the rows of these answers."""
    return sum(1.0 if loss.average == "answer" else len(e.answer) for e in chosen)


def steps_per_epoch(num_examples: int, answers_per_step: int) -> int:
    """Return how many steps an epoch has, so that a step has nearly the number asked for."""
    return max(1, round(num_examples / answers_per_step))


def epoch_order(
    passages: Sequence[str] | NDArray[np.int32],
    seed: int,
    epoch: int,
    answers_per_group: int = 1,
) -> Order:
    """Return the order of an epoch: a new shuffle, the same on every machine and for any ranks.

    Args:
        passages: the passage of every answer, as an id or a number.
        seed: the run's seed.
        epoch: from 0 on.
        answers_per_group: this many answers of one passage, drawn anew every epoch, stay side by
            side, for a teacher that then reads the passage once for all of them.

    Returns:
        The indices of all answers.
    """
    rng = rng_for(seed, "epoch", epoch)
    order = _in_random_order(len(passages), rng)
    if answers_per_group == 1 or not len(order):
        return order
    _, first, numbers = np.unique(
        np.asarray(passages)[order], return_index=True, return_inverse=True
    )
    rank = np.empty_like(first)  # of each passage, by where it first stands in the shuffle
    rank[np.argsort(first)] = np.arange(len(first))
    by_passage = np.argsort(rank[numbers], kind="stable")
    sizes = np.bincount(rank[numbers])
    parts = -(-sizes // answers_per_group)  # groups of each passage
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)  # in its passage
    starts = np.repeat(np.cumsum(sizes) - sizes, parts) + number * answers_per_group
    ends = np.append(starts[1:], len(order))
    groups = _in_random_order(len(starts), rng)
    lengths = (ends - starts)[groups]
    within = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return order[by_passage[np.repeat(starts[groups], lengths) + within]]


def _shuffled(count: int, seed: int, epoch: int) -> Order:
    """Return the order of an epoch of examples that need no neighbours."""
    return _in_random_order(count, rng_for(seed, "epoch", epoch))


def _in_random_order(count: int, rng: Random) -> Order:
    """Return the numbers below `count` as `rng.shuffle` orders a list of them, in 4 bytes each."""
    numbers = array("i", range(count))
    rng.shuffle(numbers)  # type: ignore[arg-type]  # any sequence that can be changed will do
    return np.array(numbers, np.int32)


def split_evenly(items: Any, num_parts: int) -> list[Any]:
    """Return parts in order whose lengths differ by at most one: no step is a small remainder.

    Args:
        items: a sequence or an array.
        num_parts: how many parts.
    """
    return [part(items, number, num_parts) for number in range(num_parts)]


def part(items: Any, number: int, num_parts: int) -> Any:
    """Return one of the parts of `split_evenly`, from 0 on."""
    first, end = (round(i * len(items) / num_parts) for i in (number, number + 1))
    return items[first:end]
