"""What a step is made of, on however many ranks: forward, backward, update, and sums.

Weights are named as in the twin, and a checkpoint holds them whole, so that it can be resumed by
either engine, under any ZeRO stage and on any number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pdkernels import TopK
from pdtrain.config import TrainConfig
from pdtrain.distillation.batch import TwinBatch
from pdtrain.distributed.world import World
from pdtrain.timing import Clock

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's
_REDUCE = (
    "reduce_independent_p_g_buckets_and_remove_grads",
    "overlapping_partition_gradients_reduce_epilogue",
)
# DeepSpeed 0.19.8's methods, by ZeRO stage, in which a rank waits for weights or hands over
# gradients; at stages 1 and 2 it shares updated weights inside its step
WAITS = {
    0: ("buffered_allreduce_fallback",),
    1: _REDUCE,
    2: _REDUCE,
    3: ("fetch_sub_module", "independent_gradient_partition_epilogue", _REDUCE[0]),
}


class Engine(Protocol):
    """All that the rest may know about ranks."""

    rank: int
    num_ranks: int
    device: torch.device
    clock: Clock  # of this rank

    def __call__(self, batch: TwinBatch) -> tuple[Tensor, Tensor]:
        """This rank's weighted sums of the row losses and of the teacher's mass; one forward."""
        ...

    def teach(self, batch: TwinBatch) -> TopK:
        """The teacher's top-k of the batch's rows; no gradient. Every rank calls as often."""
        ...

    def backward(self, share: Tensor, *, last: bool) -> None:
        """Add the gradient of this rank's part of the global mean; parts add up over ranks."""
        ...

    def step(self) -> tuple[float, float]:
        """Clip, update, zero the gradients; the gradient norm before clipping and the rate used."""
        ...

    def sum_over_ranks(self, value: float) -> float: ...

    def sums_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Each by itself, in one collective."""
        ...

    def seed(self, seed: int) -> None:
        """Start this step's dropout from a seed of its own, resumed or not."""
        ...

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's whole fp32 weights on the CPU, by name."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """Moments and step counts on the CPU, by `<weight's name>.<moment>`."""
        ...

    def load_adapter(self, adapter: dict[str, Tensor]) -> None:
        """Have these weights, as `adapter_state` returned them; the optimizer stays as it is."""
        ...

    def load_state(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Continue from what `adapter_state` and `optimizer_state` returned."""
        ...


class PlainEngine:
    """One process, no DeepSpeed: what runs on a laptop, and what DeepSpeed is tested against."""

    rank = 0
    num_ranks = 1

    def __init__(self, twin: Any, config: TrainConfig, num_steps: int) -> None:
        self.twin = twin
        self.max_grad_norm = config.max_grad_norm
        self.weights = {n: p for n, p in twin.named_parameters() if p.requires_grad}
        self.device = next(iter(self.weights.values())).device
        self.clock = twin.clock = Clock(self.device)
        self.optimizer = _adamw(self.weights.values(), config)
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
        _check_names(adapter, self.weights)
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
        self.steps_done = _steps_done(optimizer)


class DeepSpeedEngine:
    """ZeRO stages 0 to 3 over the ranks of a launcher.

    DeepSpeed averages gradients over ranks, so each rank's share of the loss is multiplied by
    their number. `settings` come from `zero.settings`.
    """

    def __init__(
        self,
        twin: Any,
        config: TrainConfig,
        num_steps: int,
        world: World,
        settings: dict[str, Any],
    ) -> None:
        deepspeed = _deepspeed()
        self.twin = twin
        self.rank, self.num_ranks = world.rank, world.num_ranks
        self.config, self.num_steps, self.steps_done = config, num_steps, 0
        self.weights = {n: p for n, p in twin.named_parameters() if p.requires_grad}
        self.stage: int = settings["zero_optimization"]["stage"]
        if self.stage == 3:  # a leaf is gathered whole: once in forward for both sides, once back
            deepspeed.utils.set_z3_leaf_modules(twin, list({type(layer) for layer in twin.layers}))
        self.engine, self.optimizer, *_ = deepspeed.initialize(
            model=twin,
            optimizer=_adamw(self.weights.values(), config),
            config=settings,
            dist_init_required=False,
        )
        self.device = torch.device(self.engine.device)
        self.clock = twin.clock = Clock(self.device)
        self.timed: set[str] = set()  # of WAITS, those that this DeepSpeed has
        self._time_communication()

    def _time_communication(self) -> None:
        """Count what a rank waits for the others under that name: weights, and gradients' sums."""
        owners = [self.engine, self.optimizer]
        if self.stage == 3:
            owners.append(self.optimizer.parameter_offload.get_param_coordinator())
        for owner in owners:
            for name in WAITS[self.stage]:
                if name in dir(owner):
                    setattr(owner, name, self._timed(getattr(owner, name)))
                    self.timed.add(name)

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            with self.clock("communication"):
                return work(*args, **options)

        return timed

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
            raise RuntimeError(f"the total norm of the gradients is non-finite: {norm}")
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
        """Of the fp32 master weights. All ranks take part; the first alone gets the tensors."""
        return self._gathered(self.weights, None)

    def optimizer_state(self) -> dict[str, Tensor]:
        """All ranks take part; the first alone gets the tensors."""
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
        """Every rank is given the same whole tensors."""
        _check_names(adapter, self.weights)
        for name, weight in self.weights.items():
            self._set_whole(weight, None, adapter[name].to(self.device, torch.float32))
        self._copy_masters_down(adapter)

    def load_state(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Every rank is given the same whole tensors."""
        self.load_adapter(adapter)
        self.steps_done = _steps_done(optimizer)
        self._make_moments()
        for name, weight in self.weights.items():
            for moment in MOMENTS[:2]:
                value = optimizer[f"{name}.{moment}"]
                self._set_whole(weight, moment, value.to(self.device, torch.float32))

    def _make_moments(self) -> None:
        """Adam has none before its first step, and DeepSpeed nothing to write them to."""
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        if self.stage == 3:  # it hands its flat partitions to AdamW only while it steps
            owners = self.optimizer.fp32_partitioned_groups_flat
        else:
            owners = [weight for group in inner.param_groups for weight in group["params"]]
        for owner in owners:
            zeros = {name: torch.zeros_like(owner) for name in MOMENTS[:2]}
            inner.state[owner] = {**zeros, "step": torch.tensor(float(self.steps_done))}
        if self.stage in (1, 2):
            self.optimizer._lazy_init_hp_params_optimizer_state()

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
            partition: Any = weight
            length, flat = partition.ds_tensor.numel(), value.flatten()
            padded = nn.functional.pad(flat, (0, length * self.num_ranks - len(flat)))
            part = padded[self.rank * length : (self.rank + 1) * length]
            if moment is None:
                utils.safe_set_local_fp32_param(weight, part)
            else:
                utils.safe_set_local_optimizer_state(weight, part, moment)

    def _copy_masters_down(self, adapter: dict[str, Tensor]) -> None:
        """The weights that the forward reads, from the masters just set."""
        if self.stage == 3:
            zero = _deepspeed().zero
            for name, weight in self.weights.items():
                with zero.GatheredParameters([weight], modifier_rank=0):
                    if self.rank == 0:
                        weight.data.copy_(adapter[name])
        else:
            for name, weight in self.weights.items():
                weight.data.copy_(adapter[name])


def _adamw(weights: Iterable[Tensor], config: TrainConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        weights,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.weight_decay,
    )


def _check_names(adapter: dict[str, Tensor], weights: dict[str, nn.Parameter]) -> None:
    if set(adapter) != set(weights):
        raise ValueError(
            "the checkpoint's adapter has other weights than this config's: "
            f"{len(adapter)} against {len(weights)}; was adapter.* changed?"
        )


def _steps_done(optimizer: dict[str, Tensor]) -> int:
    return int(next(value for key, value in optimizer.items() if key.endswith(".step")))


def _deepspeed() -> Any:
    """Imported when it is needed: it takes seconds, and a laptop does without."""
    import deepspeed

    return deepspeed


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
