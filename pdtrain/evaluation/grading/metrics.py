"""List the metrics of the evaluation, grade predictions and summarise grades.

A metric is one column of the evaluation's table. A new one that compares a prediction with the
gold answers is a function here and an entry in `METRICS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pdtrain.config import EvaluateConfig
from pdtrain.documents.words import holds
from pdtrain.evaluation.grading.bootstrap import bootstrap_means
from pdtrain.evaluation.grading.comparing import compared
from pdtrain.evaluation.grading.declining import declines
from pdtrain.evaluation.grading.denying import without_denied
from pdtrain.evaluation.systems import ADAPTER, BASE, TEACHER, Measured
from pdtrain.records import Score, seed_for

# part of the input hash: raise it when the same prediction would be graded differently
GRADING = 11

Grade = Callable[[str, Sequence[str]], float]


def invented(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if a prediction answers what cannot be answered; there are no gold answers."""
    del answers
    return float(not declines(prediction))


def gold_in_answer(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if a gold answer stands in the prediction as whole words, and is not denied there.

    The words are those that `words` has.
    """
    affirmed = without_denied(prediction, answers)
    return float(
        any(holds(*pair) for said, answer in affirmed for pair in compared(said, [answer]))
    )


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction is a gold answer, word by word."""
    return float(any(said == gold for said, gold in compared(prediction, answers)))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return SQuAD's token F1, from 0 to 1: the best over the gold answers.

    Scripts without blanks are compared letter by letter, as benchmarks in Chinese do.
    """
    return max(_f1(*pair) for pair in compared(prediction, answers))


def _f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    common = (Counter(predicted) & Counter(gold)).total()
    if not common:
        return float(predicted == gold)
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True)
class Metric:
    """Describe one column of the evaluation's table.

    Attributes:
        name: the name in `scores.json` and, but for perplexities, in the lines of predictions.
        label: a name for people.
        text: what the number says.
        unit: the unit of the values; empty for shares from 0 to 1 and other plain numbers.
        measures: the kinds of systems that have it: "answers", "reading", "forgetting".
        describes: "rightness" for what a good answer is judged by, "manner" for how the model
            answers; they stand in tables of their own.
        grade: computes the metric from a prediction and its gold answers; None where it is
            measured in another way.
        needs_judge: True where only a judge (`evaluate.judge`) gives it.
        fault: what an adapter does whose value is worse than its base's, for a sentence that says
            so; empty where a change is no fault.
        more_is_better: True where the worse of two values is the lower one.
        perplexity_of: for a perplexity, the log-likelihoods in the lines of predictions that it is
            computed from; empty for a plain mean.
    """

    name: str
    label: str
    text: str
    unit: str = ""
    measures: tuple[Measured, ...] = ("answers",)
    describes: Literal["rightness", "manner"] = "rightness"
    grade: Grade | None = None
    needs_judge: bool = False
    fault: str = ""
    more_is_better: bool = False
    perplexity_of: str = ""


ANSWERED: tuple[Measured, ...] = ("answers", "reading")

# by name, in the order of the table
METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "gold_in_answer",
            "Gold in answer",
            "share of answers that contain a gold answer",
            measures=ANSWERED,
            grade=gold_in_answer,
        ),
        Metric(
            "exact_match",
            "Exact match",
            "share of answers that are a gold answer",
            grade=exact_match,
        ),
        Metric(
            "token_f1",
            "Token F1",
            "overlap of words with the best gold answer",
            measures=ANSWERED,
            grade=token_f1,
        ),
        Metric(
            "gold_log_likelihood",
            "Gold log-likelihood",
            "nats per token of the gold answer; nearer to 0 is better",
            unit="nats per token",
        ),
        Metric(
            "judged",
            "Judged right",
            "share of answers that another model calls correct",
            needs_judge=True,
        ),
        Metric(
            "unjudged",
            "Not judged",
            "share of answers that the judge gave no clear verdict on; judged leaves them out",
            needs_judge=True,
        ),
        Metric(
            "gain",
            "Gain over the base",
            "gold_in_answer less that of the base that reads the same, question by question; "
            "below 0 the adapter does harm",
            measures=ANSWERED,
            describes="manner",
        ),
        Metric(
            "invented",
            "Invented",
            "share of answers to questions that cannot be answered which do not say so",
            measures=ANSWERED,
            describes="manner",
            grade=invented,
            fault="invents more answers to questions that cannot be answered",
        ),
        Metric(
            "finished",
            "Finished",
            "share of answers that the model ended itself, before evaluate.max_new_tokens",
            measures=ANSWERED,
            describes="manner",
            fault="leaves more answers unfinished",
            more_is_better=True,
        ),
        Metric(
            "recited",
            "Recited",
            "share of answers that are, word for word, a training answer, and hold no gold answer",
            measures=ANSWERED,
            describes="manner",
            fault="recites more of its training answers to other questions",
        ),
        Metric(
            "repeated",
            "Repeated",
            "share of answers that were given, word for word, to at least three questions",
            measures=ANSWERED,
            describes="manner",
            fault="gives more of the same answers to different questions",
        ),
        Metric(
            "answer_tokens",
            "Length",
            "tokens of an answer, the token that ends it included",
            unit="tokens",
            measures=ANSWERED,
            describes="manner",
        ),
        Metric(
            "kl_to_base",
            "Distance from the base",
            "KL(base ‖ adapter) in nats per token; 0 where the adapter changed nothing",
            unit="nats per token",
            measures=("forgetting",),
        ),
        Metric(
            "base_perplexity",
            "Perplexity of the base",
            "number of equally likely tokens that the base would be as unsure about",
            measures=("forgetting",),
            perplexity_of="base_log_likelihood",
        ),
        Metric(
            "adapter_perplexity",
            "Perplexity of the adapter",
            "number of equally likely tokens that the adapter would be as unsure about",
            measures=("forgetting",),
            perplexity_of="adapter_log_likelihood",
        ),
    )
}
RECOVERED = ("gold_in_answer", "gold_log_likelihood")  # whose recovered share is reported


def answer_metrics(config: EvaluateConfig, measured: Measured = "answers") -> list[Metric]:
    """Return the metrics that answers have.

    Args:
        measured: "answers" to held-out questions, or "reading" of passages about other things.
    """
    return [
        metric
        for metric in METRICS.values()
        if measured in metric.measures and (not metric.needs_judge or config.judge.url)
    ]


def forgetting_metrics() -> list[Metric]:
    return [metric for metric in METRICS.values() if "forgetting" in metric.measures]


def grade(prediction: str, answers: Sequence[str]) -> dict[str, float | None]:
    """Return each metric that is computed from a prediction and its gold answers, by name.

    Args:
        answers: none where the question cannot be answered: then only `invented` has a value.
    """
    return {
        m.name: m.grade(prediction, answers) if bool(answers) != (m.grade is invented) else None
        for m in METRICS.values()
        if m.grade
    }


def summarise(
    values: Sequence[float], num_samples: int, seed: int, weights: Sequence[float] | None = None
) -> Score:
    """Return the (weighted) mean with a 95 % interval by a percentile bootstrap.

    Args:
        values: one for each question or text, at least one.
        num_samples: bootstrap samples.
        weights: what each value counts; all alike by default.
    """
    return bootstrap_means([values], num_samples, seed, weights)[0]


def summarise_all(
    columns: Mapping[str, Sequence[float]], num_samples: int, seed: int
) -> dict[str, Score]:
    """Return the mean of each metric with its interval, as `summarise` does, by name.

    Metrics of as many questions are taken of the same draws, which are most of the work.
    """
    found: dict[str, Score] = {}
    for n in {len(values) for values in columns.values()}:
        names = [name for name, values in columns.items() if len(values) == n]
        of_n = [columns[name] for name in names]
        scores = bootstrap_means(of_n, num_samples, seed_for(seed, "bootstrap", n))
        found |= zip(names, scores, strict=True)
    return {name: found[name] for name in columns}


def recovered(scores: Mapping[str, Mapping[str, Score]], metric: str) -> float | None:
    """Return the share of the teacher's lead over the base that the adapter has, closed book.

    That is (adapter - base) / (teacher - base); None where the teacher is no better than the base.
    """
    base, teacher, adapter = (
        scores[system.name][metric].value for system in (BASE, TEACHER, ADAPTER)
    )
    return (adapter - base) / (teacher - base) if teacher > base else None
