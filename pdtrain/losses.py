"""config → loss. Per-row losses in nats; whoever divides is elsewhere, and so are the ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdkernels import TopK, teacher_topk, topk_kl
from pdtrain.config import LossConfig


def sure_of(targets_N: Tensor) -> TopK:
    """The answer's own tokens in the teacher's place: the loss is then their cross-entropy."""
    return TopK.one_hot(targets_N)


def mixed(topk: TopK, targets_N: Tensor, share: float) -> TopK:
    """`share` of each row's distribution on the answer's own token, the rest as the teacher has it.

    The forward KL to it has the gradient of share x cross-entropy + (1 - share) x KL to the
    teacher: soft and hard targets together (Hinton et al., 2015, arXiv 1503.02531, section 2). A
    target outside the top-k takes the place of the least probable token, whose mass goes to the
    tail, where the teacher's own mass of the target stays: less than that of any token kept.

    Args:
        targets_N: int64 ids of the answer's tokens.
        share: in (0, 1).
    """
    rest, own = math.log1p(-share), math.log(share)
    log_p_NK, log_p_tail_N = topk.log_p_NK + rest, topk.log_p_tail_N + rest
    ids_NK, targets_N1 = topk.ids_NK, targets_N.to(topk.ids_NK)[:, None]
    last_N1 = log_p_NK.argmin(-1, keepdim=True)
    is_in_N1 = (ids_NK == targets_N1).any(-1, keepdim=True)
    is_last_NK = torch.zeros_like(ids_NK, dtype=torch.bool).scatter(-1, last_N1, True) & ~is_in_N1
    nothing_NK = torch.full_like(log_p_NK, -torch.inf)
    out_NK = torch.where(is_last_NK, log_p_NK, nothing_NK)
    log_p_tail_N = torch.logaddexp(log_p_tail_N, out_NK.logsumexp(-1))
    ids_NK = torch.where(is_last_NK, targets_N1, ids_NK)
    log_p_NK = torch.where(is_last_NK, nothing_NK, log_p_NK)
    own_NK = torch.where(ids_NK == targets_N1, own, nothing_NK)
    return replace(
        topk,
        ids_NK=ids_NK,
        log_p_NK=torch.logaddexp(log_p_NK, own_NK),
        log_p_tail_N=log_p_tail_N,
    )


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

    def student(
        self, hidden_ND: Tensor, head_VD: Tensor, topk: TopK, targets_N: Tensor | None = None
    ) -> Tensor:
        """(N,) fp32, nats: the divergence of each row, differentiable in hidden_ND alone.

        `targets_N` are the answers' own tokens, of which `loss.labels` is a share.
        """
        if self.config.labels and targets_N is not None:
            topk = mixed(topk, targets_N, self.config.labels)
        return topk_kl(
            hidden_ND,
            head_VD,
            topk,
            divergence=self.config.divergence,
            beta=self.config.beta,
            tail=self.config.tail,
            row_filter=self.config.row_filter,
        )
