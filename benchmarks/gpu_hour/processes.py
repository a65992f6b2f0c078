"""Run a command in a process of its own with a time limit, and keep what it said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
GRACE_SECONDS = 5.0  # between asking a process to end and ending it
LAST_LINES, LONGEST_LINE = 25, 300
NOISE = re.compile(r"^\s*[~^]+\s*$")  # what Python draws below the lines of a traceback
LINKS = re.compile(r"runs/gpu-[\w-]+/[\w.-]+/path/")
PATHS = re.compile(r"(?<![\w.~>…/-])/(?:[\w.+@-]+/)+(?=[\w.+@-]+/[\w.+@-]+)")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")


@dataclass(frozen=True)
class Ending:
    """Say how a process ended."""

    returncode: int
    timed_out: bool
    seconds: float


def import_folder(folder: Path) -> Path:
    """Make a folder for PYTHONPATH that holds our two packages and nothing else.

    The repository's root would also offer the folder `kernels/`, which passes for Hugging Face's
    package of that name. Where OmegaConf is not installed a stand-in lets `pdtrain.config` be
    imported: configs are then made from dataclasses alone.
    """
    folder.mkdir(parents=True)
    packages = {"pdtrain": ROOT / "pdtrain", "pdkernels": ROOT / "kernels" / "pdkernels"}
    if find_spec("omegaconf") is None:
        packages["omegaconf"] = BENCHMARKS / "gpu_hour" / "omegaconf_stand_in"
    for name, source in packages.items():
        (folder / name).symlink_to(source, target_is_directory=True)
    return folder


def environment(imports: Path, *, is_dry: bool) -> dict[str, str]:
    """Return the environment of every part: our packages first, no network, no questions asked.

    Args:
        imports: the folder that `import_folder` made.
        is_dry: hides the GPUs.
    """
    found = dict(os.environ)
    path = [str(imports), str(BENCHMARKS), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    # an environment that is not activated has its programs (ninja, for one) off the path
    found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), found.get("PATH", "")])
    found |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PDTRAIN_TRACEBACK": "1",
    }.items():
        found.setdefault(name, value)
    if is_dry:
        found |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    return found


def run_limited(
    command: Sequence[str], variables: dict[str, str], seconds: float, log: Path
) -> Ending:
    """Run a command from the repository's root; its output goes to `log`.

    It has a process group of its own, which is ended as a whole: when the time is over, and when
    this process is interrupted.
    """
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=variables,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end_group(process)
    return Ending(process.returncode, timed_out, time.monotonic() - started)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, at first politely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # all of them are gone
            break
        except PermissionError:  # what macOS says of a group of processes that have just ended
            break
        deadline = time.monotonic() + GRACE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    process.wait()


def last_lines(log: Path, most: int = LAST_LINES) -> list[str]:
    """Return the end of a log, fit for a page that others read."""
    if not log.exists():
        return []
    with log.open(encoding="utf-8", errors="replace", newline="") as file:  # keeps \r as it is
        lines = presentable(file.read()).splitlines()
    return [line[:LONGEST_LINE] for line in lines if line.strip() and not NOISE.match(line)][-most:]


def presentable(text: str) -> str:
    """Return a text without colours, overwritten lines and the paths of this machine."""
    for path, name in (
        (f"{ROOT}/", ""),
        (str(ROOT), "."),
        (f"{sys.prefix}/", "<python>/"),
        (f"{Path.home()}/", "~/"),
    ):
        text = text.replace(path, name)
    text = LINKS.sub("", text)
    text = CONTROL.sub("", re.sub(r"[^\n]*\r(?!\n)", "", text))
    return PATHS.sub("…/", text)
