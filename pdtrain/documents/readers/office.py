"""Read office documents: Word, PowerPoint and spreadsheets."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.grid import Cell, Grid
from pdtrain.documents.readers.html import add_html
from pdtrain.documents.readers.office_parts.listings import with_listings
from pdtrain.documents.readers.office_parts.sheet_rows import Merged, add_rows, cell_text
from pdtrain.documents.readers.office_parts.word_text import with_plain_text
from pdtrain.documents.readers.office_parts.zipped import (
    CORE,
    check_archive,
    damaged,
    has_member,
    locked,
)
from pdtrain.errors import how_to_install

# a formula that no value follows, in the XML of a sheet
NO_VALUE = re.compile(rb"(?:</f>|<f(?:\s[^<>]*)?/>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>")
STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
p[style-name='HTML Preformatted'] => pre:separator('\\n')
p[style-name='Code'] => pre:separator('\\n')
p[style-name='Source Code'] => pre:separator('\\n')
p[style-name='Preformatted Text'] => pre:separator('\\n')
p[style-name='Code Block'] => pre:separator('\\n')
p[style-name='TOC Heading'] => !
p[style-name='table of figures'] => !
"""
STYLES += "".join(f"p[style-name='toc {level}'] => !\n" for level in range(1, 10))


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
                with_plain_text(stream),
                style_map=STYLES,
                transform_document=with_listings,
                convert_image=mammoth.images.img_element(lambda image: {}),
                include_embedded_style_map=False,
                ignore_empty_paragraphs=False,  # they may be empty lines of a listing
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
    builder.end_section(2)  # a slide without a title is no part of the one before
    if title is not None:
        builder.heading(title.text_frame.text, 2)
    for shape in _in_reading_order(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_table:
            grid = Grid()
            rows = [grid.row(_cells(row)) for row in shape.table.rows]
            builder.table(rows, header=int(shape.table.first_row))
        elif shape.has_chart:
            _add_chart(builder, shape.chart)
        elif shape.has_text_frame:
            for paragraph in shape.text_frame.paragraphs:
                builder.prose(_line(paragraph))
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        for paragraph in slide.notes_slide.notes_text_frame.paragraphs:
            builder.prose(paragraph.text)


def _add_chart(builder: BlockBuilder, chart: Any) -> None:
    """Add the title of a chart, and a table of what it shows of each category."""
    if chart.has_title and chart.chart_title.has_text_frame:
        builder.prose(chart.chart_title.text_frame.text)
    for plot in chart.plots:
        names = [str(series.name) for series in plot.series]
        values = [list(series.values) for series in plot.series]
        rows = [
            [str(label), *(cell_text(one[n]) if n < len(one) else "" for one in values)]
            for n, label in enumerate(plot.categories)
        ]
        builder.table([["", *names], *rows], header=1)


def _line(paragraph: Any) -> str:
    """Return the text of a paragraph without fields, such as the number of the slide."""
    parts = paragraph._element.content_children  # runs alone would glue the lines of a paragraph
    return "".join(part.text for part in parts if not part.tag.endswith("}fld"))


def _cells(row: Any) -> Iterator[Cell]:
    """Yield the cells of a row on a slide but those that others reach into."""
    for cell in row.cells:
        if cell.is_merge_origin:
            yield Cell(cell.text, cell.span_height, cell.span_width)
        elif not cell.is_spanned:
            yield Cell(cell.text)


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
                found = book.get_sheet_by_name(sheet.name)
                add_rows(builder, found.iter_rows(), _merged(found))
            if source.suffix in (".xlsx", ".xlsm") and (count := _without_values(stream)):
                builder.warnings.append(f"{count} formulas without a value left out")
        except Unreadable:
            raise
        except (calamine.CalamineError, ValueError, OSError) as error:
            if "password" in str(error).lower():
                raise locked(source) from None
            raise damaged(source, "a spreadsheet", error) from None
    yield builder.document(source)


def _merged(sheet: Any) -> Merged:
    """Return the groups of cells that are one; rows count from the sheet's, columns from its start.

    Formats that the library does not tell them of have none.
    """
    start = sheet.start[1] if sheet.start else 0
    found = sheet.merged_cell_ranges or []
    return [((a, b - start), (c, d - start)) for (a, b), (c, d) in found if b >= start]


def _without_values(stream: BinaryIO) -> int:
    """Count the formulas of a workbook whose program has not stored what they come to."""
    count = 0
    with zipfile.ZipFile(stream) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                count += len(NO_VALUE.findall(archive.read(name)))
    return count


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
            f"{how_to_install('documents')}"
        ) from None
