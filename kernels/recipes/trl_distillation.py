"""Give TRL's DistillationTrainer this loss: call `use_in_trl()` before training.

It needs a student whose head is frozen, as LoRA without `lm_head` leaves it. TRL's `beta` is 0 for
the forward KL, 1 for the reverse KL, and the share of the teacher's side of the JSD between.
"""

from typing import Any

import torch
from torch import Tensor

from pdkernels import teacher_topk, topk_kl


def divergence_loss(
    student_hidden_states: Tensor,
    teacher_hidden_states: Tensor,
    student_lm_head_weight: Tensor,
    teacher_lm_head_weight: Tensor,
    completion_mask: Tensor,
    beta: float,
    num_items_in_batch: Any = None,
    student_lm_head_bias: Tensor | None = None,
    teacher_lm_head_bias: Tensor | None = None,
    student_logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    student_final_logit_softcapping: float | None = None,
    teacher_final_logit_softcapping: float | None = None,
    temperature: float = 1.0,
    k: int = 256,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, NaN for the student's entropy, which is not computed, and the count."""
    valid = completion_mask.flatten().bool()
    student, teacher = (
        side.flatten(0, 1)[valid] for side in (student_hidden_states, teacher_hidden_states)
    )
    biases = [
        None if b is None else b.detach() for b in (student_lm_head_bias, teacher_lm_head_bias)
    ]
    topk = teacher_topk(
        teacher, teacher_lm_head_weight.detach(), min(k, len(teacher_lm_head_weight)), temperature,
        logit_scale=teacher_logit_scale, softcap=teacher_final_logit_softcapping, bias=biases[1],
    )  # fmt: skip
    divergence = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(beta, "jsd")
    loss = topk_kl(
        student, student_lm_head_weight.detach(), topk, divergence=divergence, beta=beta or 0.5,
        logit_scale=student_logit_scale, softcap=student_final_logit_softcapping, bias=biases[0],
        reduction="sum",
    )  # fmt: skip
    count = valid.sum()
    whole = count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return loss / whole, torch.full_like(loss.detach(), torch.nan), count


def use_in_trl() -> None:
    """Replace the loss of TRL's DistillationTrainer; written for TRL 1.16."""
    from trl.trainer import distillation_trainer

    distillation_trainer._chunked_divergence_loss = divergence_loss
