"""Read office documents: Word, PowerPoint and spreadsheets."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.readers.html import add_html
from pdtrain.documents.readers.zipped import CORE, check_archive, damaged, has_member, locked

MOST_CELLS = 50_000_000  # of a table, with those that are empty
STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
p[style-name='HTML Preformatted'] => pre:separator('\\n')
p[style-name='Code'] => pre:separator('\\n')
p[style-name='Source Code'] => pre:separator('\\n')
"""


def read_docx(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a Word document (.docx) without headers, footers, comments and deleted text."""
    mammoth = _extra("mammoth", source)
    with source.open() as stream:
        check_archive(stream, source)
        builder = BlockBuilder()
        builder.add_metadata(_core_properties(stream))
        stream.seek(0)
        try:
            html = mammoth.convert_to_html(
                stream,
                style_map=STYLES,
                convert_image=mammoth.images.img_element(lambda image: {}),
                include_embedded_style_map=False,
            ).value
        except Exception as error:  # the library raises whatever its parts do
            raise damaged(source, "a Word document", error) from None
    title = builder.metadata.pop("title", "")
    add_html(builder, html, source)
    builder.title = builder.title or title
    yield builder.document(source)


def read_pptx(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a PowerPoint file (.pptx): a section a slide, with its tables and its notes."""
    pptx = _extra("pptx", source)
    with source.open() as stream:
        check_archive(stream, source)
        try:
            slides = pptx.Presentation(stream)
            builder = BlockBuilder()
            builder.title = slides.core_properties.title or ""
            builder.add_metadata({"author": slides.core_properties.author})
            for slide in slides.slides:
                _add_slide(builder, slide)
        except Exception as error:  # the library raises whatever its parts do
            raise damaged(source, "a PowerPoint file", error) from None
    yield builder.document(source)


def _add_slide(builder: BlockBuilder, slide: Any) -> None:
    if slide._element.get("show") == "0":
        builder.warnings.append("hidden slides left out")
        return
    title = slide.shapes.title
    if title is not None:
        builder.heading(title.text_frame.text, 2)
    for shape in _in_reading_order(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_table:
            rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
            builder.table(rows, header=int(shape.table.first_row))
        elif shape.has_text_frame:
            for paragraph in shape.text_frame.paragraphs:
                builder.prose("".join(run.text for run in paragraph.runs))
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        for paragraph in slide.notes_slide.notes_text_frame.paragraphs:
            builder.prose(paragraph.text)


def _in_reading_order(shapes: Any) -> Iterator[Any]:
    """Yield the shapes from top to bottom and left to right, those of groups in their place."""
    for shape in sorted(shapes, key=lambda s: (s.top or 0, s.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _in_reading_order(shape.shapes)
        else:
            yield shape


def read_spreadsheet(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read the tables of a spreadsheet (.xlsx, .xls, .ods); empty rows part them."""
    calamine = _extra("python_calamine", source)
    with source.open() as stream:
        if stream.read(4) == b"PK\x03\x04":
            check_archive(stream, source)
        stream.seek(0)
        try:
            book = calamine.load_workbook(stream)
            builder = BlockBuilder()
            visible = [s for s in book.sheets_metadata if str(s.visible).endswith("Visible")]
            visible = [s for s in visible if str(s.typ).endswith("WorkSheet")]
            if len(visible) < len(book.sheets_metadata):
                builder.warnings.append("hidden sheets and charts left out")
            for sheet in visible:
                if len(visible) > 1:
                    builder.heading(sheet.name, 2)
                add_rows(builder, book.get_sheet_by_name(sheet.name).iter_rows())
        except Unreadable:
            raise
        except (calamine.CalamineError, ValueError, OSError) as error:
            if "password" in str(error).lower():
                raise locked(source) from None
            raise damaged(source, "a spreadsheet", error) from None
    yield builder.document(source)


def add_rows(builder: BlockBuilder, rows: Any) -> None:
    """Add rows of cells as tables; the first row of each names its columns."""
    held: list[list[str]] = []
    for row in rows:
        cells = [_cell(value) for value in row]
        if any(cells):
            held.append(cells)
            continue
        _add_table(builder, held)
        held = []
    _add_table(builder, held)


def _add_table(builder: BlockBuilder, rows: Sequence[list[str]]) -> None:
    """Add the rows without the columns that are empty in all of them."""
    width = max(map(len, rows), default=0)
    if width * len(rows) > MOST_CELLS:
        raise Unreadable(
            "too large", f"a table of {len(rows)} rows and {width} columns, most of them empty"
        )
    filled = [n for n in range(width) if any("".join(row[n : n + 1]) for row in rows)]
    kept = [[row[n] if n < len(row) else "" for n in filled] for row in rows]
    if len(filled) == 1:
        for row in kept:
            builder.prose(row[0])
    else:
        builder.table(kept, header=1)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("T00:00:00", "").replace("T", " ")
    return str(value)


def _core_properties(stream: BinaryIO) -> dict[str, str | None]:
    from lxml import etree

    with zipfile.ZipFile(stream) as archive:
        if not has_member(archive, "docProps/core.xml"):
            return {}
        try:
            parser = etree.XMLParser(resolve_entities=False, no_network=True)
            core = etree.fromstring(archive.read("docProps/core.xml"), parser)
        except (etree.XMLSyntaxError, zipfile.BadZipFile):
            return {}
    return {"title": core.findtext(f"{CORE}title"), "author": core.findtext(f"{CORE}creator")}


def _extra(name: str, source: Source) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ValueError(
            f"{source.where} is an office document, which needs an extra: "
            "pip install 'pdtrain[documents]'"
        ) from None
