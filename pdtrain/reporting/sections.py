"""Work out what each part of the report's page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from pdtrain.config import RunConfig
from pdtrain.evaluation.grading.metrics import METRICS, recovered
from pdtrain.evaluation.scores import advice, faults, harm, measuring
from pdtrain.evaluation.systems import ADAPTER, BASE, SYSTEMS, TEACHER, Measured, named
from pdtrain.records import Score, Scores
from pdtrain.reporting.summary import (
    COMPARED,
    DocumentCoverage,
    DocumentRecall,
    Summary,
    total_kinds,
)
from pdtrain.reporting.svg import Curve, dots, line_chart, smooth

# Each filter of the answers, its label, and the marks of the questions that it hides. The rules
# that hide them stand in style.css.
FILTERS = {
    "all": ("all", frozenset[str]()),
    "right": ("adapter right", frozenset({"adapter-wrong"})),
    "wrong": ("adapter wrong", frozenset({"adapter-right"})),
    "missed": ("teacher right, adapter wrong", frozenset({"adapter-right", "teacher-wrong"})),
}


def label(name: str) -> str:
    """Return a system's label, or its name where an older version wrote it into the scores."""
    system = named(name)
    return system.label if system else name


def css_classes(name: str) -> str:
    """Return the CSS classes of a system: who answers, and fainter where it retrieves passages."""
    system = named(name) or BASE
    return system.role + (" faint" if system.retriever else "")


# --- Scores -----------------------------------------------------------------------------------


def headline(scores: Scores | None) -> dict[str, Any] | None:
    """Return what the compared systems scored and how much of the way the adapter came."""
    if not scores:
        return None
    metric = "gold_in_answer"
    return {
        "base": scores[BASE.name][metric],
        "teacher": scores[TEACHER.name][metric],
        "adapter": scores[ADAPTER.name][metric],
        "recovered": recovered(scores, metric),
        "recovered_likelihood": recovered(scores, "gold_log_likelihood"),
        "harm": [(label(name), scores[name]["gain"]) for name in harm(scores)],
        "faults": [(label(name), text) for name, texts in faults(scores).items() for text in texts],
        "advice": advice(scores),
    }


def score_tables(scores: Scores) -> list[dict[str, Any]]:
    """Return one table for each metric that some system has, with the domain of its bars."""
    tables = []
    answered = measuring(scores, "answers")
    for metric in METRICS.values():
        name = metric.name
        found = {system: values[name] for system, values in answered.items() if name in values}
        if metric.describes != "rightness" or not found:
            continue
        low = min(score.low for score in found.values())
        high = max(score.high for score in found.values())
        domain = (low * 1.02, 0.0) if low < 0 else (0.0, max(high, 1.0))
        tables.append({"metric": metric, "scores": found, "domain": domain})
    return tables


def manner_table(scores: Scores, measured: Measured) -> dict[str, Any] | None:
    """Return how each system answers: a column for each metric that some system has."""
    found = measuring(scores, measured)
    if measured == "answers":
        of = [m for m in METRICS.values() if m.describes == "manner"]
    else:
        of = [m for m in METRICS.values() if measured in m.measures]
    columns = [m for m in of if any(m.name in values for values in found.values())]
    return {"metrics": columns, "scores": found} if columns else None


def age_scores(summary: Summary) -> list[tuple[str, str, Score]]:
    """Return (system, age of the documents, score) for each compared system on each age."""
    return [
        (system, age, scores[system]["gold_in_answer"])
        for system in COMPARED
        for age, scores in summary.scores_by_age.items()
        if "gold_in_answer" in scores.get(system, {})
    ]


def forgetting(scores: Scores) -> dict[str, Any] | None:
    """Return the scores on unrelated texts, and the largest distance for their bars to reach."""
    unrelated = measuring(scores, "forgetting")
    if not unrelated:
        return None
    most = max(values["kl_to_base"].high for values in unrelated.values())
    return {"scores": unrelated, "most": most or 1.0}


# --- Training ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chart:
    name: str
    text: str
    drawing: Markup


def charts(summary: Summary) -> list[Chart]:
    """Draw the training curves; there are none where nothing was logged."""
    if not summary.metrics:
        return []

    def chart(name: str, text: str, curves: Sequence[Curve], **options: Any) -> Chart:
        return Chart(name, text, line_chart(curves, name, **options))

    def smoothed(metric: str, css: str = "adapter") -> list[Curve]:
        points = summary.curve(metric)
        return [Curve(points, f"{css} raw"), Curve(smooth(points), css)]

    recall = summary.curve("eval/gold_in_answer")
    teacher = summary.scores[TEACHER.name]["gold_in_answer"] if summary.scores else None
    return [
        chart(
            "Loss",
            "nats per answer token; smoothed over the raw values",
            smoothed("train/loss"),
        ),
        chart(
            "Gold in answer",
            "from memory, on the held-out questions asked while training",
            [Curve(recall, "adapter", marks=True)],
            y_range=(0.0, 1.0),
            reference=(teacher.value, "teacher, on all questions") if teacher else None,
        ),
        chart(
            "Teacher mass",
            "probability that the kept top tokens of the teacher hold",
            smoothed("distillation/teacher_mass", "teacher"),
        ),
        chart("Gradient norm", "before clipping", smoothed("train/grad_norm")),
        chart("Learning rate", "", [Curve(summary.curve("train/learning_rate"), "base")]),
        chart(
            "Speed",
            "student tokens per second",
            smoothed("train/student_tokens_per_second", "base"),
        ),
    ]


def quizzed_passages(rounds: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the passages that the rounds quizzed, those the best round knows least first."""
    asked = [passage for passage in (rounds or {}).get("passages", ()) if passage["asked"]]
    best = rounds["best"] if rounds else 0
    return sorted(asked, key=lambda p: (p["known"][best] / p["asked"], p["document"]))


# --- Documents --------------------------------------------------------------------------------


def recall_dots(document: DocumentRecall) -> Markup:
    shares = document.gold_in_answer
    return dots([(shares[system], css_classes(system), label(system)) for system in COMPARED])


def coverage(documents: list[DocumentCoverage]) -> dict[str, Any] | None:
    """Return the coverage of all documents together and of each, the least covered first."""
    if not documents:
        return None
    questions, answers = total_kinds(documents)
    counts = [count for document in documents for count in document.questions_per_sentence]
    return {
        "num_questions": questions.total(),
        "num_about_sentences": sum(counts),
        "num_sentences": len(counts),
        "num_covered": sum(document.num_covered for document in documents),
        "num_unanswered": sum(document.num_unanswered for document in documents),
        "kinds": [(kind, number, answers[kind]) for kind, number in questions.most_common()],
        "most_questions": max(counts, default=0),
        "documents": sorted(
            documents, key=lambda d: (d.num_covered / max(len(d.sentences), 1), d.document)
        ),
    }


# --- Answers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    system: str
    who: str  # base, teacher or adapter
    text: str
    is_right: bool


@dataclass(frozen=True)
class Question:
    """Hold one held-out question with the compared systems' answers.

    `marks` says who was right and who was wrong: the classes that the filters go by.
    """

    text: str
    gold_answers: list[str]
    answers: list[Answer]
    marks: list[str]


def questions(summary: Summary) -> dict[str, list[Question]]:
    """Return the held-out questions by document, in the order in which documents come up."""
    by_id = {
        system: {line["id"]: line for line in predictions}
        for system, predictions in summary.predictions.items()
    }
    questions: dict[str, list[Question]] = {}
    for line in summary.predictions.get(ADAPTER.name, ()):
        answers = []
        for system in COMPARED:
            if found := by_id[system].get(line["id"]):
                hit, invented = found["gold_in_answer"], found.get("invented")
                is_right = hit > 0 if hit is not None else not invented
                answers.append(Answer(system, SYSTEMS[system].role, found["prediction"], is_right))
        marks = sorted({f"{a.who}-{'right' if a.is_right else 'wrong'}" for a in answers})
        question = Question(line["question"], line["answers"], answers, marks)
        questions.setdefault(line["document"], []).append(question)
    return questions


def filters(questions: dict[str, list[Question]]) -> list[dict[str, Any]]:
    """Return each filter with the number of questions that it shows."""
    marks = [set(question.marks) for found in questions.values() for question in found]
    return [
        {"name": name, "label": label, "num_shown": sum(not (one & hidden) for one in marks)}
        for name, (label, hidden) in FILTERS.items()
    ]


# --- The run ----------------------------------------------------------------------------------


def sizes(summary: Summary) -> list[tuple[str, str]]:
    sizes = [(name, f"{size:,}") for name, size in summary.sizes.items()]
    if minutes := summary.training_seconds / 60:
        sizes.append(("minutes of training", f"{minutes:.1f}"))
    return sizes


def settings(config: RunConfig) -> list[tuple[str, str, bool]]:
    """Return each key of the config with its value and whether that is the default."""
    defaults = _flatten(asdict(RunConfig()))
    return [
        (key, str(value), value == defaults.get(key))
        for key, value in _flatten(asdict(config)).items()
    ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key, as in {"train.epochs": 5}."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
