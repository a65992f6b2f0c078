"""Read tables in text files (CSV, TSV) and records in JSON files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import MAX_BYTES, Document, Source, Unreadable
from pdtrain.documents.encoding.decoding import read_text
from pdtrain.documents.readers.office_parts.sheet_rows import add_rows
from pdtrain.documents.records.delimiters import rows_of
from pdtrain.documents.records.question_answers import MISSING, articles_of
from pdtrain.documents.records.rows import Rows
from pdtrain.documents.records.tables import (
    documents_of_records,
    is_record,
    read_json_lines,
    with_warnings,
)

EMPTY = MISSING | {"NaN", "NULL"}  # as programs write a cell without a value
BEGINS_LIST = re.compile(rb"\[\s*(?:\{|\Z)")  # of objects


def read_delimited(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a CSV or TSV file: a document a record, or one table.

    The records are documents where a column is named `corpus.text_field`, where `corpus.text` is
    set, and where the columns are those of questions and answers.
    """
    text, warnings = read_text(source)
    try:
        names, rows = rows_of(text, source.suffix, config)
        if is_record(names, config):
            yield from with_warnings(_documents(names, rows, source, config), warnings)
            return
        builder = BlockBuilder()
        builder.warnings += warnings
        # the first cell says what the row is about, which may be NULL itself
        cells = ([*row[:1], *("" if one in EMPTY else one for one in row[1:])] for row in rows)
        add_rows(builder, [names, *filter(any, cells)])
        if num_stray := _num_stray(rows):
            builder.warnings.append(f"{num_stray} rows with a stray quote")
    except csv.Error as error:
        raise Unreadable("broken", f"{source.where} is no table: {error}") from None
    yield builder.document(source)


def _documents(
    names: Sequence[str], rows: Iterable[Sequence[str]], source: Source, config: CorpusConfig
) -> Iterator[Document]:
    """Yield a document a row, with a warning where a quote or a cell in it is one too many.

    Cells beyond the last column are left out.
    """
    row: Sequence[str] = ()
    num_stray = 0

    def records() -> Iterator[dict[str, str]]:
        nonlocal row
        for row in rows:
            if any(row):
                yield dict(zip(names, row, strict=False))

    for document in documents_of_records(records(), source, config):
        warnings = [*document.warnings]
        if any(row[len(names) :]):
            warnings.append("cells beyond the last column left out")
        if _num_stray(rows) > num_stray:
            num_stray = _num_stray(rows)
            warnings.append("a row with a stray quote")
        yield replace(document, warnings=tuple(warnings))


def _num_stray(rows: Iterable[Sequence[str]]) -> int:
    return rows.num_stray if isinstance(rows, Rows) else 0


def read_json(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a JSON file: a document a record of a list, or the whole as it is written.

    Raises:
        Unreadable: the file is not JSON.
    """
    text, warnings = read_text(source)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        first = text[: error.pos].strip()
        if error.msg == "Extra data" and first[:1] == "{" and "\n" not in first:
            yield from read_json_lines(source, config)  # a record a line, by another name
            return
        raise Unreadable("broken", f"{source.where} is no JSON in line {error.lineno}") from None
    except (ValueError, RecursionError) as error:
        fault = "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"
        raise Unreadable("broken", f"{source.where} cannot be read as JSON: {fault}") from None
    if records := _records_in(found, config):
        warnings = (*warnings, *_beside(found, records))
        documents = documents_of_records(records, source, config)
        yield from with_warnings(documents, warnings)
        return
    builder = BlockBuilder()
    builder.warnings += warnings
    builder.code(json.dumps(found, ensure_ascii=False, indent=1))
    yield builder.document(source)


def _records_in(found: Any, config: CorpusConfig) -> list[dict[str, Any]]:
    """Return the records that a JSON file holds; none where it holds something else.

    They stand in a list, which may be the only one under a key of the whole, or under a key each,
    which is a record's id where it has no other. Of articles with questions as in SQuAD, each is a
    record with its paragraphs.
    """
    if not config.text and (articles := articles_of(found)):
        return [
            {
                config.title_field: article.get("title"),
                config.text_field: [one["context"] for one in article["paragraphs"]],
            }
            for article in articles
        ]
    if isinstance(found, dict) and not is_record([*found], config):
        lists = [value for value in found.values() if _are_records(value, config)]
        if len(lists) == 1:
            return list(lists[0])
        if _are_records([*found.values()], config):
            return [{"id": key} | record for key, record in found.items()]
    records = found if isinstance(found, list) else [found]
    return records if _are_records(records, config) else []


def _beside(found: Any, records: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return a warning about what stands beside the list of records, and is more than a word."""
    if not isinstance(found, dict) or records not in found.values():
        return ()
    keys = [
        key
        for key, value in found.items()
        if value
        and value != records
        and (isinstance(value, list | dict) or (isinstance(value, str) and " " in value))
    ]
    return (f"left out beside the records: {', '.join(keys)}",) if keys else ()


def _are_records(value: Any, config: CorpusConfig) -> bool:
    is_list_of_objects = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    return is_list_of_objects and any(is_record([*one], config) for one in value)


def read_lines_or_list(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a file with a record of JSON a line, or with a list of records by another name."""
    with source.open() as stream:
        first = stream.readline(MAX_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    is_list = BEGINS_LIST.match(first) is not None
    with suppress(ValueError, RecursionError):  # it goes on in the next line
        is_list = is_list and _are_records(json.loads(first), config)
    yield from (read_json if is_list else read_json_lines)(source, config)
