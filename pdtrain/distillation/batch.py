"""Hold what one training step reads: the two sides of a batch, and the step's figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from pdkernels import TopK
    from pdtrain.models.attention.packed import Layout


@dataclass(frozen=True, slots=True)
class Side:
    """Hold one side of a twin: groups of branches behind shared prefixes, packed into one sequence.

    Args:
        ids: (T,) int64, group after group; in each group the prefix and then its branches.
        positions: (T,) int64; every branch counts on from the end of its prefix.
        rows: (N,) int64 indices into T of the hidden states whose next token is an answer token.
        layout: how many tokens the prefix and each branch of each group have.
    """

    ids: Tensor
    positions: Tensor
    rows: Tensor
    layout: Layout


@dataclass(frozen=True, slots=True)
class RowFigures:
    """Hold figures of a batch's rows as numbers, so that nobody waits for a device to ask it."""

    answer_tokens: int
    total_weight: float


@dataclass(frozen=True, slots=True)
class TwinBatch:
    """Hold the same answers as the teacher and as the student read them.

    Row i of either side predicts the same token of the same answer. Without a student the batch
    asks for the teacher's distributions alone.

    Args:
        answer_ids: the ids of the answers, in the order of their rows.
        student: the student's side.
        teacher: the teacher's side; None where `topk` stands for it.
        targets: (N,) int64, the token that each row predicts.
        weights: (N,) fp32, each row's weight in the loss: 1, or 1 / answer length; 0 in a filler.
        topk: the teacher's distributions, if they are known already.
        is_regularization: True where the batch holds the adapter to its base, and teaches no
            document.
        figures: of its rows, where they were counted before it went to a device; see `counted`.
        label_shares: (N,) fp32, the share of each row's target in what the student learns
            (`loss.labels`); None where no row has a label.
    """

    answer_ids: tuple[str, ...]
    student: Side | None
    teacher: Side | None
    targets: Tensor
    weights: Tensor
    topk: TopK | None = None
    is_regularization: bool = False
    figures: RowFigures | None = None
    label_shares: Tensor | None = None

    @property
    def num_answer_tokens(self) -> int:
        """Return how many rows count in the loss: none of a filler."""
        if self.figures:
            return self.figures.answer_tokens
        return int((self.weights > 0).sum())

    @property
    def is_filler(self) -> bool:
        """Tell whether the batch only keeps its rank in step with the others."""
        return not self.num_answer_tokens

    @property
    def total_weight(self) -> float:
        """Return the sum of the rows' weights, in fp64."""
        if self.figures:
            return self.figures.total_weight
        return float(self.weights.double().sum())


def counted(batch: TwinBatch) -> TwinBatch:
    """Return the batch with the figures of its rows; its weights must not be changed afterwards."""
    plain = replace(batch, figures=None)
    return replace(plain, figures=RowFigures(plain.num_answer_tokens, plain.total_weight))


T = TypeVar("T")


def pinned(batch: T) -> T:
    """Return the batch in memory from which a GPU copies while the program goes on."""
    return _moved(batch, lambda tensor: tensor.pin_memory())


def on_device(batch: T, device: torch.device) -> T:
    """Return the batch on a device; copies from pinned memory are not waited for."""
    return _moved(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _moved(found: Any, move: Callable[[Tensor], Tensor]) -> Any:
    """Return a tree of dataclasses with all its tensors moved."""
    if isinstance(found, torch.Tensor):
        return move(found)
    if not is_dataclass(found) or isinstance(found, type):
        return found
    parts = {field.name: getattr(found, field.name) for field in fields(found) if field.init}
    return replace(found, **{name: _moved(part, move) for name, part in parts.items()})


@dataclass(frozen=True, slots=True)
class StepStats:
    """Hold the figures of one optimizer step, over all ranks."""

    loss: float  # nats per unit of weight: per answer token unless loss.average says otherwise
    grad_norm: float  # before clipping
    learning_rate: float
    answer_tokens: int
    student_tokens: int  # prompts and answers that the student read
    teacher_tokens: int  # that the teacher read, every shared passage once; 0 with a cache
    padding_tokens: int  # of fillers, which only keep ranks in step; not counted above
    teacher_mass: float  # probability of the teacher's top-k, weighted as the loss is
    retain_loss: float = 0.0  # mean loss of the regularization, before its weight
