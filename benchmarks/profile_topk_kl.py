"""A torch.profiler trace of the top-k KL for TensorBoard, and the costliest operations as text.

    python benchmarks/profile_topk_kl.py --out traces
    tensorboard --logdir traces

kernels/README.md says how to look at single kernels with Nsight Compute.
"""

import argparse
from pathlib import Path

import torch
from topk_kl import shape
from topk_kl_inputs import random_rows

from pdkernels import teacher_topk, topk_kl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=shape, default=(1024, 576, 49_152, 64), metavar="N,D,V,k")
    parser.add_argument("--impl", default="auto", choices=["auto", "chunked", "triton"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--row-filter", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("traces"))
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    num_rows, hidden, vocab, k = options.shape
    rows = random_rows(num_rows, hidden, vocab)
    dtype = getattr(torch, options.dtype)
    teacher, student, head = (
        t.to(device, dtype) for t in (rows.teacher_ND, rows.student_ND, rows.head_VD)
    )
    student.requires_grad_()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    schedule = torch.profiler.schedule(wait=0, warmup=1, active=options.rounds)
    handler = torch.profiler.tensorboard_trace_handler(str(options.out))
    with torch.profiler.profile(
        activities=activities, schedule=schedule, on_trace_ready=handler, profile_memory=True
    ) as profile:
        for _ in range(options.rounds + 1):
            with torch.profiler.record_function("teacher_topk"):
                topk = teacher_topk(teacher, head, k, impl=options.impl)
            with torch.profiler.record_function("topk_kl"):
                topk_kl(
                    student, head, topk, row_filter=options.row_filter, impl=options.impl
                ).sum().backward()
            profile.step()
    print(profile.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=15))
    print(f"trace for TensorBoard in {options.out}")


if __name__ == "__main__":
    main()
