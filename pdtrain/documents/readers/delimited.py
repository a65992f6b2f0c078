"""Read tables in text files (CSV, TSV) and records in JSON files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.decoding import read_text
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.readers.office import add_rows
from pdtrain.documents.records.tables import documents_of_records, is_record

SAMPLE = 1 << 14  # characters that the delimiter is told from
LONGEST_CELL = 1 << 24


def read_delimited(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a CSV or TSV file: a document a record, or one table.

    The records are documents where a column is named `corpus.text_field`, where `corpus.text` is
    set, and where the columns are those of questions and answers.
    """
    text, warnings = read_text(source)
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, source))
    try:
        names = next(rows, [])
        if is_record(names, config):
            records = (dict(zip(names, row, strict=False)) for row in rows if any(row))
            yield from documents_of_records(records, source, config)
            return
        builder = BlockBuilder()
        builder.warnings += warnings
        add_rows(builder, [names, *rows])
    except csv.Error as error:
        raise Unreadable("broken", f"{source.where} is no table: {error}") from None
    yield builder.document(source)


def _delimiter(text: str, source: Source) -> str:
    if source.suffix == ".tsv":
        return "\t"
    try:
        return csv.Sniffer().sniff(text[:SAMPLE].rsplit("\n", 1)[0], ",;\t|").delimiter
    except csv.Error:
        return ","


def read_json(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a JSON file: a document a record of a list, or the whole as it is written.

    Raises:
        Unreadable: the file is not JSON.
    """
    text, warnings = read_text(source)
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        place = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable("broken", f"{source.where} is no JSON{place}") from None
    records = found if isinstance(found, list) else [found]
    if records and all(isinstance(r, dict) and is_record([*r], config) for r in records):
        yield from documents_of_records(records, source, config)
        return
    builder = BlockBuilder()
    builder.warnings += warnings
    builder.code(json.dumps(found, ensure_ascii=False, indent=1))
    yield builder.document(source)
