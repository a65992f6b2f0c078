"""config → loss. Per-row losses in nats; whoever divides is elsewhere, and so are the ranks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pdkernels import TopK, teacher_topk, topk_kl
from pdtrain.config import LossConfig


def sure_of(targets_N: Tensor) -> TopK:
    """The answer's own tokens in the teacher's place: the loss is then their cross-entropy."""
    return TopK.one_hot(targets_N)


@dataclass(frozen=True)
class TopKLoss:
    """What `twin.Twin` compares its two sides with."""

    config: LossConfig

    @property
    def temperature(self) -> float:
        """Of the distributions that are compared."""
        return self.config.temperature

    def teacher(self, hidden_ND: Tensor, head_VD: Tensor) -> TopK:
        """The teacher's next-token distributions at the loss's temperature, as top-k."""
        k = min(self.config.top_k or head_VD.shape[0], head_VD.shape[0])
        return teacher_topk(hidden_ND.detach(), head_VD, k, self.config.temperature)

    def student(self, hidden_ND: Tensor, head_VD: Tensor, topk: TopK) -> Tensor:
        """(N,) fp32, nats: the divergence of each row, differentiable in hidden_ND alone."""
        return topk_kl(
            hidden_ND,
            head_VD,
            topk,
            divergence=self.config.divergence,
            beta=self.config.beta,
            tail=self.config.tail,
            row_filter=self.config.row_filter,
        )
