"""Distil inside the Hugging Face Trainer: the student is the model with its adapter, or any model
whose head is frozen; the teacher is another model, or the same one without the adapter."""

from typing import Any

import torch
from transformers import PreTrainedModel, Trainer

from pdkernels import TopKKLLoss


class DistillationTrainer(Trainer):
    """Train on the teacher's distributions at the positions whose labels are not -100.

    Args:
        teacher: a frozen model with the student's vocabulary.
        loss: what is minimised, as a sum, since the Trainer says by how many positions to divide:
            `TopKKLLoss(reduction="sum", label_weight=0.25)` adds the labels' cross-entropy.

    Raises:
        ValueError: the loss is no sum, and would be divided twice.
    """

    def __init__(
        self, *args: Any, teacher: PreTrainedModel, loss: TopKKLLoss, **kinds: Any
    ) -> None:
        if loss.options["reduction"] != "sum":
            raise ValueError('expected TopKKLLoss(reduction="sum"), whose sum is divided here')
        super().__init__(*args, **kinds)
        self.teacher, self.loss = teacher.eval(), loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the sum over this batch's positions divided by those of the whole step."""
        labels = inputs.pop("labels")
        student = _decoder(model)(**inputs).last_hidden_state
        with torch.no_grad():
            teacher = _decoder(self.teacher)(**inputs).last_hidden_state
        heads = [m.get_output_embeddings().weight.detach() for m in (model, self.teacher)]
        loss = self.loss(student, heads[0], teacher, labels, heads[1])
        if num_items_in_batch is None:
            num_items_in_batch = (labels[:, 1:] != -100).sum().clamp(min=1)
        loss = loss / num_items_in_batch
        return (loss, {"loss": loss}) if return_outputs else loss


def _decoder(model: Any) -> Any:
    """Return the layers below the head, of a model of PEFT's as well."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return whole.base_model
