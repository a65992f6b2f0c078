"""Time, memory and error of the top-k KL beside what else does the same.

    python benchmarks/topk_kl.py --shapes 1024,576,49152,64 --passages passages.jsonl
    python benchmarks/topk_kl.py --shapes 1024,576,49152,64 --run runs/quickstart
    python benchmarks/topk_kl.py --shapes 4096,8192,128256,64 --dtype bfloat16   # on a GPU

Every variant is first checked against float64 on the first rows, and a wrong one is not timed.
Variants take turns, so that a change of clock hits all of them. Without --passages or --run, and
for shapes that are not the embedded model's, rows are random.
"""

import argparse
import ctypes
import gc
import math
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from topk_kl_inputs import Rows, embedded_rows, random_rows, rows_of_run
from topk_kl_variants import LABEL_WEIGHT, Variant, labels_of, variants
from torch import Tensor

from pdkernels import TopK, report_row_filter, teacher_topk, topk_kl
from pdkernels.chunked import products

CHECKED_ROWS = 64
EMBEDDED = (576, 49_152)  # hidden size and vocabulary of the embedded model
# A rounded logit hides in the loss and shows in the gradient near the teacher.
ALLOWED_ERROR = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.products:
        products.ONEDNN = options.products == "onednn" and products.HAS_ONEDNN
    print(heading(options))
    for shape in options.shapes:
        num_rows, hidden, vocab, k = shape
        rows = rows_for(options, num_rows, hidden, vocab)
        cached = teacher_topk(rows.teacher_ND, rows.head_VD, k)
        print(f"\n## N={num_rows} D={hidden} V={vocab} k={k}: {rows.source}\n")
        print(describe(rows, cached, options.row_filter), flush=True)
        if options.rounds:
            compare(options, rows, cached)


def compare(options: argparse.Namespace, rows: Rows, cached: TopK) -> None:
    found = variants(
        cached.k,
        options.row_filter,
        with_compile=options.compile,
        device=options.device,
        like_for_like=options.like_for_like,
    )
    errors = gradient_errors(found, rows, cached.k)
    wrong = {v for v, error in errors.items() if not error <= allowed(v, rows)}
    timed = [variant for variant in found if variant not in wrong]
    times = measure_times(timed, rows, cached, options.rounds)
    print(table(timed, times, errors, rows, cached))
    for variant in wrong:
        print(f"not timed: {variant.name} is wrong by {errors[variant]:.1e}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shapes", nargs="+", type=shape, default=[(1024, 576, 49_152, 64)], metavar="N,D,V,k"
    )
    parser.add_argument("--passages", type=Path, help="JSONL with a field passage")
    parser.add_argument("--trained", type=float, default=0.5, help="0: untrained student, up to 1")
    parser.add_argument("--run", type=Path, help="a run of the embedded model: its answers")
    parser.add_argument("--untrained", action="store_true", help="of --run: without its adapter")
    parser.add_argument("--row-filter", nargs="+", type=float, default=[0.02])
    parser.add_argument(
        "--rounds", type=int, default=30 if torch.cuda.is_available() else 3,
        help="0 times nothing and only says what the rows and row filters are like",
    )  # fmt: skip
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="also torch.compile of eager")
    parser.add_argument(
        "--like-for-like",
        action="store_true",
        help="also all with oneDNN's and with MKL's products, and the losses with labels",
    )
    parser.add_argument(
        "--products",
        choices=["mkl", "onednn"],
        help="of pdkernels in fp32 on a CPU; without it those that it takes on this machine",
    )
    return parser.parse_args()


def shape(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"expected N,D,V,k, got {text!r}")
    return numbers


def heading(options: argparse.Namespace) -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    git = shutil.which("git")
    commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip() if git else "?"
    machine = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    return (
        f"`python {' '.join(sys.argv)}`\n\ncommit {commit}, torch {torch.__version__}, "
        f"{options.device} {machine} "
        f"({torch.backends.cpu.get_cpu_capability()}), {options.threads} threads, {options.dtype}"
        f"; pdkernels takes {'oneDNN' if products.ONEDNN else 'MKL'}'s fp32 products on a CPU"
    )


def rows_for(options: argparse.Namespace, num_rows: int, hidden: int, vocab: int) -> Rows:
    if options.run and (hidden, vocab) == EMBEDDED:
        rows = rows_of_run(num_rows, options.run, trained=not options.untrained)
    elif options.passages and (hidden, vocab) == EMBEDDED:
        rows = embedded_rows(num_rows, options.passages, trained=options.trained)
    else:
        rows = random_rows(num_rows, hidden, vocab)
    tensors = (rows.teacher_ND, rows.student_ND, rows.head_VD)
    dtype = getattr(torch, options.dtype)
    return Rows(*(t.to(options.device, dtype) for t in tensors), rows.source)


def gradient_errors(found: list[Variant], rows: Rows, k: int) -> dict[Variant, float]:
    """Relative L2 error of each gradient against float64, on the first rows."""
    few = Rows(
        rows.teacher_ND[:CHECKED_ROWS], rows.student_ND[:CHECKED_ROWS], rows.head_VD, rows.source
    )
    cached = teacher_topk(few.teacher_ND, few.head_VD, k)
    truths = {"bucket": true_gradient(few, k), "full": true_gradient(few, len(few.head_VD))}
    if any(variant.truth == "labels" for variant in found):
        labels_N = labels_of(few.student_ND, few.head_VD)
        options = {"labels": labels_N, "label_weight": LABEL_WEIGHT}
        truths["labels"] = true_gradient(few, k, **options)
    gradients = {v: v.run(few, cached if v.is_cached else None)[1] for v in found}
    return {v: relative_error(gradient, truths[v.truth]) for v, gradient in gradients.items()}


def relative_error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


def true_gradient(rows: Rows, k: int, **options: Any) -> Tensor:
    head = rows.head_VD.double()
    topk = teacher_topk(rows.teacher_ND.double(), head, k, impl="reference")
    student = rows.student_ND.double().detach().requires_grad_()
    loss_N = topk_kl(student, head, topk, impl="reference", **options)
    return torch.autograd.grad(loss_N.sum(), student)[0]


def allowed(variant: Variant, rows: Rows) -> float:
    """A row filter is wrong on purpose: by at most 0.1 of the gradient here.

    With every row skipped nothing is promised: that line bounds the time of all thresholds.
    """
    on_purpose = 0.1 if 0 < variant.row_filter < math.inf else variant.row_filter
    return max(ALLOWED_ERROR[rows.head_VD.dtype], on_purpose)


def measure_times(
    found: list[Variant], rows: Rows, cached: TopK, rounds: int
) -> dict[Variant, list[tuple[float, float]]]:
    """Elapsed and processor seconds of forward and backward, in turns, after a warm-up each."""
    times: dict[Variant, list[tuple[float, float]]] = {variant: [] for variant in found}
    for number in range(rounds + 1):
        for variant in found:
            wait(rows)
            start, busy = time.perf_counter(), time.process_time()
            variant.run(rows, cached if variant.is_cached else None)
            wait(rows)
            if number:
                times[variant].append((time.perf_counter() - start, time.process_time() - busy))
    return times


def wait(rows: Rows) -> None:
    if rows.head_VD.is_cuda:
        torch.cuda.synchronize()


def peak_bytes(variant: Variant, rows: Rows, cached: TopK) -> int:
    """Most bytes held at once beyond what was there before; on a CPU, resident memory."""
    teacher = cached if variant.is_cached else None
    if rows.head_VD.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        variant.run(rows, teacher)
        return torch.cuda.max_memory_allocated() - before
    variant.run(rows, teacher)  # so that what is made once, such as threads, is there
    before = settled_bytes()
    variant.run(rows, teacher)
    return max(0, resident_bytes("VmHWM") - before)


def settled_bytes() -> int:
    """Give back what the allocator keeps, forget the high-water mark, and return what is held.

    PyTorch's profiler counts the memory of one thread alone, so the system's account is read.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident_bytes("VmRSS")


def resident_bytes(name: str) -> int:
    """Return a line of the process's own status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(f"{name}:"))
    return int(found.split()[1]) * 1024


def describe(rows: Rows, cached: TopK, thresholds: list[float]) -> str:
    """What the rows are like, and what each row_filter does to the gradient of all of them."""
    student_ND = rows.student_ND.detach().requires_grad_()
    loss_N = topk_kl(student_ND, rows.head_VD, cached)
    (exact_ND,) = torch.autograd.grad(loss_N.sum(), student_ND)
    mass = 1 - float(cached.log_p_tail_N.exp().mean())
    lines = [
        f"KL {float(loss_N.detach().mean()):.3g} nats a row, teacher mass in the top-k {mass:.4f}; "
        f"the floor is {3 * product(rows):.3f} TFLOP online and {2 * product(rows):.3f} cached\n"
    ]
    for threshold in (*thresholds, math.inf):
        with report_row_filter() as report:
            loss_N = topk_kl(student_ND, rows.head_VD, cached, row_filter=threshold)
        (gradient_ND,) = torch.autograd.grad(loss_N.sum(), student_ND)
        lines.append(
            f"- row_filter {threshold:g} skips {report.skipped_fraction:.2f} of the rows; the "
            f"whole gradient is off by {relative_error(gradient_ND, exact_ND.double()):.1e}"
        )
    return "\n".join(lines) + "\n"


def product(rows: Rows) -> float:
    """TFLOP of one matrix product, 2 N V D: the floor is two of a cached teacher, three online."""
    return 2 * rows.student_ND.numel() * rows.head_VD.shape[0] / 1e12


def table(
    found: list[Variant],
    times: dict[Variant, list[tuple[float, float]]],
    errors: dict[Variant, float],
    rows: Rows,
    cached: TopK,
) -> str:
    """Ratios are of medians. Processor time, of all threads, does not count waiting for others."""
    elapsed = {v: [pair[0] for pair in times[v]] for v in found}
    middle = {v: statistics.median(elapsed[v]) for v in found}
    busy = {v: statistics.median(pair[1] for pair in times[v]) for v in found}
    lines = [
        "| variant | teacher | seconds (min to max) | of the first | processor time of the first "
        "| extra MB | gradient error | TFLOP/s of the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant in found:
        floor = product(rows) * (2 if variant.is_cached else 3)
        lines.append(
            f"| {variant.name} | {'cached' if variant.is_cached else 'online'} "
            f"| {middle[variant]:.3f} ({min(elapsed[variant]):.3f} to {max(elapsed[variant]):.3f}) "
            f"| {middle[variant] / middle[found[0]]:.2f} | {busy[variant] / busy[found[0]]:.2f} "
            f"| {peak_bytes(variant, rows, cached) / 1e6:.1f} "
            f"| {errors[variant]:.1e} | {floor / middle[variant]:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
