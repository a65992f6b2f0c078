"""Read what is never trained on: held-out questions, and unrelated texts, questions and passages.

Held-out questions score a run. On the unrelated ones, which have nothing to do with the documents,
forgetting is measured, and on the unrelated passages, which are about invented things, reading. The
samples of `regularization` are about other things. `evaluate.unrelated` and `evaluate.reading` name
files that take the place of the bundled ones, which were written for this project and are under its
licence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pdtrain.documents.records.question_answers import (
    CHOICES,
    QUESTIONS,
    in_words,
    is_empty,
    question_of,
)
from pdtrain.documents.records.question_files import SUFFIXES, read_records
from pdtrain.documents.records.tables import SURROGATE
from pdtrain.documents.words import length, words
from pdtrain.records import TestQuestion, content_id
from pdtrain.storage import read_jsonl
from pdtrain.synthesis.text import normalise

BUNDLED = Path(__file__).with_name("unrelated.jsonl")  # unrelated texts and questions
BUNDLED_READING = Path(__file__).with_name("reading.jsonl")  # passages about invented things


def read_questions(path: Path | str, limit: int = 0) -> list[TestQuestion]:
    """Read held-out questions from a JSONL file.

    A record is a question, {"question", "answers"} and if known "document" and "id", or a document
    with its questions, {"title", "questions": [{"question", "answers"}, ...]}. Answers are a list
    of texts, or one text or number, as in a column of a CSV file. A question that the documents do
    not answer has none: `"answers": []`, or an empty text. The columns of other data sets are
    known, too, and so are .json, .csv, .parquet and .arrow files
    (`documents.records.question_answers`).

    Args:
        limit: read the first so many; 0 is all.

    Raises:
        ValueError: there is no such file, it holds no question that has an answer, a record is not
            a question, or two questions have the same id.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"evaluate.questions={str(path)!r} is not a file; expected JSONL with a question and "
            'its answers a line: {"question": "...", "answers": ["..."], "document": "..."}'
        )
    questions = [
        _question(record, path, number)
        for number, outer in enumerate(_records(path), 1)
        for record in _flatten(outer)
    ]
    if not any(question.answers for question in questions):
        raise ValueError(f"{path} holds no question with an answer")
    repeated = [i for i, n in Counter(q.id for q in questions).items() if n > 1]
    if repeated:
        places = [str(i) for i, q in enumerate(questions, 1) if q.id == repeated[0]]
        raise ValueError(
            f"{path}: question ids must be unique, {repeated[0]!r} is not: questions "
            f"{' and '.join(places)} have it. Without ids, equal questions have the same"
        )
    questions = questions[:limit] if limit else questions
    if not any(question.answers for question in questions):
        raise ValueError(
            f"the first {limit} questions of {path} have no answer; raise evaluate.limit"
        )
    return questions


def held_out_texts(path: str) -> set[str]:
    """Return the normalised questions of a file of held-out ones; none for an empty path."""
    return {normalise(question.question) for question in read_questions(path)} if path else set()


def _records(path: Path) -> Iterator[Any]:
    if path.suffix.lower() not in SUFFIXES:
        yield from read_jsonl(path)
        return
    for record in read_records(path):
        is_ours = not isinstance(record, dict) or "questions" in record or _is_question(record)
        found = None if is_ours else question_of(record)
        if found is None:
            yield record
        else:
            about = {"document": found.document, "id": found.id}
            more = {name: value for name, value in about.items() if value}
            yield {"question": found.question, "answers": list(found.answers), **more}


def _is_question(record: dict[str, Any]) -> bool:
    """Return whether a record has the form of this project, so that its faults are named."""
    if not isinstance(record.get("question"), str) or any(name in record for name in CHOICES):
        return False
    answers = record.get("answers", "")
    if is_empty(answers) and not is_empty([record.get(name) for name in QUESTIONS["question"]]):
        return False  # they are in another column
    is_list = isinstance(answers, list) and not (answers and isinstance(answers[0], dict))
    return is_list or answers is None or answers != answers


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
    text: Any = record.get("question")
    answers: Any = record.get("answers")
    if isinstance(answers, str):
        answers = [answers.strip()] if answers.strip() else []
    are_texts = isinstance(answers, list) and all(map(_is_answer, answers))
    if not isinstance(text, str) or not text.strip() or not are_texts:
        raise ValueError(
            f'{path}, record {number}: expected "question" (a text that is not blank) and '
            '"answers" (a text or a list of texts, none of them empty, null or NaN; [] where the '
            f"documents do not answer it), found {_found(record, are_texts)}"
        )
    document, own = (record.get(name) for name in ("document", "id"))
    document = "" if document is None else str(document)
    name = content_id(document, text) if own is None or own == "" else str(own)
    answers = tuple(map(in_words, answers))
    if SURROGATE.search(" ".join([name, document, text, *answers])):
        raise ValueError(
            f"{path}, record {number}: half of a surrogate pair (\\ud800 to \\udfff), which is not "
            "a character; correct the question or leave the record out"
        )
    return TestQuestion(name, document, text, answers)


def _is_answer(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # NaN is an empty cell of a table
    return isinstance(value, str | int) and bool(str(value).strip())


def _found(record: dict[str, Any], are_texts: bool) -> str:
    """Return what a record has in the place of a question and its answers, without quoting it."""
    text = record.get("question")
    if isinstance(text, str) and not text.strip():
        return "a blank question"
    if isinstance(record.get("answers"), list) and not are_texts:
        return "an answer that is empty or no text"
    return f"the keys {', '.join(sorted(record)) or 'of no object'}"


# --- Unrelated texts and questions --------------------------------------------------------------


class Unrelated(NamedTuple):
    """Hold what has nothing to do with the documents, in the order of the file."""

    texts: tuple[str, ...]
    questions: tuple[str, ...]


def read_unrelated(path: str = "") -> Unrelated:
    """Read texts and questions of general knowledge, on which forgetting is measured.

    A record of the file is {"text": "..."} or {"question": "..."}.

    Args:
        path: the file; the bundled one if empty.

    Raises:
        ValueError: there is no such file, it is empty, or one of its records is neither a text nor
            a question of at least two words.
    """
    file = Path(path) if path else BUNDLED
    if not file.is_file():
        raise ValueError(
            f"evaluate.unrelated={path!r} is not a file; expected JSONL with "
            '{"text": "..."} or {"question": "..."} a line, or leave it empty for the bundled ones'
        )
    records = list(read_jsonl(file))
    found = Unrelated(_texts_of(records, "text"), _texts_of(records, "question"))
    if sum(map(len, found)) != len(records) or not records:
        raise ValueError(
            f'{path}: expected {{"text": "..."}} or {{"question": "..."}} in every record, found '
            f"{sum(map(len, found))} of them in {len(records)} records"
        )
    return found


def _texts_of(records: Iterable[object], key: str) -> tuple[str, ...]:
    return tuple(
        record[key]
        for record in records
        if isinstance(record, dict)
        and isinstance(record.get(key), str)
        and length(words(record[key])) > 1
    )


# --- Passages about other things ----------------------------------------------------------------


class ReadingQuestion(NamedTuple):
    """Hold a question about a passage of its own; without answers where the passage has none."""

    title: str
    passage: str
    question: TestQuestion


def read_reading(path: str = "", limit: int = 0) -> list[ReadingQuestion]:
    """Read questions about passages that have nothing to do with the documents.

    A record is {"title", "passage", "questions": [{"question", "answers"}, ...]}, where "answers"
    is empty if the passage does not answer the question.

    Args:
        path: the file; the bundled one if empty.
        limit: read the first so many questions; 0 is all.

    Raises:
        ValueError: there is no such file, it holds no question, or a record has another form.
    """
    file = Path(path) if path else BUNDLED_READING
    if not file.is_file():
        raise ValueError(
            f"evaluate.reading={path!r} is not a file; expected JSONL with a passage and its "
            'questions a line: {"title": "...", "passage": "...", "questions": [{"question": '
            '"...", "answers": ["..."]}]}, or leave it empty for the bundled ones'
        )
    found = [
        one
        for number, record in enumerate(read_jsonl(file), 1)
        for one in _about_passage(record, file, number)
    ]
    if not found:
        raise ValueError(f"{file} holds no question")
    return found[:limit] if limit else found


def _about_passage(record: Any, file: Path, number: int) -> Iterator[ReadingQuestion]:
    record = record if isinstance(record, dict) else {}
    title, passage, asked = record.get("title", ""), record.get("passage"), record.get("questions")
    if not (isinstance(title, str) and isinstance(passage, str) and passage.strip() and asked):
        raise ValueError(
            f'{file}, record {number}: expected "passage" (a text) and "questions" (a list), '
            f"found the keys {', '.join(sorted(record)) or 'of no object'}"
        )
    for one in asked if isinstance(asked, list) else [{}]:
        text = one.get("question") if isinstance(one, dict) else None
        if isinstance(text, str) and text.strip() and one.get("answers") == []:
            question = TestQuestion("", title, text, ())
        else:
            question = _question(one, file, number)
        name = content_id(title, passage, question.question)
        yield ReadingQuestion(title, passage, replace(question, id=name, document=title))
