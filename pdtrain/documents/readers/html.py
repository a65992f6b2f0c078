"""Read HTML pages, and what other formats are rendered to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source, is_no_title
from pdtrain.documents.encoding.decoding import decode
from pdtrain.documents.plain import add_plain
from pdtrain.documents.readers.html_page.inline import InlineText
from pdtrain.documents.readers.html_page.listings import Listings, wraps
from pdtrain.documents.readers.html_page.parts import (
    BLOCKS,
    HEADINGS,
    find_main,
    find_title,
    forget_frame,
    is_boilerplate,
    is_hidden,
)
from pdtrain.documents.readers.html_page.tables import layout_tables, read_table
from pdtrain.documents.readers.html_page.tree import parse_html

if TYPE_CHECKING:
    from lxml.etree import _Element

HEAD = 1024  # characters that tell what a text is
DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w:.-]+)""", re.IGNORECASE)
XML_DECLARED = re.compile(rb"""\A\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w:.-]+)""")


def is_page(text: str) -> bool:
    """Return whether a text is a page, whatever the name of its file says."""
    return text[:HEAD].lstrip().lower().startswith(("<!doctype html", "<html"))


def read_html(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a page's text without its scripts, navigation, header, footer and form fields."""
    data = source.read()
    declared = DECLARED.search(data[:4096]) or XML_DECLARED.match(data[:200])
    html, warnings = decode(data, source.where, declared[1].decode() if declared else "")
    builder = BlockBuilder()
    builder.warnings += warnings
    add_html(builder, html, source)
    yield builder.document(source)


def add_html(builder: BlockBuilder, html: str, source: Source) -> None:
    """Add the blocks of a page; its main heading becomes the title and leaves the text.

    Where the document has a title already, such as the subject of a message, the heading stays.

    Args:
        builder: gets the blocks, the title, and what the page says about itself.
        html: the page, or a fragment that another format was rendered to.
        source: the file that the page stands in or was rendered from.
    """
    page = parse_html(html, is_xml=source.suffix == ".xhtml")
    heading = None if builder.title else find_title(page)
    if heading is not None:
        title = InlineText()
        title.add_all(heading)
        builder.title = title.take_line()
        if is_no_title(builder.title):
            builder.title = next((e.text for e in page.iter("title") if e.text), "")
    builder.add_metadata(_metadata(page))
    main = find_main(page)
    _Walk(builder, heading, by_class=True).add(main)
    if not builder:  # what looked like a frame was all there is
        _Walk(builder, heading, by_class=False).add(page)


def add_chapter(
    builder: BlockBuilder, html: str, titled: bool = False, is_xml: bool = False
) -> None:
    """Add a page that is a part of a document; its main heading becomes a heading of level 1.

    Args:
        builder: gets the blocks.
        html: the page.
        titled: the main heading is the document's title instead.
        is_xml: the page is written in XML.
    """
    page = parse_html(html, is_xml)
    forget_frame(page)
    heading = find_title(page)
    if heading is not None and heading.tag == "title":
        heading = None
    if heading is not None:
        words = InlineText()
        words.add_all(heading)
        if titled:
            builder.title = words.take_line()
        else:
            builder.heading(words.take_line(), 1)
    _Walk(builder, heading, by_class=True, in_book=True).add(find_main(page))


def _metadata(page: _Element) -> dict[str, str]:
    names = {
        "author": "author",
        "date": "date",
        "dcterms.date": "date",
        "description": "description",
    }
    found = {
        names[name]: meta.get("content") or ""
        for meta in page.iter("meta")
        if (name := (meta.get("name") or "").lower()) in names
    }
    return found | {"language": page.get("lang") or ""}


class _Walk:
    """Go once through a tree, and add a block wherever a block element begins or ends."""

    def __init__(
        self, builder: BlockBuilder, title: _Element | None, by_class: bool, in_book: bool = False
    ) -> None:
        self.builder = builder
        self.title = title
        self.by_class, self.in_book = by_class, in_book
        self.inline = InlineText()
        self.listings = Listings()

    def add(self, root: _Element) -> None:
        """Add all blocks below an element."""
        from lxml import etree

        layout = layout_tables(root)
        events = etree.iterwalk(root, events=("start", "end"))
        skipped: _Element | None = None
        for event, element in events:
            if event == "start":
                if self._is_left_out(element) or self._is_whole(element, layout):
                    skipped = element
                    events.skip_subtree()
                else:
                    self._begin(element)
            else:
                if element is skipped:
                    skipped = None
                else:
                    self._end(element)
                if element is not root:
                    self.inline.text(element.tail)
        self._flush()

    def _is_left_out(self, element: _Element) -> bool:
        if element is self.title or is_hidden(element):
            left_out = True
        elif element.tag == "textarea":
            left_out = self.listings.lines(element) is None
        else:
            left_out = is_boilerplate(element, self.by_class, self.in_book)
        if left_out and element.tag in BLOCKS:
            self._flush()
        return left_out

    def _is_whole(self, element: _Element, layout: set[_Element]) -> bool:
        """Add an element that is read as a whole, and return whether it was one."""
        lines = self.listings.lines(element)
        if lines is not None:
            self._flush()
            if wraps(element):
                add_plain(self.builder, lines)
            else:
                self.builder.code(lines)
            return True
        if element.tag == "table" and element not in layout:
            self._flush()
            caption, parts = read_table(element)
            self.builder.prose(caption)
            for part in parts:
                if part.heading is not None:
                    self._add_heading(part.heading)
                self.builder.table(part.rows, part.header)
            return True
        if element.tag in HEADINGS:
            self._flush()
            self._add_heading(element)
            return True
        return self.inline.add_whole(element)

    def _add_heading(self, element: _Element) -> None:
        if element is not self.title:
            words = InlineText()
            words.add_all(element)
            self.builder.heading(words.take_line(), HEADINGS[element.tag])

    def _begin(self, element: _Element) -> None:
        if element.tag in BLOCKS:
            self._flush()
        self.inline.begin(element)

    def _end(self, element: _Element) -> None:
        self.inline.end(element)
        if element.tag in BLOCKS:
            self._flush()

    def _flush(self) -> None:
        self.builder.prose(self.inline.take())
