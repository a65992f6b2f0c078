"""Take one optimizer step, and name its figures for the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from pdtrain.distillation.batch import Side, StepStats, TwinBatch
from pdtrain.distillation.schedule import Schedule
from pdtrain.distributed.engine import Engine, NonFiniteError
from pdtrain.distributed.process_group import gathered
from pdtrain.models import flops

NAMED = 8  # ids of answers a rank, in an error


@dataclass(frozen=True)
class TakenStep:
    """Hold what a step leaves: sums that stay on the device until somebody asks for its figures.

    Args:
        batches: this rank's micro-batches.
        sums: fp64 (3,), over this rank's micro-batches: the losses, the teacher's mass, and the
            losses of regularization.
        total_weight: the sum of all ranks' weights.
        grad_norm: before clipping.
        learning_rate: of the step.
        losses: of each micro-batch, on the device.
    """

    batches: Sequence[TwinBatch]
    sums: Tensor
    total_weight: float
    grad_norm: float
    learning_rate: float
    losses: Sequence[Tensor] = ()

    def num_nonfinite(self) -> int:
        """Return how many of this rank's losses are not finite; this waits for the device."""
        return 0 if math.isfinite(self.sums[0].item()) else 1

    def stats(self, engine: Engine) -> StepStats:
        """Return the figures of the step, over all ranks. All ranks take part.

        This waits for the device.
        """
        real = [batch for batch in self.batches if not batch.is_filler]
        fillers = [batch for batch in self.batches if batch.is_filler]
        loss_sum, mass_sum, retain_sum = self.sums.tolist()
        sums = engine.sums_over_ranks(
            [
                loss_sum,
                mass_sum,
                sum(batch.num_answer_tokens for batch in real),
                sum(_tokens(batch.student) for batch in real),
                sum(_tokens(batch.teacher) for batch in real),
                sum(_tokens(batch.student) + _tokens(batch.teacher) for batch in fillers),
                retain_sum,
                sum(batch.total_weight for batch in self.batches if batch.is_regularization),
            ]
        )
        return StepStats(
            loss=sums[0] / self.total_weight,
            grad_norm=self.grad_norm,
            learning_rate=self.learning_rate,
            answer_tokens=int(sums[2]),
            student_tokens=int(sums[3]),
            teacher_tokens=int(sums[4]),
            padding_tokens=int(sums[5]),
            teacher_mass=sums[1] / self.total_weight,
            retain_loss=sums[6] / (sums[7] or 1.0),
        )


def train_step(engine: Engine, batches: Sequence[TwinBatch]) -> StepStats:
    """Take one optimizer step as `take_step` does, and return its figures."""
    return take_step(engine, batches).stats(engine)


def take_step(engine: Engine, batches: Sequence[TwinBatch]) -> TakenStep:
    """Take one optimizer step on this rank's micro-batches.

    The loss is the sum of all ranks' weighted row losses divided once by the sum of all their
    weights: with weights of 1, the mean in nats over the step's answer tokens. All ranks take part,
    with equal numbers of batches. Between the micro-batches nothing waits for the device.
    """
    total_weight = engine.sum_over_ranks(sum(batch.total_weight for batch in batches))
    sums = torch.zeros(3, dtype=torch.float64, device=engine.device)
    losses = []
    for batch in batches:
        loss, mass = engine(batch)
        engine.backward(loss / total_weight, last=batch is batches[-1])
        own = loss.detach()
        losses.append(own)
        sums += torch.stack([own, mass.detach(), own * batch.is_regularization]).double()
    try:
        grad_norm, rate = engine.step()
    except NonFiniteError as error:
        grad_norm, rate = error.norm, 0.0
    return TakenStep(batches, sums, total_weight, grad_norm, rate, losses)


def stop_where_not_finite(
    schedule: Schedule, engine: Engine, taken: TakenStep, step: int
) -> NoReturn:
    """Stop all ranks after a step whose losses or gradient are not finite. All ranks take part.

    Raises:
        ValueError: it has the ids of the answers in the micro-batches whose loss is not finite.
    """
    # answers that the student wrote for this step alone have no ids that anybody could look up
    own = [] if schedule.rollout else schedule.micro_batches(step, engine.rank, engine.num_ranks)
    bad = [
        example.answer_id
        for micro_batch, loss in zip(own, taken.losses, strict=False)
        if not _is_finite(loss) and not micro_batch.is_filler
        for example in micro_batch.examples
    ]
    found = {rank: ids for rank, ids in enumerate(gathered(bad)) if ids}
    which = "; ".join(
        f"rank {rank}: {', '.join(ids[:NAMED])}{' …' if len(ids) > NAMED else ''}"
        for rank, ids in found.items()
    )
    raise ValueError(
        f"step {step}: the loss or its gradient is not a finite number, and training has stopped; "
        f"nothing of this step was saved. Answers in the micro-batches concerned: "
        f"{which or 'those of the whole step, for every loss by itself is finite'}. Set a lower "
        "train.learning_rate, or look at these answers; the same command goes on from the last "
        "checkpoint"
    )


def _is_finite(loss: Tensor) -> bool:
    return math.isfinite(loss.item())


def _tokens(side: Side | None) -> int:
    return 0 if side is None else len(side.ids)


def model_flops(schedule: Schedule, batch: TwinBatch) -> float:
    """Return the model FLOPs of a micro-batch; a filler's do not count."""
    if batch.is_filler or batch.student is None:
        return 0.0
    online = batch.topk is None and batch.teacher is not None
    found = flops.student(schedule.weights, flops.reading(batch.student.layout))
    found += flops.loss(schedule.weights, batch.num_answer_tokens, online=online)
    if online and batch.teacher:
        found += flops.teacher(schedule.weights, flops.reading(batch.teacher.layout))
    return found


def named_figures(
    stats: StepStats, epoch: float, seconds: dict[str, float], peak_seconds: float
) -> dict[str, float]:
    """Return the figures of a step under their names in the log.

    Args:
        stats: the step's figures.
        epoch: how many epochs are done after it, with a fraction.
        seconds: the time it took, by name (`timing.NAMES`).
        peak_seconds: how long its model FLOPs would take at the machine's measured peak.
    """
    total = sum(seconds.values())
    read = stats.student_tokens + stats.teacher_tokens
    return {
        "train/loss": stats.loss,
        "train/grad_norm": stats.grad_norm,
        "train/learning_rate": stats.learning_rate,
        "train/epoch": epoch,
        "train/answer_tokens": stats.answer_tokens,
        "train/student_tokens_per_second": stats.student_tokens / total,
        "train/teacher_tokens_per_second": stats.teacher_tokens / total,
        "train/answer_fraction": stats.answer_tokens / read,
        "train/padding_fraction": stats.padding_tokens / (read + stats.padding_tokens),
        "train/model_flops_utilization": peak_seconds / total,
        "distillation/teacher_mass": stats.teacher_mass,
        **{f"time/{name}_seconds": value for name, value in seconds.items()},
    }
