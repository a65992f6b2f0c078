"""Count what a GPU would have to do, on fake tensors that stand for tensors on one.

PyTorch without CUDA can neither slice nor copy fake tensors on "cuda", so they are on "meta". Fake
tensors of two devices cannot be mixed in one operation, and reading a value of one is an error.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "meta"

# the host waits for the device in these, whatever their arguments are
WAITS = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::_unique2",
}
# which make a tensor without a kernel, or only say how to look at one
NOT_LAUNCHED = {
    "aten::_reshape_alias",
    "aten::_unsafe_view",
    "aten::detach",
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::lift_fresh",
    "aten::new_empty",
}


class Recorder(TorchDispatchMode):
    """Record each operation on a GPU's tensors: a launch, or one for which the host waits.

    An operation counts as one launch, though some take several kernels. Views count as none.

    Args:
        reads_as: what the host finds where it reads a number of the device, which fake tensors do
            not have; None leaves that an error. A truth value is then always False.

    Attributes:
        launches: how often each operation was launched, by name.
        syncs: how often the host waited in each operation, by name.
    """

    def __init__(self, reads_as: float | None = None) -> None:
        super().__init__()
        self.reads_as = reads_as
        self.launches: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()

    @property
    def num_launches(self) -> int:
        return self.launches.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_device = any(x.device.type == DEVICE for x in given)
        if on_device and self._waits(func, name, args):
            self.syncs[name] += 1
            if self.reads_as is not None and name == "aten::_local_scalar_dense":
                return False if args[0].dtype == torch.bool else self.reads_as
        found = func(*args, **kwargs)
        made = [x for x in tree_leaves(found) if isinstance(x, torch.Tensor)]
        if on_device and any(x.device.type == "cpu" for x in made):
            self.syncs[f"{name} to the CPU"] += 1
        if self._pulls(name, args):
            self.syncs[f"{name} to the CPU"] += 1
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if (on_device or any(x.device.type == DEVICE for x in made)) and not (
            is_view or name in NOT_LAUNCHED or name.startswith("prim::")
        ):
            self.launches[name] += 1
        return found

    @staticmethod
    def _waits(func: Any, name: str, args: tuple[Any, ...]) -> bool:
        if name in WAITS:
            return True
        if name in ("aten::index", "aten::index_put", "aten::index_put_"):
            indices = [x for x in args[1] if isinstance(x, torch.Tensor)]
            return any(x.dtype == torch.bool for x in indices)
        return name == "aten::repeat_interleave" and func._overloadname == "Tensor"

    @staticmethod
    def _pulls(name: str, args: tuple[Any, ...]) -> bool:
        if name != "aten::copy_":
            return False
        target, source = args[0], args[1]
        return bool(target.device.type == "cpu" and source.device.type == DEVICE)
