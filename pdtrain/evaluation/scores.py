"""Print the tables of an evaluation as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from pdtrain.evaluation.metrics import METRICS, RECOVERED, recovered
from pdtrain.evaluation.systems import Measured
from pdtrain.records import Score
from pdtrain.run_folder import Scores


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
