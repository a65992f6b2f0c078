"""The page of `benchmarks/knowledge.py`: scores, what was recovered, forgetting, differences."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import comparison
from comparison import Sample
from knowledge_plot import svg

from pdtrain.evaluation.scores import METRICS, markdown_table, read_predictions
from pdtrain.records import Score

METHODS = {  # in the order in which they are trained: each takes the teacher of those before it
    "distillation": "prompt distillation",
    "labels": "prompt distillation with labels",
    "held": "prompt distillation, held to its base",
    "labels_held": "prompt distillation with labels, held to its base",
    "sft": "SFT on the same answers",
    "raw_text": "raw-text training",
}
HELD = {"held": "distillation", "labels_held": "labels"}  # each beside the same, not held
BASE_ROWS = {
    "base_closed_book": "base, closed book",
    "teacher_open_book": "base, open book (the teacher)",
    "base_rag": "base + BM25",
    "base_dense_rag": "base + dense retrieval",
}
ADAPTER_ROWS = {
    "adapter_closed_book": "",
    "adapter_rag": " + BM25",
    "adapter_dense_rag": " + dense retrieval",
}
RECOVERED = ("gold_in_answer", "gold_log_likelihood")
Folders = dict[str, list[Path]]


def page(folders: Folders, minutes: dict[str, float], command: list[str]) -> str:
    rows = _rows(folders)
    num_seeds = max(map(len, folders.values()))
    n = comparison.read(*rows["base, closed book"], METRICS[0]).values_SQ.shape[1]
    parts = [
        heading("Knowledge: ways to bring documents into a model", command),
        f"{n} held-out questions, {num_seeds} seeds. Intervals: 95 %, bootstrap over seeds and "
        "questions together; with three seeds a third of the seeds' variance is missing from them, "
        "as from any bootstrap of three. Rows without an adapter have no seed.",
        _scores(rows),
        "Recovered: (row − base) / (teacher − base).",
        "## Forgetting",
        _forgetting(folders),
        "KL(base ‖ adapter), nats per token, and perplexity before and after.",
        "## Differences of the same questions",
        _differences(rows),
        minutes_table(minutes),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(folders: Folders) -> dict[str, tuple[list[Path], str]]:
    """By label: the runs and the row of theirs that it stands for."""
    first = next(iter(folders.values()))[:1]
    found = {}
    for row, label in BASE_ROWS.items():
        if (first[0] / "scores" / f"{row}.jsonl").exists():
            found[label] = (first, row)
    for row, suffix in ADAPTER_ROWS.items():
        for method in reversed(METHODS):
            runs = folders.get(method, [])
            if runs and (runs[0] / "scores" / f"{row}.jsonl").exists():
                found[METHODS[method] + suffix] = (runs, row)
    return found


def _scores(rows: dict[str, tuple[list[Path], str]]) -> str:
    metrics = [*METRICS, *(["judged"] if _are_judged(rows) else [])]
    cells = [["", *metrics, *(f"recovered {metric}" for metric in RECOVERED)]]
    for label, place in rows.items():
        samples = {metric: comparison.read(*place, metric) for metric in metrics}
        shares = []
        for metric in RECOVERED:
            base, teacher = (
                comparison.read(*rows[BASE_ROWS[row]], metric)
                for row in ("base_closed_book", "teacher_open_book")
            )
            shares.append(comparison.recovered(samples[metric], base, teacher))
        scores = [comparison.mean(sample) for sample in samples.values()]
        cells.append([label, *map(cell, scores), *map(cell, shares)])
    return markdown_table(cells)


def _are_judged(rows: dict[str, tuple[list[Path], str]]) -> bool:
    """Whether another model has graded every answer of every row (`evaluate.judge`)."""
    return all(
        "judged" in line
        for folders, row in rows.values()
        for folder in folders
        for line in read_predictions(folder, row)
    )


def plot(folders: Folders) -> str:
    """The table's two metrics that matter, as an SVG."""
    rows = _rows(folders)
    panels = [
        (title, {label: comparison.mean(comparison.read(*rows[label], m)) for label in rows})
        for m, title in (
            ("gold_log_likelihood", "gold log-likelihood, nats a token"),
            ("gold_in_answer", "gold in answer"),
        )
    ]
    return svg(panels, plain=set(BASE_ROWS.values()))


def _forgetting(folders: Folders) -> str:
    cells = [["", "text", "perplexity of text", "questions", "perplexity of answers"]]
    for method in reversed(METHODS):
        if method not in folders:
            continue
        line = [METHODS[method]]
        for row in ("unrelated_text", "unrelated_questions"):
            kl, before, after = (
                comparison.read(folders[method], row, metric)
                for metric in ("kl_to_base", "base_log_likelihood", "adapter_log_likelihood")
            )
            line += [cell(comparison.mean(kl)), f"{_perplexity(before)} → {_perplexity(after)}"]
        cells.append(line)
    return markdown_table(cells)


def _perplexity(sample: Sample) -> str:
    value = comparison.score([sample], lambda nats: float(2.718281828459045**-nats), 1).value
    return f"{value:.2f}"


def _differences(rows: dict[str, tuple[list[Path], str]]) -> str:
    pd, labels = METHODS["distillation"], METHODS["labels"]
    sft, raw, rag = METHODS["sft"], METHODS["raw_text"], BASE_ROWS["base_rag"]
    pairs = [
        pair
        for ours in (pd, labels)
        for pair in ((ours, sft), (ours, raw), (ours, rag), (f"{ours} + BM25", rag))
    ]
    held = [(METHODS[name], METHODS[other]) for name, other in HELD.items()]
    pairs += [(labels, pd), *held]
    cells = [["", *RECOVERED]]
    for label, other in pairs:
        if label in rows and other in rows:
            found = [
                comparison.difference(
                    comparison.read(*rows[label], metric), comparison.read(*rows[other], metric)
                )
                for metric in RECOVERED
            ]
            cells.append([f"{label} − {other}", *map(cell, found)])
    texts = [markdown_table(cells)]
    for label, other in (*held, (labels, sft)):
        if label in rows and other in rows:
            pair = (label, other)
            found = [
                comparison.ratio(*(comparison.read(rows[x][0], row, "kl_to_base") for x in pair))
                for row in ("unrelated_questions", "unrelated_text")
            ]
            text = f"KL to the base, {label} / {other}: {cell(found[0])} on questions"
            texts.append(f"{text}, {cell(found[1])} on text")
    return "\n\n".join(texts)


def cell(score: Score) -> str:
    if score.value != score.value:
        return "–"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def heading(title: str, command: list[str]) -> str:
    return f"# {title}\n\nCommand: `{' '.join(['python', *command])}`. {_versions()}"


def minutes_table(minutes: dict[str, float]) -> str:
    runs = list(dict.fromkeys(key.split()[0] for key in minutes))
    stages = list(dict.fromkeys(key.split()[1] for key in minutes))
    cells = [["", *stages]]
    for run in runs:
        found = [minutes.get(f"{run} {stage}") for stage in stages]
        cells.append([run, *("" if m is None else f"{m:.1f}" for m in found)])
    return f"## Minutes of each stage\n\n{markdown_table(cells)}"


def _versions() -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    return (
        f"Commit {commit or 'unknown'}, Python {platform.python_version()}, {packages}, "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )
