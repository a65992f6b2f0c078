"""Write checkpoints while training goes on: their state is copied first, and a thread writes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict

from pdtrain.distillation.schedule import Schedule
from pdtrain.distributed.engine import Engine
from pdtrain.training.checkpoints import checkpoint
from pdtrain.training.checkpoints.checkpoint import Checkpoint
from pdtrain.training.metrics_log import Metrics


class BackgroundWrite:
    """Do one piece of writing at a time in a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Begin to write, once what was begun before is done; its error is raised here."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(write,), name="checkpoint")
        self._thread.start()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # raised where somebody waits
            self._error = error

    def wait(self) -> None:
        """Wait until what was begun is written.

        Raises:
            OSError: it could not be written, or another error of the thread.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if (error := self._error) is not None:
            self._error = None
            raise error


class Saver:
    """Save the state of a training.

    The state is a copy, so the steps that follow do not change it, and the files are those of a
    training that waits. Until they are there the checkpoint before counts.

    Args:
        schedule: the steps, for what the manifest says of them.
        engine: has the state.
        metrics: what was logged up to a checkpoint is on the disk before it.
    """

    def __init__(self, schedule: Schedule, engine: Engine, metrics: Metrics) -> None:
        self._schedule, self._engine, self._metrics = schedule, engine, metrics
        self._write = BackgroundWrite()

    def save(self, step: int, *, wait: bool = False) -> None:
        """Save the state after a step. All ranks take part, and the first one writes.

        Args:
            step: the number of steps that were done.
            wait: return when it is on the disk, on every rank.
        """
        self._write.wait()  # no more than one copy is held
        schedule, engine = self._schedule, self._engine
        state = Checkpoint(step, engine.adapter_state(), engine.optimizer_state())
        if engine.rank == 0:
            epoch, steps_in_epoch = divmod(step, schedule.steps_per_epoch)
            about = {
                "num_steps": schedule.num_steps,
                "next": {"epoch": epoch, "step_in_epoch": steps_in_epoch},
                "logged": self._metrics.num_lines,
                "config": asdict(schedule.config),
            }
            self._metrics.flush()
            folder, inputs = schedule.output.checkpoints_folder, schedule.inputs
            self._write.start(lambda: checkpoint.save(folder, inputs, state, about))
        if wait:
            self._write.wait()
            engine.sum_over_ranks(0)  # no rank ends before it is there

    def close(self) -> None:
        """Wait for what is being written."""
        self._write.wait()
