"""Trace one training step: its slowest kernels, a file for a viewer, and a command for Nsight.

Run as a module (`python -m gpu_hour.parts.trace`) it takes some steps and traces nothing: that is
what Nsight Compute runs, which cannot share a GPU's counters with another profiler.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gpu_hour import measure
from gpu_hour.report import Column, Report, Task
from gpu_hour.training import Ours, Trainee
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

MOST = 20  # lines of the table
STEPS_BEFORE = 3
ALONE = 3  # steps that Nsight Compute sees
# names of C++ and CUDA that say nothing of which kernel it is
PREFIX = re.compile(r"^(?:(?:void|static|__global__)\s+|std::enable_if.*::type\s+)")
ARGUMENTS = re.compile(r"<.*|\(.*")


def run(task: Task, report: Report) -> None:
    """Trace the online step, after some that compile and warm up."""
    step = online(task)
    for _ in range(STEPS_BEFORE if not task.is_dry else 1):
        step.step()
    plain = measure.seconds_of(step.step, task.device)
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if task.device.type == "cuda" else []
    with profile(activities=activities) as profiler:
        step.step()
        if task.device.type == "cuda":
            torch.cuda.synchronize()
    path = task.folder / "trace.json.gz"
    profiler.export_chrome_trace(str(path))
    report.file(path)
    lines = slowest(profiler, on_gpu=task.device.type == "cuda")
    kind = "kernels" if task.device.type == "cuda" else "operations"
    table = report.table(
        f"The slowest {kind} of a step",
        [
            Column("name", kind.removesuffix("s")),
            Column("seconds", "ms", "ms"),
            Column("share", "of all", "percent"),
            Column("calls", "calls", "int"),
            Column("each", "µs each", "number"),
        ],
        f"pdtrain with the teacher online, as in the part `step-1b`; {plain * 1e3:.4g} ms a step "
        "without a profiler.",
    )
    for line in lines[:MOST]:
        table.add(**line)
    total, calls = sum(line["seconds"] for line in lines), sum(line["calls"] for line in lines)
    report.note(
        f"All {calls:,} {kind} together take {total * 1e3:.4g} ms, {100 * total / plain:.0f} % of "
        "a step without a profiler."
        + (" In the rest the GPU waits for the host." if task.device.type == "cuda" else "")
    )
    report.note("The trace beside this page opens in ui.perfetto.dev and in chrome://tracing.")
    if lines:
        report.headline(f"slowest: {shown(lines[0]['name'])}, {100 * lines[0]['share']:.0f} %")
        command = nsight(lines[0]["full_name"], lines[0]["calls"])
        report.note(f"Nsight Compute on the slowest one: `{command}`")


def online(task: Task) -> Ours:
    return Trainee("1B", task).ours("online", is_cached=False)


def slowest(profiler: Any, *, on_gpu: bool) -> list[dict[str, Any]]:
    """Return kernels (on a CPU: operations) by the time that they take themselves."""
    found = []
    for event in profiler.key_averages():
        if getattr(event, "is_user_annotation", False) or "#" in event.key:
            continue  # a name for a stretch of time, in which kernels run
        if on_gpu:
            if event.device_type != DeviceType.CUDA:
                continue
            micros = event.self_device_time_total
        else:
            micros = event.self_cpu_time_total
        if micros > 0:
            found.append({"name": event.key, "seconds": micros / 1e6, "calls": event.count})
    total = sum(line["seconds"] for line in found)
    for line in found:
        line["share"] = line["seconds"] / total
        line["each"] = 1e6 * line["seconds"] / line["calls"]
        line["full_name"] = line["name"]
        line["name"] = shown(line["name"])
    return sorted(found, key=lambda line: -line["seconds"])


def shown(name: str) -> str:
    """Return a name that fits into a table; the raw file has it whole."""
    return name if len(name) <= 80 else f"{name[:77]}..."


def base_name(kernel: str) -> str:
    """Return a kernel's name as Nsight Compute's `--kernel-name` takes it: without namespaces,
    template arguments and parameters."""
    plain = ARGUMENTS.sub("", PREFIX.sub("", kernel.replace("(anonymous namespace)::", "")))
    return plain.rsplit("::", 1)[-1].strip() or kernel


def nsight(kernel: str, calls: int) -> str:
    """Return the command that profiles a kernel of the same step, `calls` launches of it skipped:
    those of a first step, which compiles."""
    return (
        f"ncu --set full --target-processes all --kernel-name {base_name(kernel)} "
        f"--launch-skip {calls} --launch-count 3 --export slowest "
        "python benchmarks/first_gpu_hour.py --steps-alone"
    )


def main() -> None:
    """Take some steps and trace nothing."""
    with tempfile.TemporaryDirectory() as name:
        task = Task("trace", not torch.cuda.is_available(), Path(name), time.monotonic() + 600)
        step = online(task)
        for number in range(ALONE):
            print(f"step {number + 1}: {measure.seconds_of(step.step, task.device):.3f} s")


if __name__ == "__main__":
    main()
