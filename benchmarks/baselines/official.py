"""The recipe of the prompt distillation paper (arXiv 2412.14964), written plainly from its text.

Teacher and student are two padded forward passes of the same model, adapter off with the passage
in the prompt and adapter on without it; both give logits over the whole vocabulary at every
position of prompt and answer. The loss is the forward KL at a temperature on the answer tokens,
batches have four answers, and the teacher runs again whenever an answer is seen. Nothing is
cached, packed or shared: that is the point of it.

Left out of the authors' code: the adapter on the output head (ours is frozen), bf16 adapters, and
emptying the allocator's cache after each step.

B answers of a padded batch · T tokens of the longest · N answer tokens · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional

from pdtrain.config import LossConfig, TrainConfig
from pdtrain.distillation.examples import Example
from pdtrain.distributed.engine import learning_rate


class Official:
    """Trains the adapter of `model`; a call of `step` is one update of its weights.

    Args:
        batch: how many answers are padded to one another; a step of more answers adds up the
            gradients of several such batches.
        num_steps: of the whole training, for the learning rate's schedule.
        pad_id: any token; what it is changes nothing.
    """

    def __init__(
        self,
        model: PeftModel,
        loss: LossConfig,
        train: TrainConfig,
        num_steps: int,
        *,
        batch: int = 4,
        pad_id: int = 0,
    ) -> None:
        if loss.divergence != "forward_kl":
            raise ValueError(f"the paper's loss is forward_kl, got {loss.divergence}")
        self.model, self.loss_config, self.train_config = model, loss, train
        self.num_steps, self.batch, self.pad_id, self.steps_done = num_steps, batch, pad_id, 0
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights,
            lr=train.learning_rate,
            betas=(train.adam_beta1, train.adam_beta2),
            weight_decay=train.weight_decay,
        )

    def step(self, examples: Sequence[Example]) -> tuple[float, float]:
        """The step's loss, and the norm of its gradient before clipping."""
        loss = self.backward(examples)
        norm = nn.utils.clip_grad_norm_(
            self.weights, self.train_config.max_grad_norm, error_if_nonfinite=True
        )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.train_config, self.steps_done, self.num_steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        return loss, float(norm)

    def backward(self, examples: Sequence[Example]) -> float:
        """The mean loss of these answers; its gradient is added to the adapter's."""
        total = 0.0
        for some in self.padded_batches(examples):
            share = self.loss_sum(some) / self.total_weight(examples)
            share.backward()
            total += float(share.detach())
        return total

    def padded_batches(self, examples: Sequence[Example]) -> list[Sequence[Example]]:
        return [examples[i : i + self.batch] for i in range(0, len(examples), self.batch)]

    def total_weight(self, examples: Sequence[Example]) -> int:
        """What the sum of losses is divided by: tokens, or answers as in the paper."""
        if self.loss_config.average == "answer":
            return len(examples)
        return sum(len(example.answer) for example in examples)

    def loss_sum(self, examples: Sequence[Example]) -> Tensor:
        """The losses of the answers' tokens, or of their means by answer, added up."""
        with torch.no_grad(), self.model.disable_adapter():
            teacher_BTV, taught_BT = self.logits(examples, lambda e: e.teacher_prompt)
        student_BTV, asked_BT = self.logits(examples, lambda e: e.student_prompt)
        temperature = self.loss_config.temperature
        log_p_NV = functional.log_softmax(teacher_BTV[taught_BT] / temperature, -1)
        log_q_NV = functional.log_softmax(student_BTV[asked_BT] / temperature, -1)
        kl_N = functional.kl_div(log_q_NV, log_p_NV, reduction="none", log_target=True).sum(-1)
        if self.loss_config.average == "token":
            return kl_N.sum()
        return sum(part.mean() for part in kl_N.split([len(e.answer) for e in examples]))

    def logits(
        self, examples: Sequence[Example], prompt: Callable[[Example], tuple[int, ...]]
    ) -> tuple[Tensor, Tensor]:
        """(B, T, V) logits, and (B, T) which of them predict a token of the answer."""
        texts = [(*prompt(example), *example.answer) for example in examples]
        length, device = max(map(len, texts)), self.weights[0].device
        ids_BT = torch.full((len(texts), length), self.pad_id, device=device)
        seen_BT = torch.zeros_like(ids_BT)
        predicts_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, (text, example) in enumerate(zip(texts, examples, strict=True)):
            ids_BT[row, : len(text)] = torch.tensor(text, device=device)
            seen_BT[row, : len(text)] = 1
            first = len(text) - len(example.answer) - 1  # the prompt's last token
            predicts_BT[row, first : len(text) - 1] = True
        out = self.model(input_ids=ids_BT, attention_mask=seen_BT, use_cache=False)
        return out.logits, predicts_BT

    def num_tokens(self, examples: Sequence[Example]) -> tuple[int, int]:
        """Tokens that teacher and student read in a step, padding included."""
        teacher = student = 0
        for some in self.padded_batches(examples):
            teacher += len(some) * max(len(e.teacher_prompt) + len(e.answer) for e in some)
            student += len(some) * max(len(e.student_prompt) + len(e.answer) for e in some)
        return teacher, student
