"""Read what a run folder holds for its report, and note what is missing from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.evaluation.systems import ADAPTER, BASE, TEACHER
from pdtrain.files.manifests import is_finished, manifest_of
from pdtrain.files.shapes import METRICS, PREDICTIONS, SHOWN_OF_ROUNDS, expect
from pdtrain.records import Scores
from pdtrain.run_folder import RunFolder
from pdtrain.storage import hash_json, sha256_file, warn_of_damage
from pdtrain.synthesis import coverage

AGAIN = "run `pdtrain evaluate CONFIG` again"
# names of the systems whose answers are shown side by side
COMPARED = tuple(system.name for system in (BASE, TEACHER, ADAPTER))


@dataclass
class DocumentCoverage:
    """Count the questions about one document, and the answers to them that were kept."""

    document: str
    title: str
    sentences: list[str] = field(default_factory=list)
    questions_per_sentence: list[int] = field(default_factory=list)
    answers_per_sentence: list[int] = field(default_factory=list)
    question_kinds: Counter[str] = field(default_factory=Counter)
    answer_kinds: Counter[str] = field(default_factory=Counter)
    num_passages: int = 0

    @property
    def num_questions(self) -> int:
        return self.question_kinds.total()

    @property
    def num_answers(self) -> int:
        return self.answer_kinds.total()

    @property
    def num_covered(self) -> int:
        """Return how many sentences at least one question is about."""
        return sum(count > 0 for count in self.questions_per_sentence)

    @property
    def num_unanswered(self) -> int:
        """Return how many sentences no answer is about: training cannot teach them."""
        return self.answers_per_sentence.count(0)

    @property
    def uncovered(self) -> list[str]:
        """Return the sentences that no question is about."""
        counted = zip(self.sentences, self.questions_per_sentence, strict=True)
        return [sentence for sentence, count in counted if not count]


@dataclass(frozen=True)
class DocumentRecall:
    """Hold how much of one document each compared system knows: shares from 0 to 1."""

    document: str
    gold_in_answer: dict[str, float]  # by system
    num_questions: int


@dataclass(frozen=True)
class Summary:
    """Hold all that a report says of one run.

    Attributes:
        scores: the table of the evaluation; None for a run that was not evaluated.
        predictions: the answers of the compared systems, question by question; empty where they
            are not all there.
        metrics: what training logged, one record a step.
        coverage: the questions and answers of each document, in the order of the passages.
        training: the manifest of the adapter; empty when there is none.
        notes: sentences about what is missing, with commands in backquotes.
        scores_by_age: the scores on new and on old documents; empty for an adapter that was not
            trained on top of another one.
        rounds: what the rounds after training wrote; None where there were none.
    """

    config: RunConfig
    scores: Scores | None
    predictions: dict[str, list[dict[str, Any]]]
    metrics: list[dict[str, float]]
    coverage: list[DocumentCoverage]
    training: dict[str, Any]
    notes: list[str]
    scores_by_age: dict[str, Scores]
    rounds: dict[str, Any] | None = None

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Return the (step, value) points of one logged metric."""
        return [(line["step"], line[name]) for line in self.metrics if name in line]

    @property
    def recall(self) -> list[DocumentRecall]:
        """Return each document's recall, where the adapter is weakest first."""
        hits: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for system, predictions in self.predictions.items():
            for line in predictions:
                if line["gold_in_answer"] is None:  # nothing in the documents answers it
                    continue
                hits[line["document"]][system].append(line["gold_in_answer"])
        documents = [
            DocumentRecall(
                document,
                {system: sum(values) / len(values) for system, values in systems.items()},
                len(next(iter(systems.values()))),
            )
            for document, systems in hits.items()
        ]
        return sorted(
            documents, key=lambda d: (d.gold_in_answer.get(ADAPTER.name, 0.0), d.document)
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Return how many of each thing the run has; what it has none of is left out."""
        sizes = {
            "documents": len(self.coverage),
            "passages": sum(c.num_passages for c in self.coverage),
            "sentences": sum(len(c.sentences) for c in self.coverage),
            "questions": sum(c.num_questions for c in self.coverage),
            "answers": sum(c.num_answers for c in self.coverage),
            "optimizer steps": self.training.get("num_steps", 0),
            "held-out questions": len(self.predictions.get(ADAPTER.name, [])),
        }
        return {name: size for name, size in sizes.items() if size}

    @property
    def training_seconds(self) -> float:
        """Return the time from the first to the last logged step.

        It includes the pauses of a run that was killed and went on later.
        """
        times = [line["unix_seconds"] for line in self.metrics if "unix_seconds" in line]
        return max(times) - min(times) if times else 0.0


def total_kinds(documents: list[DocumentCoverage]) -> tuple[Counter[str], Counter[str]]:
    """Return the kinds of all questions, and of the questions of all answers."""
    questions: Counter[str] = sum((c.question_kinds for c in documents), Counter())
    answers: Counter[str] = sum((c.answer_kinds for c in documents), Counter())
    return questions, answers


def inputs_hash(config: RunConfig, version: int) -> str:
    """Return one hash of everything that decides what the report says.

    Every knob is on the page. The run folder's own name does not count: a run that was moved
    reports the same.
    """
    run = config.run
    knobs = {name: value for name, value in asdict(config).items() if name != "out_dir"}
    stages = (run.passages_folder, run.questions_folder, run.answers_folder, run.adapter)
    files = [
        run.scores_file,
        run.scores_by_age_file,
        run.metrics_folder / "metrics.jsonl",
        *(run.predictions_file(system) for system in COMPARED),
        *(folder / "manifest.json" for folder in stages),
        *((run.rounds_file, run.rounds_folder / "manifest.json") if run.has_rounds else ()),
    ]
    hashes = [sha256_file(path) if path.exists() else None for path in files]
    return hash_json([version, knobs, hashes])


def read_summary(config: RunConfig) -> Summary:
    """Read a run folder, whichever of its stages are finished."""
    run, notes = config.run, list[str]()
    training = manifest_of(run.adapter) or {}
    if not training:
        notes.append("There is no trained adapter yet: `pdtrain train CONFIG` makes it.")
    best = run.best_adapter
    if best is None and training:
        notes.append("The rounds after training are not done: run `pdtrain rounds CONFIG`.")
    rounds = _read_rounds(run) if run.has_rounds and best else None
    scores, predictions = _read_evaluation(run, best or run.adapter, notes)
    try:
        metrics = run.metrics()
        expect(run.metrics_file, metrics, METRICS, "train again for its curves")
    except ValueError as error:  # a kill cut a line; training again from there mends it
        metrics = []
        notes.append(f"The training curves are left out: {error}")
    known, path = training.get("metrics"), run.metrics_file
    if known and not (path.is_file() and sha256_file(path) == known):
        notes.append("The training curves are not all that training logged: lines were lost since.")
        remedy = "what is lost stays lost, and the report says so"
        warn_of_damage(path, "it is not what training logged", remedy)
    elif not metrics and training:
        notes.append("No metrics were logged, so there are no training curves.")
    return Summary(
        config,
        scores,
        predictions,
        metrics,
        _read_coverage(run, notes),
        training,
        notes,
        run.scores_by_age() if scores else {},
        rounds,
    )


def _read_rounds(run: RunFolder) -> dict[str, Any] | None:
    found, remedy = run.rounds(), "run `pdtrain rounds CONFIG` again"
    if found:
        expect(run.rounds_file, found, SHOWN_OF_ROUNDS, remedy)
        if any(len(one["known"]) != len(found["rounds"]) for one in found["passages"]):
            raise ValueError(f"{run.rounds_file} counts other rounds than it lists; {remedy}")
    return found


def _read_evaluation(
    run: RunFolder, adapter: Path, notes: list[str]
) -> tuple[Scores | None, dict[str, list[dict[str, Any]]]]:
    """Return the scores and the predictions behind them, and add to `notes` what is missing."""
    if not run.scores_file.exists():
        notes.append(
            "Not evaluated: there is no scores.json. Set evaluate.questions to a file of held-out "
            "questions and run `pdtrain evaluate CONFIG`."
        )
        return None, {}
    if run.are_scores_stale(adapter):
        notes.append(
            "The scores are those of another adapter than the one that is there now: run "
            "`pdtrain evaluate CONFIG`."
        )
    scores = run.scores()
    for system in COMPARED:
        if "gold_in_answer" not in scores.get(system, {}):
            raise ValueError(f"{run.scores_file} has no scores of {system}; {AGAIN}")
    if not all(run.predictions_file(system).exists() for system in COMPARED):
        notes.append("The answers behind the scores are gone: there is nothing to show of them.")
        return scores, {}
    predictions = {system: run.predictions(system) for system in COMPARED}
    for system, lines in predictions.items():
        expect(run.predictions_file(system), lines, PREDICTIONS, AGAIN)
    return scores, predictions


def _read_coverage(run: RunFolder, notes: list[str]) -> list[DocumentCoverage]:
    """Return the coverage of each document, in the order of the passages."""
    if not is_finished(run.passages_folder):
        notes.append("There are no passages yet: `pdtrain passages CONFIG` makes them.")
        return []
    if spelt := (manifest_of(run.passages_folder) or {}).get("control_tokens"):
        named = ", ".join(f"{name} ({number})" for name, number in spelt.items())
        notes.append(f"The documents spell control tokens of the model, read as text: {named}.")
    documents: dict[str, DocumentCoverage] = {}
    for passage in coverage.read(run):
        document = documents.setdefault(
            passage.document, DocumentCoverage(passage.document, passage.title)
        )
        document.num_passages += 1
        document.sentences += passage.sentences
        document.questions_per_sentence += passage.questions.per_sentence
        document.answers_per_sentence += passage.answers.per_sentence
        document.question_kinds += passage.questions.kinds
        document.answer_kinds += passage.answers.kinds
    return list(documents.values())
