"""Read tables in text files (CSV, TSV) and records in JSON files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.decoding import read_text
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.readers.office import add_rows
from pdtrain.documents.records.tables import documents_of_records, is_record

SAMPLE = 1 << 14  # characters that the delimiter is told from
DELIMITERS = ",;\t|"
LONGEST_CELL = 1 << 24


def read_delimited(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a CSV or TSV file: a document a record, or one table.

    The records are documents where a column is named `corpus.text_field`, where `corpus.text` is
    set, and where the columns are those of questions and answers.
    """
    text, warnings = read_text(source)
    csv.field_size_limit(LONGEST_CELL)
    delimiter = _delimiter(text, source)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = next(rows, [])
        if is_record(names, config):
            yield from _documents(names, rows, source, config)
            return
        builder = BlockBuilder()
        builder.warnings += warnings
        add_rows(builder, [names, *rows])
    except csv.Error as error:
        raise Unreadable("broken", f"{source.where} is no table: {error}") from None
    yield builder.document(source)


def _documents(
    names: Sequence[str], rows: Iterable[Sequence[str]], source: Source, config: CorpusConfig
) -> Iterator[Document]:
    """Yield a document a row; cells beyond the last column are left out with a warning."""
    row: Sequence[str] = ()

    def records() -> Iterator[dict[str, str]]:
        nonlocal row
        for row in rows:
            if any(row):
                yield dict(zip(names, row, strict=False))

    for document in documents_of_records(records(), source, config):
        is_wide = any(row[len(names) :])
        beyond = ("cells beyond the last column left out",) if is_wide else ()
        yield replace(document, warnings=(*document.warnings, *beyond))


def _delimiter(text: str, source: Source) -> str:
    if source.suffix == ".tsv":
        return "\t"
    try:
        return csv.Sniffer().sniff(text[:SAMPLE].rsplit("\n", 1)[0], DELIMITERS).delimiter
    except csv.Error:  # of rows with other numbers of cells, the header tells most
        header = text.lstrip().partition("\n")[0]
        return max(DELIMITERS, key=header.count)


def read_json(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a JSON file: a document a record of a list, or the whole as it is written.

    Raises:
        Unreadable: the file is not JSON.
    """
    text, warnings = read_text(source)
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        deep = ": it is nested too deeply"
        place = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else deep
        raise Unreadable("broken", f"{source.where} is no JSON{place}") from None
    records = found if isinstance(found, list) else [found]
    if records and all(isinstance(r, dict) and is_record([*r], config) for r in records):
        yield from documents_of_records(records, source, config)
        return
    builder = BlockBuilder()
    builder.warnings += warnings
    builder.code(json.dumps(found, ensure_ascii=False, indent=1))
    yield builder.document(source)
