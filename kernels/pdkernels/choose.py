"""Choose the implementation of a call, and say once why a slow one is taken on a GPU."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from pdkernels.chunked import passes as chunked
from pdkernels.fused.passes import Passes
from pdkernels.sharded.vocab_shard import VocabShard

Impl = Literal["auto", "reference", "chunked", "triton"]

_said: set[str] = set()


def warn_once(cause: str) -> None:
    """Warn of a slow path; the same words are not said twice in a process."""
    if cause not in _said:
        _said.add(cause)
        warnings.warn(f"pdkernels: {cause}", RuntimeWarning, stacklevel=2)


def choose_passes(
    impl: str, rows: Tensor, head_VD: Tensor, k: int, shard: VocabShard | None
) -> Passes | None:
    """Return the implementation to use; None is the reference.

    Raises:
        ValueError: the implementation that was asked for cannot do this.
    """
    if impl == "reference":
        if shard is not None:
            raise ValueError("impl='reference' needs the whole head; use impl='chunked' for shards")
        return None
    if impl == "chunked" or (impl == "auto" and not rows.is_cuda):
        return chunked
    if find_spec("triton") is None:
        if impl == "auto":
            warn_once("the package triton is missing; the slower impl='chunked' is used on the GPU")
            return chunked
        raise ValueError("impl='triton' needs the package triton; install it or use impl='chunked'")
    triton_passes = import_module("pdkernels.triton.passes")  # triton is optional, and slow
    obstacle = triton_passes.obstacle(rows, head_VD, k)
    if obstacle is None:
        return triton_passes
    if impl == "auto":
        warn_once(f"the slower impl='chunked' is used on the GPU, because impl='triton' {obstacle}")
        return chunked
    raise ValueError(f"impl='triton' {obstacle}; use impl='chunked'")


def rows_for_products(rows_ND: Tensor, head_VD: Tensor, passes: Passes) -> Tensor:
    """Return the rows in the dtype that their products with the head are made in.

    Under autocast that is autocast's dtype on a GPU, as of any linear layer; a CPU, where it would
    save nothing, keeps the rows' dtype. Otherwise rows and head of two dtypes meet in the wider.
    """
    if passes is chunked or head_VD.dtype == rows_ND.dtype == torch.float64:
        return rows_ND
    device = rows_ND.device.type
    if torch.is_autocast_enabled(device):
        return rows_ND.to(torch.get_autocast_dtype(device))
    if rows_ND.dtype == head_VD.dtype:
        return rows_ND
    common = torch.promote_types(rows_ND.dtype, head_VD.dtype)
    if common == torch.float32:
        warn_once(
            f"rows are {rows_ND.dtype} and the head is {head_VD.dtype}: products are made in fp32, "
            "which on a GPU is several times slower; pass both in half precision, or use autocast"
        )
    return rows_ND.to(common)
