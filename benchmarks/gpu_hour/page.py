"""Write the page of a first GPU hour from what its parts found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

DASH = "–"


def _rounded(value: float) -> str:
    """Three significant digits, without an exponent."""
    if not value or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 0
    while abs(value) * 10**digits < 99.95 and digits < 6:
        digits += 1
    return f"{value:.{digits}f}"


FORMS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "int": lambda value: f"{value:,.0f}",
    "number": _rounded,
    "score": lambda value: f"{value:.3f}",
    "difference": lambda value: f"{value:+.3f}",
    "ratio": lambda value: f"{value:.2f}",
    "percent": lambda value: f"{100 * value:.0f} %",
    "error": lambda value: f"{value:.1e}",
    "ms": lambda value: _rounded(1e3 * value),
    "seconds": _rounded,
    "mb": lambda value: _rounded(value / 1e6),
    "gib": lambda value: _rounded(value / 2**30),
    "tflops": lambda value: _rounded(value / 1e12),
}
STATUS = {
    "done": "done",
    "wrong": "**wrong**",
    "failed": "**failed**",
    "timed out": "**out of time**",
    "skipped": "skipped",
    "not reached": "not reached",
}
BAD = ("wrong", "failed", "timed out")


def write(hour: dict[str, Any]) -> str:
    """Return the page as Markdown.

    Args:
        hour: `about` (machine, versions, command and so on), `is_dry`, and `parts`: a list of what
            each part found, with `name`, `title`, `status`, `reason`, `seconds`, `limit` and
            `output`.
    """
    about, parts = hour["about"], hour["parts"]
    lines = [f"# First GPU hour: {about['card']}, {about['date']}", ""]
    if hour["is_dry"]:
        lines += [
            "**This is a dry run: every part at toy size on a CPU, to test the program itself. No "
            "figure on this page says anything about a GPU, and none is worth quoting.**",
            "",
        ]
    lines += [f"`{about['command']}`", "", *_table(["", ""], _facts(about)), ""]
    lines += ["## Summary", "", *_summary(parts, with_headlines=not hour["is_dry"]), ""]
    for part in parts:
        lines += _section(part)
    return "\n".join(lines).rstrip() + "\n"


def _facts(about: dict[str, Any]) -> list[list[str]]:
    facts = [
        ["machine", about["machine"]],
        ["GPUs", about["gpus"]],
        ["driver, CUDA of torch", f"{about['driver']}, {about['cuda']}"],
        ["versions", ", ".join(f"{name} {found}" for name, found in about["versions"].items())],
        ["commit", about["commit"]],
        [
            "time",
            f"{about['started']}, {about['seconds'] / 60:.1f} of {about['minutes']:g} minutes",
        ],
        ["raw data", about["raw"]],
    ]
    return [*facts, *[["note", note] for note in about.get("notes", [])]]


def _summary(parts: Sequence[dict[str, Any]], *, with_headlines: bool) -> list[str]:
    rows = []
    for part in parts:
        what = [*part.get("problems", []), *(part.get("headlines", []) if with_headlines else [])]
        if part["status"] not in ("done", "wrong"):
            what.insert(0, part["reason"])
        rows.append(
            [
                f"`{part['name']}`",
                STATUS.get(part["status"], part["status"]),
                f"{part['seconds']:.0f} of {part['limit']:.0f}" if part["limit"] else DASH,
                "; ".join(filter(None, what)) or DASH,
            ]
        )
    return _table(["part", "result", "seconds", "in short"], rows)


def _section(part: dict[str, Any]) -> list[str]:
    lines = [f"## {part['title']}", ""]
    if part["status"] == "skipped":
        return [*lines, f"Skipped: {part['reason']}.", ""]
    if part["status"] == "not reached":
        return [*lines, f"Not reached: {part['reason']}.", ""]
    if part["status"] in ("failed", "timed out"):
        reason = part["reason"].rstrip(".")
        lines += [f"**{reason[0].upper()}{reason[1:]}.** {_partial(part)}", ""]
    lines += [f"- **Wrong:** {problem}" for problem in part.get("problems", [])]
    lines += [""] if part.get("problems") else []
    lines += [f"- {text}" for text in part.get("about", [])]
    lines += [""] if part.get("about") else []
    for table in part.get("tables", []):
        lines += [f"### {table['title']}", ""]
        lines += [table["text"], ""] if table["text"] else []
        lines += [*_records(table), ""]
    lines += [f"- {note}" for note in part.get("notes", [])]
    lines += [""] if part.get("notes") else []
    if part["status"] in ("failed", "timed out") and part.get("output"):
        lines += ["Its last lines:", "", "```text", *map(_harmless, part["output"]), "```", ""]
    return lines


def _partial(part: dict[str, Any]) -> str:
    has_any = any(table["records"] for table in part.get("tables", []))
    return "What it had found until then:" if has_any else "It had found nothing until then."


def _records(table: dict[str, Any]) -> list[str]:
    columns, records = table["columns"], table["records"]
    if not records:
        return ["Nothing was measured."]
    rows = [[_cell(record.get(c["key"]), c["form"]) for c in columns] for record in records]
    kept = [i for i in range(len(columns)) if any(row[i] != DASH for row in rows)]
    return _table([columns[i]["heading"] for i in kept], [[row[i] for i in kept] for row in rows])


def _cell(value: Any, form: str) -> str:
    if value is None or value == "":
        return DASH
    if isinstance(value, str | bool):
        return str(value)
    return FORMS[form](value)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(map(_in_cell, line))} |" for line in lines]


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _harmless(line: str) -> str:
    """Return a line of output that cannot end the block that it stands in."""
    return line.replace("```", "'''")
