"""Read tables in text files (CSV, TSV) and records in JSON files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.encoding.decoding import read_text
from pdtrain.documents.readers.office import add_rows
from pdtrain.documents.records.delimiters import rows_of
from pdtrain.documents.records.rows import Rows
from pdtrain.documents.records.tables import (
    documents_of_records,
    is_record,
    read_json_lines,
    with_warnings,
)


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
        add_rows(builder, [names, *filter(any, rows)])
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
    records = found if isinstance(found, list) else [found]
    are_objects = all(isinstance(record, dict) for record in records)
    if are_objects and any(is_record([*record], config) for record in records):
        documents = documents_of_records(records, source, config)
        yield from with_warnings(documents, warnings)
        return
    builder = BlockBuilder()
    builder.warnings += warnings
    builder.code(json.dumps(found, ensure_ascii=False, indent=1))
    yield builder.document(source)
