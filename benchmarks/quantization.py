"""What a base in 4 or 8 bits costs the teacher, and what it saves in training.

    python benchmarks/quantization.py kl runs/quickstart --answers 48
    python benchmarks/quantization.py run configs/quickstart.yaml --kinds none nf4

`kl` gives the KL divergence of the quantized teacher from the whole one, over the vocabulary,
at the rows of a run's own answers behind their passages. `run` runs the whole line once for each
kind, every stage in a process of its own, with the time, the processors' time and the most resident
memory of `train`, mapped files and all, and the scores. The answers differ too: each base writes
its own. With `--minutes 8` it stops after so long, and the same command goes on from there; what
the stages took is kept in a file beside the runs, and adds up.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdtrain.api import STAGES
from pdtrain.cli import SAVED
from pdtrain.config import RunConfig, load_run
from pdtrain.distillation import packing
from pdtrain.distillation.examples import Example, from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.run_folder import RunFolder
from pdtrain.storage import read_json, write_json

KINDS = ("nf4", "int8", "fp8")
MIB = 2**20
SYSTEM, METRICS = "adapter_closed_book", ("gold_in_answer", "token_f1", "gold_log_likelihood")


def examples_of(config: RunConfig, num_answers: int) -> list[Example]:
    """Return answers of the run's records, evenly from all of them."""
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    run = config.run
    found = from_answers(list(run.passages()), list(run.questions()), list(run.answers()), chat)
    return found[:: max(1, len(found) // num_answers)][:num_answers]


@torch.no_grad()
def teacher_log_p(config: RunConfig, kind: str, examples: Sequence[Example]) -> list[Tensor]:
    """Return the fp64 log-probabilities (N, V) of each answer's N rows by the teacher."""
    model = load_model(replace(config.model, quantization=kind))
    twin = Twin(add_adapter(model, config.adapter, seed=0), TopKLoss(config.loss))
    found = []
    for example in examples:
        side = packing.teacher_side([example], next(model.parameters()).device)
        (hidden_ND,) = twin.hidden_rows(side, None)
        logits_NV = twin.head(hidden_ND).double()
        found.append(logits_NV.log_softmax(-1).float().cpu())
    del twin, model
    gc.collect()
    return found


def divergence(whole_NV: Tensor, quantized_NV: Tensor) -> Tensor:
    """Return KL(whole ‖ quantized) of each row in nats, (N,) fp64, from log-probabilities."""
    whole_NV, quantized_NV = whole_NV.double(), quantized_NV.double()
    return (whole_NV.exp() * (whole_NV - quantized_NV)).sum(-1)


def kl_table(config: RunConfig, kinds: Sequence[str], num_answers: int) -> Iterator[str]:
    """Yield a table with a line for each kind."""
    examples = examples_of(config, num_answers)
    whole = teacher_log_p(config, "none", examples)
    rows = sum(len(part) for part in whole)
    yield f"{len(examples)} answers, {rows} rows; KL(whole teacher ‖ quantized teacher) in nats"
    yield ""
    yield "| quantization | mean KL | median | 99th percentile | same most probable token |"
    yield "|---|---|---|---|---|"
    for kind in kinds:
        found = teacher_log_p(config, kind, examples)
        kl = torch.cat([divergence(*pair) for pair in zip(whole, found, strict=True)])
        same = torch.cat(
            [one.argmax(-1) == two.argmax(-1) for one, two in zip(whole, found, strict=True)]
        )
        yield (
            f"| {kind} | {kl.mean():.4f} | {kl.median():.4f} | {kl.quantile(0.99):.3f} | "
            f"{same.double().mean():.1%} |"
        )


class Run:
    """Run the stages of one kind, and keep what each took in a file, over all attempts.

    Args:
        config: a YAML file.
        overrides: further settings, `out_dir` among them.
        file: where the usage is kept, so that the same run can go on in another process.
        deadline: when a stage is asked to stop, by `time.monotonic`; None lets it end.

    Raises:
        ValueError: the file is of a run with other settings.
    """

    def __init__(
        self, config: str, overrides: Sequence[str], file: Path, deadline: float | None
    ) -> None:
        self.settings, self.file, self.deadline = [config, *overrides], file, deadline
        kept = read_json(file) if file.exists() else {"settings": self.settings, "stages": {}}
        if kept["settings"] != self.settings:
            raise ValueError(
                f"{file} is of a run with {' '.join(kept['settings'])}, not with "
                f"{' '.join(self.settings)}; give another --out"
            )
        self.stages: dict[str, Any] = kept["stages"]

    def stage(self, name: str) -> bool:
        """Run a stage in a process of its own unless it is done; return whether it is now.

        Raises:
            RuntimeError: it failed.
        """
        used = self.stages.setdefault(
            name, {"done": False, "seconds": 0.0, "cpu_seconds": 0.0, "most_bytes": 0}
        )
        if used["done"]:
            return True
        started = time.monotonic()
        command = [sys.executable, "-P", "-m", "pdtrain", name, *self.settings]
        process = subprocess.Popen(command, stdout=sys.stderr)
        timer = None
        if self.deadline is not None:
            left = max(0.0, self.deadline - started)
            timer = threading.Timer(left, process.send_signal, [signal.SIGTERM])
            timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if timer:
            timer.cancel()
        used["seconds"] += time.monotonic() - started
        used["cpu_seconds"] += usage.ru_utime + usage.ru_stime
        used["most_bytes"] = max(used["most_bytes"], usage.ru_maxrss * 1024)
        used["done"] = process.returncode == 0
        write_json(self.file, {"settings": self.settings, "stages": self.stages})
        if process.returncode not in (0, SAVED, -signal.SIGTERM):
            raise RuntimeError(f"pdtrain {name} failed with status {process.returncode}")
        return bool(used["done"])


def run_table(
    config: str, kinds: Sequence[str], out: Path, more: Sequence[str], minutes: float | None
) -> Iterator[str]:
    """Yield a table with a line for each kind: what training took, and the scores."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for kind in kinds:
        overrides = [*more, f"out_dir={out / kind}", f"model.quantization={kind}"]
        run = Run(config, overrides, out / f"{kind}.json", deadline)
        for name in STAGES:
            if not run.stage(name):
                yield f"{kind}: stopped in {name}; the same command goes on from there"
                return
        lines.append(result(kind, run.stages["train"], RunFolder(out / kind)))
    yield f"| quantization | train, s | CPU, s | train, most MiB | {' | '.join(METRICS)} |"
    yield "|---|---|---|---|" + "---|" * len(METRICS)
    yield from lines


def result(kind: str, used: Mapping[str, Any], run: RunFolder) -> str:
    """Return a kind's line of the table."""
    scores = read_json(run.scores_file)[SYSTEM]
    values = (
        f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for one in (scores[name] for name in METRICS)
    )
    took = f"{used['seconds']:.0f} | {used['cpu_seconds']:.0f} | {used['most_bytes'] / MIB:.0f}"
    return f"| {kind} | {took} | {' | '.join(values)} |"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    kl = commands.add_parser("kl", help="what the teacher loses")
    kl.add_argument("run", type=Path, help="the folder of a run with answers")
    kl.add_argument("--answers", type=int, default=48)
    kl.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    whole = commands.add_parser("run", help="time, memory and scores of the whole line")
    whole.add_argument("config", help="a YAML file")
    whole.add_argument("--kinds", nargs="+", choices=("none", *KINDS), default=("none", "nf4"))
    whole.add_argument("--out", type=Path, default=Path("runs/quantized"))
    whole.add_argument("--set", nargs="*", default=(), metavar="KEY=VALUE", dest="more")
    whole.add_argument("--minutes", type=float, help="stop after so many; go on another time")
    return parser.parse_args(given)


def main() -> None:
    given = arguments()
    print(f"{platform.platform()}, {os.cpu_count()} cores\n")
    if given.command == "kl":
        lines = kl_table(load_run(given.run), given.kinds, given.answers)
    else:
        lines = run_table(given.config, given.kinds, given.out, given.more, given.minutes)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
