"""Multiply rows and words by the quicker of the two libraries that come with PyTorch.

PyTorch's own fp32 product on a CPU is MKL's. oneDNN comes with PyTorch too: on an AMD CPU with
AVX-512 it takes half of MKL's time, and five sixths where it is held to AVX2. On an Intel CPU MKL
is the quicker one: the whole online loss takes an eighth less of a core's time with it. Its maker
decides, not a measurement, so that a machine always gets the same bits. oneDNN's operation has no
public name; where it is missing the product is PyTorch's own.

R rows · S words · D hidden size: suffixes name dimensions.
"""

from pathlib import Path

import torch
from torch import Tensor

CPU_INFO = Path("/proc/cpuinfo")


def is_quick_with_mkl(cpu_info: Path = CPU_INFO) -> bool:
    """Return whether PyTorch has MKL and the CPU is Intel's; False where Linux does not say."""
    try:
        text = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return torch.backends.mkl.is_available() and "GenuineIntel" in text


HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ONEDNN = HAS_ONEDNN and not is_quick_with_mkl()  # which one is taken


def room_for_logits(rows_RD: Tensor, num_words: int) -> Tensor | None:
    """Return room for R rows' logits of up to so many words, or None where it would not be used.

    A slab is larger than what an allocator keeps, and new pages cost a tenth of the product.
    """
    return None if _is_for_onednn(rows_RD, rows_RD) else rows_RD.new_empty(len(rows_RD) * num_words)


def rows_times_words(rows_RD: Tensor, words_SD: Tensor, room: Tensor | None = None) -> Tensor:
    """Return the logits (R, S), not differentiable; they are in `room` where that is given."""
    if _is_for_onednn(rows_RD, words_SD):
        return _linear(rows_RD, words_SD)
    if room is None:
        return rows_RD @ words_SD.T
    num_rows, num_words = len(rows_RD), len(words_SD)
    return torch.mm(rows_RD, words_SD.T, out=room[: num_rows * num_words].view(num_rows, num_words))


def weights_times_words(weight_RS: Tensor, words_SD: Tensor) -> Tensor:
    """Return the weighted sums of words (R, D), not differentiable."""
    if _is_for_onednn(weight_RS, words_SD):
        return _linear(weight_RS, words_SD.T)
    return weight_RS @ words_SD


def add_weights_times_words(sum_RD: Tensor, weight_RS: Tensor, words_SD: Tensor) -> None:
    """Add the weighted sums of words to `sum_RD`."""
    if _is_for_onednn(weight_RS, words_SD):
        sum_RD.add_(_linear(weight_RS, words_SD.T))
    else:
        sum_RD.addmm_(weight_RS, words_SD)


def _is_for_onednn(left: Tensor, right: Tensor) -> bool:
    return (
        ONEDNN
        and left.device.type == right.device.type == "cpu"
        and left.dtype == right.dtype == torch.float32
        and left.numel() > 0
    )


def _linear(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right.T; there is no bias, and no activation follows."""
    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
