"""Read PDF files."""

from __future__ import annotations

from collections.abc import Iterator

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, Source
from pdtrain.documents.plain import make_document


def read_pdf(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read the text of every page; a page's end also ends a paragraph.

    Raises:
        ValueError: pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise ValueError(
            f"{source.where} is a PDF, which needs an extra: pip install 'pdtrain[documents]'"
        ) from None
    with source.open() as stream:
        pages = [page.extract_text() for page in PdfReader(stream).pages]
    yield make_document(source, "\n\n".join(pages))
