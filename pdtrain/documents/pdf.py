"""Read PDF files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, make_document


def read_pdf(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """Read the text of every page; a page's end also ends a paragraph.

    Raises:
        ValueError: pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise ValueError(
            f"{path} is a PDF, which needs an extra: pip install 'pdtrain[documents]'"
        ) from None
    pages = [page.extract_text() for page in PdfReader(path).pages]
    yield make_document(path, config, "\n\n".join(pages))
