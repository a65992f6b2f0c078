"""Count what the Triton implementation holds at once, without a GPU: kernels are left out.

    TRITON_INTERPRET=1 python benchmarks/topk_kl_memory.py

All memory is PyTorch's, allocated around the kernels, so that the count does not depend on what
they compute: each launch does nothing here, and PyTorch's products leave the temporary they make.
Inputs and the head are not counted, results are. The numbers of a GPU differ by its allocator's
rounding.
"""

from collections.abc import Callable

import torch

from pdkernels import TopK, teacher_topk, topk_kl
from pdkernels.triton import passes

SHAPES = [  # N, D, V, k
    (4096, 8192, 128_256, 64),
    (8192, 8192, 128_256, 64),
    (4096, 2048, 151_936, 64),
    (4096, 4096, 128_256, 1024),
    (512, 8192, 128_256, 64),
]
KERNELS = ("select_slab", "sweep_slab", "align_peaks")
KERNELS += ("logits_at_ids", "sum_words")


class NoLaunch:
    """Stand for a kernel, and do nothing."""

    def __getitem__(self, grid):
        return lambda *arguments, **constants: None


def leave_kernels_out() -> None:
    for name in KERNELS:
        setattr(passes, name, NoLaunch())
    passes._logits = lambda *operands: None  # writes into a slab that is there
    if passes.HAS_ADDMM:
        passes._add_product = lambda *operands: None  # adds in place
    else:
        passes._add_product = lambda exp, words, sums: torch.empty_like(sums).fill_(0)


def peak_held(work: Callable[[], object]) -> int:
    """Return the most bytes held at once while `work` runs, as PyTorch records its allocations."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def main() -> None:
    if not passes.INTERPRETED:
        raise SystemExit("set TRITON_INTERPRET=1: without it the kernels refuse a CPU")
    leave_kernels_out()
    print(f"torch {torch.__version__}, bf16, MB of 10^6 bytes\n")
    print("| N | D | V | k | eager's logits | teacher | student | its results alone |")
    print("|---" * 8 + "|")
    for rows, hidden, words, k in SHAPES:
        head = torch.zeros(1, hidden, dtype=torch.bfloat16).expand(words, hidden)
        side = torch.zeros(rows, hidden, dtype=torch.bfloat16)
        teacher = peak_held(lambda s=side, h=head, k=k: teacher_topk(s, h, k, impl="triton"))
        ids = torch.arange(k).repeat(rows, 1)
        log_p = torch.zeros(rows, k) - torch.tensor(float(k)).log()
        zero = torch.zeros(rows)
        topk = TopK(log_p, ids, zero, zero - torch.inf, 1.0)
        side.requires_grad_()
        student = peak_held(lambda s=side, h=head, t=topk: topk_kl(s, h, t, impl="triton"))
        results = rows * (hidden + 1) * 4
        cells = [rows * words * 4, teacher, student, results]
        text = " | ".join(f"{cell / 1e6:.0f}" for cell in cells)
        print(f"| {rows} | {hidden} | {words} | {k} | {text} |", flush=True)


if __name__ == "__main__":
    main()
