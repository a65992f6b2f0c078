"""Time a training step: teacher online, teacher cached, and the paper's plain two passes."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import torch
from gpu_hour import measure
from gpu_hour.report import Column, Report, Task
from gpu_hour.training import Ours, Theirs, Trainee

from pdtrain.models.flops import peak_per_second
from pdtrain.timing import NAMES

OFFICIAL = "the paper's recipe"
ONLINE, CACHED = "pdtrain, teacher online", "pdtrain, teacher cached"
CHECKPOINTING = "pdtrain, teacher online, checkpointing"
ROUNDS, TOY_ROUNDS = 10, 1
# the top-k with a tail bucket is a lower bound of the divergence over the whole vocabulary
LEAST_OF_FULL, MOST_OF_FULL = 0.3, 1.02
Way = Ours | Theirs


def run(task: Task, report: Report) -> None:
    """Take steps of every way in turns, on one model and the same answers."""
    trainee = Trainee("1B" if task.name == "step-1b" else "8B", task)
    peak = peak_per_second(task.device, task.dtype)
    describe(trainee, report, peak)
    ways = made(trainee)
    lines: dict[str, dict[str, Any]] = {}
    for name, way in list(ways.items()):
        lines[name] = {"way": name} | first_step(way, trainee)
        if lines[name]["outcome"]:
            del ways[name]
            gc.collect()
    works = {name: way.step for name, way in ways.items()}
    rounds = TOY_ROUNDS if task.is_dry else ROUNDS
    times = measure.interleaved(works, task.device, rounds, max(1.0, 0.8 * task.seconds_left()))
    for name, seconds in times.items():
        lines[name] |= measure.spread(seconds)
    write(report, lines, ways, trainee, peak)


def describe(trainee: Trainee, report: Report, peak: float) -> None:
    """Say what is trained on what."""
    examples, sizes = trainee.examples, trainee.sizes
    tokens = sum(len(example.answer) for example in examples)
    report.about(
        f"A Llama of the {trainee.shape} shape with random weights, "
        f"{trainee.base_bytes / 2**30:.3g} GiB, and a LoRA adapter of rank "
        f"{trainee.config.adapter.rank} on all linear layers; attention: "
        f"{trainee.attention}; loss: {trainee.impl}."
    )
    report.about(
        f"A step has {len(examples)} answers of {tokens} tokens to questions about "
        f"{sizes.num_passages} passages of {sizes.lengths.passage} tokens; pdtrain takes it as one "
        "micro-batch, the paper's recipe pads 4 answers to one another and makes all logits."
    )
    sheet = None
    if trainee.task.device.type == "cuda":
        sheet = measure.data_sheet_per_second(torch.cuda.get_device_name())
    report.about(
        "MFU is model FLOPs (checkpointing's second forward is none) a second, of "
        f"{peak / 1e12:.4g} TFLOP/s, which is what a square product reaches on this machine"
        + (f"; of the data sheet's {sheet / 1e12:.0f} in the last column." if sheet else ".")
        + " The FLOPs of the paper's recipe are its own, as torch counts them."
    )


def made(trainee: Trainee) -> dict[str, Way]:
    """Return the ways by name; a cached teacher's distributions are computed here."""
    ways: dict[str, Way] = {
        OFFICIAL: trainee.official(),
        ONLINE: trainee.ours("online", is_cached=False),
        CACHED: trainee.ours("cached", is_cached=True),
    }
    if trainee.shape != "1B":
        ways[CHECKPOINTING] = trainee.ours("checkpointing", is_cached=False, checkpointing=True)
    return ways


def first_step(way: Way, trainee: Trainee) -> dict[str, Any]:
    """Take a step that compiles what is compiled, and one whose memory is measured."""
    device = trainee.task.device
    _, outcome = measure.attempt(way.step)
    if outcome:
        return {"outcome": outcome}
    extra, outcome = measure.attempt(partial(measure.peak_bytes, way.step, device))
    held = None if extra is None else trainee.base_bytes + way.state_bytes() + extra
    loss = way.loss if isinstance(way, Theirs) else way.stats.loss if way.stats else None
    return {"outcome": outcome, "peak_bytes": held, "loss": loss}


def write(
    report: Report,
    lines: dict[str, dict[str, Any]],
    ways: dict[str, Way],
    trainee: Trainee,
    peak: float,
) -> None:
    """Fill both tables, and say what is wrong."""
    complete(lines, ways, trainee, peak)
    table = report.table(
        "A step",
        [
            Column("way", "way"),
            Column("seconds", "ms a step", "ms"),
            Column("least", "least", "ms"),
            Column("most", "most", "ms"),
            Column("of_official", "of the recipe's", "ratio"),
            Column("answers_a_second", "answers/s", "number"),
            Column("tokens_a_second", "tokens read/s", "int"),
            Column("flops", "TFLOP a step", "tflops"),
            Column("mfu", "MFU", "percent"),
            Column("peak_bytes", "peak GiB", "gib"),
            Column("loss", "loss", "score"),
            Column("mfu_sheet", "MFU, data sheet", "percent"),
            Column("outcome", "not measured because"),
        ],
        "Tokens read are those of teacher and student, padding included. Peak: the base, the "
        "adapter's moments and whatever a step holds.",
    )
    for line in lines.values():
        table.add(**line)
    parts = report.table(
        "The same by part of a step",
        [Column("way", "way"), *(Column(name, name, "ms") for name in NAMES)],
        "In ms, by the engine's clock, of the last step that was taken.",
    )
    for name, way in ways.items():
        if isinstance(way, Ours):
            parts.add(way=name, **way.seconds)
    conclude(report, lines)


def complete(
    lines: dict[str, dict[str, Any]], ways: dict[str, Way], trainee: Trainee, peak: float
) -> None:
    """Add to each line what follows from its seconds."""
    official = lines[OFFICIAL].get("seconds")
    sheet = None
    if trainee.task.device.type == "cuda":
        sheet = measure.data_sheet_per_second(torch.cuda.get_device_name())
    for name, way in ways.items():
        line, seconds = lines[name], lines[name].get("seconds")
        if seconds is None:
            line["outcome"] = "it failed in turns with the others"
            continue
        line["of_official"] = seconds / official if official else None
        line["answers_a_second"] = len(trainee.examples) / seconds
        tokens = way.num_tokens() if isinstance(way, Theirs) else tokens_of(way)
        line["tokens_a_second"] = sum(tokens) / seconds
        work, _ = measure.attempt(way.work)
        if work:
            line["flops"] = work
            line["mfu"] = work / seconds / peak
            line["mfu_sheet"] = work / seconds / sheet if sheet else None


def tokens_of(way: Ours) -> tuple[int, int]:
    assert way.stats is not None, "a step has been taken"
    return way.stats.teacher_tokens, way.stats.student_tokens


def conclude(report: Report, lines: dict[str, dict[str, Any]]) -> None:
    """Add headlines and problems."""
    for name in (ONLINE, CACHED):
        line = lines[name]
        if "seconds" not in line:
            report.problem(f"{name}: {line['outcome']}")
            continue
        share = f", {line['of_official']:.2f} of the recipe's time" if line["of_official"] else ""
        report.headline(f"{name}: MFU {100 * line['mfu']:.0f} %{share}")
    online, cached = lines[ONLINE].get("loss"), lines[CACHED].get("loss")
    full = lines[OFFICIAL].get("loss")
    if online and cached and abs(online - cached) > 0.02 * abs(online):
        report.problem(f"the cached teacher's loss is {cached:.4f}, the online one's {online:.4f}")
    if online and full and not LEAST_OF_FULL * full <= online <= MOST_OF_FULL * full:
        report.problem(f"the loss is {online:.4f}, with all logits {full:.4f}")
