"""Find out which kinds of answers teach what: leave out one after the other.

    python benchmarks/kinds.py configs/quickstart.yaml train.answer_tokens=3000 \\
        evaluate.questions=configs/quickstart/tuning.jsonl evaluate.rag_passages=[1] --seeds 0 1 2

For each seed, questions and answers are made once. An arm leaves out some of the answers, and is
trained on as many answer tokens as every other (`train.answer_tokens`, which an arm must have), as
the config says but not held to its base, so that what the answers themselves do is seen. Each is
evaluated closed book and with retrieval, on questions that settings may be chosen by, and on
passages about other things. The table goes to OUT/kinds.md.

An answer is *checked* where the teacher gave it itself and it holds what the question asks for,
where the question asks for a sentence and gets it, and where the question was made together with
its answer. A sentence that stands in for answers that were dropped is not (`answers.quote=true`),
nor is a phrase (`answers.spans`) where the teacher's own answers to the question were dropped.
Every answer has labels (`loss.labels_for=all`) but in the arm `labels_checked`, so that the arms
differ in one thing from `all`.

What is there already is not made again: the command can be killed and repeated, and two of them
with different `--arms` can share OUT. The table has the arms that are finished for every seed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import comparison
from knowledge import Bench, copy, parser_of, read_config
from knowledge_table import cell, heading

from pdtrain import cli
from pdtrain.config import load
from pdtrain.evaluation.scores import markdown_table
from pdtrain.evaluation.systems import (
    ADAPTER,
    ADAPTER_BM25,
    ADAPTER_READING,
    BASE,
    BASE_BM25,
    BASE_READING,
    UNRELATED_TEXT,
    System,
)
from pdtrain.records import Answer, Question
from pdtrain.run_folder import RunFolder
from pdtrain.stage import output_of
from pdtrain.storage import (
    hash_json,
    read_json,
    write_atomically,
    write_checked,
    write_shards,
)
from pdtrain.synthesis.question_kinds import kind_of

MADE = ("passages", "questions", "answers")
NOT_HELD = ["retain.weight=0", "retain.reading=0"]
COLUMNS: tuple[tuple[str, System, System | None, str], ...] = (
    ("right, closed book", ADAPTER, BASE, "gold_in_answer"),
    ("right, with BM25", ADAPTER_BM25, BASE_BM25, "gold_in_answer"),
    ("right, about other things", ADAPTER_READING, BASE_READING, "gold_in_answer"),
    ("same answer to three, closed book", ADAPTER, BASE, "repeated"),
    ("same answer to three, with BM25", ADAPTER_BM25, BASE_BM25, "repeated"),
    ("finished, with BM25", ADAPTER_BM25, BASE_BM25, "finished"),
    ("gold log-likelihood, closed book", ADAPTER, BASE, "gold_log_likelihood"),
    ("KL to the base on text", UNRELATED_TEXT, None, "kl_to_base"),
)


class One(NamedTuple):
    """Hold an answer with its question."""

    question: Question
    answer: Answer

    @property
    def is_span(self) -> bool:
        """Return whether the answer is the phrase alone that the question was made for."""
        is_phrase = self.answer.text.strip() == self.question.phrase.strip()
        return kind_of(self.question.kind).spanned and is_phrase

    @property
    def is_request(self) -> bool:
        """Return whether a template made the question."""
        return kind_of(self.question.kind).requests is not None


class Arm(NamedTuple):
    """Say what an arm trains on.

    Args:
        text: what it is called in the table.
        is_kept: returns whether it trains on an answer.
        labels_for: which of them have labels, as `loss.labels_for` says it.
    """

    text: str
    is_kept: Callable[[One], bool]
    labels_for: str = "all"


ARMS = {
    "all": Arm("all answers, labels for all", lambda one: True),
    "labels_checked": Arm(
        "labels for checked answers alone", lambda one: True, labels_for="checked"
    ),
    "no_cues": Arm("without cues", lambda one: one.question.kind != "cue"),
    "no_completions": Arm("without completions", lambda one: one.question.kind != "complete"),
    "no_recitals": Arm(
        "without recitals", lambda one: one.question.kind not in ("recital", "name")
    ),
    "no_spans": Arm("without spans", lambda one: not one.is_span),
    "no_quotes": Arm(
        "without sentences in place of dropped answers",
        lambda one: one.answer.checked or one.is_span,
    ),
    "checked": Arm("checked answers alone", lambda one: one.answer.checked),
}


class Kinds(Bench):
    """Make the runs of all arms below one folder."""

    def run_arm(self, arm: str, seed: int) -> Path:
        """Train and evaluate an arm, and return its folder."""
        data, folder = self.folder(seed, "data"), self.folder(seed, arm)
        for stage in MADE:
            self.stage(stage, self.arguments(data, seed, *NOT_HELD))
        copy(data, folder, MADE[:2])
        leave_out(data, folder, ARMS[arm])
        budget = load(self.options.config, self.options.overrides).train.answer_tokens
        tokens = sum(len(answer.token_ids) for answer in RunFolder(folder).answers())
        if tokens < budget:
            sys.exit(f"{arm} has {tokens} answer tokens, {budget} are wanted; lower them")
        labels_for = f"loss.labels_for={ARMS[arm].labels_for}"
        return self.trained(folder, self.arguments(folder, seed, *NOT_HELD, labels_for))


def leave_out(data: Path, folder: Path, arm: Arm) -> None:
    """Write the answers that an arm keeps, as the stage would."""
    kept = [one.answer for one in joined(data) if arm.is_kept(one)]
    shards = write_shards(folder / "answers", [answer.to_json() for answer in kept], 10_000)
    made = output_of(shards)
    about = {"inputs": hash_json(["an arm", made["output"]]), **made}
    write_checked(folder / "answers" / "manifest.json", about)


def joined(data: Path) -> list[One]:
    """Return the answers of a run with their questions."""
    questions = {question.id: question for question in RunFolder(data).questions()}
    return [One(questions[one.question_id], one) for one in RunFolder(data).answers()]


def page(folders: dict[str, list[Path]]) -> str:
    """Return the page as Markdown."""
    cells = [["", "answers", "steps", *(title for title, *_ in COLUMNS)]]
    first = next(iter(folders.values()))
    base = ["base", "", ""]
    base += ["0" if of is None else _mean(first[:1], of, metric) for _, _, of, metric in COLUMNS]
    cells.append(base)
    for arm, runs in folders.items():
        manifests = [read_json(run / "adapter" / "manifest.json") for run in runs]
        steps = [[m for m in RunFolder(run).metrics() if "train/loss" in m] for run in runs]
        line = [
            ARMS[arm].text,
            " ".join(str(one["num_answers"]) for one in manifests),
            " ".join(str(len(one)) for one in steps),
        ]
        line += [_mean(runs, system, metric) for _, system, _, metric in COLUMNS]
        cells.append(line)
    parts = [
        heading("Which kinds of answers teach what", sys.argv),
        f"{max(map(len, folders.values()))} seeds. Intervals: 95 %, bootstrap over seeds and "
        "questions together; with three seeds a third of the seeds' variance is missing from them.",
        markdown_table(cells),
    ]
    others = [arm for arm in folders if arm != "all"]
    if "all" in folders and others:
        apart = [["", *(title for title, *_ in COLUMNS)]]
        for arm in others:
            runs = (folders[arm], folders["all"])
            found = [
                comparison.difference(*(comparison.read(one, of.name, metric) for one in runs))
                for _, of, _, metric in COLUMNS
            ]
            apart.append([ARMS[arm].text, *map(cell, found)])
        parts += ["Less all answers, of the same questions:", markdown_table(apart)]
    return "\n\n".join(parts) + "\n"


def _mean(runs: list[Path], system: System, metric: str) -> str:
    sample = comparison.read(runs, system.name, metric)
    return "" if sample.is_empty else cell(comparison.mean(sample))


def main() -> None:
    parser = parser_of(__doc__, "runs/kinds")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.set_defaults(set=None)
    options = parser.parse_intermixed_args()
    cli._prepare_environment()
    if not read_config(parser, options).train.answer_tokens:
        parser.error("arms are compared at equal answer tokens: give train.answer_tokens=NUMBER")
    bench = Kinds(options)
    for seed in options.seeds:
        for arm in options.arms:
            bench.run_arm(arm, seed)
    folders = {arm: [bench.folder(seed, arm) for seed in options.seeds] for arm in ARMS}
    done = {
        arm: runs
        for arm, runs in folders.items()
        if all((r / "scores.json").exists() for r in runs)
    }
    text = page(done)
    write_atomically(bench.out / "kinds.md", text)
    print(text)


if __name__ == "__main__":
    main()
