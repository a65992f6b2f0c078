"""Read plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, make_document, read_utf8
from pdtrain.documents.html import document_from_html


def read_txt(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """Read a plain text file; a blank line ends a paragraph, a single line break does not."""
    yield make_document(path, config, read_utf8(path))


def read_markdown(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """Render Markdown and read it as HTML; a YAML header between `---` lines is left out."""
    from markdown_it import MarkdownIt

    source = re.sub(r"\A---\r?\n.*?\n---\r?\n", "", read_utf8(path), flags=re.DOTALL)
    html = MarkdownIt("commonmark").enable("table").render(source)
    yield document_from_html(html, path, config)
