"""Write the report of a run: one HTML page and a Markdown file with the same tables."""

from __future__ import annotations

from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.scores import advice, ages_text, markdown_table, table_text
from pdtrain.files.manifests import manifest_of
from pdtrain.progress import say, show_line
from pdtrain.reporting import html
from pdtrain.reporting.markdown import commands_in, escape_markdown
from pdtrain.reporting.summary import (
    COMPARED,
    DocumentCoverage,
    DocumentRecall,
    Summary,
    inputs_hash,
    read_summary,
    total_kinds,
)
from pdtrain.run_folder import RunFolder
from pdtrain.stage import is_current, mark_finished, say_current
from pdtrain.storage import misfits, sums, warn_of_damage, write_atomically

VERSION = 5  # part of the input hash: raise it when the same run would be reported differently


def write(config: RunConfig) -> None:
    """Write `report.html` and `report.md`, and print the table of scores to standard output."""
    run = config.run
    inputs = inputs_hash(config, VERSION)
    if _is_whole(run) and is_current(run.report_folder, inputs):
        say_current("report", run.report_folder)
    else:
        summary = read_summary(config)
        write_atomically(run.report_page, html.render(summary))
        write_atomically(run.report_table, markdown(summary))
        pages = [path.name for path in (run.report_page, run.report_table)]
        mark_finished(run.report_folder, inputs, pages=sums(run.path, pages))
        for note in summary.notes:
            say(f"report: {note}")
    if run.scores_file.exists():
        show_line(table_text(run.scores()))
    else:
        say("report: no scores, so no table; the run was not evaluated")
    say(f"report: {run.report_page}")  # last, below tables that are longer than a screen


def _is_whole(run: RunFolder) -> bool:
    """Tell whether the pages are there as they were written; damage is said."""
    if not (run.report_page.exists() and run.report_table.exists()):
        return False
    found = misfits(run.path, (manifest_of(run.report_folder) or {}).get("pages", {}))
    for name, fault in found.items():
        warn_of_damage(run.path / name, fault, "it is made again")
    return not found


def markdown(summary: Summary) -> str:
    """Return the page's tables as Markdown, without its pictures and the documents' sentences."""
    parts = [f"# {escape_markdown(summary.config.name)}", *map(_note, summary.notes)]
    if summary.scores:
        parts += ["## Scores", table_text(summary.scores)]
        parts += [f"{text}." for text in [advice(summary.scores)] if text]
    if summary.scores_by_age:
        parts += ["## Old and new documents", ages_text(summary.scores_by_age)]
    if summary.predictions:
        parts += ["## Gold in answer by document", _recall(summary.recall)]
    parts += _rounds(summary.rounds)
    if summary.coverage:
        parts += ["## Questions by document", _coverage(summary.coverage)]
        parts += ["## Questions by kind", _kinds(summary.coverage)]
    if summary.sizes:
        sizes = [["what", "how many"], *([name, str(size)] for name, size in summary.sizes.items())]
        parts += ["## Sizes", markdown_table(sizes)]
    return "\n\n".join(parts) + "\n"


def _note(note: str) -> str:
    """Escape a note, but for the commands of ours that it has in backquotes."""
    return "".join(
        f"`{part}`" if is_command else escape_markdown(part)
        for part, is_command in commands_in(note)
    )


def _recall(documents: list[DocumentRecall]) -> str:
    cells = [["document", *COMPARED, "n"]]
    for document in documents:
        shares = [f"{document.gold_in_answer[system]:.2f}" for system in COMPARED]
        name = escape_markdown(document.document) or "(not named)"
        cells.append([name, *shares, str(document.num_questions)])
    return markdown_table(cells)


def _rounds(rounds: dict[str, Any] | None) -> list[str]:
    """Return the recovery of each round and the recall of each passage, where there were rounds."""
    if not rounds or not rounds["rounds"]:
        return []
    keys = ("round", "known", "missed", "new_questions", "new_answers")
    recovery = [["recovery", *(key.replace("_", " ") for key in keys)]]
    for one in rounds["rounds"]:
        recovery.append([f"{one['recovery']:.3f}", *(escape_markdown(str(one[k])) for k in keys)])
    names = [escape_markdown(f"round {one['round']}") for one in rounds["rounds"]]
    recall = [["document", "passage", *names, "asked"]]
    for passage in rounds["passages"]:
        texts = map(escape_markdown, (passage["document"], passage["passage"]))
        numbers = [str(number) for number in (*passage["known"], passage["asked"])]
        recall.append([*texts, *map(escape_markdown, numbers)])
    stopped = escape_markdown(rounds["stopped"])
    end = f"The best is round {rounds['best']}. They ended because {stopped}."
    tables = [markdown_table(recovery), end, "## Recall by passage", markdown_table(recall)]
    return ["## Rounds", *tables]


def _coverage(documents: list[DocumentCoverage]) -> str:
    head = ["document", "sentences", "without a question", "without an answer"]
    cells = [[*head, "questions", "answers"]]
    for document in documents:
        counts = (
            len(document.sentences),
            len(document.sentences) - document.num_covered,
            document.num_unanswered,
            document.num_questions,
            document.num_answers,
        )
        cells.append([escape_markdown(document.document), *map(str, counts)])
    return markdown_table(cells)


def _kinds(documents: list[DocumentCoverage]) -> str:
    questions, answers = total_kinds(documents)
    cells = [["kind", "questions", "answers"]]
    for kind, number in questions.most_common():
        cells.append([escape_markdown(kind), str(number), str(answers[kind])])
    return markdown_table(cells)
