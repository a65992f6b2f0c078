"""Write all metrics of a training in one place: as JSONL and for TensorBoard, on rank 0 alone."""

from __future__ import annotations

import time
from collections.abc import Mapping

from pdtrain.files.checked_lines import checked_line
from pdtrain.files.durable import flush, make_folder, naming, write_atomically
from pdtrain.run_folder import RunFolder
from pdtrain.storage import warn_of_damage


class Metrics:
    """Append to `metrics.jsonl` (one object a call) and to TensorBoard's event files.

    A resumed run first drops what was logged after the step that it resumes from, so that every
    step is in the file once.

    Args:
        run: the folder of the run or round.
        first_step: how many steps are done already.
        logged: lines that there were when the checkpoint of this step was saved; None where it does
            not say. Lines that are missing are lost, which is said.
        enabled: False makes this an object that writes nothing, for other ranks than the first.
    """

    def __init__(
        self, run: RunFolder, first_step: int, *, logged: int | None = None, enabled: bool = True
    ) -> None:
        folder = run.metrics_folder
        self.path = folder / "metrics.jsonl"
        self.enabled, self.num_lines = enabled, 0
        if not enabled:
            return
        make_folder(folder)
        kept = (
            [line for line in run.whole_metrics() if line["step"] <= first_step]
            if first_step
            else []
        )
        self.num_lines = len(kept)
        if logged is not None and len(kept) < logged:
            warn_of_damage(
                self.path,
                f"{len(kept)} of the {logged} lines are there that were logged up to step "
                f"{first_step}",
                "the others stay lost, and the adapter is the same without them",
            )
        write_atomically(self.path, "".join(map(checked_line, kept)))
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of a step, by name."""
        if not self.enabled:
            return
        line = checked_line({"step": step, "unix_seconds": time.time(), **values})
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self.num_lines += 1
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Put what was logged onto the disk; call it before a checkpoint that comes after it."""
        if self.enabled:
            flush(self.path)

    def close(self) -> None:
        """Write out what TensorBoard has not written yet."""
        if self.enabled:
            flush(self.path)
            with naming(self.path.parent / "tensorboard"):
                self.board.close()
