"""Read OpenDocument texts and presentations."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source
from pdtrain.documents.grid import WIDEST, Cell, Grid
from pdtrain.documents.readers.office_parts.zipped import (
    CORE,
    check_archive,
    damaged,
    has_member,
    locked,
)

if TYPE_CHECKING:
    from lxml.etree import _Element

MANIFEST = "META-INF/manifest.xml"
ODF = "{urn:oasis:names:tc:opendocument:xmlns:"
COLUMNS_SPANNED = "number-columns-spanned"
ROW_GROUPS = {
    f"{ODF}table:1.0}}{name}" for name in ("table-header-rows", "table-rows", "table-row-group")
}
LEFT_OUT = {
    f"{ODF}office:1.0}}annotation",
    f"{ODF}text:1.0}}tracked-changes",
    f"{ODF}text:1.0}}table-of-content",
    f"{ODF}office:1.0}}forms",
}


# what stands in boxes of its own beside a paragraph
BOXES = frozenset("text-box frame custom-shape rect ellipse circle polygon connector g".split())


def read_odt(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read an OpenDocument text or presentation (.odt, .odp)."""
    from lxml import etree

    with source.open() as stream:
        archive = check_archive(stream, source)
        try:
            if has_member(archive, MANIFEST) and b"encryption-data" in archive.read(MANIFEST):
                raise locked(source)
            parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
            content = etree.fromstring(archive.read("content.xml"), parser)
            meta = (
                etree.fromstring(archive.read("meta.xml"), parser)
                if has_member(archive, "meta.xml")
                else None
            )
        except (KeyError, etree.XMLSyntaxError, zipfile.BadZipFile) as error:
            raise damaged(source, "an OpenDocument file", error) from None
    builder = BlockBuilder()
    if meta is not None:
        builder.title = meta.findtext(f".//{CORE}title") or ""
        builder.add_metadata(
            {"author": meta.findtext(f".//{CORE}creator"), "date": meta.findtext(f".//{CORE}date")}
        )
    _add_odf(builder, content)
    yield builder.document(source)


def _add_odf(builder: BlockBuilder, root: _Element) -> None:
    from lxml import etree

    events = etree.iterwalk(root, events=("start",))
    for _, element in events:
        name = element.tag
        if name in LEFT_OUT:
            events.skip_subtree()
        elif name == f"{ODF}text:1.0}}h":
            level = element.get(f"{ODF}text:1.0}}outline-level") or "1"
            builder.heading(_odf_text(element), int(level) + 1 if level.isdecimal() else 2)
            events.skip_subtree()
        elif name == f"{ODF}text:1.0}}p":
            if _is_title_of_slide(element):
                builder.heading(_odf_text(element), 2)
            else:
                builder.prose(_odf_text(element))
            if not any(True for _ in element.iter(f"{ODF}drawing:1.0}}*")):
                events.skip_subtree()
        elif name == f"{ODF}table:1.0}}table":
            header = element.find(f"{ODF}table:1.0}}table-header-rows")
            grid = Grid()
            rows = [grid.row(_cells(row)) for row in _own_rows(element)]
            builder.table(rows, 1 if header is None and len(rows) > 1 else len(header or ()))
            events.skip_subtree()


def _is_title_of_slide(paragraph: _Element) -> bool:
    frame = next(paragraph.iterancestors(f"{ODF}drawing:1.0}}frame"), None)
    return frame is not None and frame.get(f"{ODF}presentation:1.0}}class") == "title"


def _own_rows(table: _Element) -> Iterator[_Element]:
    """Yield the rows of a table, and none of the tables in its cells."""
    for part in table:
        if part.tag == f"{ODF}table:1.0}}table-row":
            yield part
        elif part.tag in ROW_GROUPS:
            yield from _own_rows(part)


def _cells(row: _Element) -> Iterator[Cell]:
    """Yield the cells of a row but those that others reach into."""
    for cell in row:
        if cell.tag != f"{ODF}table:1.0}}table-cell":
            continue
        found = Cell(
            _odf_text(cell, with_boxes=True),
            _number(cell, "number-rows-spanned"),
            _number(cell, COLUMNS_SPANNED),
        )
        for _ in range(min(_number(cell, "number-columns-repeated"), WIDEST)):
            yield found


def _number(cell: _Element, name: str) -> int:
    given = cell.get(f"{ODF}table:1.0}}{name}") or "1"
    return int(given) if given.isdecimal() and len(given) < 6 else 1


def _odf_text(element: _Element, *, with_boxes: bool = False) -> str:
    """Return the text of a paragraph or cell, with the blanks that elements stand for.

    Args:
        with_boxes: what stands in boxes belongs to it, as in the cell of a table.
    """
    parts = [element.text or ""]
    for child in element:
        name = str(child.tag).rsplit("}", 1)[-1]
        if name in ("s", "tab", "line-break"):
            parts.append(" ")
        elif name == "note":
            body = child.find(f"{ODF}text:1.0}}note-body")
            parts.append(f" [{_odf_text(body).strip()}]" if body is not None else "")
        elif name not in ("annotation", "note-citation", "ruby-text") and (
            with_boxes or name not in BOXES
        ):
            ends = name in ("p", "h", "list-item")
            parts.append(_odf_text(child, with_boxes=with_boxes) + " " * ends)
        elif name in BOXES:
            parts.append(" ")
        parts.append(child.tail or "")
    return "".join(parts)
