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
    teacher: soft and hard targets together (Hinton et al., 2015, arXiv 1503.02531, section 2), at
    temperature 1. A target outside the top-k takes the place of the least probable token, whose
    mass goes to the tail, where the teacher's own mass of the target stays: no more than that of
    any token kept.

    Args:
        targets_N: int64 ids of the answers' tokens.
        share: in (0, 1).
    """
    targets_N1 = targets_N.to(topk.ids_NK)[:, None]
    is_target_NK = topk.ids_NK == targets_N1
    is_kept_N1 = is_target_NK.any(-1, keepdim=True)
    place_N1 = torch.where(
        is_kept_N1,
        is_target_NK.int().argmax(-1, keepdim=True),
        topk.log_p_NK.argmin(-1, keepdim=True),
    )
    log_p_NK = topk.log_p_NK + math.log1p(-share)
    there_N1 = log_p_NK.gather(-1, place_N1)
    nothing_N1 = torch.full_like(there_N1, -torch.inf)
    before_N1 = torch.where(is_kept_N1, there_N1, nothing_N1)
    out_N1 = torch.where(is_kept_N1, nothing_N1, there_N1)
    own_N1 = torch.full_like(there_N1, math.log(share))
    return replace(
        topk,
        ids_NK=topk.ids_NK.scatter(-1, place_N1, targets_N1),
        log_p_NK=log_p_NK.scatter(-1, place_N1, torch.logaddexp(before_N1, own_N1)),
        log_p_tail_N=torch.logaddexp(topk.log_p_tail_N + math.log1p(-share), out_N1[:, 0]),
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
