"""Measure on a bare machine with GPUs what has never run on one, in about 25 minutes.

    python benchmarks/first_gpu_hour.py
    python benchmarks/first_gpu_hour.py --parts loss attention --minutes 10
    python benchmarks/first_gpu_hour.py --dry-run    # every part at toy size on a CPU

Needs torch; whatever else is missing costs the parts that need it, and the page says which. It
needs no network, and no installation of this project. Every part runs in a process of its own with
a time limit, so that one that fails or hangs does not stop the others. docs/first-gpu-hour.md says
how to read the page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from gpu_hour import plan, processes
from gpu_hour.hour import Hour
from gpu_hour.processes import ROOT
from gpu_hour.report import Report, Skip, Task

# what cannot be missing: without these something is broken here
OURS = ("pdtrain", "pdkernels", "gpu_hour", "baselines", "topk_kl", "support", "house")
SPARE = 0.92  # of its limit that a part plans with


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where every part is done or skipped, 1 where one failed, 2 without a GPU."""
    options = parse(arguments)
    if options.child:
        return child(options)
    if options.steps_alone:
        return steps_alone(options.dry_run)
    try:
        parts = plan.chosen(options.parts)
    except ValueError as error:
        print(f"first_gpu_hour: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the part ends, the page is written
        signal.signal(number, signal.default_int_handler)
    hour = Hour(parts, is_dry=options.dry_run, minutes=options.minutes, out=options.out)
    return hour.run()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="parts: " + ", ".join(f"{part.name} ({part.title})" for part in plan.PARTS),
    )
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="these alone")
    parser.add_argument(
        "--minutes",
        type=float,
        default=plan.MINUTES,
        help=f"in total; a part gets a share, at most {plan.MOST_MINUTES:g} (default: %(default)g)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the page (default: benchmarks/results; of a dry run "
        "runs/gpu-dry-run)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on a CPU, no GPU needed")
    parser.add_argument(
        "--steps-alone", action="store_true", help="some training steps, for Nsight Compute"
    )
    for name in ("--child", "--result", "--folder"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--avoid", nargs="+", default=[], help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def child(options: argparse.Namespace) -> int:
    """Run one part in this process."""
    folder, result = Path(options.folder), Path(options.result)
    folder.mkdir(parents=True, exist_ok=True)
    if options.child == "facts":
        from gpu_hour import machine

        result.write_text(json.dumps(machine.describe(is_dry=options.dry_run)), encoding="utf-8")
        return 0
    (part,) = plan.chosen([options.child])
    deadline = time.monotonic() + SPARE * 60 * options.minutes
    task = Task(part.name, options.dry_run, folder, deadline, tuple(options.avoid))
    report = Report(result)
    try:
        import_module(f"gpu_hour.parts.{part.module}").run(task, report)
    except Skip as skip:
        report.finish("skipped", str(skip))
        return 0
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if not missing or missing.startswith(OURS):
            raise
        report.finish("skipped", f"{missing} is not installed")
        return 0
    report.finish()
    return 0


def steps_alone(is_dry: bool) -> int:
    """Take the steps that the part `trace` traces, with nothing around them."""
    work = ROOT / "runs" / "gpu-hour" / f"steps-alone-{time.time_ns()}"
    try:
        variables = processes.environment(processes.import_folder(work / "path"), is_dry=is_dry)
        command = [sys.executable, "-m", "gpu_hour.parts.trace"]
        return subprocess.run(command, env=variables, cwd=ROOT, check=False).returncode
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
