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
        loss: what is minimised; `TopKKLLoss(label_weight=0.25)` adds the labels' cross-entropy.
    """

    def __init__(
        self, *args: Any, teacher: PreTrainedModel, loss: TopKKLLoss, **kinds: Any
    ) -> None:
        super().__init__(*args, **kinds)
        self.teacher, self.loss = teacher.eval(), loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the sum over this batch's positions divided by those of the whole step."""
        labels = inputs.pop("labels")
        student = model.base_model(**inputs).last_hidden_state
        with torch.no_grad():
            teacher = self.teacher.base_model(**inputs).last_hidden_state
        heads = [m.get_output_embeddings().weight.detach() for m in (model, self.teacher)]
        loss = self.loss(student, heads[0], teacher, labels, heads[1])
        if num_items_in_batch is not None:  # of the step: then the loss is a sum
            loss = loss / num_items_in_batch
        return (loss, {"loss": loss}) if return_outputs else loss
