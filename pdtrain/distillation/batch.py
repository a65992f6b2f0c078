"""Hold what one training step reads: the two sides of a batch, and the step's figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pdkernels import TopK
    from pdtrain.models.attention.packed import Layout


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a twin: groups of branches, each group behind a prefix, packed into one row.

    ids: (T,) int64, group after group, in each the prefix and then its branches.
    positions: (T,) int64; every branch counts on from its prefix's end.
    rows: (N,) int64, where in T the hidden states are whose next token is an answer token.
    layout: how many tokens the prefix and each branch of each group have.
    """

    ids: Tensor
    positions: Tensor
    rows: Tensor
    layout: Layout


@dataclass(frozen=True, slots=True)
class TwinBatch:
    """The same answers seen twice.

    Row i of either side predicts the same token of the same answer. `targets` (N,) int64 holds
    that token, `weights` (N,) fp32 the row's weight in the loss: 1, or 1 / answer length, or 0
    for the rows of a filler. `topk` stands for the teacher's side when its distributions were
    cached; without a student the batch asks for the teacher's distributions alone.
    """

    answer_ids: tuple[str, ...]
    student: Side | None
    teacher: Side | None
    targets: Tensor
    weights: Tensor
    topk: TopK | None = None
    is_regularization: bool = False  # it holds the adapter to its base, and teaches no document

    @property
    def num_answer_tokens(self) -> int:
        """Those that count: a filler has none."""
        return int((self.weights > 0).sum())

    @property
    def is_filler(self) -> bool:
        return not self.num_answer_tokens

    @property
    def total_weight(self) -> float:
        return float(self.weights.double().sum())


@dataclass(frozen=True, slots=True)
class StepStats:
    """One optimizer step, over all ranks."""

    loss: float  # nats per unit of weight: per answer token unless loss.average says otherwise
    grad_norm: float  # before clipping
    learning_rate: float
    answer_tokens: int
    student_tokens: int  # prompts and answers that the student read
    teacher_tokens: int  # and the teacher, every shared passage once; 0 where it was cached
    padding_tokens: int  # more than these: read by ranks to stay in step, for nothing
    teacher_mass: float  # probability of the teacher's top-k, weighted as the loss is
    retain_loss: float = 0.0  # the part of what holds the adapter to its base, unweighted
