"""Read PDF files as a reader sees them: columns in order, words whole, no running headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source, Unreadable
from pdtrain.documents.readers.pdf_page.flow import add_pages
from pdtrain.documents.readers.pdf_page.layout import Page, readable
from pdtrain.documents.readers.pdf_page.recognition import recognised
from pdtrain.documents.readers.pdf_page.runs import runs_of
from pdtrain.errors import how_to_install

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

NO_TITLE = re.compile(
    r"untitled.*|\(?(?:anonymous|unspecified)\)?|microsoft (?:word|powerpoint) - .*|"
    r"powerpoint presentation|"
    r".*\.(?:docx?|tex|dvi|indd|pptx?|pdf|qxd)",
    re.IGNORECASE,
)
DATE = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
NO_LETTER = re.compile(r"[\ufffd\ue000-\uf8ff\u25a0\u25a1]")
MOST_WITHOUT_LETTER = 0.3  # of a file's characters; with more, its fonts do not say what they show
MOST_PAGES = 100_000
LISTED = 5  # numbers of pages that a warning names


def read_pdf(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read the text of every page; sentences go on over the ends of columns and pages.

    Raises:
        Unreadable: the file is a scan without text, is locked by a password, or is broken.
        ValueError: pypdfium2 is not installed.
    """
    document = _open(source)
    try:
        builder = BlockBuilder()
        pages = list(_pages(document, builder.warnings))
        if config.ocr:
            pages = _with_recognised(document, pages, config.ocr, builder.warnings)
        scans = [number for number, page in enumerate(pages, 1) if page.is_picture]
        if scans and not any(page.runs for page in pages):
            raise Unreadable(
                "scan",
                f"{source.where}: pages are pictures without text ({len(scans)} of {len(pages)}); "
                "corpus.ocr=eng recognises their text, or a program such as ocrmypdf does before",
            )
        if scans:
            builder.warnings.append(_named(scans, "pictures without text"))
        _check_letters(pages, source)
        metadata = document.get_metadata_dict(skip_empty=True)
        title = " ".join(metadata.get("Title", "").split())
        builder.title = "" if NO_TITLE.fullmatch(title) else title
        author = metadata.get("Author", "")
        date = DATE.match(metadata.get("CreationDate", ""))
        builder.add_metadata(
            {
                "author": "" if NO_TITLE.fullmatch(author) else author,
                "date": "-".join(date.groups()) if date else "",
            }
        )
        add_pages(builder, pages)
        yield builder.document(source)
    finally:
        document.close()


def _open(source: Source) -> PdfDocument:
    try:
        from pypdfium2 import PdfDocument, PdfiumError
    except ImportError:
        raise ValueError(
            f"{source.where} is a PDF, which needs an extra: {how_to_install('documents')}"
        ) from None
    data = source.read()
    if b"%PDF-" not in data[:1024]:
        is_page = data[:1024].lstrip().lower().startswith((b"<!doctype html", b"<html"))
        what = "an HTML page" if is_page else "no PDF"
        raise Unreadable("broken", f"{source.where} is {what}, whatever its name says")
    try:
        document = PdfDocument(data)
        len(document)
        with suppress(PdfiumError):  # what else is on its pages is read without its forms
            document.init_forms()
        return document
    except PdfiumError as error:
        if _is_opened(data):
            raise Unreadable("empty", f"{source.where} is a PDF without any page") from None
        if "password" in str(error).lower():
            detail = f"{source.where} is locked by a password; save a copy without one"
            raise Unreadable("locked", detail) from None
        detail = f"{source.where} is a damaged PDF, as of a download that was cut off; get it again"
        raise Unreadable("broken", detail) from None


def _is_opened(data: bytes) -> bool:
    """Return whether a PDF can be opened: of one without pages, the library names another fault."""
    from pypdfium2 import raw

    opened = raw.FPDF_LoadMemDocument64(data, len(data), None)
    if opened:
        raw.FPDF_CloseDocument(opened)
    return bool(opened)


def _pages(document: PdfDocument, warnings: list[str]) -> Iterator[Page]:
    from pypdfium2 import PdfiumError

    broken = []
    if len(document) > MOST_PAGES:
        raise Unreadable("too large", f"it has {len(document)} pages, at most {MOST_PAGES}")
    for number in range(len(document)):
        try:
            page = _with_filled_in(document, number)
            width, height = page.get_size()
            found = readable(width, height, runs_of(page))
            yield replace(found, is_picture=not found.runs and _has_picture(page))
            page.close()
        except PdfiumError:
            broken.append(number + 1)
            yield Page(0.0, 0.0, (), False)
    if broken:
        warnings.append(_named(broken, "damaged"))


def _with_filled_in(document: PdfDocument, number: int) -> PdfPage:
    """Return a page with what was written into its forms as a part of its text."""
    from pypdfium2 import PdfiumError, raw

    page = document[number]
    if page.formenv and raw.FPDFPage_GetAnnotCount(page):
        with suppress(PdfiumError):
            page.flatten()
        page.close()
        page = document[number]
    return page


def _has_picture(page: Any) -> bool:
    from pypdfium2 import raw

    return any(True for _ in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3))


def _with_recognised(
    document: PdfDocument, pages: list[Page], languages: str, warnings: list[str]
) -> list[Page]:
    """Return the pages with the text of those that are pictures, or whose fonts say nothing."""
    found = list(pages)
    failed = []
    for number, page in enumerate(pages):
        if page.is_picture or _lacks_letters([page]):
            opened = document[number]
            try:
                runs = recognised(opened, languages)
                found[number] = Page(page.width, page.height, runs, is_picture=False)
            except RuntimeError:  # so does the library call what the program says
                failed.append(number + 1)
            opened.close()
    read = [n for n, (a, b) in enumerate(zip(pages, found, strict=True), 1) if a is not b]
    for numbers, what in ((read, "read by text recognition"), (failed, "not recognised")):
        if numbers:
            warnings.append(_named(numbers, what))
    return found


def _lacks_letters(pages: list[Page]) -> bool:
    """Return whether the fonts of pages do not say which letters they show."""
    text = "".join(run.text for page in pages for run in page.runs)
    return bool(text) and len(NO_LETTER.findall(text)) > MOST_WITHOUT_LETTER * len(text)


def _check_letters(pages: list[Page], source: Source) -> None:
    if _lacks_letters(pages):
        raise Unreadable(
            "scan",
            f"{source.where}: its fonts do not say which letters they show; corpus.ocr=eng reads "
            "the picture of its pages, or a program such as ocrmypdf --force-ocr does before",
        )


def _named(numbers: list[int], what: str) -> str:
    """Return a warning that names pages, or the first of many."""
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return f"pages {', '.join(map(str, numbers[:LISTED]))}{more} are {what}"
