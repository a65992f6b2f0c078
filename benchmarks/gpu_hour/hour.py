"""Run the parts one after the other, each in a process with a time limit, and write the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

from gpu_hour import page, plan, processes
from gpu_hour.plan import Part
from gpu_hour.processes import BENCHMARKS, ROOT

RESULTS = BENCHMARKS / "results"
DRY_RESULTS = ROOT / "runs" / "gpu-dry-run"
FACTS_SECONDS = 180.0


class Hour:
    """Hold an hour's parts, its time, and what was found; the page is written after each part.

    Args:
        parts: in the order in which they run.
        is_dry: toy sizes on a CPU.
        minutes: for all parts together.
        out: the folder of the page.
    """

    def __init__(
        self, parts: list[Part], *, is_dry: bool, minutes: float, out: Path | None = None
    ) -> None:
        self.parts, self.is_dry, self.minutes = parts, is_dry, minutes
        self.out = out or (DRY_RESULTS if is_dry else RESULTS)
        self.started = time.monotonic()
        self.deadline = self.started + 60 * minutes
        self.work = Path()
        self.variables: dict[str, str] = {}
        self.page = Path()
        self.avoid: list[str] = []  # what a part has found broken, for those that follow
        self.hour: dict[str, Any] = {}

    def run(self) -> int:
        """Return the exit status; the page is there in any case but without a GPU."""
        runs = ROOT / "runs" / f"gpu-{'dry-run' if self.is_dry else 'hour'}"
        runs.mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix=f"{datetime.now():%Y%m%d-%H%M%S}-", dir=runs))
        try:
            imports = processes.import_folder(self.work / "path")
            self.variables = processes.environment(imports, is_dry=self.is_dry)
            facts = self.facts()
            if not facts["num_gpus"] and not self.is_dry:
                print(
                    "first_gpu_hour: torch sees no GPU here (torch.cuda.is_available() is false); "
                    "--dry-run runs every part at toy size on a CPU",
                    file=sys.stderr,
                )
                return 2
            self.begin(facts)
            return self.all_parts(facts["num_gpus"])
        finally:
            self.clear()

    def facts(self) -> dict[str, Any]:
        """Ask a process of its own about the machine: importing torch may fail, or hang."""
        result, log = self.work / "facts.json", self.work / "facts.log"
        command = self.command("facts", result, self.work / "facts")
        ending = processes.run_limited(command, self.variables, FACTS_SECONDS, log)
        if ending.returncode:
            lines = "\n".join(processes.last_lines(log))
            raise SystemExit(f"first_gpu_hour: cannot say what machine this is:\n{lines}")
        return dict(json.loads(result.read_text(encoding="utf-8")))

    def begin(self, facts: dict[str, Any]) -> None:
        """Choose the page's name, which no earlier page has."""
        out = self.out
        out.mkdir(parents=True, exist_ok=True)
        stem = f"gpu_{slug(facts['card'], facts['num_gpus'])}_{date.today()}"
        names = [stem, *(f"{stem}_{number}" for number in range(2, 1000))]
        stem = next(name for name in names if self.is_dry or not (out / f"{name}.md").exists())
        self.page = out / f"{stem}.md"
        about = facts | {
            "date": str(date.today()),
            "started": f"{datetime.now():%Y-%m-%d %H:%M}",
            "seconds": 0.0,
            "minutes": self.minutes,
            "command": processes.presentable(f"python {' '.join(sys.argv)}"),
            "commit": commit(),
            "raw": f"{stem}.json",
        }
        if facts["versions"].get("omegaconf") == "not installed":
            about["notes"].append(
                "OmegaConf is not installed: a stand-in lets our modules be imported, and what "
                "reads YAML files is skipped"
            )
        self.hour = {"about": about, "is_dry": self.is_dry, "parts": []}

    def all_parts(self, num_gpus: int) -> int:
        obstacles = {p.name: plan.obstacle(p, num_gpus, is_dry=self.is_dry) for p in self.parts}
        parts = self.hour["parts"]
        try:
            for number, part in enumerate(self.parts):
                later = [p for p in self.parts[number + 1 :] if not obstacles[p.name]]
                parts.append(self.one_part(part, later, obstacles[part.name]))
                self.write()
        except KeyboardInterrupt:
            print("interrupted; the page has what was found until now", file=sys.stderr)
            missing, reason = self.parts[len(parts) :], "it was interrupted"
            parts += [self.so_far(part, "failed", reason) for part in missing[:1]]
            parts += [ended(part, "not reached", reason) for part in missing[1:]]
            self.write()
            return 130
        print(self.page)
        return int(any(part["status"] in page.BAD for part in parts))

    def one_part(self, part: Part, later: list[Part], obstacle: str | None) -> dict[str, Any]:
        """Run a part; return what it found and how it ended."""
        if obstacle:
            tell(f"{part.name}: skipped, {obstacle}")
            return ended(part, "skipped", obstacle)
        seconds = plan.limit(part, later, self.deadline - time.monotonic())
        if seconds < 1:
            return ended(part, "not reached", "no time was left for it")
        tell(f"{part.name}: {part.title}, at most {seconds:.0f} s")
        result, log = self.result(part), self.work / f"{part.name}.log"
        variables = dict(self.variables)
        if self.is_dry and part.name == "loss":
            variables["TRITON_INTERPRET"] = "1"
        command = self.command(part.name, result, self.work / part.name, seconds)
        command += ["--avoid", *self.avoid] if self.avoid else []
        ending = processes.run_limited(command, variables, seconds, log)
        found = self.so_far(part)
        found |= {"seconds": ending.seconds, "limit": seconds}
        if ending.timed_out:
            found |= {"status": "timed out", "reason": f"not finished after {seconds:.0f} s"}
        elif ending.returncode or found["status"] == "running":
            found |= {"status": "failed", "reason": why(ending.returncode, log)}
        self.avoid += found.get("avoid", [])
        found["output"] = processes.last_lines(log)
        made = map(Path, found.get("files", []))
        found["files"] = [self.beside(path) for path in made if path.exists()]
        tell(f"{part.name}: {found['status']} in {ending.seconds:.0f} s")
        return found

    def result(self, part: Part) -> Path:
        """Return the file in which a part keeps what it has found."""
        return self.work / f"{part.name}.json"

    def so_far(self, part: Part, *ending: str) -> dict[str, Any]:
        """Return what a part has found, with the status and the reason that are given."""
        found, result = ended(part, "running", ""), self.result(part)
        if result.exists():
            found |= json.loads(result.read_text(encoding="utf-8"))
        return found | dict(zip(("status", "reason"), ending, strict=False))

    def beside(self, path: Path) -> str:
        """Move a file of a part beside the page."""
        target = self.page.with_name(f"{self.page.stem}_{path.name}")
        shutil.move(path, target)
        return target.name

    def command(self, name: str, result: Path, folder: Path, seconds: float = 0.0) -> list[str]:
        command = [sys.executable, str(BENCHMARKS / "first_gpu_hour.py"), "--child", name]
        command += ["--result", str(result), "--folder", str(folder)]
        command += ["--minutes", str(seconds / 60)]
        return command + (["--dry-run"] if self.is_dry else [])

    def write(self) -> None:
        """Write page and raw data, whole."""
        self.hour["about"]["seconds"] = time.monotonic() - self.started
        self.page.with_suffix(".json").write_text(
            processes.presentable(json.dumps(self.hour, indent=1)) + "\n", encoding="utf-8"
        )
        self.page.write_text(processes.presentable(page.write(self.hour)), encoding="utf-8")

    def clear(self) -> None:
        """Keep the logs, and nothing else of what the parts made: models, run folders, links."""
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)


def ended(part: Part, status: str, reason: str) -> dict[str, Any]:
    """Return the record of a part that found nothing."""
    about = {"name": part.name, "title": part.title, "seconds": 0.0, "limit": 0.0}
    return about | {"status": status, "reason": reason, "output": []}


def why(status: int, log: Path) -> str:
    """Return in one line why a part failed: its last one, if that is an exception's."""
    last = (processes.last_lines(log, 1) or [""])[0]
    said = f": {last}" if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", last) else ""
    return f"it ended with status {status}{said}"


def slug(card: str, num_gpus: int) -> str:
    """Return a card's name as file names have it: h100-80gb-hbm3, or 8x-h100-80gb-hbm3."""
    plain = re.sub(r"[^a-z0-9]+", "-", card.lower().replace("nvidia", "")).strip("-")
    return plain if num_gpus < 2 else f"{num_gpus}x-{plain}"


def commit() -> str:
    """Return the commit of this checkout, and whether it is what was run."""

    def git(*words: str) -> str:
        try:
            asked = subprocess.run(
                ["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return asked.stdout.strip() if asked.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD")
    if not name:
        return "unknown: not a git checkout"
    return f"{name} with changes" if git("status", "--porcelain", "-uno") else name


def tell(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)
