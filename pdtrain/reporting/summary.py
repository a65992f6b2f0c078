"""What a run folder holds for its report: whatever is there, and a note on what is not."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from pdtrain.config import RunConfig
from pdtrain.evaluation.scores import BY_AGE, are_stale, read_by_age, read_predictions, read_scores
from pdtrain.records import Score
from pdtrain.run_folder import RunFolder
from pdtrain.storage import hash_json, read_json, sha256_file
from pdtrain.synthesis import coverage
from pdtrain.training.metrics_log import read_metrics
from pdtrain.training.recall import FOLDER, SUMMARY, best_adapter, read_rounds

SHOWN = ("base_closed_book", "teacher_open_book", "adapter_closed_book")  # side by side
LEFT = (SUMMARY, "manifest.json")  # by rounds, where there were any
STAGES_READ = ("passages", "questions", "answers", "adapter")


@dataclass
class Coverage:
    """How well the questions, and the answers that were kept, cover one document."""

    document: str
    title: str
    sentences: list[str] = field(default_factory=list)
    per_sentence: list[int] = field(default_factory=list)  # questions about each
    answers_per_sentence: list[int] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)  # of questions
    answer_kinds: Counter[str] = field(default_factory=Counter)
    num_passages: int = 0

    @property
    def num_questions(self) -> int:
        return self.kinds.total()

    @property
    def num_answers(self) -> int:
        return self.answer_kinds.total()

    @property
    def num_unanswered(self) -> int:
        """Sentences that no answer is about: training says nothing of them."""
        return self.answers_per_sentence.count(0)

    @property
    def num_covered(self) -> int:
        return sum(count > 0 for count in self.per_sentence)


@dataclass(frozen=True)
class Findings:
    config: RunConfig
    scores: dict[str, dict[str, Score]] | None
    predictions: dict[str, list[dict]]  # rows of SHOWN, question by question
    metrics: list[dict[str, float]]
    coverage: list[Coverage]
    training: dict  # manifest of the adapter; empty when there is none
    notes: list[str]
    by_age: dict[str, dict[str, dict[str, Score]]]  # empty where there is no start
    rounds: dict | None = None  # what came of them; None where there were none

    def curve(self, name: str) -> list[tuple[float, float]]:
        return [(row["step"], row[name]) for row in self.metrics if name in row]

    @property
    def documents(self) -> list[tuple[str, dict[str, float], int]]:
        """(document, gold_in_answer of each row in SHOWN, questions), weakest adapter first."""
        hits: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row, lines in self.predictions.items():
            for line in lines:
                hits[line["document"]][row].append(line["gold_in_answer"])
        means = [
            (
                name,
                {row: sum(v) / len(v) for row, v in rows.items()},
                len(next(iter(rows.values()))),
            )
            for name, rows in hits.items()
        ]
        return sorted(means, key=lambda m: (m[1].get(SHOWN[2], 0.0), m[0]))

    @property
    def counts(self) -> dict[str, int]:
        """Sizes of the run, by what is counted."""
        sizes = {
            "documents": len(self.coverage),
            "passages": sum(c.num_passages for c in self.coverage),
            "sentences": sum(len(c.sentences) for c in self.coverage),
            "questions": sum(c.num_questions for c in self.coverage),
            "answers": sum(c.num_answers for c in self.coverage),
            "optimizer steps": self.training.get("num_steps", 0),
            "held-out questions": len(self.predictions.get(SHOWN[2], [])),
        }
        return {name: size for name, size in sizes.items() if size}

    @property
    def training_seconds(self) -> float:
        """From the first to the last logged step; pauses of a run that was killed count too."""
        times = [row["unix_seconds"] for row in self.metrics if "unix_seconds" in row]
        return max(times) - min(times) if times else 0.0


def inputs_hash(config: RunConfig, version: int) -> str:
    """All that decides what the report says."""
    folder = config.folder
    files = [
        folder / "scores.json",
        folder / "metrics" / "metrics.jsonl",
        *(folder / "scores" / f"{row}.jsonl" for row in SHOWN),
        *(folder / name / "manifest.json" for name in STAGES_READ),
        *(folder / FOLDER / name for name in LEFT if config.rounds.most),
    ]
    hashes = [sha256_file(path) if path.exists() else None for path in files]
    if (folder / BY_AGE).exists():
        hashes.append(sha256_file(folder / BY_AGE))
    return hash_json([version, config_text(config), hashes])


def config_text(config: RunConfig) -> str:
    """Without the folder: a moved run says the same; and without rounds that are off."""
    text = repr(config).replace(config.out_dir, "")
    return text if config.rounds.most else text.replace(f"rounds={config.rounds!r}, ", "")


def gather(config: RunConfig) -> Findings:
    folder, notes = config.folder, []
    adapter = folder / "adapter" / "manifest.json"
    training = read_json(adapter) if adapter.exists() else {}
    if not training:
        notes.append("There is no trained adapter yet: `pdtrain train CONFIG` makes it.")
    best = best_adapter(config)
    if best is None and training:
        notes.append("The rounds after training are not done: run `pdtrain rounds CONFIG`.")
    rounds = read_rounds(folder) if config.rounds.most and best else None
    scores, predictions = _evaluation(folder, best or folder / "adapter", notes)
    try:
        metrics = read_metrics(folder / "metrics")
    except ValueError as error:  # a kill cut a line; training again from there mends it
        metrics = []
        notes.append(f"The training curves are left out: {error}")
    if not metrics and training:
        notes.append("No metrics were logged, so there are no training curves.")
    return Findings(
        config,
        scores,
        predictions,
        metrics,
        _coverage(folder, notes),
        training,
        notes,
        read_by_age(folder) if scores else {},
        rounds,
    )


def _evaluation(
    folder: Path, adapter: Path, notes: list[str]
) -> tuple[dict[str, dict[str, Score]] | None, dict[str, list[dict]]]:
    if not (folder / "scores.json").exists():
        notes.append(
            "Not evaluated: there is no scores.json. Set evaluate.questions to a file of held-out "
            "questions and run `pdtrain evaluate CONFIG`."
        )
        return None, {}
    if are_stale(folder, adapter):
        notes.append(
            "The scores are those of another adapter than the one that is there now: run "
            "`pdtrain evaluate CONFIG`."
        )
    there = [row for row in SHOWN if (folder / "scores" / f"{row}.jsonl").exists()]
    if len(there) < len(SHOWN):
        notes.append("The answers behind the scores are gone: there is nothing to show of them.")
        return read_scores(folder), {}
    return read_scores(folder), {row: read_predictions(folder, row) for row in SHOWN}


def _coverage(folder: Path, notes: list[str]) -> list[Coverage]:
    """By document, in the order of the passages."""
    if not (folder / "passages" / "manifest.json").exists():
        notes.append("There are no passages yet: `pdtrain passages CONFIG` makes them.")
        return []
    documents: dict[str, Coverage] = {}
    for passage in coverage.read(RunFolder(folder)):
        found = documents.setdefault(passage.document, Coverage(passage.document, passage.title))
        found.num_passages += 1
        found.sentences += passage.sentences
        found.per_sentence += passage.questions.per_sentence
        found.answers_per_sentence += passage.answers.per_sentence
        found.kinds += passage.questions.kinds
        found.answer_kinds += passage.answers.kinds
    return list(documents.values())
