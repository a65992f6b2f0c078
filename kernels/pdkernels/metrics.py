"""Report what a call of `topk_kl` knows about its rows anyway."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdkernels.topk import TopK


@dataclass(frozen=True, slots=True)
class TopKMetrics:
    """Hold numbers of each row (N,), without a gradient; rows that were left out hold 0.

    Args:
        divergence: teacher against student, in nats.
        cross_entropy: -log q of the labels, in nats; 0 without labels.
        student_tail: the student's mass outside the teacher's top-k; NaN where no sweep was made,
            with `tail="renormalise"` and no labels.
        teacher_tail: the teacher's.
        teacher_entropy: of the k tokens and the tail bucket, in nats.
        agrees: 1 where the likeliest of the k tokens is the same for both, otherwise 0.
    """

    divergence: Tensor
    cross_entropy: Tensor
    student_tail: Tensor
    teacher_tail: Tensor
    teacher_entropy: Tensor
    agrees: Tensor

    @staticmethod
    def of(topk: TopK, parts_NP: Tensor) -> "TopKMetrics":
        """Return the metrics of a teacher and of the parts that the student's pass gave."""
        parts_NP = parts_NP.detach()
        log_p_NB = torch.cat([topk.log_p_NK, topk.log_p_tail_N[:, None]], -1)
        surprise_NB = (-log_p_NB).masked_fill(log_p_NB == -torch.inf, 0)
        return TopKMetrics(
            divergence=parts_NP[:, 0],
            cross_entropy=parts_NP[:, 1],
            student_tail=parts_NP[:, 2].exp(),
            teacher_tail=topk.log_p_tail_N.exp(),
            teacher_entropy=(log_p_NB.exp() * surprise_NB).sum(-1),
            agrees=parts_NP[:, 3],
        )

    def __getitem__(self, rows: slice | Tensor) -> "TopKMetrics":
        """Return those of some rows."""
        return TopKMetrics(*(getattr(self, name)[rows] for name in self.__slots__))
