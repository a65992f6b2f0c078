"""Read files that hold one document a record: JSON lines, and Parquet and Arrow data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, Source
from pdtrain.documents.plain import make_document
from pdtrain.storage import json_lines

BATCH_SIZE = 1024  # records of a Parquet file that are in memory at a time
SURROGATE = re.compile(r"[\ud800-\udfff]")


def read_json_lines(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a document from every line of a `.jsonl` file.

    A record holds its text under `corpus.text_field`. It may have a title under
    `corpus.title_field`, and an `id`, which then takes the place of its number.
    """
    with source.open() as stream:
        yield from documents_of_records(json_lines(stream, source.where), source, config)


def read_parquet(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read the records of a Parquet file, the form in which Hugging Face publishes data sets."""
    return documents_of_records(_parquet_records(source, config), source, config)


def read_arrow(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read the records of an Arrow stream, as `save_to_disk` of Hugging Face datasets writes it."""
    return documents_of_records(_arrow_records(source, config), source, config)


def _parquet_records(source: Source, config: CorpusConfig) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with source.open() as stream, ParquetFile(stream) as file:
            columns = _columns_to_read(file.schema_arrow.names, source, config)
            for batch in file.iter_batches(batch_size=BATCH_SIZE, columns=columns):
                yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise ValueError(f"{source.where} cannot be read as Parquet: {error}") from None


def _arrow_records(source: Source, config: CorpusConfig) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException, ipc

    try:
        with source.open() as stream, ipc.open_stream(stream) as batches:
            columns = _columns_to_read(batches.schema.names, source, config)
            for batch in batches:
                yield from batch.select(columns).to_pylist()
    except (OSError, ArrowException) as error:
        raise ValueError(f"{source.where} cannot be read as an Arrow stream: {error}") from None


def _columns_to_read(names: list[str], source: Source, config: CorpusConfig) -> list[str]:
    """Return the columns that a document is made of: the others may hold pictures or sound."""
    if config.text_field not in names:
        raise ValueError(
            f"{source.where}: expected a column {config.text_field!r}, found "
            f"{', '.join(sorted(names))}; set corpus.text_field to the column that holds the text"
        )
    return [name for name in (config.text_field, config.title_field, "id") if name in names]


def _known(value: Any) -> Any:
    """Return a value, and None for NaN, by which pandas says that there is none."""
    return None if isinstance(value, float) and value != value else value


def documents_of_records(
    records: Iterable[Any], source: Source, config: CorpusConfig
) -> Iterator[Document]:
    """Make a document of every record; one whose text is null becomes a document without text."""
    for number, record in enumerate(records, 1):
        where = f"{source.where}, record {number}"
        if not isinstance(record, dict) or config.text_field not in record:
            found = ", ".join(sorted(record)) if isinstance(record, dict) else type(record).__name__
            raise ValueError(
                f"{where}: expected a text under {config.text_field!r}, found {found}; set "
                "corpus.text_field to the key that holds the text"
            )
        text, title = (_known(record.get(key)) for key in (config.text_field, config.title_field))
        if text is not None and not isinstance(text, str):
            raise ValueError(
                f"{where}: {config.text_field!r} holds {type(text).__name__}, not a text; set "
                "corpus.text_field to the key that holds one, or leave the record out"
            )
        if SURROGATE.search(f"{text} {title}"):
            raise ValueError(
                f"{where}: half of a surrogate pair (\\ud800 to \\udfff), which is not a "
                "character; correct the text or leave the record out"
            )
        given = record.get("id")
        name = number if given is None else given
        yield make_document(source, text or "", str(title or ""), record=name)
