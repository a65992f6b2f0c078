"""Summarise predictions as scores, and print scores as tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.metrics import (
    METRICS,
    RECOVERED,
    answer_metrics,
    forgetting_metrics,
    recovered,
    summarise,
)
from pdtrain.evaluation.systems import Measured, System
from pdtrain.records import Score, seed_for
from pdtrain.run_folder import Scores


def summarise_system(
    config: RunConfig, system: System, among: Set[str] | None = None
) -> dict[str, Score]:
    """Return the metrics of a system whose predictions are written.

    Args:
        among: ids of the questions that count; all of them by default.
    """
    lines = config.run.predictions(system.name)
    if among is not None:
        lines = [line for line in lines if line["id"] in among]
    num_samples = config.evaluate.bootstrap_samples
    if system.measures == "forgetting":
        return forgetting_scores(lines, num_samples, config.seed)
    return {
        metric.name: summarise(
            [float(line[metric.name]) for line in lines],
            num_samples,
            seed_for(config.seed, metric.name),
        )
        for metric in answer_metrics(config.evaluate)
    }


def forgetting_scores(
    lines: Sequence[dict[str, Any]], num_samples: int, seed: int
) -> dict[str, Score]:
    """Return the metrics of forgetting: means over all tokens, with intervals over texts.

    Args:
        lines: what `forgetting.compare` returned, one line a text.
        num_samples: bootstrap samples.
    """
    weights = [line["num_tokens"] for line in lines]

    def mean(name: str) -> Score:
        values = [line[name] for line in lines]
        return summarise(values, num_samples, seed_for(seed, name), weights)

    def perplexity(name: str) -> Score:
        found = mean(name)
        return Score(math.exp(-found.value), math.exp(-found.high), math.exp(-found.low), found.n)

    return {
        metric.name: perplexity(metric.perplexity_of) if metric.perplexity_of else mean(metric.name)
        for metric in forgetting_metrics()
    }


def as_json(table: Scores) -> dict[str, dict[str, dict[str, float]]]:
    """Return a table as it stands in `scores.json`."""
    return {
        system: {metric: asdict(found) for metric, found in scores.items()}
        for system, scores in table.items()
    }


def measuring(table: Scores, measured: Measured) -> Scores:
    """Return the systems of a table that have metrics of answers, or those of forgetting."""
    names = {metric.name for metric in METRICS.values() if metric.measures == measured}
    return {system: scores for system, scores in table.items() if names & scores.keys()}


def table_text(table: Scores) -> str:
    """Return the whole result with 95 % intervals, and what share of the teacher was recovered."""
    shares = [(metric, recovered(table, metric)) for metric in RECOVERED]
    lines = [
        f"recovered {metric}, (adapter - base) / (teacher - base): "
        + (f"{share:.2f}" if share is not None else "undefined, the teacher is no better")
        for metric, share in shares
    ]
    parts = [_table(measuring(table, "answers"), "system"), "\n".join(lines)]
    if unrelated := measuring(table, "forgetting"):
        parts += [_table(unrelated, "forgetting"), f"kl_to_base: {METRICS['kl_to_base'].text}"]
    return "\n\n".join(parts)


def ages_text(by_age: Mapping[str, Scores]) -> str:
    """Return a table with each system on new documents and on old ones, one below the other."""
    table = {
        f"{system}, {age}": by_age[age][system]
        for system in dict.fromkeys(system for found in by_age.values() for system in found)
        for age in by_age
        if system in by_age[age]
    }
    return _table(table, "system, documents")


def _table(table: Scores, head: str) -> str:
    metrics = list(dict.fromkeys(metric for scores in table.values() for metric in scores))
    cells = [[head, *metrics, "n"]]
    for system, scores in table.items():
        values = [_cell(scores.get(metric)) for metric in metrics]
        cells.append([system, *values, str(next(iter(scores.values())).n)])
    return markdown_table(cells)


def _cell(s: Score | None) -> str:
    return f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" if s else ""


def markdown_table(cells: list[list[str]]) -> str:
    """Return a Markdown table whose columns are aligned, so that it reads well as plain text.

    Args:
        cells: the lines of the table, all equally long; the first one holds the headings.
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in cells]
    rule = ["-" * width for width in widths]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])
