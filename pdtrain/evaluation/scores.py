"""What an evaluation left behind: the table, and every question's prediction with its grades."""

from __future__ import annotations

from pathlib import Path

from pdtrain.evaluation.metrics import recovered
from pdtrain.records import Score
from pdtrain.run_folder import RunFolder

FORGETTING = ("kl_to_base", "base_perplexity", "adapter_perplexity")  # of unrelated rows
BY_AGE = "scores_by_age.json"  # where the adapter went on from another
AGES = ("new", "old")  # documents with passages that the other had not learnt, and the rest
METRICS = ("gold_in_answer", "exact_match", "token_f1", "gold_log_likelihood")


def read_scores(folder: Path) -> dict[str, dict[str, Score]]:
    return RunFolder(folder).scores()


def read_by_age(folder: Path) -> dict[str, dict[str, dict[str, Score]]]:
    return RunFolder(folder).scores_by_age()


def are_stale(folder: Path, adapter: Path) -> bool:
    return RunFolder(folder).are_scores_stale(adapter)


def read_predictions(folder: Path, row: str) -> list[dict]:
    return RunFolder(folder).predictions(row)


def table_text(table: dict[str, dict[str, Score]]) -> str:
    """The result as Markdown tables with 95 % intervals, and what was recovered."""
    asked = {row: scores for row, scores in table.items() if METRICS[0] in scores}
    shares = [(m, recovered(table, m)) for m in ("gold_in_answer", "gold_log_likelihood")]
    lines = [
        f"recovered {metric}, (adapter - base) / (teacher - base): "
        + (f"{share:.2f}" if share is not None else "undefined, the teacher is no better")
        for metric, share in shares
    ]
    parts = [_table(asked, "row"), "\n".join(lines)]
    if unrelated := {row: scores for row, scores in table.items() if FORGETTING[0] in scores}:
        parts += [
            _table(unrelated, "forgetting"),
            "kl_to_base, KL(base ‖ adapter): nats per token, 0 is nothing changed",
        ]
    return "\n\n".join(parts)


def ages_text(by_age: dict[str, dict[str, dict[str, Score]]]) -> str:
    """Each row on new documents and on old ones, one below the other."""
    table = {
        f"{row}, {age}": by_age[age][row]
        for row in dict.fromkeys(row for found in by_age.values() for row in found)
        for age in by_age
        if row in by_age[age]
    }
    return _table(table, "row, documents")


def _table(table: dict[str, dict[str, Score]], head: str) -> str:
    metrics = list(dict.fromkeys(metric for scores in table.values() for metric in scores))
    cells = [[head, *metrics, "n"]]
    for row, scores in table.items():
        values = [_cell(scores.get(metric)) for metric in metrics]
        cells.append([row, *values, str(next(iter(scores.values())).n)])
    return markdown_table(cells)


def _cell(s: Score | None) -> str:
    return f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" if s else ""


def markdown_table(cells: list[list[str]]) -> str:
    """Rows of a table, the first one its heads; columns aligned, to be read as plain text too."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in cells]
    rule = ["-" * width for width in widths]
    return "\n".join(f"| {' | '.join(row)} |" for row in [padded[0], rule, *padded[1:]])
