"""Pretend that tensors lie on GPUs, where there is none: real numbers, and an error for a mix.

Every tensor is on the CPU and carries the name of the device that it claims. As on real GPUs, an
operation on tensors of two devices is an error, but for single numbers and indices on the CPU.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import accelerate.hooks
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CPU = torch.device("cpu")
MOVES = {torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu, torch.nn.Module.to}
INDEXES = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
Properties = namedtuple("Properties", "name total_memory")


def place_of(tensor: torch.Tensor) -> torch.device:
    """Return the device that a tensor claims to be on."""
    return tensor.__dict__.get("claimed", CPU)


def put(tensor: Any, place: torch.device) -> Any:
    """Let a tensor claim a device, and return it."""
    if isinstance(tensor, torch.Tensor):
        tensor.__dict__["claimed"] = place
    return tensor


class FakeGpus(TorchFunctionMode):
    """Check and name the device of everything that is computed while it is entered."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__:
            return place_of(args[0])
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if func in MOVES:
            return self._move(func, args, kwargs)
        if func == torch._has_compatible_shallow_copy_type:  # how a module asks before it moves
            return func(*args, **kwargs)
        if func == torch.Tensor.copy_:  # from anywhere, as on real devices
            return func(*args, **kwargs)
        if func == torch.Tensor.data.__set__:
            put(args[0], place_of(args[1]))
            return func(*args, **kwargs)
        if "device" in kwargs and kwargs["device"] is not None:  # a factory
            place = torch.device(kwargs["device"])
            made = func(*args, **(kwargs | {"device": "cpu"}))
            return tree_map(lambda x: put(x, place), made)
        checked = tensors[:1] if func in INDEXES else tensors
        places = {place_of(x) for x in checked if x.dim() or place_of(x) != CPU}
        if func in INDEXES:  # indices may also be on the CPU
            places |= {place_of(x) for x in tensors[1:]} - {CPU}
        if len(places) > 1:
            raise RuntimeError(f"{func.__name__}: tensors on {sorted(map(str, places))}")
        place = next(iter(places), CPU)
        found = func(*args, **kwargs)
        known = {id(x) for x in tensors}
        return tree_map(lambda x: x if id(x) in known else put(x, place), found)

    def _move(self, func, args, kwargs):
        """Return a tensor in another place, of another dtype, or both."""
        tensor, *rest = args
        place, others = place_of(tensor), []
        if func == torch.Tensor.cpu:
            place = CPU
        for given in (*rest, *([kwargs.pop("device")] if "device" in kwargs else [])):
            if isinstance(given, torch.Tensor):
                place, given = place_of(given), given.dtype
            if isinstance(given, str | torch.device | int) and not isinstance(given, bool):
                place = torch.device("cuda", given) if isinstance(given, int) else given
                place = torch.device(place)
            elif given is not None and not isinstance(given, bool):
                others.append(given)
        if not others and not kwargs.keys() - {"non_blocking"} and place == place_of(tensor):
            return tensor
        moved = torch.Tensor.to(tensor, *others, **kwargs) if others or kwargs else tensor
        return put(moved if moved is not tensor else tensor.view_as(tensor), place)


def put_in_module(module, name, device, **_):
    """Let a module's tensor claim a device, in the place of accelerate's function that moves it."""
    tensor = module
    for part in name.split("."):
        tensor = getattr(tensor, part)
    put(tensor, torch.device(device))


def spread(model, device_map, monkeypatch):
    """Spread a model over fake GPUs by accelerate's own hooks, and return it."""
    monkeypatch.setattr(accelerate.hooks, "set_module_tensor_to_device", put_in_module)
    return accelerate.dispatch_model(
        model, {n: torch.device("cuda", i) for n, i in device_map.items()}
    )
