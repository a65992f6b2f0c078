"""Take the parts of a step, on any number of ranks: forward, backward, update, and sums.

Weights are named as in the twin, and a checkpoint holds them whole, so that it can be resumed by
either engine, under any ZeRO stage and on any number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pdkernels import TopK
from pdtrain.config import TrainConfig
from pdtrain.distillation.batch import TwinBatch
from pdtrain.timing import Clock

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's


class NonFiniteError(RuntimeError):
    """Say that the norm of all ranks' gradients is not finite; it is raised on every rank."""

    def __init__(self, norm: float) -> None:
        super().__init__(f"the total norm of the gradients is non-finite: {norm}")
        self.norm = norm


class Engine(Protocol):
    """Say all that the rest may know about ranks."""

    rank: int
    num_ranks: int
    device: torch.device
    clock: Clock  # of this rank

    def __call__(self, batch: TwinBatch) -> tuple[Tensor, Tensor]:
        """Return this rank's weighted sums of the row losses and of the teacher's mass, scalars."""
        ...

    def teach(self, batch: TwinBatch) -> TopK:
        """Return the teacher's top-k of the batch's rows, without a gradient.

        Every rank must call it equally often.
        """
        ...

    def backward(self, share: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's part of the global mean; parts add up over ranks."""
        ...

    def step(self) -> tuple[float, float]:
        """Clip, update, zero the gradients; return their norm before clipping, and the rate.

        Raises:
            NonFiniteError: on every rank; what the weights are then must not be saved.
        """
        ...

    def sum_over_ranks(self, value: float) -> float:
        """Return the sum of all ranks' values. All ranks take part."""
        ...

    def sums_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Return the sums of several values, each by itself, in one collective."""
        ...

    def seed(self, seed: int) -> None:
        """Start this step's dropout from a seed of its own, resumed or not."""
        ...

    def adapter_state(self) -> dict[str, Tensor]:
        """Return the adapter's whole fp32 weights on the CPU, by name."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return moments and step counts on the CPU, by `<weight's name>.<moment>`."""
        ...

    def load_adapter(self, adapter: dict[str, Tensor]) -> None:
        """Take these weights, as `adapter_state` returned them; the optimizer stays as it is."""
        ...

    def load_state(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Continue from what `adapter_state` and `optimizer_state` returned."""
        ...

    def close(self) -> None:
        """Let go of the model, so that its memory is free for the stages that follow.

        Every rank calls this; the engine is of no use afterwards.
        """
        ...


class PlainEngine:
    """Take steps in one process without DeepSpeed, which is tested against this."""

    rank = 0
    num_ranks = 1

    def __init__(self, twin: Any, config: TrainConfig, num_steps: int) -> None:
        self.twin = twin
        self.max_grad_norm = config.max_grad_norm
        self.weights = {n: p for n, p in twin.named_parameters() if p.requires_grad}
        self.device = next(iter(self.weights.values())).device
        self.clock = twin.clock = Clock(self.device)
        self.optimizer = adamw(self.weights.values(), config)
        self.config, self.num_steps, self.steps_done = config, num_steps, 0

    def __call__(self, batch: TwinBatch) -> tuple[Tensor, Tensor]:
        return self.twin(batch)

    @torch.no_grad()
    def teach(self, batch: TwinBatch) -> TopK:
        return self.twin.as_topk(self.twin(replace(batch, student=None)))

    def backward(self, share: Tensor, *, last: bool) -> None:
        with self.clock("backward"):
            share.backward()

    def step(self) -> tuple[float, float]:
        with self.clock("optimizer"):
            return self._step()

    def _step(self) -> tuple[float, float]:
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self.max_grad_norm)
        if not math.isfinite(float(norm)):
            raise NonFiniteError(float(norm))
        rate = learning_rate(self.config, self.steps_done, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        return float(norm), rate

    def sum_over_ranks(self, value: float) -> float:
        return value

    def sums_over_ranks(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def adapter_state(self) -> dict[str, Tensor]:
        return {n: p.detach().to("cpu", copy=True) for n, p in self.weights.items()}

    def optimizer_state(self) -> dict[str, Tensor]:
        return {
            f"{name}.{moment}": value.detach().to("cpu", copy=True)
            for name, weight in self.weights.items()
            for moment, value in self.optimizer.state[weight].items()
        }

    def load_adapter(self, adapter: dict[str, Tensor]) -> None:
        check_names(adapter, self.weights)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(adapter[name])

    def load_state(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        self.load_adapter(adapter)
        for key, value in optimizer.items():
            name, _, moment = key.rpartition(".")
            # AdamW keeps its step counter on the CPU, the moments beside the weight
            device = "cpu" if moment == "step" else self.device
            self.optimizer.state[self.weights[name]][moment] = value.to(device, copy=True)
        self.steps_done = finished_steps(optimizer)

    def close(self) -> None:
        del self.twin, self.weights, self.optimizer


def adamw(weights: Iterable[Tensor], config: TrainConfig) -> torch.optim.AdamW:
    """Return the optimizer that both engines use."""
    return torch.optim.AdamW(
        weights,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.weight_decay,
    )


def check_names(adapter: dict[str, Tensor], weights: dict[str, nn.Parameter]) -> None:
    """Raise ValueError where a checkpoint holds other weights than the adapter has."""
    if set(adapter) != set(weights):
        raise ValueError(
            "the checkpoint's adapter has other weights than this config's: "
            f"{len(adapter)} against {len(weights)}; was adapter.* changed?"
        )


def finished_steps(optimizer: dict[str, Tensor]) -> int:
    """Return how many steps a checkpoint's optimizer has taken."""
    return int(next(value for key, value in optimizer.items() if key.endswith(".step")))


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """Return a step's rate: linear warm-up, then constant or a decay towards 0.

    Args:
        step: counts finished steps. No step runs at a rate of exactly 0.
    """
    warmup = int(config.warmup_ratio * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, num_steps - warmup)
    factor = {
        "constant": torch.tensor(1.0),
        "linear": torch.tensor(1.0 - done),
        "cosine": 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done))),
    }[config.scheduler]
    return config.learning_rate * float(factor)
