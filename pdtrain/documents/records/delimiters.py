"""Find what parts the cells of a table in a text file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from pdtrain.config import CorpusConfig
from pdtrain.documents.records.rows import Rows
from pdtrain.documents.records.tables import is_record

SAMPLE = 1 << 14  # characters that the delimiter is told from
DELIMITERS = ",;\t|"
# a quote that a backslash keeps in its cell, where the cell does not end behind it
ESCAPED = re.compile(r"(?<!\\)\\\"(?![\",;|\t\r\n]|\Z)")
PLAIN_BACKSLASH = re.compile(r"(?<!\\)\\(?![\"\\])")  # as in a path, which no escape has
WHOLE = re.compile(r'(?:^|\t)"(?:[^"\t]|"")*"(?=\t|\r|$)', re.MULTILINE)  # a cell in quotes
NONE = "\x1f"  # no text holds it
LONGEST_CELL = 1 << 24
DECLARED = re.compile(r"sep=([^\w\s\"]|\t)[ \t]*(?:\r\n|\r|\n)", re.IGNORECASE)


def rows_of(text: str, suffix: str, config: CorpusConfig) -> tuple[list[str], Iterator[list[str]]]:
    """Return the first row of a table, which names the columns, and an iterator of the others.

    It is one of `Rows` where cells may stand in quotes, and says how many of these do not fit.

    Args:
        text: the table, with quotes around the cells that need them.
        suffix: of the file's name, with its dot.
        config: says which columns make a row a record.
    """
    csv.field_size_limit(LONGEST_CELL)
    declared = DECLARED.match(text)  # by a line of its own, as Excel does
    text = text[declared.end() :] if declared else text
    delimiter = declared[1] if declared else _delimiter(text, suffix, config)
    is_escaped = ESCAPED.search(text) and not PLAIN_BACKSLASH.search(text)
    escape = "\\" if is_escaped else None
    has_inches = delimiter == "\t" and '"' in text and not _is_quoted(text, escape)
    rows: Iterator[list[str]]
    if has_inches:
        stream = io.StringIO(text, newline="")
        rows = csv.reader(stream, delimiter="\t", skipinitialspace=True, quoting=csv.QUOTE_NONE)
    else:
        rows = Rows(text, delimiter, escape)
    return [name.strip() for name in next(filter(any, rows), [])], rows


def _is_quoted(text: str, escape: str | None) -> bool:
    """Return whether the quotes of a table with tabs stand round whole cells, and are no inches."""
    if WHOLE.search(text):
        return True
    stream = io.StringIO(text, newline="")
    try:
        for _ in csv.reader(stream, delimiter="\t", strict=True, escapechar=escape):
            pass
    except csv.Error:
        return False
    return True


def _delimiter(text: str, suffix: str, config: CorpusConfig) -> str:
    header = text.lstrip().partition("\n")[0]
    if not config.text and is_record([header.strip().strip('"')], config):
        return NONE  # the only column holds the text, with whatever signs
    if suffix == ".tsv":
        return "\t"
    try:
        found = csv.Sniffer().sniff(text[:SAMPLE].rsplit("\n", 1)[0], DELIMITERS).delimiter
    except csv.Error:  # of rows with other numbers of cells, the header tells most
        found = ""
    if found and found in header:
        return found
    likely = max(DELIMITERS, key=header.count)  # the texts of the cells may hold the other ones
    return likely if likely in header else found or ","
