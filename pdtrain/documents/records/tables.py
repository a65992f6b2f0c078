"""Read files that hold one document a record: JSON lines, and Parquet and Arrow data sets."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import (
    Document,
    Source,
    Unreadable,
    is_no_title,
    says_nothing,
)
from pdtrain.documents.encoding.damaged import unescaped
from pdtrain.documents.plain import make_document
from pdtrain.documents.readers.html import add_html
from pdtrain.documents.records.lines import utf8_lines
from pdtrain.documents.records.question_answers import COLUMNS, chat_of, is_question, question_of
from pdtrain.documents.records.templates import columns_of, fill
from pdtrain.storage import json_lines

Pick = Callable[[list[str]], list[str]]

BATCH_SIZE = 1024  # records of a Parquet file that are in memory at a time
MOST_BAD = 100  # records at the beginning of a file; where there are more, the rest is as bad
LEFT_OUT = "records left out: "  # begins what is said of them
MOST_CHARACTERS = 1 << 30  # of all texts of a file, and besides
MOST_TIMES = 256  # the file's size
SURROGATE = re.compile(r"[\ud800-\udfff]")
# of a title beside a page; "List<String>" is none
TAG = re.compile(
    r"</?(?:a|abbr|b|bdi|br|cite|code|em|font|i|img|mark|q|s|small|span|strong|su[bp]|u|wbr)"
    r"(?:[\s/][^<>]*)?>",
    re.IGNORECASE,
)
# begins a text that is a page or a part of one, and in which an element ends at last
BEGINS_PAGE = re.compile(
    r"\s*(?:<!--.{0,200}?-->\s*)?<(?:!doctype html|html|body|div|span|p|h[1-6]|ul|ol|dl|table|pre|"
    r"section|article|main|blockquote|figure|center|font)\b[^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
ENDS_PAGE = re.compile(r"(?:</\w+\s*>|-->)\s*\Z")
# what is only read as Markdown, though a picture of a page may stand above it
MARKDOWN = re.compile(r"^(?:#{1,6} \S|```|~~~)", re.MULTILINE)


def read_json_lines(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a document from every line of a `.jsonl` file.

    A record holds its text under `corpus.text_field`, or `corpus.text` says what it is made of. It
    may have a title under `corpus.title_field`, and an `id`, which then takes the place of its
    number. Where it holds a question with its answer instead, the text is the context that comes
    with it, or both of them, and of a chat all that is said.
    """
    with source.open() as stream:
        lines, warnings = utf8_lines(stream, source.where)
        documents = documents_of_records(_records_of_lines(lines, source.where), source, config)
        yield from with_warnings(documents, warnings)


def with_warnings(documents: Iterator[Document], warnings: tuple[str, ...]) -> Iterator[Document]:
    """Yield documents, of which the first has what is to be said of their file."""
    for document in documents:
        yield replace(document, warnings=(*warnings, *document.warnings))
        warnings = ()


def _records_of_lines(lines: Iterable[bytes], name: str) -> Iterator[Any]:
    """Yield the records of the lines of a JSONL file, and in the place of a bad one its fault."""
    for number, line in enumerate(lines, 1):
        try:
            yield from json_lines([line], name, number)
        except ValueError as error:
            yield error
        except RecursionError:
            yield ValueError(f"{name}, line {number}: the record is nested too deeply")


def read_parquet(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read the records of a Parquet file, the form in which Hugging Face publishes data sets."""
    records = parquet_records(source, pick(source, config))
    return documents_of_records(records, source, config)


def read_arrow(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read the records of an Arrow stream, as `save_to_disk` of Hugging Face datasets writes it."""
    records = arrow_records(source, pick(source, config))
    return documents_of_records(records, source, config)


def parquet_records(source: Source, take: Pick) -> Iterator[dict[str, Any]]:
    """Yield the records of a Parquet file, with the columns that `take` picks of all names."""
    from pyarrow import ArrowException, types
    from pyarrow.parquet import ParquetFile

    try:
        with source.open() as stream, ParquetFile(stream) as file:
            schema = file.schema_arrow
        columns = take(schema.names)
        # a text that stands in every record is held once, as the file has it, and not a batch of it
        texts = [name for name in columns if types.is_string(schema.field(name).type)]
        with source.open() as stream, ParquetFile(stream, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=BATCH_SIZE, columns=columns):
                for row in range(batch.num_rows):
                    yield {name: batch.column(name)[row].as_py() for name in columns}
    except (OSError, ArrowException) as error:
        raise ValueError(f"{source.where} cannot be read as Parquet: {error}") from None


def arrow_records(source: Source, take: Pick) -> Iterator[dict[str, Any]]:
    """Yield the records of an Arrow stream, with the columns that `take` picks of all names."""
    from pyarrow import ArrowException, ipc

    try:
        with source.open() as stream, ipc.open_stream(stream) as batches:
            columns = take(batches.schema.names)
            for batch in batches:
                yield from batch.select(columns).to_pylist()
    except (OSError, ArrowException) as error:
        raise ValueError(f"{source.where} cannot be read as an Arrow stream: {error}") from None


def pick(source: Source, config: CorpusConfig) -> Pick:
    """Return what takes the columns that a document is made of: others may hold pictures."""

    def columns(names: list[str]) -> list[str]:
        beside = [name for name in (config.title_field, "id") if name in names]
        try:
            if config.title:
                beside += columns_of(config.title, names)
            if config.text:
                return list(dict.fromkeys([*columns_of(config.text, names), *beside]))
        except ValueError as error:
            raise ValueError(f"{source.where}: {error}") from None
        if config.text_field in names:
            return list(dict.fromkeys([config.text_field, *beside]))
        if is_question(names):
            return [name for name in names if name in (*COLUMNS, *beside)]
        raise ValueError(
            f"{source.where}: expected a column {config.text_field!r}, found "
            f"{', '.join(sorted(names))}; set corpus.text_field to the column that holds the text"
        )

    return columns


def is_record(names: Sequence[str], config: CorpusConfig) -> bool:
    """Return whether a record with these columns is a document of its own."""
    return bool(config.text) or config.text_field in names or is_question(names)


def _known(value: Any) -> Any:
    """Return a value, and None for NaN, by which pandas says that there is none."""
    return None if isinstance(value, float) and value != value else value


def documents_of_records(
    records: Iterable[Any], source: Source, config: CorpusConfig
) -> Iterator[Document]:
    """Make a document of every record; one whose text is null becomes a document without text.

    A record without a title has none: the name of its file would be that of all others, too. One
    that does not hold what it should is left out, and the rest are read.

    Args:
        records: the records, and errors in the place of those that cannot be read.

    Raises:
        Unreadable: the texts are far larger than the file, as only a malicious one makes them.
        ValueError: records were left out; this is raised after the last one.
    """
    bad: list[ValueError] = []
    num_bad = num_read = 0
    for one in _each(records, source, config):
        if isinstance(one, Document):
            num_read += 1
            yield one
        else:
            num_bad += 1
            bad = bad or [one]
            if not num_read and num_bad == MOST_BAD:
                break
    if bad and num_read:
        raise ValueError(f"{LEFT_OUT}{num_bad}, the first of them: {bad[0]}")
    if bad:
        raise bad[0]


def _each(
    records: Iterable[Any], source: Source, config: CorpusConfig
) -> Iterator[Document | ValueError]:
    """Yield the document of every record, or what is wrong with it."""
    left = MOST_CHARACTERS + MOST_TIMES * source.size
    for number, record in enumerate(records, 1):
        where = f"{source.where}, record {number}"
        if isinstance(record, ValueError):
            yield record
            continue
        try:
            text, title = map(unescaped, _text_and_title(record, config, where))
        except ValueError as error:
            yield error
            continue
        left -= len(text) if source.size else 0  # a stream has no size
        if left < 0:
            raise Unreadable("too large", f"{where}: the texts are {MOST_TIMES} times the file")
        if SURROGATE.search(f"{text} {title}"):
            yield ValueError(
                f"{where}: half of a surrogate pair (\\ud800 to \\udfff), which is not a "
                "character; correct the text or leave the record out"
            )
            continue
        given = _known(record.get("id"))
        name = number if given is None or given == "" else given
        yield _document(source, text, title, name)


def _document(source: Source, text: str, title: str, name: object) -> Document:
    """Return the document of a record, whose text may be a page or a part of one."""
    if not _is_page(text):
        return make_document(source, text, title, record=name)
    builder = BlockBuilder()
    builder.title = html.unescape(TAG.sub("", title))
    add_html(builder, text, source)
    return builder.document(source, name)


def _is_page(text: str) -> bool:
    """Return whether a text is a page or a part of one, outside whose listings is no Markdown."""
    if not (BEGINS_PAGE.match(text) and ENDS_PAGE.search(text[-200:])):
        return False
    before_listings = (
        re.split("<pre", part, maxsplit=1, flags=re.IGNORECASE)[0]
        for part in re.split("</pre", text, flags=re.IGNORECASE)
    )
    return not any(map(MARKDOWN.search, before_listings))


def _text_and_title(record: Any, config: CorpusConfig, where: str) -> tuple[str, str]:
    """Return the text and the title of a record; empty where it has none.

    Raises:
        ValueError: it has no column of the name that is expected, or one of another kind.
    """
    found = ", ".join(sorted(record)) if isinstance(record, dict) else type(record).__name__
    try:
        title = fill(config.title, record) if config.title and isinstance(record, dict) else ""
        if config.text and isinstance(record, dict):
            return fill(config.text, record), title or _title(record, config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if isinstance(record, dict) and config.text_field not in record and is_question([*record]):
        if (asked := question_of(record)) is None:
            return "", ""
        return asked.context or chat_of(record) or asked.text, title or asked.title
    if not isinstance(record, dict) or config.text_field not in record:
        raise ValueError(
            f"{where}: expected a text under {config.text_field!r}, found {found}; set "
            "corpus.text_field to the key that holds the text"
        )
    text = _known(record[config.text_field])
    if isinstance(text, list) and all(one is None or isinstance(one, str) for one in text):
        text = "\n\n".join(filter(None, text))  # its paragraphs
    if text is not None and not isinstance(text, str):
        raise ValueError(
            f"{where}: {config.text_field!r} holds {type(text).__name__}, not a text; set "
            "corpus.text_field to the key that holds one, or leave the record out"
        )
    return "" if text is None or says_nothing(text) else text, title or _title(record, config)


def _title(record: dict[str, Any], config: CorpusConfig) -> str:
    """Return the title of a record; empty where what stands there names nothing."""
    title = _known(record.get(config.title_field))
    if isinstance(title, bool) or not isinstance(title, str | int | float):
        return ""
    if isinstance(title, float) and not math.isfinite(title):
        return ""
    return "" if is_no_title(str(title)) else str(title)
