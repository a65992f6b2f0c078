"""The one room that knows about ranks: forward, backward, update, and sums over ranks."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from pdtrain.config import TrainConfig
from pdtrain.records import TwinBatch


class Engine(Protocol):
    """All that the rest may know about ranks."""

    rank: int
    num_ranks: int
    device: torch.device

    def __call__(self, batch: TwinBatch) -> tuple[Tensor, Tensor]:
        """This rank's weighted sums of the row losses and of the teacher's mass; one forward."""
        ...

    def backward(self, share: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's part of the global mean; parts add up over ranks."""
        ...

    def step(self) -> tuple[float, float]:
        """Clip, update, zero the gradients; the gradient norm before clipping and the rate used."""
        ...

    def sum_over_ranks(self, value: float) -> float: ...

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's whole fp32 weights on the CPU, by name."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """Moments and step counts on the CPU, by `<weight's name>.<moment>`."""
        ...

    def load_state(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Continue from what the two methods above returned."""
        ...


class PlainEngine:
    """One process, no DeepSpeed: what runs on a laptop, and what DeepSpeed is tested against."""

    rank = 0
    num_ranks = 1

    def __init__(self, twin: nn.Module, config: TrainConfig, num_steps: int) -> None:
        self.twin = twin
        self.max_grad_norm = config.max_grad_norm
        self.weights = {n: p for n, p in twin.named_parameters() if p.requires_grad}
        self.device = next(iter(self.weights.values())).device
        self.optimizer = torch.optim.AdamW(
            self.weights.values(),
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.weight_decay,
        )
        self.config, self.num_steps, self.steps_done = config, num_steps, 0

    def __call__(self, batch: TwinBatch) -> tuple[Tensor, Tensor]:
        return self.twin(batch)

    def backward(self, share: Tensor, *, last: bool) -> None:
        share.backward()

    def step(self) -> tuple[float, float]:
        norm = nn.utils.clip_grad_norm_(
            self.weights.values(), self.max_grad_norm, error_if_nonfinite=True
        )
        rate = learning_rate(self.config, self.steps_done, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        return float(norm), rate

    def sum_over_ranks(self, value: float) -> float:
        return value

    def adapter_state(self) -> dict[str, Tensor]:
        return {n: p.detach().to("cpu", copy=True) for n, p in self.weights.items()}

    def optimizer_state(self) -> dict[str, Tensor]:
        return {
            f"{name}.{moment}": value.detach().to("cpu", copy=True)
            for name, weight in self.weights.items()
            for moment, value in self.optimizer.state[weight].items()
        }

    def load_state(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        if set(adapter) != set(self.weights):
            raise ValueError(
                "the checkpoint's adapter has other weights than this config's: "
                f"{len(adapter)} against {len(self.weights)}; was adapter.* changed?"
            )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(adapter[name])
        for key, value in optimizer.items():
            name, _, moment = key.rpartition(".")
            # AdamW keeps its step counter on the CPU, the moments beside the weight
            device = "cpu" if moment == "step" else self.device
            self.optimizer.state[self.weights[name]][moment] = value.to(device, copy=True)
        self.steps_done = int(next(iter(v for k, v in optimizer.items() if k.endswith(".step"))))


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """Linear warm-up over `warmup_ratio` of the steps, then constant or a decay towards 0.

    `step` counts finished steps; no step runs at a rate of exactly 0.
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
