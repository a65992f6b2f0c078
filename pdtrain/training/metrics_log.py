"""Metrics have one door: `log(step, {...})` writes TensorBoard and JSONL, on rank 0 alone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from pdtrain.storage import read_jsonl, to_line, write_atomically


class Metrics:
    """`metrics.jsonl` (one object a call) and TensorBoard event files below `folder`.

    A resumed run first drops what was logged after the step it resumes from, so that every
    step stands in the file once.
    """

    def __init__(self, folder: Path, first_step: int, *, enabled: bool = True) -> None:
        self.path = folder / "metrics.jsonl"
        self.enabled = enabled
        if not enabled:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row in _rows(self.path) if row["step"] <= first_step] if first_step else []
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


def _rows(path: Path) -> list[dict[str, float]]:
    """Rows up to a line that a kill cut short."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.split("\n") if line]


def read_metrics(folder: Path) -> list[dict[str, float]]:
    path = folder / "metrics.jsonl"
    return list(read_jsonl(path)) if path.exists() else []
