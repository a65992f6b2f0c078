"""Run the tests that are marked `gpu`, or all those files without a GPU in a dry run."""

from __future__ import annotations

import re
import subprocess
import sys

from gpu_hour.processes import ROOT
from gpu_hour.report import Column, Report, Task

MARKS = re.compile(r"^@pytest\.mark\.(?:multi_)?gpu\b|\bpytestmark = .*\b(?:multi_)?gpu\b", re.M)
SUMMARY = re.compile(r"^(FAILED|ERROR) (.*)$", re.M)
COUNT = re.compile(r"(\d+) (passed|failed|skipped|deselected|errors?|xfailed|xpassed|warnings?)")


def run(task: Task, report: Report) -> None:
    """Run pytest in a process of its own; a missing GPU is an error unless this is a dry run."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu or multi_gpu", "-p", "no:cacheprovider"]
    command += ["-v", "-rfEs", "--no-header", "--continue-on-collection-errors"]
    command += [] if task.is_dry else ["--require-gpu"]
    status, output = passed_on([*command, *files()])
    found = counts(output)
    table = report.table(
        "Counts",
        [Column(name, name, "int") for name in ("passed", "failed", "errors", "skipped")],
        f"`pytest -m 'gpu or multi_gpu'` over the {len(files())} files that hold such tests.",
    )
    table.add(**found)
    for kind, name in SUMMARY.findall(output):
        report.problem(f"{kind.lower()}: {name[:300]}")
    ran = found["passed"] + found["failed"]
    report.headline(f"{found['passed']} passed, {found['failed']} failed")
    if found["skipped"]:
        report.headline(f"{found['skipped']} skipped")
        for reason in skip_reasons(output):
            report.note(f"skipped: {reason}")
    if not task.is_dry and not ran:
        report.problem("no test ran")
    # 5 is pytest's "no tests collected", 1 its "some failed", which is told above
    if status not in (0, 1, 5) and not found["errors"]:
        report.problem(f"pytest ended with status {status}: {last_line(output)}")


def passed_on(command: list[str]) -> tuple[int, str]:
    """Run a command; return status and output, which is printed while it comes.

    So the log of a run that hangs names the test that it hangs in.
    """
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def files() -> list[str]:
    """Return the test files that hold a test for a GPU.

    Others are not even imported: on a bare machine packages may be missing that they need.
    """
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    has_mark = [path for path in found if MARKS.search(path.read_text(encoding="utf-8"))]
    return [path.relative_to(ROOT).as_posix() for path in has_mark]


def counts(output: str) -> dict[str, int]:
    """Return pytest's own counts, from its closing line; those that it leaves out are 0."""
    found = {"passed": 0, "failed": 0, "errors": 0, "skipped": 0}
    for number, name in COUNT.findall(last_line(output)):
        key = "errors" if name == "error" else name
        if key in found:
            found[key] = int(number)
    return found


def skip_reasons(output: str) -> list[str]:
    """Return the reasons of skipped tests, each once, with how many tests it holds for."""
    found: dict[str, int] = {}
    for number, reason in re.findall(r"^SKIPPED \[(\d+)\] [^ ]+: (.*)$", output, re.M):
        found[reason] = found.get(reason, 0) + int(number)
    return [f"{reason} ({number})" for reason, number in found.items()]


def last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
