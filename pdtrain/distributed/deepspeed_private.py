"""Reach into DeepSpeed where it offers no public way, all in one place.

These names may change with any version, so pyproject.toml holds DeepSpeed below its next minor one,
and tests/test_private_interfaces.py fails where a name is gone. The reasons stand at the functions.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pdtrain.timing import Clock

_REDUCE = (
    "reduce_independent_p_g_buckets_and_remove_grads",
    "overlapping_partition_gradients_reduce_epilogue",
)
# methods, by ZeRO stage, in which a rank waits for weights or hands over gradients; at stages 1 and
# 2 it shares updated weights inside its step
WAITS = {
    0: ("buffered_allreduce_fallback",),
    1: _REDUCE,
    2: _REDUCE,
    3: ("fetch_sub_module", "independent_gradient_partition_epilogue", _REDUCE[0]),
}

PARTS = ("ds_tensor", "ds_secondary_tensor")  # what this rank holds of a weight at stage 3


def time_waits(engine: Any, optimizer: Any, stage: int, clock: Clock) -> None:
    """Count what a rank waits for weights and gradients as the clock's `communication`.

    DeepSpeed offers no hook around its collectives, so its own methods are wrapped.

    Raises:
        RuntimeError: this DeepSpeed has other methods.
    """
    owners = [engine, optimizer]
    if stage == 3:
        owners.append(_inside(_inside(optimizer, "parameter_offload"), "get_param_coordinator")())
    for name in WAITS[stage]:
        found = [owner for owner in owners if name in dir(owner)]
        if not found:
            raise RuntimeError(f"{_missing(name)}; set engine.time_communication=false")
        for owner in found:
            setattr(owner, name, _timed(getattr(owner, name), clock))


def _timed(work: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    def timed(*args: Any, **options: Any) -> Any:
        with clock("communication"):
            return work(*args, **options)

    return timed


def make_moments(optimizer: Any, stage: int, steps_done: int, moments: tuple[str, ...]) -> None:
    """Give AdamW its moments, zero, before its first step.

    Adam has none until then, and DeepSpeed's setters have nothing to write a checkpoint's to.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    if stage == 3:  # it hands its flat partitions to AdamW only while it steps
        owners = _inside(optimizer, "fp32_partitioned_groups_flat")
    else:
        owners = [weight for group in inner.param_groups for weight in group["params"]]
    for owner in owners:
        zeros = {name: torch.zeros_like(owner) for name in moments}
        inner.state[owner] = {**zeros, "step": torch.tensor(float(steps_done))}
    if stage in (1, 2):
        _inside(optimizer, "_lazy_init_hp_params_optimizer_state")()


def own_part(weight: Any) -> Tensor:
    """Return what this rank holds of a weight at stage 3, flat, the last rank's part padded.

    The setters of whole tensors fail where a part is padded, so parts are cut here.
    """
    return _inside(weight, "ds_tensor")


def whole_shape(weight: Any) -> list[int]:
    """Return the shape of the whole weight, of which a rank's own tensor is a flat part."""
    return list(_inside(weight, "ds_shape"))


def held_parts(weight: Any) -> Iterator[tuple[int, Tensor]]:
    """Yield what this rank holds of a weight: its first element's place in the whole, the values.

    The whole is cut among all ranks, and under hpZ a second time among those of a node. What lies
    beyond the whole is padding.
    """
    first: Any = own_part(weight)
    padded = _inside(first, "ds_numel") * dist.get_world_size()
    for part in (first, _inside(weight, "ds_secondary_tensor")):
        if part is not None:
            yield dist.get_rank() % (padded // part.ds_numel) * part.ds_numel, part


def _inside(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        raise RuntimeError(
            f"{_missing(name)}; install the versions that pyproject.toml names"
        ) from None


def _missing(name: str) -> str:
    return f"DeepSpeed {importlib.metadata.version('deepspeed')} has no {name} any more"


def let_go(engine: Any) -> None:
    """Take DeepSpeed's engine apart, and free the memory of the model and the optimizer in it.

    ZeRO-3 puts each module into the closures of autograd functions that it defines, which Python
    does not collect, so the objects outlive the engine: what they hold is emptied instead.
    """
    weights, buffers = list(engine.module.parameters()), list(engine.module.buffers())
    owners = [engine.optimizer, getattr(engine.optimizer, "optimizer", None)]
    engine.destroy()
    for owner in owners:
        if owner is not None:
            owner.state.clear()
            weights += [weight for group in owner.param_groups for weight in group["params"]]
            for name, value in vars(owner).items():
                if isinstance(value, Tensor | list | dict):
                    setattr(owner, name, type(value)() if not isinstance(value, Tensor) else None)
    for weight in weights:
        weight.grad = None
        for held in (weight, *(getattr(weight, name, None) for name in PARTS)):
            if held is not None:
                held.data = torch.empty(0, dtype=held.dtype, device=held.device)
    for buffer in buffers:
        buffer.data = torch.empty(0, dtype=buffer.dtype, device=buffer.device)
