"""Draw rows for the part `loss`, and try the Triton kernels on them alone.

Run as a module it launches every kernel at every shape. The part does so first, in a process of its
own: a kernel that reads out of bounds breaks CUDA for its whole process, and would take all other
figures with it.

N rows · D hidden size · V vocabulary · k top-k: suffixes name dimensions.
"""

from __future__ import annotations

import sys

import torch
from topk_kl_inputs import Rows
from torch import Tensor

from pdkernels import teacher_topk
from pdkernels import topk_kl as top_k_kl

Shape = tuple[int, int, int, int]  # N, D, V, k
SHAPES = ((4096, 4096, 128_256, 64), (4096, 8192, 128_256, 64), (8192, 2048, 151_936, 64))
TOY = ((5, 16, 171, 16),)
# In Triton's interpreter a block of the usual size takes half a minute.
TOY_PLAN = {"ROWS": 4, "CHUNK": 32, "CACHE_BYTES": 1536, "EXP_BYTES": 2048}
TOY_BLOCKS = {"CAPACITY": 64, "MAX_K": 32}
LOGIT_STD, APART = 5.0, 0.1  # as topk_kl_inputs.random_rows, which draws on the CPU


def take_small_blocks() -> None:
    """Let the Triton kernels work in blocks that suit an interpreter."""
    from pdkernels.triton import passes, plan

    for module, values in ((plan, TOY_PLAN), (passes, TOY_BLOCKS)):
        for name, value in values.items():
            setattr(module, name, value)


def rows_on(device: torch.device, dtype: torch.dtype, shape: Shape) -> Rows:
    """Return random rows as `topk_kl_inputs.random_rows` makes them, drawn on the device."""
    num_rows, hidden, vocab, _ = shape
    noise = torch.Generator(device).manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=noise, device=device, dtype=torch.float32)

    teacher_ND = draw(num_rows, hidden) * LOGIT_STD
    student_ND = teacher_ND + APART * LOGIT_STD * draw(num_rows, hidden)
    head_VD = torch.empty(vocab, hidden, device=device, dtype=dtype)
    for some_VD in head_VD.split(16_384):  # fp32 of the whole head may not fit beside it
        some_VD.copy_(draw(*some_VD.shape) / hidden**0.5)
    return Rows(teacher_ND.to(dtype), student_ND.to(dtype), head_VD, "random")


def main() -> None:
    """Run forward and backward of the Triton kernels once at every shape."""
    device = torch.device(sys.argv[1])
    is_dry = device.type == "cpu"
    if is_dry:
        take_small_blocks()
    dtype = torch.float32 if is_dry else torch.bfloat16
    for shape in TOY if is_dry else SHAPES:
        rows = rows_on(device, dtype, shape)
        rows.student_ND.requires_grad_()
        topk = teacher_topk(rows.teacher_ND, rows.head_VD, shape[3], impl="triton")
        top_k_kl(rows.student_ND, rows.head_VD, topk, impl="triton").sum().backward()
        print(f"{shape}: {float(rows.student_ND.grad.float().norm()):.4g}", flush=True)


if __name__ == "__main__":
    main()
