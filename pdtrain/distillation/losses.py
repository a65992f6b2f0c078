"""Compare teacher and student row by row, in nats; the training step sums and divides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdkernels import TopK, teacher_topk, topk_kl
from pdtrain.config import LossConfig
from pdtrain.distillation.loss_proof import Impl
from pdtrain.models.head import HeadRule

PLAIN = HeadRule()


def labels_as_teacher(targets_N: Tensor) -> TopK:
    """Return a teacher that is sure of the labels (N,): the loss is then their cross-entropy."""
    return TopK.one_hot(targets_N)


def with_labels(topk: TopK, targets_N: Tensor, shares_N: Tensor) -> TopK:
    """Return the teacher's distributions with a share of each moved to the answer's own token.

    The forward KL to the result has the gradient of share x cross-entropy + (1 - share) x KL to
    the teacher: soft and hard targets together (Hinton et al., 2015, arXiv 1503.02531, section 2),
    at temperature 1. A target outside the top-k takes the place of the least probable token, whose
    mass goes to the tail. The teacher's own mass of that target stays in the tail; it is no more
    than that of any token kept.

    Args:
        topk: the teacher's distributions.
        targets_N: int64 ids of the answers' tokens.
        shares_N: in [0, 1]; rows of 0 stay the teacher's, those of 1 are sure of the target.
    """
    targets_N1 = targets_N.to(topk.ids_NK)[:, None]
    is_target_NK = topk.ids_NK == targets_N1
    is_kept_N1 = is_target_NK.any(-1, keepdim=True)
    place_N1 = torch.where(
        is_kept_N1,
        is_target_NK.int().argmax(-1, keepdim=True),
        topk.log_p_NK.argmin(-1, keepdim=True),
    )
    shares_N1 = shares_N.double()[:, None]
    log_rest_N1 = torch.log1p(-shares_N1).to(topk.log_p_NK)
    own_N1 = shares_N1.log().to(topk.log_p_NK)
    log_p_NK = topk.log_p_NK + log_rest_N1
    there_N1 = log_p_NK.gather(-1, place_N1)
    nothing_N1 = torch.full_like(there_N1, -torch.inf)
    before_N1 = torch.where(is_kept_N1, there_N1, nothing_N1)
    out_N1 = torch.where(is_kept_N1, nothing_N1, there_N1)
    ids_NK = topk.ids_NK.scatter(-1, place_N1, targets_N1)
    log_p_NK = log_p_NK.scatter(-1, place_N1, torch.logaddexp(before_N1, own_N1))
    log_p_tail_N = torch.logaddexp(topk.log_p_tail_N + log_rest_N1[:, 0], out_N1[:, 0])
    is_labelled_N = shares_N > 0
    is_labelled_N1 = is_labelled_N[:, None]
    return replace(
        topk,
        ids_NK=torch.where(is_labelled_N1, ids_NK, topk.ids_NK),
        log_p_NK=torch.where(is_labelled_N1, log_p_NK, topk.log_p_NK),
        log_p_tail_N=torch.where(is_labelled_N, log_p_tail_N, topk.log_p_tail_N),
    )


@dataclass(frozen=True)
class TopKLoss:
    """Compare the two sides of a `twin.Twin` over the teacher's top-k, as `loss` says."""

    config: LossConfig
    impl: Impl = "auto"  # what pdkernels computes it with; `loss_proof.choose_impl` proves it

    @property
    def temperature(self) -> float:
        """Return the temperature of the distributions that are compared."""
        return self.config.temperature

    def teacher(
        self,
        hidden_ND: Tensor,
        head_VD: Tensor,
        rule: HeadRule = PLAIN,
        bias_V: Tensor | None = None,
    ) -> TopK:
        """Return the teacher's top-k of each row, at the loss's temperature.

        Args:
            hidden_ND: the teacher's last hidden states; no gradient reaches them.
            head_VD: the frozen output head.
            rule: what the model does around its head.
            bias_V: of the head; None for none.
        """
        k = min(self.config.top_k or head_VD.shape[0], head_VD.shape[0])
        return teacher_topk(
            rule.scaled(hidden_ND.detach()),
            head_VD,
            k,
            self.config.temperature,
            logit_scale=rule.after,
            softcap=rule.softcap,
            bias=bias_V,
            impl=self.impl,
        )

    def student(
        self,
        hidden_ND: Tensor,
        head_VD: Tensor,
        topk: TopK,
        targets_N: Tensor,
        rule: HeadRule = PLAIN,
        bias_V: Tensor | None = None,
        label_shares_N: Tensor | None = None,
    ) -> Tensor:
        """Return the divergence of each row (N,), fp32, in nats.

        Args:
            hidden_ND: the student's last hidden states, which alone receive a gradient.
            head_VD: the frozen output head.
            topk: the teacher's distributions.
            targets_N: the answers' own tokens.
            rule: what the model does around its head.
            bias_V: of the head; None for none.
            label_shares_N: fp32 in [0, 1], the share of each row's own token in what the student
                learns; None for none.
        """
        if label_shares_N is not None:
            topk = with_labels(topk, targets_N, label_shares_N)
        return topk_kl(
            rule.scaled(hidden_ND),
            head_VD,
            topk,
            divergence=self.config.divergence,
            beta=self.config.beta,
            tail=self.config.tail,
            row_filter=self.config.row_filter,
            logit_scale=rule.after,
            softcap=rule.softcap,
            bias=bias_V,
            impl=self.impl,
        )
