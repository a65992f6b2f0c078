"""Compare the top-k KL with everything else that does the same: first its numbers, then its time.

N rows · D hidden size · V vocabulary · k top-k: suffixes name dimensions.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import topk_kl
import torch
from gpu_hour import measure
from gpu_hour.loss_inputs import SHAPES, TOY, Shape, rows_on, take_small_blocks
from gpu_hour.processes import last_lines
from gpu_hour.report import Column, Report, Task
from topk_kl_inputs import Rows
from topk_kl_variants import Variant, variants
from torch import Tensor

from pdkernels import TopK, teacher_topk
from pdkernels import topk_kl as top_k_kl

FIRST = "eager, full KL"
CHECKED_ROWS = 64
ROUNDS, TOY_ROUNDS = 20, 1
PROBE_SECONDS = 150.0
# The kernels' bounds: twice chunked's error, and this. Chunked multiplies in fp32. Tensor cores cut
# off where fp32 units round (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021), so
# that the tail's logits shrink with the hidden size: at 8,192 a simulation is off by 2e-5.
SLACK = 1e-5
VALUE_SLACK = {torch.bfloat16: 1e-4, torch.float32: 1e-5}
# relative, of chunked itself: bf16 rounds each number of a gradient by up to 3.9e-3
CHUNKED = {torch.bfloat16: (1e-3, 1e-2), torch.float32: (1e-4, 1e-3)}
COLUMNS = (
    Column("variant", "variant"),
    Column("teacher", "teacher"),
    Column("seconds", "ms", "ms"),
    Column("least", "least", "ms"),
    Column("most", "most", "ms"),
    Column("of_first", "of the first", "ratio"),
    Column("extra_bytes", "extra MB", "mb"),
    Column("tflops", "TFLOP/s", "tflops"),
    Column("of_floor", "of the floor", "percent"),
    Column("value_error", "value error", "error"),
    Column("gradient_error", "gradient error", "error"),
    Column("outcome", "not measured because"),
)


@dataclass
class Found:
    """Hold what is known of a variant at one shape."""

    variant: Variant
    value_error: float | None = None
    gradient_error: float | None = None
    extra_bytes: int | None = None
    outcome: str = ""  # why it is not timed


def run(task: Task, report: Report) -> None:
    """Check and time every variant at every shape."""
    from pdtrain.models.flops import peak_per_second

    if task.is_dry:
        take_small_blocks()
    broken = probe(task)
    if broken:
        where = "Triton's interpreter" if task.is_dry else "a process of their own"
        report.problem(f"the Triton kernels fail in {where}: {broken}")
        report.avoid("triton")
    peak = peak_per_second(task.device, task.dtype)
    report.about(
        "Of the floor: the time that the matrix products alone would take, divided by the time "
        "that was measured, so that more than 100 % is out of reach. The products are 6NVD FLOPs "
        f"with an online teacher and 4NVD with a cached one, at {peak / 1e12:.4g} TFLOP/s, which "
        f"is what a square product of {str(task.dtype).removeprefix('torch.')} reaches here."
    )
    report.about(
        "Errors are relative, against float64 on the first "
        f"{CHECKED_ROWS} rows. Time is forward and backward, the median of interleaved rounds. "
        "Extra MB is the most held beyond the inputs."
    )
    shapes = TOY if task.is_dry else SHAPES
    for number, shape in enumerate(shapes):
        seconds = task.seconds_left() / (len(shapes) - number)
        at_shape(task, report, shape, peak, seconds, with_triton=not broken)


def at_shape(
    task: Task,
    report: Report,
    shape: Shape,
    peak: float,
    seconds: float,
    *,
    with_triton: bool,
) -> None:
    """Fill one table, in about so many seconds."""
    deadline = time.monotonic() + seconds
    torch._dynamo.reset()  # or the compiled variants would be made for any shape from now on
    rows, k = rows_on(task.device, task.dtype, shape), shape[3]
    title = f"N = {shape[0]}, D = {shape[1]}, V = {shape[2]}, k = {k}"
    table = report.table(title, COLUMNS)
    cached = teacher_topk(rows.teacher_ND, rows.head_VD, k, impl="chunked")
    truths = {"bucket": truth(rows, k), "full": truth(rows, shape[2])}
    found = [
        check(one, rows, cached, truths)
        for one in wanted(k, is_dry=task.is_dry)
        if with_triton or "triton" not in one.name
    ]
    judge(found, rows.head_VD.dtype)
    for one in found:
        if "is wrong" in one.outcome:
            report.problem(f"{name_of(one.variant)} at {title}: {one.outcome}")
            if "triton" in one.variant.name:
                report.avoid("triton")
    timed = [one for one in found if not one.outcome]
    works = {name_of(o.variant): _work(o.variant, rows, cached) for o in timed}
    rounds = TOY_ROUNDS if task.is_dry else ROUNDS
    left = max(1.0, deadline - time.monotonic())
    times = measure.interleaved(works, task.device, rounds, left)
    records = [record(one, times.get(name_of(one.variant)), shape, peak) for one in found]
    first = next((r["seconds"] for r in records if r["variant"] == FIRST and "seconds" in r), None)
    for line in records:
        if first and "seconds" in line:
            line["of_first"] = line["seconds"] / first
        table.add(**line)
    report.headline(headline(shape, records))


def _work(variant: Variant, rows: Rows, cached: TopK) -> Any:
    return lambda: variant.run(rows, cached if variant.is_cached else None)


def wanted(k: int, *, is_dry: bool) -> list[Variant]:
    """Return what is compared: all that can run, exact losses alone."""
    found = variants(k, [], with_compile=True, device="cuda")
    if is_dry:  # one that compiles is enough, and Liger's kernels need a GPU
        left_out = ("Liger", "torch.compile, top-k")
        found = [one for one in found if not one.name.startswith(left_out)]
    return [one for one in found if one.row_filter != math.inf]


def truth(rows: Rows, k: int) -> tuple[Tensor, Tensor]:
    """Return losses and gradient of the first rows in float64, by the definition."""
    teacher, student = (x[:CHECKED_ROWS].double() for x in (rows.teacher_ND, rows.student_ND))
    head = rows.head_VD.double()
    topk = teacher_topk(teacher, head, k, impl="reference")
    student.requires_grad_()
    loss_N = top_k_kl(student, head, topk, impl="reference")
    (gradient,) = torch.autograd.grad(loss_N.sum(), student)
    return loss_N.detach(), gradient


def check(
    variant: Variant, rows: Rows, cached: TopK, truths: dict[str, tuple[Tensor, Tensor]]
) -> Found:
    """Run a variant once on all rows, compare the first of them, and measure its memory."""
    found = Found(variant)
    run_it = _work(variant, rows, cached)
    given, found.outcome = measure.attempt(run_it)
    if given is None:
        return found
    loss_N, gradient_ND = (part[:CHECKED_ROWS].double() for part in given)
    wanted_N, wanted_ND = truths[variant.truth]
    if not variant.name.startswith("Liger"):  # whose mean over all rows says nothing of some
        found.value_error = topk_kl.relative_error(loss_N, wanted_N)
    found.gradient_error = topk_kl.relative_error(gradient_ND, wanted_ND)
    del given
    found.extra_bytes, found.outcome = measure.attempt(
        lambda: topk_kl.peak_bytes(variant, rows, cached)
    )
    return found


def judge(found: list[Found], dtype: torch.dtype) -> None:
    """Say of variants whose numbers are wrong that they are; they are then not timed."""
    chunked = {o.variant.is_cached: o for o in found if o.variant.name == "pdkernels chunked"}
    for one in found:
        if one.outcome or one.gradient_error is None:
            continue
        value_bound, bound = math.inf, topk_kl.ALLOWED_ERROR[dtype]
        if one.variant.name == "pdkernels chunked":
            value_bound, bound = CHUNKED[dtype]
        elif one.variant.name == "pdkernels triton":
            ours = chunked[one.variant.is_cached]
            value_bound = 2 * (ours.value_error or 0.0) + VALUE_SLACK[dtype]
            bound = 2 * (ours.gradient_error or 0.0) + SLACK
        error, value_error = one.gradient_error, one.value_error or 0.0
        if not (error <= bound and value_error <= value_bound):  # also where it is not a number
            one.outcome = (
                f"is wrong: value off by {value_error:.1e} (allowed {value_bound:.1e}), gradient "
                f"by {error:.1e} (allowed {bound:.1e})"
            )


def name_of(variant: Variant) -> str:
    return f"{variant.name}, {'cached' if variant.is_cached else 'online'}"


def record(one: Found, seconds: list[float] | None, shape: Shape, peak: float) -> dict[str, Any]:
    """Return a variant's line."""
    num_rows, hidden, vocab, _ = shape
    work = (4 if one.variant.is_cached else 6) * num_rows * vocab * hidden
    line: dict[str, Any] = {
        "variant": one.variant.name,
        "teacher": "cached" if one.variant.is_cached else "online",
        "extra_bytes": one.extra_bytes,
        "value_error": one.value_error,
        "gradient_error": one.gradient_error,
        "outcome": one.outcome,
    }
    if seconds is None and not one.outcome:
        line["outcome"] = "it failed in turns with the others"
    if seconds:
        line |= measure.spread(seconds)
        line["tflops"] = work / line["seconds"]
        line["of_floor"] = line["tflops"] / peak
    return line


def headline(shape: Shape, records: list[dict[str, Any]]) -> str:
    """Return the share of the floor that the better of our own ways reaches."""
    ours = [r for r in records if r["variant"].startswith("pdkernels") and "seconds" in r]
    if not ours:
        return f"nothing of ours ran at D = {shape[1]}"
    best = max(ours, key=lambda r: r["of_floor"])
    return (
        f"D = {shape[1]}: {best['variant']}, {best['teacher']}, at {100 * best['of_floor']:.0f} % "
        "of the floor"
    )


def probe(task: Task) -> str:
    """Try the Triton kernels in a process of their own; the reason if they break it."""
    log = task.folder / "triton.log"
    command = [sys.executable, "-m", "gpu_hour.loss_inputs", task.device.type]
    seconds = min(PROBE_SECONDS, task.seconds_left() / 3)
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return f"they did not end in {seconds:.0f} s"
    print(log.read_text(encoding="utf-8", errors="replace"), flush=True)
    return "" if done.returncode == 0 else (last_lines(log, 1) or ["no output"])[0]
