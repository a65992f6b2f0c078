"""Read plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, Source, make_document, read_utf8
from pdtrain.documents.html import document_from_html


def read_txt(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a plain text file; a blank line ends a paragraph, a single line break does not."""
    yield make_document(source, read_utf8(source))


def read_markdown(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Render Markdown and read it as HTML; a YAML header between `---` lines is left out."""
    from markdown_it import MarkdownIt

    markdown = re.sub(r"\A---\r?\n.*?\n---\r?\n", "", read_utf8(source), flags=re.DOTALL)
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    yield document_from_html(html, source)
