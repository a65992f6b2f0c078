"""Prove every way of attending to packed rows, and time it on the layouts of real micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from gpu_hour import measure, model, training
from gpu_hour.report import Column, Report, Task
from torch import Tensor

from pdtrain.distillation import packing
from pdtrain.models import flops
from pdtrain.models.attention import choice
from pdtrain.models.attention.backends import BACKENDS
from pdtrain.models.attention.choice import Heads
from pdtrain.models.attention.packed import Layout

WINDOW = 512
ROUNDS, TOY_ROUNDS = 20, 1
LONG = model.Lengths(passage=2048)


@dataclass(frozen=True)
class Case:
    """Name a layout, and say whether backward runs too: the teacher's never does."""

    name: str
    layout: Layout
    with_backward: bool


def run(task: Task, report: Report) -> None:
    """Prove first; time what was proved."""
    shapes = {"toy": "toy"} if task.is_dry else {"8B": "8B", "1B": "1B"}
    kinds = {
        f"{name}{f', window {window}' if window else ''}": training.heads_of(s, task.dtype, window)
        for name, s in shapes.items()
        for window in (None, WINDOW)
    }
    proved = prove(task, report, kinds)
    table = report.table(
        "Time on real layouts",
        [
            Column("heads", "heads"),
            Column("layout", "layout"),
            Column("tokens", "tokens", "int"),
            Column("way", "way"),
            Column("seconds", "ms", "ms"),
            Column("least", "least", "ms"),
            Column("most", "most", "ms"),
            Column("tflops", "TFLOP/s", "tflops"),
            Column("extra_bytes", "extra MB", "mb"),
            Column("outcome", "not measured because"),
        ],
        "One layer. The teacher's layouts are read forward, the student's forward and backward. "
        "'On 4 of 272' is on four passages of 272 tokens. TFLOP/s counts the pairs of tokens that "
        "see one another, and nothing else.",
    )
    cases = layouts(task)
    plain = [name for name, heads in kinds.items() if heads.window is None]
    for number, name in enumerate(plain):
        for place, case in enumerate(cases):
            left = len(cases) * (len(plain) - number) - place
            lines = timed(task, kinds[name], case, proved[name], task.seconds_left() / left)
            for line in lines:
                table.add(heads=name, layout=case.name, tokens=tokens(case.layout), **line)


def prove(task: Task, report: Report, kinds: dict[str, Heads]) -> dict[str, list[str]]:
    """Write the table of proofs; return which ways work, by kind of heads."""
    table = report.table(
        "Proofs",
        [
            Column("heads", "heads"),
            Column("way", "way"),
            Column("disagreement", "disagreement", "error"),
            Column("allowed", "allowed", "error"),
            Column("outcome", "cannot be used because"),
        ],
        "The largest difference to plain matrix products in fp32, output and gradients, of the "
        "largest value.",
    )
    proved: dict[str, list[str]] = {}
    for name, heads in kinds.items():
        proved[name] = []
        for way, attend in BACKENDS.items():
            reason = choice.obstacle(way, task.device, heads)
            wrong, failed = (
                (None, "")
                if reason
                else measure.attempt(lambda a=attend, h=heads: disagreement(task, a, h))
            )
            allowed = choice.TOLERANCE[heads.dtype]
            outcome = reason or failed
            if wrong is not None and not wrong <= allowed:
                outcome = f"its numbers are off by {wrong:.1e}"
            table.add(heads=name, way=way, disagreement=wrong, allowed=allowed, outcome=outcome)
            if not outcome:
                proved[name].append(way)
            elif way == "packed" or outcome.startswith(("its numbers", "it failed")):
                report.problem(f"{way} with the heads of {name}: {outcome}")
        chosen = choice.choose("auto", task.device, heads)
        auto = next(way for way, attend in BACKENDS.items() if attend is chosen)
        report.headline(f"auto takes {auto} for {name}")
    return proved


def disagreement(task: Task, attend: Any, heads: Heads) -> float:
    return choice.disagreement(attend, task.device, heads)


def layouts(task: Task) -> list[Case]:
    """Return the layouts of a teacher's and a student's micro-batch, and of long passages."""
    cpu = torch.device("cpu")
    sizes = training.TOY if task.is_dry else training.Sizes()
    shape = "toy" if task.is_dry else "8B"
    usual = model.examples(shape, sizes.num_passages, sizes.per_passage, sizes.lengths)
    usual = packing.in_order(usual)
    each = f"{len(usual)} answers on {sizes.num_passages} of {sizes.lengths.passage}"
    found = [
        Case(f"teacher, {each}", packing.teacher_side(usual, cpu).layout, False),
        Case(f"student, {len(usual)} answers", packing.student_side(usual, cpu).layout, True),
    ]
    if not task.is_dry:
        long = packing.in_order(model.examples(shape, 4, 16, LONG))
        side = packing.teacher_side(long, cpu)
        found.append(Case(f"teacher, 64 answers on 4 of {LONG.passage}", side.layout, False))
    return found


def timed(
    task: Task, heads: Heads, case: Case, ways: list[str], seconds: float
) -> list[dict[str, Any]]:
    """Return a line for every way that was proved."""
    given = inputs(task, heads, tokens(case.layout))
    works: dict[str, Callable[[], Any]] = {}
    lines: dict[str, dict[str, Any]] = {}
    for way in ways:
        work = _work(BACKENDS[way], heads, case, given)
        _, reason = measure.attempt(work)  # compiles, and shows whether it fits
        extra, more = (None, "") if reason else measure.attempt(lambda w=work: peak(task, w))
        lines[way] = {"way": way, "extra_bytes": extra, "outcome": reason or more}
        if not lines[way]["outcome"]:
            works[way] = work
    rounds = TOY_ROUNDS if task.is_dry else ROUNDS
    times = measure.interleaved(works, task.device, rounds, max(1.0, seconds))
    # 4 a pair of tokens, head and its number of dimensions; backward makes the scores again
    pairs = flops.reading(case.layout).pairs
    work_done = 4 * pairs * heads.query * heads.size * (3.5 if case.with_backward else 1)
    for way in works.keys() - times.keys():
        lines[way]["outcome"] = "it failed in turns with the others"
    for way, taken in times.items():
        lines[way] |= measure.spread(taken)
        lines[way]["tflops"] = work_done / lines[way]["seconds"]
    return list(lines.values())


def peak(task: Task, work: Callable[[], Any]) -> int | None:
    return measure.peak_bytes(work, task.device)


def _work(attend: Any, heads: Heads, case: Case, given: list[Tensor]) -> Callable[[], Any]:
    query, key, value, upstream = given
    scale = heads.size**-0.5

    def forward() -> Tensor:
        with torch.no_grad():
            return attend(query, key, value, scale, heads.window, case.layout)

    def both() -> tuple[Tensor, ...]:
        sides = [x.detach().requires_grad_() for x in (query, key, value)]
        out = attend(*sides, scale, heads.window, case.layout)
        return torch.autograd.grad(out, sides, upstream)

    return both if case.with_backward else forward


def inputs(task: Task, heads: Heads, length: int) -> list[Tensor]:
    """Return random queries, keys, values and the gradient of the output."""
    noise = torch.Generator(task.device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=noise, device=task.device).to(heads.dtype)

    query = draw(1, heads.query, length, heads.size)
    key, value = (draw(1, heads.keys, length, heads.size) for _ in range(2))
    return [query, key, value, draw(1, length, heads.query, heads.size)]


def tokens(layout: Layout) -> int:
    return sum(group.prefix + sum(group.branches) for group in layout)
