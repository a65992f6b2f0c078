"""Read files of questions and answers: JSON lines, JSON, CSV, TSV, Parquet and Arrow."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Source
from pdtrain.documents.encoding.decoding import read_text
from pdtrain.documents.records.delimiters import rows_of
from pdtrain.documents.records.lines import utf8_lines
from pdtrain.documents.records.question_answers import (
    COLUMNS,
    GivenQuestion,
    articles_of,
    asked_in,
    question_of,
)
from pdtrain.documents.records.tables import arrow_records, parquet_records
from pdtrain.storage import json_lines

LINES = (".jsonl", ".ndjson")  # a record a line
SUFFIXES = (*LINES, ".json", ".csv", ".tsv", ".parquet", ".arrow")
BESIDE_ARROW = ("dataset_info.json", "dataset_dict.json", "state.json")


def files_of(path: Path) -> list[Path]:
    """Return the files of a data set, which is one file or a folder.

    Raises:
        ValueError: there are none.
    """
    path = path.expanduser()
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [
        file
        for file in inside
        if file.is_file() and file.suffix.lower() in SUFFIXES and file.name not in BESIDE_ARROW
    ]
    if not found:
        raise ValueError(
            f"{str(path)!r} holds no questions; expected a file ending in {', '.join(SUFFIXES)}, "
            "or a folder of these"
        )
    return found


def read_given(path: Path) -> Iterator[GivenQuestion]:
    """Yield the questions of a data set.

    Raises:
        ValueError: there is no such data set, or a record of it holds no question.
    """
    for file in files_of(path):
        for number, record in enumerate(read_records(file), 1):
            found = question_of(record) if isinstance(record, dict) else None
            if found is None:
                names = ", ".join(map(str, record)) if isinstance(record, dict) else "no object"
                raise ValueError(
                    f"{file}, record {number}: expected a question and its answer, as `messages`, "
                    "`prompt` and `completion`, `question` and `answer` or `answers` (with or "
                    f"without `context`), or `instruction` and `output`; found {names}"
                )
            yield found


def read_records(path: Path) -> Iterator[Any]:
    """Yield the records of a file, with the columns alone that may be part of a question.

    Raises:
        ValueError: the file cannot be read.
    """
    source = Source(path.name, path)
    if path.suffix.lower() in LINES:
        with source.open() as stream:
            yield from json_lines(utf8_lines(stream, source.where)[0], source.where)
    elif path.suffix.lower() == ".json":
        try:
            found = json.loads(read_text(source)[0])
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from None
        if articles := articles_of(found):
            yield from asked_in(articles)
        else:
            yield from found if isinstance(found, list) else [found]
    elif path.suffix.lower() in (".csv", ".tsv"):
        try:
            names, rows = rows_of(read_text(source)[0], path.suffix.lower(), CorpusConfig())
            yield from (dict(zip(names, row, strict=False)) for row in rows if any(row))
        except csv.Error as error:
            raise ValueError(f"{path} is no table: {error}") from None
    else:
        read = parquet_records if path.suffix.lower() == ".parquet" else arrow_records
        yield from read(source, lambda names: [name for name in names if name in COLUMNS])
