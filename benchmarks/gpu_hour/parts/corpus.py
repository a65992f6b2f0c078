"""Run every stage on the bundled corpus, and set its scores beside those of the CPU."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from gpu_hour.processes import ROOT
from gpu_hour.report import Column, Report, Skip, Task

CONFIG = ROOT / "configs" / "quickstart.yaml"
CPU_PAGE = ROOT / "benchmarks" / "results" / "knowledge_quickstart_2-core-cpu_2026-11-27.md"
# system: its line on the CPU's page
SYSTEMS = {
    "base_closed_book": "base, closed book",
    "teacher_open_book": "base, open book (the teacher)",
    "base_rag": "base + BM25",
    "adapter_closed_book": "prompt distillation with labels",
    "adapter_rag": "prompt distillation with labels + BM25",
}
# the CPU's adapters are held to nothing, and are not taught what no document says
AS_ON_THE_CPU = ("retain.weight=0", "questions.per_passage_unanswerable=0")
UNTRAINED = ("base_closed_book", "teacher_open_book", "base_rag")
METRICS = ("gold_in_answer", "token_f1", "gold_log_likelihood")
# of a mean over questions that base and teacher may be off: the CPU computes in fp32, a GPU in bf16
ALLOWED = {"gold_in_answer": 0.06, "token_f1": 0.05, "gold_log_likelihood": 0.15}
TOY = (
    "questions.per_sentence=1",
    "questions.per_sentence_cues=0",
    "questions.sampling.max_new_tokens=4",
    "answers.sampling.max_new_tokens=4",
    "answers.grounded=false",
    "train.epochs=1",
    "train.evaluate_questions=2",
    "evaluate.limit=2",
    "evaluate.max_new_tokens=2",
    "evaluate.bootstrap_samples=20",
)


def run(task: Task, report: Report) -> None:
    """Take the stages one by one, so that those that were done are known if the time is over."""
    from pdtrain.api import STAGES, load_config, run_stage
    from pdtrain.models.base import resolve

    overrides = [
        *AS_ON_THE_CPU,
        f"out_dir={task.folder / 'run'}",
        *(toy(task) if task.is_dry else []),
    ]
    overrides += ["loss.impl=chunked"] if "triton" in task.avoid else []
    config = load_config(CONFIG, *overrides)
    try:
        resolve(config.model)
    except ValueError as error:
        raise Skip(str(error).splitlines()[0]) from None
    table = report.table(
        "Stages",
        [Column("stage", "stage"), Column("seconds", "seconds", "seconds")],
        f"`pdtrain run {CONFIG.relative_to(ROOT)} {' '.join(AS_ON_THE_CPU)}`, stage by stage in "
        "one process."
        if not task.is_dry
        else "A tiny model on one document.",
    )
    started = time.monotonic()
    for stage in STAGES:
        before = time.monotonic()
        found = run_stage(config, stage)
        table.add(stage=stage, seconds=time.monotonic() - before)
    table.add(stage="together", seconds=time.monotonic() - started)
    report.note(f"{count(found.questions())} questions, {count(found.answers())} answers.")
    compare(report, found.scores(), is_dry=task.is_dry)


def count(records: Any) -> int:
    return sum(1 for _ in records)


def toy(task: Task) -> list[str]:
    """Return overrides for a model that has learnt nothing and is asked next to nothing."""
    from gpu_hour.tiny import tiny_model

    documents = CONFIG.with_suffix("") / "documents" / "copper_heron.txt"
    model = tiny_model(task.folder / "model")
    return [f"model.name={model}", f"corpus.documents={documents}", *TOY]


def compare(report: Report, scores: Any, *, is_dry: bool) -> None:
    """Set the scores beside the CPU's, and say where base or teacher differ."""
    cpu = cpu_scores()
    table = report.table(
        "Scores beside the CPU's",
        [
            Column("system", "system"),
            Column("metric", "metric"),
            Column("here", "here", "score"),
            Column("interval", "95 % interval"),
            Column("cpu", "CPU", "score"),
            Column("cpu_interval", "its interval"),
            Column("difference", "difference", "difference"),
        ],
        "Those of a tiny model that has learnt nothing."
        if is_dry
        else f"The CPU's are those of `{CPU_PAGE.relative_to(ROOT)}`, three seeds in fp32. The "
        "lines of the base and the teacher should agree but for rounding; those of the adapter are "
        "of other questions and answers, sampled on this machine.",
    )
    for system in SYSTEMS:
        for metric in METRICS:
            here, there = scores.get(system, {}).get(metric), cpu.get((system, metric))
            if here is None:
                report.problem(f"{system} has no {metric}")
                continue
            line = {
                "system": system,
                "metric": metric,
                "here": here.value,
                "interval": f"{here.low:.3f} to {here.high:.3f}",
            }
            if there and not is_dry:
                off = here.value - there[0]
                interval = f"{there[1]:.3f} to {there[2]:.3f}"
                line |= {"cpu": there[0], "cpu_interval": interval, "difference": off}
                if system in UNTRAINED and abs(off) > ALLOWED[metric]:
                    report.problem(f"{metric} of {system} is {here.value:.3f}, CPU {there[0]:.3f}")
            table.add(**line)
    headline(report, scores)


def headline(report: Report, scores: Any) -> None:
    """Say what the adapter knows closed book, beside its teacher."""
    adapter, teacher = (scores.get(name, {}) for name in ("adapter_closed_book", UNTRAINED[1]))
    if adapter and teacher:
        mine, its = (found["gold_in_answer"].value for found in (adapter, teacher))
        report.headline(f"gold_in_answer {mine:.3f} closed book, its teacher {its:.3f}")


def cpu_scores(page: Path = CPU_PAGE) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return value and interval by system and metric, from the first table of the CPU's page."""
    lines = page.read_text(encoding="utf-8").split("## Three seeds", 1)[-1].splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    headings, names = rows[0], {label: system for system, label in SYSTEMS.items()}
    found = {}
    for row in rows[2:]:
        system = names.get(row[0])
        for metric in METRICS if system and len(row) == len(headings) else ():
            numbers = re.findall(r"-?\d+\.\d+", row[headings.index(metric)])
            found.setdefault((system, metric), tuple(map(float, numbers)))
    return found
