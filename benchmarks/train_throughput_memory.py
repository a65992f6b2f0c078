"""What one process holds at most while it trains; every variant in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY_SECONDS = 0.005


@dataclass
class Peak:
    """Anonymous resident memory, in bytes; mapped files, such as a cache's, do not count."""

    before: int = 0
    most: int = 0


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon; memory is measured on Linux alone")


@contextmanager
def sampled() -> Iterator[Peak]:
    """The most that was held inside, looked at every 5 ms by a thread."""
    peak = Peak(before=anonymous_bytes())
    done = threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_SECONDS):
            peak.most = max(peak.most, anonymous_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def in_own_process(work: str, num_passages: int) -> dict[str, Any]:
    """What `--child WORK` prints in a fresh process with the same options."""
    command = [sys.executable, *sys.argv, "--child", work, "--num-passages", str(num_passages)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"--child {work} failed:\n{result.stderr[-4000:]}")
    return json.loads(result.stdout.splitlines()[-1])
