"""Read source code and notebooks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.encoding.decoding import read_text
from pdtrain.documents.readers.html import add_chapter
from pdtrain.documents.readers.text import render_markdown

SUFFIXES = (
    ".py .pyi .c .h .cc .cpp .cxx .hpp .cs .java .kt .scala .swift .go .rs .js .mjs .jsx .ts .tsx "
    ".rb .php .pl .pm .lua .r .jl .m .sh .bash .zsh .ps1 .sql .hs .ml .ex .exs .erl .clj .lisp .el "
    ".vim .f90 .pas .v .vhd .tcl .yaml .yml .toml .ini .cfg .conf .tf .cmake .gradle .proto .tex "
    ".ac .adb .ads .am .asm .awk .bat .bzl .cmd .css .cu .cuh .dart .f .fs .groovy .hh .hxx .kts "
    ".less .m4 .mak .mk .mm .nim .nix .properties .pxd .pyx .s .scss .sv .svelte .thrift .vb .vue "
    ".zig"
).split()
# languages in which a text between three quotes may have empty lines
LONG_TEXTS = frozenset(
    (
        ".py .pyi .pyx .pxd .bzl .toml .groovy .gradle .kt .kts .scala .swift .jl .dart .ex .exs "
        ".java .cs .nim"
    ).split()
)
EMPTY_LINES = re.compile(r"\n(?:[ \t]*\n)+")
QUOTES_OR_EMPTY_LINES = re.compile(rf"\\.|\'\'\'|\"\"\"|{EMPTY_LINES.pattern}")
COOKIE = re.compile(rb"\A(?:[^\n]*\n)?[ \t]*#[^\n]*?coding[:=][ \t]*([\w.-]+)")


def read_code(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a file of source code: a block a function or class, under the file's own name."""
    cookie = COOKIE.match(source.read()[:400])
    text, warnings = read_text(source, cookie[1].decode() if cookie else "")
    builder = BlockBuilder()
    builder.warnings += warnings
    builder.title = PurePosixPath(source.name).name
    for part in _parts(text, source.suffix in LONG_TEXTS):
        builder.code(part, is_source=True)
    yield builder.document(source)


def _parts(text: str, has_long_texts: bool) -> Iterator[str]:
    """Divide a text at empty lines before one that begins at the margin, as functions do.

    Args:
        text: source code.
        has_long_texts: empty lines between three quotes are a part of what stands there.
    """
    start = 0
    borders = _outside_texts(text) if has_long_texts else None
    for empty in EMPTY_LINES.finditer(text) if borders is None else borders:
        following = text[empty.end() : empty.end() + 1]
        if following and not following.isspace() and following not in "})]":
            yield text[start : empty.start()]
            start = empty.end()
    yield text[start:]


def _outside_texts(text: str) -> list[re.Match[str]] | None:
    """Return the empty lines outside texts in three quotes; None where a quote is not closed."""
    found: list[re.Match[str]] = []
    open_by = ""
    for one in QUOTES_OR_EMPTY_LINES.finditer(text):
        if one[0] == open_by:
            open_by = ""
        elif not open_by and one[0][0] in "'\"":
            open_by = one[0]
        elif not open_by and one[0][0] == "\n":
            found.append(one)
    return None if open_by else found


def read_notebook(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a Jupyter notebook: its texts, its code, and what that printed.

    Raises:
        Unreadable: the file is no notebook.
    """
    text, _ = read_text(source)
    try:
        notebook = json.loads(text)
        sheets = notebook.get("worksheets") or [notebook]  # the notebooks of 2013 have sheets
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        builder = BlockBuilder()
        for cell in cells:
            _add_cell(builder, cell)
    except (json.JSONDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
        detail = f"{source.where} is no notebook ({type(error).__name__})"
        raise Unreadable("broken", detail) from None
    yield builder.document(source)


def _add_cell(builder: BlockBuilder, cell: dict[str, Any]) -> None:
    content = _joined(cell.get("source", cell.get("input", "")))
    if cell["cell_type"] == "markdown":
        add_chapter(builder, render_markdown(content), titled=not builder.title and not builder)
    elif cell["cell_type"] == "heading":
        builder.heading(content, int(cell.get("level", 1)))
    else:
        builder.code(content, is_source=True)
        for output in cell.get("outputs") or []:
            data = output.get("data") or output
            is_picture = any(kind.startswith("image/") for kind in data)
            said = "" if is_picture else data.get("text/plain")  # the name of its object
            printed = _joined(output.get("text") or said or "").split("\n")
            builder.code("\n".join(_last_state(line) for line in printed))


def _last_state(line: str) -> str:
    """Return what a line shows at last, such as the end of a bar of progress."""
    return line.rstrip("\r").rpartition("\r")[2]


def _joined(text: str | list[str] | None) -> str:
    return text if isinstance(text, str) else "".join(text or ())
