"""What a base in 4 or 8 bits costs the teacher, and what it saves in training.

    python benchmarks/quantization.py kl runs/quickstart --answers 48
    python benchmarks/quantization.py run configs/quickstart.yaml --kinds none nf4

`kl` gives the KL divergence of the quantized teacher from the whole one, over the vocabulary,
at the rows of a run's own answers behind their passages. `run` runs the whole line once for each
kind, every stage in a process of its own, with the time and the most resident memory of `train`,
mapped files and all, and the scores. The answers differ too: each base writes its own.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pdtrain.api import STAGES
from pdtrain.config import RunConfig, load_run
from pdtrain.distillation import packing
from pdtrain.distillation.examples import Example, from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat_template import prove
from pdtrain.run_folder import RunFolder
from pdtrain.storage import read_json

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


def stage(name: str, config: str, overrides: Sequence[str]) -> tuple[float, int]:
    """Run a stage in a process of its own; return its seconds and the most bytes that it held."""
    started = time.perf_counter()
    command = [sys.executable, "-P", "-m", "pdtrain", name, config, *overrides]
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"pdtrain {name} failed with status {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def run_table(config: str, kinds: Sequence[str], out: Path, more: Sequence[str]) -> Iterator[str]:
    """Yield a table with a line for each kind: training's time and memory, and the scores."""
    yield f"| quantization | train, s | train, most MiB | {' | '.join(METRICS)} |"
    yield "|---|---|---|" + "---|" * len(METRICS)
    for kind in kinds:
        folder = out / kind
        overrides = [*more, f"out_dir={folder}", f"model.quantization={kind}"]
        took = {name: stage(name, config, overrides) for name in STAGES}
        scores = read_json(RunFolder(folder).scores_file)
        found = [scores[SYSTEM][name] for name in METRICS]
        values = (f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in found)
        seconds, most = took["train"]
        yield f"| {kind} | {seconds:.0f} | {most / MIB:.0f} | {' | '.join(values)} |"


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
    return parser.parse_args(given)


def main() -> None:
    given = arguments()
    print(f"{platform.platform()}, {os.cpu_count()} cores\n")
    if given.command == "kl":
        lines = kl_table(load_run(given.run), given.kinds, given.answers)
    else:
        lines = run_table(given.config, given.kinds, given.out, given.more)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
