"""The nearest that TRL 1.16 comes to this work: `trl.experimental.sdft.SDFTTrainer`.

TRL's trainers, and what they can be given for one fixed answer:

- `SDFTTrainer` (and `SDPOTrainer`, which adds rewards): a teacher that is the base under the
  student's adapter, with a prompt of its own. It samples its answers while it trains, always; the
  method that makes a batch is replaced here by one that gives it our prompts and answers. Loss,
  both forward passes, accumulation, clipping and loop are TRL's.
- `experimental.gkd.GKDTrainer`: fixed answers (`lmbda=0`), but one `input_ids` for both models.
- `DistillationTrainer`, `IWOPDTrainer`, `GOLDTrainer` and the server's and asynchronous kinds:
  one prompt for both models, and answers sampled by the student.

It is set to the paper's loss: `full_logits`, `distillation_alpha=0` (forward KL), no clipping by
importance, mean by answer. It asks the head for the answers' positions alone (`logits_to_keep`),
which the official recipe does not. TRL's defaults that would slow it down on a CPU are off:
bf16, gradient checkpointing, eight answers to a question.

    pip install --no-deps --target FOLDER trl==1.16.0, and FOLDER on PYTHONPATH
"""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from pdtrain.config import LossConfig, TrainConfig
from pdtrain.distillation.examples import Example
from pdtrain.distributed.engine import learning_rate


def obstacle() -> str | None:
    """Why this baseline cannot run here; None if it can."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # read when the package is imported
    if importlib.util.find_spec("trl") is None:
        return "TRL is not installed"
    if importlib.util.find_spec("trl.experimental.sdft") is None:
        return f"TRL {version('trl')} has no trl.experimental.sdft; 1.16.0 is what this was read at"
    return None


class Sdft:
    """TRL's trainer on our examples, epoch by epoch; the optimizer lives on between them.

    Args:
        batch: answers that are padded to one another; a step of more accumulates.
        num_steps: of the whole training, for the learning rate's schedule.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        loss: LossConfig,
        train: TrainConfig,
        num_steps: int,
        *,
        batch: int = 4,
    ) -> None:
        if loss.average != "answer" or loss.divergence != "forward_kl":
            raise ValueError(
                "SDFTTrainer averages by answer and is set to forward_kl here; expected "
                f"loss.average=answer, got {loss.average} with {loss.divergence}"
            )
        self.model, self.tokenizer, self.loss, self.train = model, tokenizer, loss, train
        self.batch = batch
        self.optimizer = torch.optim.AdamW(
            [weight for weight in model.parameters() if weight.requires_grad],
            lr=train.learning_rate,
            betas=(train.adam_beta1, train.adam_beta2),
            weight_decay=train.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate(train, step, num_steps) / train.learning_rate
        )

    def epoch(self, steps: Sequence[Sequence[Example]]) -> tuple[float, list[float]]:
        """Seconds of TRL's loop, without setting it up, and the loss of every step."""
        per_step = len(steps[0])
        if any(len(step) != per_step for step in steps) or per_step % self.batch:
            raise ValueError(
                f"TRL drops what does not fill a batch: expected steps of a multiple of "
                f"{self.batch} answers, got {sorted({len(step) for step in steps})}"
            )
        rows = [
            {"teacher": e.teacher_prompt, "student": e.student_prompt, "answer": e.answer}
            for step in steps
            for e in step
        ]
        clock = _Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer_class()(
                model=self.model,
                args=self._arguments(folder, per_step // self.batch),
                train_dataset=Dataset.from_list(rows),
                processing_class=self.tokenizer,
                optimizers=(self.optimizer, self.schedule),
                callbacks=[clock],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        parts, num_parts = trainer.losses, per_step // self.batch
        return clock.seconds, [
            sum(parts[i : i + num_parts]) for i in range(0, len(parts), num_parts)
        ]

    def _arguments(self, folder: str, num_parts: int) -> Any:
        from trl.experimental.sdft import SDFTConfig

        return SDFTConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=self.batch,
            gradient_accumulation_steps=num_parts,
            steps_per_generation=1,
            num_generations=1,
            num_train_epochs=1,
            max_grad_norm=self.train.max_grad_norm,
            temperature=self.loss.temperature,
            teacher_model_kind="base",
            distillation_mode="full_logits",
            distillation_alpha=0.0,
            distillation_is_clip=None,
            shuffle_dataset=False,
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )

    def num_tokens(self, examples: Sequence[Example]) -> tuple[int, int]:
        """Tokens that teacher and student read in a step, padding included.

        TRL pads prompts on the left and answers on the right, each to its own longest.
        """
        teacher = student = 0
        for first in range(0, len(examples), self.batch):
            some = examples[first : first + self.batch]
            answer = max(len(e.answer) for e in some)
            teacher += len(some) * (max(len(e.teacher_prompt) for e in some) + answer)
            student += len(some) * (max(len(e.student_prompt) for e in some) + answer)
        return teacher, student


class _Clock(TrainerCallback):
    """From just before the first batch to just after the last update."""

    seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def _trainer_class() -> Any:
    """Made when it is asked for: the benchmark runs without TRL too."""
    # it warns that the base may not be the first student: an adapter of zero effect makes it so
    logging.getLogger("trl").setLevel(logging.ERROR)
    from trl.experimental.sdft import SDFTTrainer
    from trl.trainer.utils import pad

    class OnGivenAnswers(SDFTTrainer):
        """Its batches hold the rows' prompts and answers where it would sample answers."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.losses: list[float] = []

        def _prepare_training_batch(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            def padded(name: str, side: str) -> tuple[Any, Any]:
                ids = [torch.tensor(row[name]) for row in inputs]
                masks = [torch.ones_like(one) for one in ids]
                token = self._tokenizer.pad_token_id
                return (
                    pad(ids, padding_value=token, padding_side=side),
                    pad(masks, padding_value=0, padding_side=side),
                )

            (prompt_ids, prompt_mask) = padded("student", "left")
            (teacher_ids, teacher_mask) = padded("teacher", "left")
            (answer_ids, answer_mask) = padded("answer", "right")
            return {
                "prompt_ids": prompt_ids,
                "prompt_mask": prompt_mask,
                "completion_ids": answer_ids,
                "completion_mask": answer_mask,
                "teacher_input_ids": torch.cat([teacher_ids, answer_ids], 1),
                "teacher_attention_mask": torch.cat([teacher_mask, answer_mask], 1),
            }

        def training_step(self, *arguments: Any, **options: Any) -> Any:
            loss = super().training_step(*arguments, **options)
            self.losses.append(float(loss))
            return loss

    return OnGivenAnswers
