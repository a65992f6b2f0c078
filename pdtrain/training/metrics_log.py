"""Metrics have one door: `log(step, {...})` writes TensorBoard and JSONL, on rank 0 alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pdtrain.run_folder import RunFolder
from pdtrain.storage import to_line, write_atomically


class Metrics:
    """`metrics.jsonl` (one object a call) and TensorBoard event files below `folder`.

    A resumed run first drops what was logged after the step it resumes from, so that every
    step stands in the file once.
    """

    def __init__(self, run: RunFolder, first_step: int, *, enabled: bool = True) -> None:
        folder = run.metrics_folder
        self.path = folder / "metrics.jsonl"
        self.enabled = enabled
        if not enabled:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = (
            [row for row in run.metrics_before_a_cut() if row["step"] <= first_step]
            if first_step
            else []
        )
        write_atomically(self.path, "".join(map(to_line, kept)))
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if not self.enabled:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_line({"step": step, "unix_seconds": time.time(), **values}))
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        if self.enabled:
            self.board.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    return RunFolder(folder.parent).metrics()
