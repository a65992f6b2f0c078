"""Compare questions planned by coverage with blind ones: `benchmarks/knowledge.py --budgets`.

Both plans are cut to the same number of answer tokens (`train.answer_tokens`) and trained alike. A
planned question knows its sentence, which can check its answer or be it (`answers.grounded`,
`quote`, `spans`). With these three off, the answers of both plans are samples, and the plans differ
in their questions alone.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import comparison
from knowledge_plot import GAP, LEFT, STYLE, WIDTH
from knowledge_table import cell

from pdtrain.evaluation.grading.metrics import METRICS
from pdtrain.evaluation.scores import markdown_table
from pdtrain.evaluation.systems import ADAPTER, BASE, TEACHER, System
from pdtrain.records import Score
from pdtrain.reporting.svg import ticks
from pdtrain.run_folder import RunFolder
from pdtrain.storage import read_json

PLANS = {"coverage": "planned by coverage", "blind": "blind"}
SHOWN = ("gold_log_likelihood", "gold_in_answer")
Runs = dict[tuple[str, int], list[Path]]  # by plan and budget; a folder a seed


def tokens_trained(folder: Path) -> int:
    """Return the number of answer tokens that one epoch trained on."""
    steps = [line for line in RunFolder(folder).metrics() if "train/answer_tokens" in line]
    epochs = round(steps[-1]["train/epoch"])
    return round(sum(step["train/answer_tokens"] for step in steps) / epochs)


def page(runs: Runs, heading: str) -> str:
    cells = [["questions", "budget", "answer tokens", "answers", *SHOWN]]
    cells[0] += [f"recovered {metric}" for metric in SHOWN]
    for (plan, budget), folders in runs.items():
        tokens = [str(tokens_trained(folder)) for folder in folders]
        answers = [str(_num_answers(folder)) for folder in folders]
        scores = [comparison.mean(_read(folders, metric)) for metric in SHOWN]
        scores += [_recovered(folders, metric) for metric in SHOWN]
        line = [PLANS[plan], str(budget), " ".join(tokens), " ".join(answers)]
        cells.append([*line, *map(cell, scores)])
    budgets = sorted({budget for _, budget in runs})
    apart = [["budget", *SHOWN]]
    for budget in budgets:
        found = [
            comparison.difference(*(_read(runs[plan, budget], metric) for plan in PLANS))
            for metric in SHOWN
        ]
        apart.append([str(budget), *map(cell, found)])
    return "\n\n".join(
        [
            heading,
            "A budget is of answer tokens, drawn at random from all that the plan's answers have; "
            "epochs and batch are the same, so that both plans are trained on as much. Closed "
            "book; 95 % intervals by a bootstrap over seeds and questions together. Recovered: "
            "(adapter − base) / (teacher − base).",
            markdown_table(cells),
            "Planned by coverage − blind, of the same questions:",
            markdown_table(apart),
        ]
    )


def _num_answers(folder: Path) -> int:
    return int(read_json(folder / "adapter" / "manifest.json")["num_answers"])


def _read(folders: list[Path], metric: str, system: System = ADAPTER) -> comparison.Sample:
    return comparison.read(folders, system.name, metric)


def _recovered(folders: list[Path], metric: str) -> Score:
    base, teacher = (_read(folders[:1], metric, system) for system in (BASE, TEACHER))
    return comparison.recovered(_read(folders, metric), base, teacher)


HEIGHT, TOP = 240, 40
COLOURS = {"coverage": "#2a6f97", "blind": "#b5651d"}


def svg(runs: Runs) -> str:
    """Draw what each plan recovers at each budget: a panel for each metric, with intervals."""
    width, left = LEFT // 4 + len(SHOWN) * (WIDTH + GAP), LEFT // 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 70}" '
        f'width="{width}" height="{HEIGHT + 70}"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{HEIGHT + 70}" fill="#fff"/>'
    ]
    for number, metric in enumerate(SHOWN):
        parts.append(_panel(left + number * (WIDTH + GAP), metric, runs))
    for number, (plan, label) in enumerate(PLANS.items()):
        x = left + number * 180
        parts.append(f'<circle cx="{x + 4}" cy="{HEIGHT + 58}" r="4" fill="{COLOURS[plan]}"/>')
        parts.append(f'<text x="{x + 14}" y="{HEIGHT + 62}">{escape(label)}</text>')
    return "".join([*parts, "</svg>\n"])


def _panel(left: int, metric: str, runs: Runs) -> str:
    scores = {key: _recovered(folders, metric) for key, folders in runs.items()}
    low = min(0.0, *(score.low for score in scores.values()))
    high = max(score.high for score in scores.values())
    most = max(budget for _, budget in runs)

    def x(budget: float) -> float:
        return left + WIDTH * budget / most

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP) * (high - value) / ((high - low) or 1.0)

    parts = [f'<text x="{left}" y="18">recovered {escape(METRICS[metric].label.lower())}</text>']
    for tick in ticks(low, high):
        parts.append(f'<path class="grid" d="M{left} {y(tick):.1f}H{left + WIDTH}"/>')
        parts.append(f'<text class="small" x="{left - 6}" y="{y(tick) + 3:.1f}" ')
        parts.append(f'text-anchor="end">{tick:g}</text>')
    for budget in sorted({budget for _, budget in runs}):
        parts.append(f'<text class="small" x="{x(budget):.1f}" y="{HEIGHT + 16}" ')
        parts.append(f'text-anchor="middle">{budget}</text>')
    parts.append(f'<text class="small" x="{left}" y="{HEIGHT + 34}">answer tokens</text>')
    for plan, colour in COLOURS.items():
        own = sorted((b, score) for (p, b), score in scores.items() if p == plan)
        line = " ".join(f"{x(b):.1f},{y(score.value):.1f}" for b, score in own)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for b, score in own:
            parts.append(f'<path d="M{x(b):.1f} {y(score.low):.1f}V{y(score.high):.1f}" ')
            parts.append(f'stroke="{colour}" stroke-width="1.5" opacity="0.5"/>')
            parts.append(f'<circle cx="{x(b):.1f}" cy="{y(score.value):.1f}" r="4" ')
            parts.append(f'fill="{colour}"/>')
    return "".join(parts)
