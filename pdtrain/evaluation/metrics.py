"""Held-out questions, and how a prediction is scored against their answers."""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pdtrain.records import Score, TestQuestion, content_id
from pdtrain.storage import read_jsonl

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def read_questions(path: Path | str, limit: int = 0) -> list[TestQuestion]:
    """Held-out questions from JSONL.

    A row is a question {"question", "answers", and if known "document", "id"}, or a document
    that holds some: {"title", "questions": [{"question", "answers"}, ...]}.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"evaluate.questions={str(path)!r} is not a file; expected JSONL with a question and "
            'its answers a line: {"question": "...", "answers": ["..."], "document": "..."}'
        )
    questions = [
        _question(row, path, number)
        for number, outer in enumerate(read_jsonl(path), 1)
        for row in _flatten(outer)
    ]
    if not questions:
        raise ValueError(f"{path} holds no question")
    repeated = [i for i, n in Counter(q.id for q in questions).items() if n > 1]
    if repeated:
        raise ValueError(f"{path}: question ids must be unique, {repeated[0]!r} is not")
    return questions[:limit] if limit else questions


def held_out_texts(path: str) -> set[str]:
    """The normalised questions of `evaluate.questions`; none where it is empty."""
    return {normalise(question.question) for question in read_questions(path)} if path else set()


def _flatten(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not isinstance(row, dict) or "questions" not in row:
        yield row
        return
    document = str(row.get("id") or row.get("title") or "")
    inner = row["questions"]
    if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
        yield {key: row[key] for key in row if key != "question"}  # for `_question` to refuse
        return
    for one in inner:
        yield {"document": document, **one}


def _question(row: dict[str, Any], path: Path, number: int) -> TestQuestion:
    row = row if isinstance(row, dict) else {}
    text, answers = row.get("question"), row.get("answers")
    texts = isinstance(answers, list) and all(
        isinstance(answer, str | int | float) and str(answer).strip() for answer in answers
    )
    if not isinstance(text, str) or not texts or not answers:
        raise ValueError(
            f'{path}, row {number}: expected "question" (a text) and "answers" (a list of texts, '
            f"none empty), found the keys {', '.join(sorted(row)) or 'of no object'}"
        )
    document = str(row.get("document", ""))
    found = row.get("id") or content_id(document, text)
    return TestQuestion(str(found), document, text, tuple(map(str, answers)))


def normalise(text: str) -> str:
    """SQuAD's: lower case, no punctuation, no articles, single blanks."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def gold_in_answer(prediction: str, answers: Sequence[str]) -> float:
    """1 if a normalised gold answer stands in the prediction as whole words."""
    words = f" {normalise(prediction)} "
    return float(any(f" {gold} " in words for a in answers if (gold := normalise(a))))


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    return float(any(normalise(prediction) == normalise(a) for a in answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """SQuAD's token F1: the best over the gold answers."""
    return max(_f1(normalise(prediction).split(), normalise(a).split()) for a in answers)


def _f1(predicted: list[str], gold: list[str]) -> float:
    common = sum((Counter(predicted) & Counter(gold)).values())
    if not common:
        return float(predicted == gold)
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def grade(prediction: str, answers: Sequence[str]) -> dict[str, float]:
    return {
        "gold_in_answer": gold_in_answer(prediction, answers),
        "exact_match": exact_match(prediction, answers),
        "token_f1": token_f1(prediction, answers),
    }


def summarise(
    values: Sequence[float], num_samples: int, seed: int, weights: Sequence[float] | None = None
) -> Score:
    """The (weighted) mean with a 95 % percentile bootstrap interval over questions."""
    rng = random.Random(seed)
    n = len(values)
    if weights is None:
        means = sorted(sum(rng.choices(values, k=n)) / n for _ in range(num_samples))
        mean = sum(values) / n
    else:
        weighted = [(v * w, w) for v, w in zip(values, weights, strict=True)]
        means = sorted(_ratio(rng.choices(weighted, k=n)) for _ in range(num_samples))
        mean = _ratio(weighted)
    low, high = means[int(0.025 * num_samples)], means[int(0.975 * num_samples)]
    return Score(mean, low, high, n)


def _ratio(weighted: Sequence[tuple[float, float]]) -> float:
    return sum(v for v, _ in weighted) / sum(w for _, w in weighted)


def recovered(scores: Mapping[str, Mapping[str, Score]], metric: str) -> float | None:
    """(student - base) / (teacher - base), closed book; None when the teacher knows no more."""
    base, teacher, student = (
        scores[row][metric].value
        for row in ("base_closed_book", "teacher_open_book", "adapter_closed_book")
    )
    return (student - base) / (teacher - base) if teacher > base else None
