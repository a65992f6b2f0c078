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
    """Read held-out questions from a JSONL file.

    A record is a question, {"question", "answers"} and if known "document" and "id", or a document
    with its questions, {"title", "questions": [{"question", "answers"}, ...]}.

    Args:
        limit: read the first so many; 0 is all.

    Raises:
        ValueError: there is no such file, it holds no question, a record is not a question, or two
            questions have the same id.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"evaluate.questions={str(path)!r} is not a file; expected JSONL with a question and "
            'its answers a line: {"question": "...", "answers": ["..."], "document": "..."}'
        )
    questions = [
        _question(record, path, number)
        for number, outer in enumerate(read_jsonl(path), 1)
        for record in _flatten(outer)
    ]
    if not questions:
        raise ValueError(f"{path} holds no question")
    repeated = [i for i, n in Counter(q.id for q in questions).items() if n > 1]
    if repeated:
        raise ValueError(f"{path}: question ids must be unique, {repeated[0]!r} is not")
    return questions[:limit] if limit else questions


def held_out_texts(path: str) -> set[str]:
    """Return the normalised questions of a file of held-out ones; none for an empty path."""
    return {normalise(question.question) for question in read_questions(path)} if path else set()


def _flatten(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not isinstance(record, dict) or "questions" not in record:
        yield record
        return
    document = str(record.get("id") or record.get("title") or "")
    inner = record["questions"]
    if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
        yield {key: record[key] for key in record if key != "question"}  # for `_question` to refuse
        return
    for one in inner:
        yield {"document": document, **one}


def _question(record: dict[str, Any], path: Path, number: int) -> TestQuestion:
    record = record if isinstance(record, dict) else {}
    text, answers = record.get("question"), record.get("answers")
    texts = isinstance(answers, list) and all(
        isinstance(answer, str | int | float) and str(answer).strip() for answer in answers
    )
    if not isinstance(text, str) or not texts or not answers:
        raise ValueError(
            f'{path}, record {number}: expected "question" (a text) and "answers" (a list of '
            f"texts, none empty), found the keys {', '.join(sorted(record)) or 'of no object'}"
        )
    document = str(record.get("document", ""))
    found = record.get("id") or content_id(document, text)
    return TestQuestion(str(found), document, text, tuple(map(str, answers)))
