"""Take steps with DeepSpeed: ZeRO stages 0 to 3 over the ranks of a launcher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pdkernels import TopK
from pdtrain.config import TrainConfig
from pdtrain.distillation.batch import TwinBatch
from pdtrain.distributed import deepspeed_private
from pdtrain.distributed.engine import (
    MOMENTS,
    NonFiniteError,
    adamw,
    check_names,
    finished_steps,
    learning_rate,
)
from pdtrain.distributed.extension_locks import swept_locks
from pdtrain.distributed.process_group import prepare_deepspeed
from pdtrain.distributed.run_ahead import RunAhead
from pdtrain.distributed.world import World
from pdtrain.timing import Clock


class DeepSpeedEngine:
    """Take steps over the ranks of a launcher, with the base spread over them at stage 3.

    DeepSpeed averages gradients over ranks, so each rank's share of the loss is multiplied by
    their number.

    Args:
        settings: from `zero.settings`.
        time_communication: count waits inside DeepSpeed as communication. Its methods are wrapped
            for that; without it the sums over ranks that pdtrain itself asks for are counted, and
            the waits belong to the part of the step that they interrupt.
    """

    def __init__(
        self,
        twin: Any,
        config: TrainConfig,
        num_steps: int,
        world: World,
        settings: dict[str, Any],
        *,
        time_communication: bool = False,
    ) -> None:
        deepspeed = _deepspeed()
        self.twin = twin
        self.rank, self.num_ranks = world.rank, world.num_ranks
        self.config, self.num_steps, self.steps_done = config, num_steps, 0
        self.weights = {n: p for n, p in twin.named_parameters() if p.requires_grad}
        self.stage: int = settings["zero_optimization"]["stage"]
        if self.stage == 3:  # a leaf is gathered whole: once in forward for both sides, once back
            deepspeed.utils.set_z3_leaf_modules(twin, list({type(layer) for layer in twin.layers}))
        with swept_locks():  # it compiles
            self.engine, self.optimizer, *_ = deepspeed.initialize(
                model=twin,
                optimizer=adamw(self.weights.values(), config),
                config=settings,
                dist_init_required=False,
            )
        self.device = torch.device(self.engine.device)
        self.run_ahead: RunAhead | None = None
        if self.stage == 3 and self.device.type == "cuda":
            self.run_ahead = RunAhead(twin.layers)
        self.clock = twin.clock = Clock(self.device)
        if time_communication:
            deepspeed_private.time_waits(self.engine, self.optimizer, self.stage, self.clock)

    def __call__(self, batch: TwinBatch) -> tuple[Tensor, Tensor]:
        return self.engine(batch)

    @torch.no_grad()
    def teach(self, batch: TwinBatch) -> TopK:
        return self.twin.as_topk(self.engine(replace(batch, student=None)))

    def backward(self, share: Tensor, *, last: bool) -> None:
        with self.clock("backward"):
            self.engine.set_gradient_accumulation_boundary(last)
            self.engine.backward(share * self.num_ranks, scale_wrt_gas=False)

    def step(self) -> tuple[float, float]:
        with self.clock("optimizer"):
            return self._step()

    def _step(self) -> tuple[float, float]:
        rate = learning_rate(self.config, self.steps_done, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        own = None
        if self.stage == 0:  # DeepSpeed clips here too, and does not say what it clipped
            own = nn.utils.clip_grad_norm_(self.weights.values(), self.config.max_grad_norm)
        self.engine.step()
        self.steps_done += 1
        norm = float(self.engine.get_global_grad_norm() if own is None else own)
        if not math.isfinite(norm):
            raise NonFiniteError(norm)
        return norm, rate

    def sum_over_ranks(self, value: float) -> float:
        return self.sums_over_ranks([value])[0]

    def sums_over_ranks(self, values: Sequence[float]) -> list[float]:
        with self.clock("communication"):
            total = torch.tensor(values, dtype=torch.float64, device=self.device)
            dist.all_reduce(total)
            return total.tolist()

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed + self.rank)

    def adapter_state(self) -> dict[str, Tensor]:
        """Return the fp32 master weights. All ranks take part; the first alone gets the tensors."""
        return self._gathered(self.weights, None)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return moments and counts. All ranks take part; the first alone gets the tensors."""
        found: dict[str, Tensor] = {}
        for moment in MOMENTS[:2]:
            part = self._gathered(self.weights, moment)
            found |= {f"{name}.{moment}": value for name, value in part.items()}
        if self.rank == 0:
            steps = torch.tensor(float(self.steps_done))
            found |= {f"{name}.step": steps.clone() for name in self.weights}
        return found

    def _gathered(self, weights: dict[str, nn.Parameter], moment: str | None) -> dict[str, Tensor]:
        found = {}
        for name, weight in weights.items():
            value = self._whole(weight, moment)
            if self.rank == 0:
                found[name] = value.detach().to("cpu", torch.float32, copy=True)
        return found

    def _whole(self, weight: nn.Parameter, moment: str | None) -> Tensor:
        utils = _deepspeed().utils
        if self.stage == 0:
            return weight if moment is None else self.optimizer.state[weight][moment]
        if moment is None:
            return utils.safe_get_full_fp32_param(weight)
        return utils.safe_get_full_optimizer_state(weight, moment)

    def load_adapter(self, adapter: dict[str, Tensor]) -> None:
        """Set the adapter's weights; every rank is given the same whole tensors."""
        check_names(adapter, self.weights)
        for name, weight in self.weights.items():
            self._set_whole(weight, None, adapter[name].to(self.device, torch.float32))
        self._copy_masters_down(adapter)

    def load_state(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Set weights and optimizer; every rank is given the same whole tensors."""
        self.load_adapter(adapter)
        self.steps_done = finished_steps(optimizer)
        deepspeed_private.make_moments(self.optimizer, self.stage, self.steps_done, MOMENTS[:2])
        for name, weight in self.weights.items():
            for moment in MOMENTS[:2]:
                value = optimizer[f"{name}.{moment}"]
                self._set_whole(weight, moment, value.to(self.device, torch.float32))

    def _set_whole(self, weight: nn.Parameter, moment: str | None, value: Tensor) -> None:
        utils = _deepspeed().utils
        if self.stage == 0:
            own = weight.data if moment is None else self.optimizer.state[weight][moment]
            own.copy_(value)
        elif self.stage < 3:
            if moment is None:
                utils.safe_set_full_fp32_param(weight, value)
            else:
                utils.safe_set_full_optimizer_state(weight, value, moment)
        else:  # DeepSpeed's own setters of whole tensors fail where the last rank's part is padded
            length, flat = deepspeed_private.own_part(weight).numel(), value.flatten()
            padded = nn.functional.pad(flat, (0, length * self.num_ranks - len(flat)))
            part = padded[self.rank * length : (self.rank + 1) * length]
            if moment is None:
                utils.safe_set_local_fp32_param(weight, part)
            else:
                utils.safe_set_local_optimizer_state(weight, part, moment)

    def _copy_masters_down(self, adapter: dict[str, Tensor]) -> None:
        """Set the weights that the forward reads from the masters just set."""
        if self.stage == 3:
            zero = _deepspeed().zero
            for name, weight in self.weights.items():
                with zero.GatheredParameters([weight], modifier_rank=0):
                    if self.rank == 0:
                        weight.data.copy_(adapter[name])
        else:
            for name, weight in self.weights.items():
                weight.data.copy_(adapter[name])

    def close(self) -> None:
        if self.run_ahead:
            self.run_ahead.close()
        deepspeed_private.let_go(self.engine)
        del self.twin, self.engine, self.optimizer, self.weights


def _deepspeed() -> Any:
    """Import DeepSpeed when it is needed: it takes seconds, and a laptop does without."""
    prepare_deepspeed()
    import deepspeed

    return deepspeed
