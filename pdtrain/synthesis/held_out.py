"""Read held-out questions: they score a run and are never trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pdtrain.records import TestQuestion, content_id
from pdtrain.storage import read_jsonl
from pdtrain.synthesis.text import normalise


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
