"""Findings → one self-contained HTML page: no script, nothing loaded, every text escaped."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import Any

from pdtrain import __version__
from pdtrain.config import RunConfig
from pdtrain.evaluation.metrics import recovered
from pdtrain.records import Score
from pdtrain.reporting.html_details import (
    LABELS,
    ages_section,
    answers_section,
    coverage_section,
    css_of,
    documents_section,
    filter_rules,
    rounds_section,
)
from pdtrain.reporting.stylesheet import CSS
from pdtrain.reporting.summary import SHOWN, Findings
from pdtrain.reporting.svg import Curve, interval_bar, line_chart, smooth

METRIC_TEXTS = {
    "gold_in_answer": ("Gold in answer", "share of answers that contain a gold answer"),
    "exact_match": ("Exact match", "share of answers that are a gold answer"),
    "token_f1": ("Token F1", "overlap of words with the best gold answer"),
    "judged": ("Judged right", "share of answers that another model calls correct"),
    "gold_log_likelihood": (
        "Gold log-likelihood",
        "nats per token of the gold answer; nearer to 0 is better",
    ),
}


def html_page(findings: Findings) -> str:
    name = escape(findings.config.name)
    sections = [
        _headline(findings),
        *(f'<p class="note">{_code(note)}</p>' for note in findings.notes),
        _scores(findings.scores),
        ages_section(findings),
        _forgetting(findings.scores),
        _curves(findings),
        rounds_section(findings.rounds),
        documents_section(findings),
        coverage_section(findings.coverage),
        answers_section(findings),
        _sizes(findings),
        _config(findings.config),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{name}: what the adapter learnt</title>
<style>{CSS}{filter_rules()}</style>
</head>
<body>
<main>
{chr(10).join(section for section in sections if section)}
</main>
<footer>pdtrain {escape(__version__)}</footer>
</body>
</html>
"""


def _code(text: str) -> str:
    """Escaped text whose `quoted` parts are set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}&thinsp;%"


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _headline(findings: Findings) -> str:
    title = f"<h1>{escape(findings.config.name)}</h1>"
    if not findings.scores:
        return f"<header>{title}</header>"
    metric = "gold_in_answer"
    base, teacher, adapter = (findings.scores[row][metric] for row in SHOWN)
    share = recovered(findings.scores, metric)
    share_ll = recovered(findings.scores, "gold_log_likelihood")
    tiles = [
        ("base", _percent(base.value), "base, from memory"),
        ("adapter", _percent(adapter.value), "adapter, from memory"),
        ("teacher", _percent(teacher.value), "teacher, reading the passage"),
        ("", f"{share:.2f}" if share is not None else "–", "of the way recovered"),
    ]
    figures = "".join(
        f'<div class="tile {css}"><b>{value}</b><span>{text}</span></div>'
        for css, value, text in tiles
    )
    likelihood = "" if share_ll is None else f", {share_ll:.2f} by the gold answer’s log-likelihood"
    return (
        f"<header>{title}"
        f"<p>Of {adapter.n} held-out questions about the documents, the adapter answers "
        f"{_percent(adapter.value)} without reading anything. Its base alone answers "
        f"{_percent(base.value)}, and with the right passage in view {_percent(teacher.value)}.</p>"
        f'<div class="tiles">{figures}</div>'
        f'<p class="small">Answered: a gold answer stands in what was said. Recovered: '
        f"(adapter − base) / (teacher − base){likelihood}.</p></header>"
    )


def _scores(scores: dict[str, dict[str, Score]] | None) -> str:
    if not scores:
        return ""
    tables = []
    for metric, (name, text) in METRIC_TEXTS.items():
        found = {row: values[metric] for row, values in scores.items() if metric in values}
        if not found:
            continue
        low = min((score.low for score in found.values()), default=0.0)
        domain = (min(low, 0.0) * 1.02, 0.0) if low < 0 else (0.0, 1.0)
        rows = "".join(
            f'<tr><th scope="row">{LABELS.get(row, escape(row))}</th>'
            f"<td>{interval_bar(s.value, s.low, s.high, domain, css_of(row))}</td>"
            f'<td class="num"><b>{_two(s.value)}</b> '
            f"<span>{_two(s.low)} to {_two(s.high)}</span></td></tr>"
            for row, s in found.items()
        )
        tables.append(
            f"<table><caption><b>{name}</b> {text}</caption><tbody>{rows}</tbody></table>"
        )
    return (
        "<section><h2>Scores</h2>"
        f'<div class="pair">{"".join(tables)}</div>'
        '<p class="small">Thin lines are 95 % bootstrap intervals over questions. '
        "The teacher is the base with the right passage in view, “search” puts there what BM25 "
        "finds, “dense search” what embeddings find, the others answer from memory.</p></section>"
    )


def _forgetting(scores: dict[str, dict[str, Score]] | None) -> str:
    unrelated = {row: s for row, s in (scores or {}).items() if "kl_to_base" in s}
    if not unrelated:
        return ""
    most = max(s["kl_to_base"].high for s in unrelated.values())
    rows = []
    for row, found in unrelated.items():
        kl = found["kl_to_base"]
        before, after = found["base_perplexity"].value, found["adapter_perplexity"].value
        rows.append(
            f'<tr><th scope="row">{LABELS.get(row, escape(row))} <span>{kl.n}</span></th>'
            f"<td>{interval_bar(kl.value, kl.low, kl.high, (0.0, most or 1.0), 'adapter')}</td>"
            f'<td class="num"><b>{kl.value:.3f}</b> <span>{kl.low:.3f} to {kl.high:.3f}</span></td>'
            f'<td class="num">{before:.1f} → {after:.1f}</td></tr>'
        )
    return (
        "<section><h2>Forgetting</h2><table><caption><b>Distance from the base</b> nats per token "
        "on what has nothing to do with the documents; perplexity of base and adapter</caption>"
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def _curves(findings: Findings) -> str:
    if not findings.metrics:
        return ""
    loss, norm = findings.curve("train/loss"), findings.curve("train/grad_norm")
    recall = findings.curve("eval/gold_in_answer")
    teacher = findings.scores["teacher_open_book"]["gold_in_answer"] if findings.scores else None
    reference = (teacher.value, "teacher, on all questions") if teacher else None

    def smoothed(points: list[tuple[float, float]], css: str = "adapter") -> list[Curve]:
        return [Curve(points, f"{css} raw"), Curve(smooth(points), css)]

    charts: list[tuple[str, str, list[Curve], dict[str, Any]]] = [
        ("Loss", "nats per answer token; smoothed over the raw values", smoothed(loss), {}),
        (
            "Gold in answer",
            "from memory, on the held-out questions asked while training",
            [Curve(recall, "adapter", marks=True)],
            {"y_range": (0.0, 1.0), "reference": reference},
        ),
        (
            "Teacher mass",
            "probability that the kept top tokens of the teacher hold",
            smoothed(findings.curve("distillation/teacher_mass"), "teacher"),
            {},
        ),
        ("Gradient norm", "before clipping", smoothed(norm), {}),
        ("Learning rate", "", [Curve(findings.curve("train/learning_rate"), "base")], {}),
        (
            "Speed",
            "student tokens per second",
            smoothed(findings.curve("train/student_tokens_per_second"), "base"),
            {},
        ),
    ]
    figures = "".join(
        f"<figure><figcaption><b>{name}</b> {text}</figcaption>"
        f"{line_chart(curves, name, **options)}</figure>"
        for name, text, curves, options in charts
    )
    return (
        f'<section><h2>Training</h2><div class="trio">{figures}</div>'
        '<p class="small">Horizontal: optimizer steps.</p></section>'
    )


def _sizes(findings: Findings) -> str:
    rows = [(name, f"{size:,}") for name, size in findings.counts.items()]
    if minutes := findings.training_seconds / 60:
        rows.append(("minutes of training", f"{minutes:.1f}"))
    if not rows:
        return ""
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return f'<section><h2>Sizes</h2><dl class="sizes">{cells}</dl></section>'


def _config(config: RunConfig) -> str:
    defaults = flat(asdict(RunConfig()))
    rows = "".join(
        f'<tr{" class=changed" if value != defaults.get(key) else ""}><th scope="row">'
        f"{escape(key)}</th><td>{escape(str(value)) or '–'}</td></tr>"
        for key, value in flat(asdict(config)).items()
    )
    return (
        "<section><h2>Configuration</h2><details><summary>Every key, with what differs from the "
        f'defaults in bold</summary><table class="config"><tbody>{rows}</tbody></table></details>'
        "</section>"
    )


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.epochs": 5} of {"train": {"epochs": 5}}."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
