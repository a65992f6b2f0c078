"""Do the passes of `pdkernels.fused.student` by Triton kernels, over slabs of fp32 logits.

A matrix product writes a slab of R rows by S words that stays in a GPU's second-level cache
(`pdkernels.triton.plan`); row-parallel kernels stream it. Nothing grows with N V, nothing waits for
the device, and results repeat bitwise. `pdkernels.chunked.passes` documents what each pass returns.

The tests run these kernels in Triton's interpreter and compile them ahead of time
(`python -m pdkernels.compile_report`).

N rows · D hidden size · V vocabulary · K top-k · R rows of a block · S words of a
slab · E words of a product of exponentials: suffixes name dimensions.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from pdkernels.chunked.slabs import FLOOR, row_blocks
from pdkernels.logits import Logits
from pdkernels.triton import plan as plans
from pdkernels.triton.gemm import add_exp_times_words, rows_times_words
from pdkernels.triton.plan import Plan
from pdkernels.triton.select import select_slab
from pdkernels.triton.sweep import align_peaks, logits_at_ids, sum_words, sweep_slab

CAPACITY = 4096  # candidates a row, where k is large
MAX_K = 1024  # summing k words row by row stops paying above; at most CAPACITY / 2
ROW_WARPS = 8  # of the sweep kernel
GATHER = {"K_BLOCK": 16, "BLOCK": 128}
LIBRARY_PRODUCTS = True  # False takes pdkernels.triton.gemm everywhere
# from 2.10 on, the sum that a product of halves is added to may be fp32
HAS_ADDMM = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2]) >= (2, 10)
INTERPRETED = isinstance(select_slab, InterpretedFunction)


def obstacle(rows: Tensor, head_VD: Tensor, k: int) -> str | None:
    """Return why these inputs cannot be done here, as the end of a sentence; None if they can."""
    if not rows.is_cuda and not INTERPRETED:
        return f"needs a GPU, or TRITON_INTERPRET=1, but the rows are on {rows.device}"
    if rows.is_cuda and torch.version.hip is None:
        capability = torch.cuda.get_device_capability(rows.device)
        if capability < (8, 0):
            return f"needs compute capability 8.0 or more, {rows.device} has {capability}"
    for tensor in (rows, head_VD):
        if tensor.dtype not in (torch.bfloat16, torch.float16, torch.float32):
            return f"takes bf16, fp16 and fp32, got {tensor.dtype}"
    if head_VD.stride(1) != 1:
        return f"needs a head whose rows are contiguous, got strides {head_VD.stride()}"
    if k > MAX_K:
        return f"supports k up to {MAX_K}, got {k}"
    return None


def each_block(
    work: Callable[[slice], None], num_rows: int, num_words: int, k: int, device: torch.device
) -> None:
    """Call `work` on slices of the rows, in order."""
    for rows in row_blocks(num_rows, 1, plans.ROWS):
        work(rows)


def select_options(k: int) -> dict[str, int]:
    """Return candidates, words at a time and warps of `select_slab`.

    A thread sorts eight candidates: with sixteen it spills registers on sm_80.
    """
    capacity = CAPACITY if k > CAPACITY // 16 else CAPACITY // 2
    return {
        "K_POW2": max(16, triton.next_power_of_2(k)), "CAPACITY": capacity,
        "CHUNK": capacity // 2, "num_warps": max(1, capacity // 256),
    }  # fmt: skip


def gemm_options(
    kernel: Any, dtype: torch.dtype, hip: bool, capability: tuple[int, int]
) -> dict[str, int]:
    """Return tile, warps and stages of a product; compile_report checks that none spills."""
    if dtype == torch.float32:  # no tensor cores: fp32 is kept fp32
        return {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}
    is_large = not hip and capability >= (9, 0) and kernel is rows_times_words
    wide = 256 if is_large else 128
    stages = 2 if hip else 3
    return {
        "BLOCK_M": 128, "BLOCK_N": wide, "BLOCK_K": 64, "num_warps": 8, "num_stages": stages
    }  # fmt: skip


def select(
    hidden_ND: Tensor, head_VD: Tensor, k: int, logits: Logits
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k largest logits (N, k) in fp64, their ids, and the others' log-sum-exp (N,)."""
    hidden_ND = hidden_ND.contiguous()
    num_rows, num_words = hidden_ND.shape[0], head_VD.shape[0]
    ids_NK = torch.empty(num_rows, k, dtype=torch.int64, device=hidden_ND.device)
    log_tail_N = torch.empty(num_rows, device=hidden_ND.device)
    slab, block = _plan(hidden_ND, head_VD).slab, min(plans.ROWS, num_rows)
    logits_RS = torch.empty(block, slab, device=hidden_ND.device)
    options = select_options(k)
    shape = block, options["CAPACITY"]
    buffer = torch.empty(shape, dtype=torch.int64, device=hidden_ND.device)
    for first in range(0, num_rows, plans.ROWS):
        rows = slice(first, min(first + plans.ROWS, num_rows))
        grid = (rows.stop - rows.start,)
        state = torch.zeros(grid[0], 3, device=hidden_ND.device)
        state[:, 0], state[:, 2] = FLOOR, -math.inf
        count = torch.zeros(grid, dtype=torch.int32, device=hidden_ND.device)
        for start in range(0, num_words, slab):
            words_SD = head_VD[start : start + slab]
            _logits(hidden_ND[rows], words_SD, logits_RS)
            select_slab[grid](
                logits_RS, _bias_from(logits, start, logits_RS), buffer, state, count, ids_NK[rows],
                slab, start, len(words_SD), num_words, k, logits.before, logits.after,
                **_flags(logits), **options,
            )  # fmt: skip
        log_tail_N[rows] = (state[:, 0] + state[:, 1].log2()) * math.log(2)
    return logits_at(hidden_ND, head_VD, ids_NK, logits), ids_NK, log_tail_N


def sweep(
    student_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, logits: Logits, with_words: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the log-sum-exp (N,) of all words but `ids_NK`, and their mean word if wanted."""
    student_ND, ids_NK = student_ND.contiguous(), ids_NK.long().contiguous()
    num_rows, hidden = student_ND.shape
    device = student_ND.device
    log_tail_N = torch.empty(num_rows, device=device)
    words_ND = torch.zeros(num_rows, hidden, device=device) if with_words else None
    launches, block = _plan(student_ND, head_VD), min(plans.ROWS, num_rows)
    logits_RS = torch.empty(block, launches.slab, device=device)
    width = launches.group if with_words else 1
    exp_RE = torch.empty(block, width, dtype=student_ND.dtype, device=device)
    for first in range(0, num_rows, plans.ROWS):
        rows = slice(first, min(first + plans.ROWS, num_rows))
        words_RD = None if words_ND is None else words_ND[rows]
        state = torch.zeros(rows.stop - rows.start, 2, device=device)
        state[:, 0] = FLOOR
        _sweep_block(
            student_ND[rows], head_VD, ids_NK[rows], logits, launches,
            (state, logits_RS, exp_RE), words_RD,
        )  # fmt: skip
        log_tail_N[rows] = (state[:, 0] + state[:, 1].log2()) * math.log(2)
        if words_RD is not None:
            words_RD /= torch.where(state[:, 1] > 0, state[:, 1], 1)[:, None] * 2 ** _lift(exp_RE)
    return log_tail_N, words_ND


def logits_at(rows_ND: Tensor, head_VD: Tensor, ids_NK: Tensor, logits: Logits) -> Tensor:
    """Return the logits of the k words alone (N, k), in fp64; 0 for ids outside the head."""
    rows_ND, ids_NK = rows_ND.contiguous(), ids_NK.long().contiguous()
    num_rows, k = ids_NK.shape
    out_NK = torch.empty(num_rows, k, dtype=torch.float64, device=rows_ND.device)
    if num_rows:
        logits_at_ids[(num_rows, triton.cdiv(k, GATHER["K_BLOCK"]))](
            rows_ND, head_VD, ids_NK, out_NK, rows_ND.stride(0), head_VD.stride(0),
            head_VD.shape[0], head_VD.shape[1], k,
            HALF=torch.float32 not in (rows_ND.dtype, head_VD.dtype), **GATHER,
        )  # fmt: skip
    outside_NK = (ids_NK < 0) | (ids_NK >= len(head_VD))
    inside_NK = ids_NK.clamp(0, len(head_VD) - 1)
    return logits.at_ids(out_NK, inside_NK).masked_fill_(outside_NK, 0)


def sum_of_words(weight_NK: Tensor, ids_NK: Tensor, head_VD: Tensor) -> Tensor:
    """Return sum_k weight_k W_{id_k} of each row, (N, D) fp32."""
    weight_NK, ids_NK = weight_NK.float().contiguous(), ids_NK.long().contiguous()
    (num_rows, k), hidden = ids_NK.shape, head_VD.shape[1]
    sum_ND = torch.empty(num_rows, hidden, device=weight_NK.device)
    if num_rows:
        sum_words[(num_rows, triton.cdiv(hidden, GATHER["BLOCK"]))](
            weight_NK, head_VD, ids_NK, sum_ND, head_VD.stride(0), head_VD.shape[0], hidden, k,
            **GATHER,
        )  # fmt: skip
    return sum_ND


def _plan(rows_ND: Tensor, head_VD: Tensor) -> Plan:
    cache_bytes = plans.cache_of(rows_ND.device)
    return plans.plan(len(rows_ND), len(head_VD), rows_ND.element_size(), cache_bytes)


def _sweep_block(
    student_RD: Tensor,
    head_VD: Tensor,
    ids_RK: Tensor,
    logits: Logits,
    launches: Plan,
    scratch: tuple[Tensor, Tensor, Tensor],
    words_RD: Tensor | None,
) -> None:
    """Fill `state` and add the unnormalised sum of tail words to `words_RD`."""
    state, logits_RS, exp_RE = scratch
    (num_rows, hidden), num_words, k = student_RD.shape, head_VD.shape[0], ids_RK.shape[1]
    slab, chunk = launches.slab, launches.chunk
    for group in range(0, num_words, launches.group):
        group_words = min(launches.group, num_words - group)
        num_chunks = triton.cdiv(group_words, chunk)
        peaks = state[:, :1].repeat(1, num_chunks + 1)  # the last column keeps the peak of words_RD
        for place in range(0, group_words, slab):
            start = group + place
            words_SD = head_VD[start : min(start + slab, num_words)]
            _logits(student_RD, words_SD, logits_RS)
            sweep_slab[(num_rows,)](
                logits_RS, ids_RK, _bias_from(logits, start, logits_RS), state, peaks,
                exp_RE if words_RD is None else exp_RE[:, place:], slab, exp_RE.stride(0),
                start, len(words_SD), k, logits.before, logits.after, place // chunk,
                num_chunks + 1, float(_lift(exp_RE)), WITH_WORDS=words_RD is not None,
                **_flags(logits), K_BLOCK=128, CHUNK=plans.CHUNK, num_warps=ROW_WARPS,
            )  # fmt: skip
        if words_RD is None:
            continue
        align_peaks[(num_rows, num_chunks + triton.cdiv(hidden, 1024))](
            exp_RE, words_RD, state, peaks, exp_RE.stride(0), group_words, chunk, hidden,
            num_chunks + 1, CHUNK=plans.CHUNK, BLOCK=1024,
        )  # fmt: skip
        _add_product(
            exp_RE[:num_rows, :group_words], head_VD[group : group + group_words], words_RD
        )


def _bias_from(logits: Logits, first_word: int, unread: Tensor) -> Tensor:
    """Return the bias of a slab's words on; without a bias some tensor that no kernel reads."""
    return unread if logits.bias_V is None else logits.bias_V[first_word:]


def _flags(logits: Logits) -> dict[str, bool]:
    """Return what the kernels are compiled for."""
    return {"HAS_BIAS": logits.bias_V is not None, "CAPPED": logits.softcap is not None}


def _lift(exp_RE: Tensor) -> int:
    """Return the power of two that exponentials are raised by, so that none rounds to 0 in fp16.

    fp16 holds 2**-24 to 2**15: without it words of probability 1e-8 would be lost.
    """
    return 15 if exp_RE.dtype == torch.float16 else 0


def _logits(rows_RD: Tensor, words_SD: Tensor, logits_RS: Tensor) -> None:
    """Write fp32 products into the corner of `logits_RS`."""
    words_SD = words_SD.to(rows_RD.dtype)
    out = logits_RS[: len(rows_RD), : len(words_SD)]
    if _has_library_product(rows_RD):
        if rows_RD.dtype == torch.float32:
            torch.mm(rows_RD, words_SD.T, out=out)
        else:
            torch.mm(rows_RD, words_SD.T, out_dtype=torch.float32, out=out)
        return
    options = _gemm_options(rows_times_words, rows_RD)
    grid = _tiles(len(rows_RD), len(words_SD), options)
    rows_times_words[grid](
        rows_RD, words_SD, out, len(rows_RD), len(words_SD), rows_RD.shape[1],
        rows_RD.stride(0), words_SD.stride(0), out.stride(0), UPCAST=INTERPRETED, **options,
    )  # fmt: skip


def _add_product(exp_RE: Tensor, words_ED: Tensor, words_RD: Tensor) -> None:
    """Add exp @ words to `words_RD`, in fp32."""
    words_ED = words_ED.to(exp_RE.dtype)
    if _has_library_product(exp_RE):
        if exp_RE.dtype == torch.float32:
            words_RD.addmm_(exp_RE, words_ED)
        elif HAS_ADDMM:
            torch.addmm(words_RD, exp_RE, words_ED, out_dtype=torch.float32, out=words_RD)
        else:
            words_RD += torch.mm(exp_RE, words_ED, out_dtype=torch.float32)
        return
    options = _gemm_options(add_exp_times_words, exp_RE)
    grid = _tiles(len(exp_RE), words_ED.shape[1], options)
    add_exp_times_words[grid](
        exp_RE, words_ED, words_RD, len(exp_RE), len(words_ED), words_ED.shape[1],
        exp_RE.stride(0), words_ED.stride(0), UPCAST=INTERPRETED, **options,
    )  # fmt: skip


def _has_library_product(operand: Tensor) -> bool:
    """Return True where PyTorch has the product; half x half -> fp32 exists on CUDA alone."""
    return LIBRARY_PRODUCTS and (
        operand.dtype == torch.float32 or (operand.is_cuda and torch.version.hip is None)
    )


def _gemm_options(kernel: Any, operand: Tensor) -> dict[str, int]:
    if INTERPRETED:  # small tiles keep it quick
        return {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32}
    hip, capability = torch.version.hip is not None, torch.cuda.get_device_capability()
    return gemm_options(kernel, operand.dtype, hip, capability)


def _tiles(num_rows: int, num_columns: int, options: dict[str, int]) -> tuple[int]:
    return (
        triton.cdiv(num_rows, options["BLOCK_M"]) * triton.cdiv(num_columns, options["BLOCK_N"]),
    )
