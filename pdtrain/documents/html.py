"""Read HTML pages, and what other formats are rendered to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, Source, make_document, read_utf8

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

# elements that begin and end a paragraph
BLOCKS = "p div br li tr h1 h2 h3 h4 h5 h6 pre blockquote section article dt dd".split()
# elements that hold nothing to learn; a form stays, since some pages stand in one as a whole
NOT_TEXT = (
    "script style nav header footer aside noscript template svg button title label select textarea"
).split()


def read_html(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a page's text without its scripts, navigation, header, footer and form fields."""
    yield document_from_html(read_utf8(source), source)


def document_from_html(html: str, source: Source) -> Document:
    """Make a document of a page; its main heading becomes the title and leaves the text.

    Args:
        html: the page, or a fragment that another format was rendered to.
        source: the file that the page stands in or was rendered from.
    """
    from bs4 import BeautifulSoup
    from bs4.element import NavigableString

    page = BeautifulSoup(html, "html.parser")
    heading = _main_heading(page)
    title = " ".join(heading.get_text(" ").split()) if heading else ""
    for tag in [*([heading] if heading else []), *page.find_all(NOT_TEXT)]:
        tag.decompose()
    for text in page.find_all(string=True):
        if type(text) is NavigableString:  # comments and doctypes are of its subclasses
            # a line break in the source ends no paragraph
            text.replace_with(re.sub(r"\s+", " ", text))
    for tag in page.find_all(BLOCKS):
        tag.append("\n\n")
        tag.insert_before("\n\n")
    return make_document(source, page.get_text(), title)


def _main_heading(page: BeautifulSoup) -> Tag | None:
    """Return the heading of the article, or the page's title element where it has none.

    The page's header may hold a heading, too: the name of the site.
    """
    headings = page.find_all("h1")
    others = [name for name in NOT_TEXT if name != "header"]
    in_article = [
        tag
        for tag in headings
        if tag.find_parent(["main", "article"]) and not tag.find_parent(others)
    ]
    in_text = [tag for tag in headings if not tag.find_parent(NOT_TEXT)]
    return next(iter([*in_article, *in_text, *headings]), None) or page.find("title")
