"""One process of benchmarks/startup.py: tokenise, or train until the first step is done.

    python benchmarks/startup_rank.py prepare|train CONFIG.json RESULT.json

It stands alone, so that the Python of an earlier version can run it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

KINDS = ("RssAnon", "RssFile")


def resident() -> dict[str, int]:
    """Return the resident bytes of this process: its own, and those of mapped files."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    found = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[0][:3] == "Rss"}
    return {kind: found[kind] for kind in KINDS}


class Sampler(threading.Thread):
    """Note the highest resident bytes, a hundred times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = resident()

    def run(self) -> None:
        while True:
            self.look()
            time.sleep(0.01)

    def look(self) -> None:
        now = resident()
        self.peak = {kind: max(self.peak[kind], now[kind]) for kind in KINDS}


def imported(*names: str) -> Any:
    """Return the first of these modules that this version has; None if it has none."""
    for name in names:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return None


def train(config: Any, result: Path) -> None:
    """Train until the first step is done, and write down what it took; this ends the process."""
    module = imported("pdtrain.training.train", "pdtrain.train")
    name = "take_step" if hasattr(module, "take_step") else "train_step"
    real, before = getattr(module, name), resident()
    started, sampler = time.perf_counter(), Sampler()

    def step(*arguments: Any) -> None:
        real(*arguments)
        seconds = time.perf_counter() - started
        sampler.look()
        own, mapped = (sampler.peak[kind] - before[kind] for kind in KINDS)
        result.write_text(json.dumps({"seconds": seconds, "own": own, "mapped": mapped}))
        os._exit(0)  # the rest of the training is of no interest

    setattr(module, name, step)
    sampler.start()
    module.run(config)


def prepare(config: Any, result: Path) -> None:
    """Tokenise as the stage that writes answers does; 0 seconds in a version that does not."""
    source = imported("pdtrain.distillation.tokens.source")
    started = time.perf_counter()
    if source:
        source.prepare(config)
    seconds = time.perf_counter() - started if source else 0.0
    result.write_text(json.dumps({"seconds": seconds}))


def main() -> None:
    task, config, result = sys.argv[1:]
    values = json.loads(Path(config).read_text())
    work = {"prepare": prepare, "train": train}[task]
    work(import_module("pdtrain.config").from_dict(values), Path(result))


if __name__ == "__main__":
    main()
