"""Offer the loss as a module for batches of sequences.

B sequences · L their length · D hidden size · V vocabulary: shapes in this module.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pdkernels.operations import teacher_topk, topk_kl
from pdkernels.topk import IGNORED, TopK


class TopKKLLoss(nn.Module):
    """Compute the loss of a batch from the hidden states that enter the head.

    It has no parameters. Positions whose next label is `ignore_index` are left out of the teacher's
    pass and of the student's.

    Args:
        k: tokens that the teacher keeps, where it is given by its hidden states.
        temperature: divides the teacher's logits there.
        shift_labels: labels are those of Hugging Face, where position t holds token t, which the
            hidden state of t - 1 predicts. False takes position t as what t predicts.
        reduction: as in `topk_kl`; `mean` over the positions that count.
        options: the other options of `topk_kl`; `logit_scale`, `softcap` and `bias` are the
            teacher's too.
    """

    def __init__(
        self,
        k: int = 64,
        temperature: float = 1.0,
        *,
        shift_labels: bool = True,
        reduction: str = "mean",
        **options: Any,
    ) -> None:
        super().__init__()
        self.k, self.temperature, self.shift_labels = k, temperature, shift_labels
        self.options = {"reduction": reduction, **options}

    def forward(
        self,
        student: Tensor,
        head: Tensor,
        teacher: Tensor | TopK,
        labels: Tensor | None = None,
        teacher_head: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, reduced as asked for; with `none`, of the positions that count.

        Args:
            student: (B, L, D) or (N, D) hidden states that enter the head.
            head: (V, D) the frozen head's weight.
            teacher: hidden states (B, L, D) or (N, D) of the teacher, or a TopK of B L or N rows.
            labels: (B, L) or (N,) tokens; None counts every position.
            teacher_head: (V, E) where the teacher has a head of its own, of its own hidden size.

        Raises:
            ValueError: inputs do not fit; see `topk_kl`.
        """
        ignore_index = self.options.get("ignore_index", IGNORED)
        rows = student.flatten(0, -2)
        targets = None if labels is None else self._targets(labels, ignore_index)
        kept = None
        if targets is not None:
            kept = (targets != ignore_index).nonzero()[:, 0]
            rows, targets = rows[kept], targets[kept]
        if isinstance(teacher, TopK):
            topk = teacher if kept is None else teacher[kept]
        else:
            topk = self._teach(teacher, kept, head if teacher_head is None else teacher_head)
        if self.options.get("label_weight") is None:
            targets = None
        return topk_kl(rows, head, topk, labels=targets, **self.options)

    def _teach(self, teacher: Tensor, kept: Tensor | None, head: Tensor) -> TopK:
        rows = teacher.detach().flatten(0, -2)
        shared = ("logit_scale", "softcap", "bias", "impl", "shard")
        options = {name: self.options[name] for name in shared if name in self.options}
        rows = rows if kept is None else rows[kept]
        return teacher_topk(rows, head.detach(), self.k, self.temperature, **options)

    def _targets(self, labels: Tensor, ignore_index: int) -> Tensor:
        """Return what each position predicts (N,)."""
        if self.shift_labels:
            nothing = torch.full_like(labels[..., :1], ignore_index)
            labels = torch.cat([labels[..., 1:], nothing], -1)
        return labels.flatten()
