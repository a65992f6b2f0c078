"""The long parts of the page: recall by document, what was asked, all answers side by side."""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import groupby
from typing import Any

from pdtrain.reporting.summary import SHOWN, Coverage, Findings
from pdtrain.reporting.svg import dots, interval_bar, strip

MOST_DOCUMENTS = 200  # a page with more is slow to open on a phone
MOST_SENTENCES = 50  # listed without a question, of one document
LABELS = {
    "base_closed_book": "base",
    "teacher_open_book": "teacher",
    "base_rag": "base + search",
    "adapter_closed_book": "adapter",
    "adapter_rag": "adapter + search",
    "base_dense_rag": "base + dense search",
    "adapter_dense_rag": "adapter + dense search",
    "unrelated_text": "unrelated text",
    "unrelated_questions": "unrelated questions",
}
FILTERS = {  # id: label, what it hides
    "all": ("all", ""),
    "right": ("adapter right", ".adapter-wrong"),
    "wrong": ("adapter wrong", ".adapter-right"),
    "missed": ("teacher right, adapter wrong", ".adapter-right,.teacher-wrong"),
}
SELECTED = "{background:var(--ink);color:var(--paper);border-color:var(--ink)}"


def css_of(row: str) -> str:
    """CSS class of a row of the table: who answers."""
    return row.split("_")[0] + (" faint" if row.endswith("rag") else "")


def rounds_section(rounds: dict[str, Any] | None) -> str:
    """Recovery by round, and recall by passage from the first round to the last."""
    if not rounds or not rounds["rounds"]:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{_round_name(r["round"], rounds["best"])}</th>'
        f"<td>{_bar(r['recovery'])}</td>"
        f'<td class="num"><b>{r["recovery"]:.2f}</b> <span>{r["missed"]:,} missed, '
        f"{r['new_questions']:,} new questions</span></td></tr>"
        for r in rounds["rounds"]
    )
    asked = [p for p in rounds["passages"] if p["asked"]]
    asked.sort(key=lambda p: (p["known"][rounds["best"]] / p["asked"], p["document"]))
    passages = "".join(
        f'<tr><th scope="row">{escape(p["title"])} <span>{escape(p["document"])}</span></th>'
        f'<td class="num">{" → ".join(map(str, p["known"]))} of {p["asked"]}</td></tr>'
        for p in asked[:MOST_DOCUMENTS]
    )
    facts = rounds["facts"]
    return (
        "<section><h2>Rounds</h2>"
        f"<p>{facts['quizzed']:,} facts were quizzed, each with a question that was never trained "
        f"on; {facts['missed_by_teacher']:,} that the teacher misses do not count, and "
        f"{facts['unquizzed']:,} had no such question. They ended because "
        f"{escape(rounds['stopped'])}.</p><table><caption><b>Recovery</b> share of the facts known "
        f"to the teacher that the student knows</caption><tbody>{lines}</tbody></table>"
        "<details><summary>Recall by passage, from round to round, weakest first</summary>"
        f'<table class="kinds"><tbody>{passages}</tbody></table></details>'
        f"{_more(len(asked) - MOST_DOCUMENTS, 'passages')}</section>"
    )


def _bar(share: float) -> str:
    return interval_bar(share, share, share, (0.0, 1.0), "adapter")


def _round_name(number: int, best: int) -> str:
    name = f"round {number}" if number else "training alone"
    return f"<b>{name}</b>, the best" if number == best else name


def ages_section(findings: Findings) -> str:
    """What was learnt now beside what the adapter had brought along."""
    rows = []
    for row in SHOWN:
        for age, table in findings.by_age.items():
            if row in table:
                s = table[row]["gold_in_answer"]
                rows.append(
                    f'<tr><th scope="row">{LABELS[row]}, {escape(age)} <span>{s.n}</span></th>'
                    f"<td>{interval_bar(s.value, s.low, s.high, (0.0, 1.0), css_of(row))}</td>"
                    f'<td class="num"><b>{s.value:.2f}</b> '
                    f"<span>{s.low:.2f} to {s.high:.2f}</span></td></tr>"
                )
    if not rows:
        return ""
    return (
        "<section><h2>Old and new documents</h2><table><caption><b>Gold in answer</b> where a "
        "document has passages that the adapter it started from had not learnt (new), and where "
        "it has none (old); the small number is how many questions were asked</caption>"
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def documents_section(findings: Findings) -> str:
    documents = findings.documents
    if not documents:
        return ""
    rows = []
    for name, means, n in documents[:MOST_DOCUMENTS]:
        marks = [(means[row], css_of(row), LABELS[row]) for row in SHOWN]
        numbers = " ".join(
            f'<span class="{css_of(row)} ink">{100 * means[row]:.0f}</span>' for row in SHOWN
        )
        rows.append(
            f'<tr><th scope="row">{escape(name) or "(document not named)"} <span>{n}</span></th>'
            f'<td>{dots(marks)}</td><td class="num three">{numbers}</td></tr>'
        )
    legend = "".join(f'<span class="key {css_of(row)}">{LABELS[row]}</span>' for row in SHOWN)
    more = len(documents) - MOST_DOCUMENTS
    return (
        "<section><h2>Recall by document</h2>"
        f'<p class="small">Questions answered, in percent, weakest adapter first; the small '
        f"number is how many were asked. {legend}</p>"
        f'<table class="recall"><tbody>{"".join(rows)}</tbody></table>{_more(more)}</section>'
    )


def _more(left_out: int, what: str = "documents") -> str:
    return f'<p class="small">{left_out:,} more {what} are not shown.</p>' if left_out > 0 else ""


def coverage_section(documents: list[Coverage]) -> str:
    if not documents:
        return ""
    sentences = sum(len(c.sentences) for c in documents)
    covered = sum(c.num_covered for c in documents)
    about = sum(sum(c.per_sentence) for c in documents)
    unanswered = sum(c.num_unanswered for c in documents)
    kinds: Counter[str] = sum((c.kinds for c in documents), Counter())
    answered: Counter[str] = sum((c.answer_kinds for c in documents), Counter())
    most = max((count for c in documents for count in c.per_sentence), default=0)
    bars = "".join(
        f'<tr><th scope="row">{escape(kind)}</th><td>'
        f"{interval_bar(n, n, n, (0.0, kinds.most_common(1)[0][1]), 'adapter')}</td>"
        f'<td class="num">{n:,}</td><td class="num">{answered[kind]:,}</td></tr>'
        for kind, n in kinds.most_common()
    )
    ordered = sorted(
        documents, key=lambda c: (c.num_covered / max(len(c.sentences), 1), c.document)
    )
    shown = "".join(_of_document(c, most) for c in ordered[:MOST_DOCUMENTS])
    return (
        "<section><h2>What was asked in training</h2>"
        f"<p>{kinds.total():,} generated questions, {about:,} of them each about one of the "
        f"{sentences:,} sentences: {about / max(sentences, 1):.1f} a sentence. "
        f"{covered:,} sentences have at least one; {unanswered:,} have no answer.</p>"
        "<details><summary>Kinds of questions, and how many answers were kept</summary>"
        f'<table class="kinds"><tbody>{bars}</tbody></table></details>'
        '<p class="small">One cell a sentence, darker with more questions; an outlined cell has '
        "none. Least covered document first.</p>"
        f'<div class="pair tight">{shown}</div>{_more(len(ordered) - MOST_DOCUMENTS)}</section>'
    )


def _of_document(coverage: Coverage, most: int) -> str:
    none = [
        sentence
        for sentence, count in zip(coverage.sentences, coverage.per_sentence, strict=True)
        if not count
    ]
    rate = sum(coverage.per_sentence) / max(len(coverage.sentences), 1)
    kinds = ", ".join(f"{escape(kind)} {n:,}" for kind, n in coverage.kinds.most_common())
    missing = "".join(f"<li>{escape(sentence)}</li>" for sentence in none[:MOST_SENTENCES])
    if len(none) > MOST_SENTENCES:
        missing += f"<li>and {len(none) - MOST_SENTENCES:,} more</li>"
    return (
        f'<details class="document"><summary><b>{escape(coverage.title)}</b> '
        f"<span>{coverage.num_covered:,} of {len(coverage.sentences):,} sentences, {rate:.1f} "
        f"questions each</span>{strip(coverage.per_sentence, most)}</summary>"
        f"<p>{escape(coverage.document)}: {coverage.num_questions:,} questions, "
        f"{coverage.num_answers:,} answers kept. {kinds}.</p>"
        + (f"<p>No question is about:</p><ul>{missing}</ul>" if none else "")
        + "</details>"
    )


def answers_section(findings: Findings) -> str:
    if not findings.predictions:
        return ""
    by_id = {
        row: {line["id"]: line for line in lines} for row, lines in findings.predictions.items()
    }
    cards: list[tuple[str, str, set[str]]] = []
    lines = findings.predictions[SHOWN[2]]
    order = {document: i for i, document in enumerate(dict.fromkeys(x["document"] for x in lines))}
    for line in sorted(lines, key=lambda line: order[line["document"]]):
        given = {row: by_id[row][line["id"]] for row in SHOWN if line["id"] in by_id[row]}
        cards.append((line["document"], *_card(line, given)))
    inputs, labels = [], []
    for key, (label, hides) in FILTERS.items():
        hidden = {css.lstrip(".") for css in hides.split(",") if css}
        count = sum(not (marks & hidden) for _, _, marks in cards)
        checked = " checked" if key == "all" else ""
        inputs.append(f'<input type="radio" name="show" id="show-{key}"{checked}>')
        labels.append(f'<label for="show-{key}">{label} <span>{count}</span></label>')
    groups = "".join(
        f"<div class=group><h3>{escape(document) or '(document not named)'}</h3>"
        f"{''.join(card for _, card, _ in group)}</div>"
        for document, group in groupby(cards, key=lambda card: card[0])
    )
    return (
        '<section class="filtered"><h2>Answers, side by side</h2>'
        f"{''.join(inputs)}<nav>{''.join(labels)}</nav>{groups}</section>"
    )


def _card(line: dict[str, Any], given: dict[str, dict[str, Any]]) -> tuple[str, set[str]]:
    """One question with who answered what; its marks, which the filters go by."""
    marks, cells = set(), []
    for row, answer in given.items():
        who, right = row.split("_")[0], answer["gold_in_answer"] > 0
        marks.add(f"{who}-{'right' if right else 'wrong'}")
        cells.append(
            f'<div class="{who}"><dt>{LABELS[row]} '
            f'<span class="{"yes" if right else "no"}">{"✓ right" if right else "✗ wrong"}</span>'
            f"</dt><dd>{escape(answer['prediction']) or '<i>nothing</i>'}</dd></div>"
        )
    gold = " <i>or</i> ".join(escape(answer) for answer in line["answers"])
    card = (
        f'<article class="{" ".join(sorted(marks))}"><h4>{escape(line["question"])}</h4>'
        f'<p class="gold">{gold}</p><dl>{"".join(cells)}</dl></article>'
    )
    return card, marks


def filter_rules() -> str:
    """What each filter hides, and a document's heading when all below it is hidden."""
    rules = [f"#show-all:checked~nav label[for=show-all]{SELECTED}"]
    for key, (_, hides) in FILTERS.items():
        if hides:
            chosen = f"#show-{key}:checked"
            rules.append(f"{chosen}~nav label[for=show-{key}]{SELECTED}")
            rules.append(f"{chosen}~.group article:is({hides}){{display:none}}")
            rules.append(f"{chosen}~.group:not(:has(article:not({hides}))){{display:none}}")
    return "\n".join(rules)
