"""Seconds, FLOPs and memory of training, beside the paper's recipe and TRL on the same answers.

    python benchmarks/train_throughput.py --passages new_wiki.jsonl
    python benchmarks/train_throughput.py --passages new_wiki.jsonl --parts equal cached groups

Real passages of 150 to 250 words (a JSONL with a field `passage`), requests to complete and fill
in their sentences, the embedded model in fp32. Variants take turns epoch by epoch, so that a
change of clock hits all of them. TRL takes part where it can be imported
(benchmarks/baselines/trl_sdft.py says how to install it aside).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from baselines import trl_sdft
from train_throughput_checks import (
    cached_equals_online,
    equal_losses,
    of_steps,
    teacher_tokens,
)
from train_throughput_data import Workload, config, read_workload
from train_throughput_memory import in_own_process, sampled
from train_throughput_variants import NAMES, Ours, Variant, flops, make, steps_of
from transformers.utils import logging as hf_logging

PARTS = ("epoch", "memory", "equal", "ten", "groups", "cached", "scale")
NUM_EPOCHS = 10
AT_ONCE = 4  # answers of a micro-batch, as the baselines pad so many to one another
GROUPS = (1, 4, 16, 64)
SCALES = (1, 4, 16)
SCALE_PASSAGES, SCALE_QUESTIONS = 2, 4  # of the smallest corpus of `scale`
MIB, GFLOP = 2**20, 1e9


def main() -> None:
    options = arguments()
    if not options.passages:
        print("skipped: it needs real passages; give --passages FILE.jsonl")
        return
    hf_logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options)))
        return
    print(heading(options))
    with tempfile.TemporaryDirectory() as name:
        folder, workload = Path(name), read(options, options.num_passages, options.questions)
        print(describe(workload))
        official: list[float] = []  # seconds of its epochs, for parts that compare with them
        for part in options.parts:
            started = time.perf_counter()
            run_part(part, options, workload, folder, official)
            print(f"\n(part {part}: {time.perf_counter() - started:.0f} s)", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=Path, help="JSONL with a field passage")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--num-passages", type=int, default=2)
    parser.add_argument("--questions", type=int, default=16, help="of each passage")
    parser.add_argument("--answers-per-step", type=int, default=16)
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="answers of our micro-batch")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of every variant")
    skippable = [name for name in NAMES if name != "official"]  # which all are compared with
    parser.add_argument(
        "--without", nargs="*", default=[], choices=skippable, help="variants to skip"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def heading(options: argparse.Namespace) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    packages = ["torch", "transformers", "peft"] + ["trl"] * (trl_sdft.obstacle() is None)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [
        f"`python {' '.join(sys.argv)}`\n",
        f"commit {commit}, {versions}, CPU {platform.machine()} with {os.cpu_count()} cores, "
        f"{options.threads} threads, float32",
    ]
    if reason := trl_sdft.obstacle():
        lines.append(f"\n(b) is left out: {reason}")
    return "\n".join(lines)


def kinds(options: argparse.Namespace) -> list[str]:
    left_out = {*options.without, *(["trl"] if trl_sdft.obstacle() else [])}
    return [kind for kind in NAMES if kind not in left_out]


def read(options: argparse.Namespace, num_passages: int, questions: int) -> Workload:
    sizes = {
        "answers_per_step": options.answers_per_step,
        "answers_per_micro_batch": min(options.answers_per_step, options.at_once),
    }
    return read_workload(options.passages, config(train=sizes), num_passages, questions)


def describe(found: Workload) -> str:
    examples, train, loss = found.examples, found.config.train, found.config.loss
    mean = lambda name: statistics.mean(len(getattr(e, name)) for e in examples)  # noqa: E731
    return (
        f"\n{len(found.groups)} passages of {min(found.words)} to {max(found.words)} words, "
        f"{len(examples)} questions, {train.answers_per_step} answers a step, "
        f"{found.config.adapter.rank}-rank LoRA; tokens of a teacher's prompt "
        f"{mean('teacher_prompt'):.0f}, of a student's {mean('student_prompt'):.0f}, of an answer "
        f"{mean('answer'):.0f}; loss: k = {loss.top_k} where not said otherwise, temperature "
        f"{loss.temperature:g}, mean by {loss.average}. The baselines compare the whole vocabulary "
        f"and pad {AT_ONCE} answers to one another; pdtrain's micro-batches hold "
        f"{train.answers_per_micro_batch}."
    )


def run_part(
    part: str, options: argparse.Namespace, found: Workload, folder: Path, official: list[float]
) -> None:
    if part == "epoch":
        official += epochs(found, kinds(options), options.rounds, folder)
    elif part == "memory":
        memory(kinds(options), options.num_passages)
    elif part == "equal":
        equal_losses(of_steps(found, 4), folder, kinds(options))
    elif part == "ten":
        official += [] if official else one_epoch(found, folder)
        ten_epochs(found, folder, official)
    elif part == "groups":
        teacher_tokens(read(options, 8, max(GROUPS)), GROUPS)
    elif part == "cached":
        cached_equals_online(found, folder)
    elif part == "scale":
        scale()


def epochs(found: Workload, kinds: list[str], rounds: int, folder: Path) -> list[float]:
    """Everybody's epochs in turns, after one that is counted; the official one's seconds."""
    steps = steps_of(found, 0)
    variants = {kind: make(kind, found.config, len(steps) * (rounds + 2), folder) for kind in kinds}
    filling = fill(variants["cached"], found) if "cached" in variants else 0.0
    work = {kind: flops(lambda v=v: v.epoch(steps)) for kind, v in variants.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(1, rounds + 1):
        for kind, variant in variants.items():
            seconds[kind].append(variant.epoch(steps_of(found, number))[0])
            print(f"{kind} {seconds[kind][-1]:.2f} s", file=sys.stderr, flush=True)
    print(f"\n## One epoch: {len(steps)} steps, {rounds} rounds in turns\n")
    print(
        "| variant | seconds (min to max) | of (a) | GFLOP | of (a) | GFLOP/s "
        "| teacher tokens | student tokens |\n|---|---|---|---|---|---|---|---|"
    )
    base = statistics.median(seconds["official"])
    for kind, variant in variants.items():
        middle, tokens = statistics.median(seconds[kind]), count(variant, found)
        print(
            f"| {NAMES[kind]} | {middle:.2f} ({min(seconds[kind]):.2f} to {max(seconds[kind]):.2f})"
            f" | {middle / base:.2f} | {work[kind] / GFLOP:.0f} "
            f"| {work[kind] / work['official']:.2f} | {work[kind] / middle / GFLOP:.0f} "
            f"| {tokens[0]} | {tokens[1]} |"
        )
    print(
        "\nFLOPs of matrix products and attention. Tokens as they are read: the baselines' with "
        f"their padding. The cache was written in {filling:.2f} s."
    )
    return seconds["official"]


def count(variant: Variant, found: Workload) -> tuple[int, ...]:
    return tuple(
        map(sum, zip(*(variant.num_tokens(step) for step in steps_of(found, 0)), strict=True))
    )


def fill(variant: Variant, found: Workload) -> float:
    assert isinstance(variant, Ours)
    started = time.perf_counter()
    variant.fill_cache(found.examples)
    return time.perf_counter() - started


def one_epoch(found: Workload, folder: Path) -> list[float]:
    """The official recipe's, after a step of warming up."""
    steps = steps_of(found, 0)
    variant = make("official", found.config, 2 * len(steps), folder)
    variant.epoch(steps[:1])
    return [variant.epoch(steps)[0]]


def ten_epochs(found: Workload, folder: Path, official: list[float]) -> None:
    """Ours measured from the first token of the cache to the last update."""
    num_steps = len(steps_of(found, 0))
    variant = make("cached", found.config, num_steps * NUM_EPOCHS, folder)
    writing = fill(variant, found)
    seconds = [variant.epoch(steps_of(found, number))[0] for number in range(NUM_EPOCHS)]
    total, other = writing + sum(seconds), NUM_EPOCHS * statistics.median(official)
    print(f"\n## {NUM_EPOCHS} epochs\n")
    print("| | seconds |\n|---|---|")
    print(f"| (a): {NUM_EPOCHS} x its median, {statistics.median(official):.2f} | {other:.1f} |")
    print(f"| pdtrain: writing the cache | {writing:.1f} |")
    print(
        f"| pdtrain: {NUM_EPOCHS} epochs from it, {statistics.median(seconds):.2f} "
        f"({min(seconds):.2f} to {max(seconds):.2f}) each | {sum(seconds):.1f} |"
    )
    print(f"| pdtrain together | {total:.1f}, {total / other:.3f} of (a) |")


def memory(kinds: list[str], num_passages: int) -> None:
    print("\n## Peak memory of an epoch\n")
    print(
        "Anonymous resident memory of a process of its own, looked at every 5 ms. Before: model, "
        "adapter and packages.\n"
    )
    print("| variant | before, MiB | peak, MiB | beyond before, MiB | of (a)'s peak |")
    print("|---|---|---|---|---|")
    first = 0.0
    for kind in kinds:
        held = in_own_process(f"memory:{kind}", num_passages)
        before, most = held["before"] / MIB, held["most"] / MIB
        first = first or most
        print(
            f"| {NAMES[kind]} | {before:.0f} | {most:.0f} | {most - before:.0f} "
            f"| {most / first:.2f} |",
            flush=True,
        )


def scale() -> None:
    """The cache and one epoch from it, on corpora of 1, 4 and 16 times as many passages."""
    print("\n## Cost by size of the corpus\n")
    print(
        f"Passages of {SCALE_QUESTIONS} questions, {SCALE_QUESTIONS} answers a step; each corpus "
        "in a process of its own, after a step of warming up.\n"
    )
    print(
        "| corpus | answers | writing the cache, s | epoch, s | epoch, ms a token of the student "
        "| peak, MiB |\n|---|---|---|---|---|---|"
    )
    for factor in SCALES:
        found = in_own_process("scale", SCALE_PASSAGES * factor)
        print(
            f"| {factor} x | {found['answers']} | {found['writing']:.2f} | {found['seconds']:.2f} "
            f"| {1e3 * found['seconds'] / found['tokens']:.2f} | {found['most'] / MIB:.0f} |",
            flush=True,
        )


def child(options: argparse.Namespace) -> dict[str, Any]:
    """A measurement that needs a process of its own."""
    work, _, kind = options.child.partition(":")
    with tempfile.TemporaryDirectory() as name:
        if work == "scale":
            options.answers_per_step = SCALE_QUESTIONS
            found = read(options, options.num_passages, SCALE_QUESTIONS)
            return scaled(found, Path(name))
        found = read(options, options.num_passages, options.questions)
        steps = steps_of(found, 0)
        variant = make(kind, found.config, len(steps), Path(name))
        with sampled() as peak:
            if kind == "cached":
                fill(variant, found)
            variant.epoch(steps)
        return {"before": peak.before, "most": peak.most}


def scaled(found: Workload, folder: Path) -> dict[str, Any]:
    steps = steps_of(found, 0)
    variant = make("cached", found.config, 2 * len(steps), folder)
    with sampled() as peak:
        fill(variant, found)
        variant.epoch(steps[:1])
        writing = fill(variant, found)
        seconds, _ = variant.epoch(steps)
    tokens = count(variant, found)[1]
    return {
        "answers": len(found.examples),
        "writing": writing,
        "seconds": seconds,
        "tokens": tokens,
        "most": peak.most,
    }


if __name__ == "__main__":
    main()
