"""One HTML page and a Markdown table a run: what was learnt, from what, and what was not."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.scores import ages_text, markdown_table, read_scores, table_text
from pdtrain.progress import say
from pdtrain.reporting.html import html_page
from pdtrain.reporting.summary import SHOWN, Coverage, Findings, gather, inputs_hash
from pdtrain.stage import is_current, mark_finished, say_current
from pdtrain.storage import write_atomically

VERSION = 2  # part of the input hash: raise it when the same run would be reported differently


def write(config: RunConfig) -> None:
    """The `report` stage: `report.html` and `report.md`; the table goes to standard output."""
    folder = config.folder / "report"
    pages = {name: config.folder / name for name in ("report.html", "report.md")}
    inputs = inputs_hash(config, VERSION)
    if is_current(folder, inputs) and all(path.exists() for path in pages.values()):
        say_current("report", folder)
    else:
        findings = gather(config)
        write_atomically(pages["report.html"], html_page(findings))
        write_atomically(pages["report.md"], markdown(findings))
        mark_finished(folder, inputs)
        for note in findings.notes:
            say(f"report: {note}")
        say(f"report: {pages['report.html']}")
    if (config.folder / "scores.json").exists():
        print(table_text(read_scores(config.folder)), flush=True)
    else:
        say("report: no scores, so no table; the run was not evaluated")


def markdown(findings: Findings) -> str:
    """The page without its pictures and without the documents' sentences."""
    parts = [f"# {findings.config.name}"]
    parts += findings.notes
    if findings.scores:
        parts += ["## Scores", table_text(findings.scores)]
    if findings.by_age:
        parts += ["## Old and new documents", ages_text(findings.by_age)]
    if findings.predictions:
        cells = [["document", *SHOWN, "n"]]
        for document, means, n in findings.documents:
            values = [f"{means[row]:.2f}" for row in SHOWN]
            cells.append([_cell(document) or "(not named)", *values, str(n)])
        parts += ["## Gold in answer by document", markdown_table(cells)]
    parts += _rounds(findings.rounds)
    if findings.coverage:
        head = ["document", "sentences", "without a question", "without an answer"]
        cells = [[*head, "questions", "answers"]]
        for c in findings.coverage:
            sizes = (len(c.sentences), len(c.sentences) - c.num_covered, c.num_unanswered)
            cells.append([_cell(c.document), *map(str, (*sizes, c.num_questions, c.num_answers))])
        parts += ["## Questions by document", markdown_table(cells)]
        parts += ["## Questions by kind", markdown_table(_by_kind(findings.coverage))]
    if findings.counts:
        sizes_table = [["what", "how many"], *([k, str(v)] for k, v in findings.counts.items())]
        parts += ["## Sizes", markdown_table(sizes_table)]
    return "\n\n".join(parts) + "\n"


def _rounds(rounds: dict[str, Any] | None) -> list[str]:
    """Recovery by round and recall by passage, where there were rounds."""
    if not rounds or not rounds["rounds"]:
        return []
    keys = ("round", "known", "missed", "new_questions", "new_answers")
    cells = [["recovery", *(key.replace("_", " ") for key in keys)]]
    for r in rounds["rounds"]:
        cells.append([f"{r['recovery']:.3f}", *(str(r[key]) for key in keys)])
    names = [f"round {r['round']}" for r in rounds["rounds"]]
    recall = [["document", "passage", *names, "asked"]]
    for p in rounds["passages"]:
        known = map(str, p["known"])
        recall.append([_cell(p["document"]), p["passage"], *known, str(p["asked"])])
    end = f"The best is round {rounds['best']}. They ended because {rounds['stopped']}."
    tables = [markdown_table(cells), end, "## Recall by passage", markdown_table(recall)]
    return ["## Rounds", *tables]


def _by_kind(documents: list[Coverage]) -> list[list[str]]:
    questions: Counter[str] = sum((c.kinds for c in documents), Counter())
    answers: Counter[str] = sum((c.answer_kinds for c in documents), Counter())
    rows = [[_cell(kind), str(n), str(answers[kind])] for kind, n in questions.most_common()]
    return [["kind", "questions", "answers"], *rows]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
