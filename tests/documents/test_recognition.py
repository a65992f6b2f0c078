"""Scanned pages whose text is recognised, where the user asks and Tesseract is installed."""

import io
import shutil
import sys

import pytest
from pdf_files import drawn

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Unreadable
from pdtrain.documents.readers.pdf_page import recognition

pytest.importorskip("pytesseract", reason="needs pip install -e '.[ocr]'")
pdfium = pytest.importorskip("pypdfium2")
needs_tesseract = pytest.mark.skipif(
    not shutil.which("tesseract"), reason="needs the program tesseract: apt install tesseract-ocr"
)

FIRST = "The old pier of Osk is 260 metres long."
SECOND = "It was built by Tobias Wells in 1884."
THIRD = "The mill stands on the other bank."
PAGE = [(60, 760, FIRST), (60, 740, SECOND), (60, 660, THIRD)]
COUNTED = ("first", "second", "third", "fourth", "fifth", "sixth")
COLUMNS = [
    (x, 760 - 14 * number, f"The {name} line of the {side} column")
    for x, side in ((50, "left"), (320, "right"))
    for number, name in enumerate(COUNTED)
]


def scanned(*pages):
    """Return a PDF of pictures of pages: what a scanner makes."""
    document = pdfium.PdfDocument(drawn(*pages))
    pictures = [page.render(scale=200 / 72, grayscale=True).to_pil() for page in document]
    file = io.BytesIO()
    pictures[0].save(
        file, "PDF", resolution=200, save_all=True, append_images=pictures[1:], quality=80
    )
    return file.getvalue()


def with_text(scan, *pages):
    """Return the pages of a scan, and behind them pages with text."""
    document = pdfium.PdfDocument(scan)
    document.import_pages(pdfium.PdfDocument(drawn(*pages)))
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


@needs_tesseract
def test_the_text_of_a_scan_is_recognised(read_one):
    found = read_one("scan.pdf", scanned(PAGE), ocr="eng")
    assert " ".join(found.text.split()) == f"{FIRST} {SECOND} {THIRD}"
    assert any("read by text recognition" in warning for warning in found.warnings)


@needs_tesseract
def test_columns_are_read_one_after_the_other(read_one):
    lines = " ".join(read_one("scan.pdf", scanned(COLUMNS), ocr="eng").text.split())
    assert lines == " ".join(line for _, _, line in COLUMNS)


@needs_tesseract
def test_pages_with_text_of_their_own_are_not_recognised_again(read_one, monkeypatch):
    pages = []
    real = recognition.recognised
    monkeypatch.setattr(
        "pdtrain.documents.readers.pdf.recognised",
        lambda page, languages: pages.append(page) or real(page, languages),
    )
    mixed = with_text(scanned([PAGE[0]]), [PAGE[1]])
    found = read_one("mixed.pdf", mixed, ocr="eng")
    assert len(pages) == 1 and FIRST in found.text and SECOND in found.text
    found = read_one("text.pdf", drawn(PAGE), ocr="eng")
    assert len(pages) == 1 and not found.warnings


def test_it_is_off_unless_asked_and_the_reason_names_the_knob(read_one, monkeypatch):
    monkeypatch.setattr(
        "pdtrain.documents.readers.pdf.recognised", lambda *_: pytest.fail("nobody asked")
    )
    with pytest.raises(Unreadable, match=r"corpus\.ocr=eng") as error:
        read_one("scan.pdf", scanned(PAGE))
    assert error.value.reason == "scan"


def test_a_page_that_takes_too_long_is_named(read_one, monkeypatch):
    def too_long(page, languages):
        raise RuntimeError("Tesseract process timeout")

    monkeypatch.setattr("pdtrain.documents.readers.pdf.recognised", too_long)
    with pytest.raises(Unreadable) as error:
        read_one("scan.pdf", scanned(PAGE), ocr="eng")
    assert error.value.reason == "scan"
    found = read_one("mixed.pdf", with_text(scanned(PAGE), [PAGE[1]]), ocr="eng")
    assert any("not recognised" in warning for warning in found.warnings)
    assert SECOND in found.text


def test_what_is_missing_is_named(monkeypatch):
    import pytesseract

    monkeypatch.setattr(pytesseract, "get_languages", lambda: ["eng", "osd"])
    recognition.check("eng")
    with pytest.raises(ValueError, match=r"does not know chi_sim.*tesseract-ocr-chi-sim"):
        recognition.check("eng+chi_sim")

    def missing():
        raise pytesseract.TesseractNotFoundError

    monkeypatch.setattr(pytesseract, "get_languages", missing)
    with pytest.raises(ValueError, match="apt install tesseract-ocr"):
        recognition.check("eng")
    monkeypatch.setitem(sys.modules, "pytesseract", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[ocr\]'"):
        recognition.check("eng")


@pytest.mark.parametrize("languages", ["eng;rm", "../eng", "eng deu", "+", "-l eng"])
def test_languages_are_names(languages):
    with pytest.raises(ValueError, match=r"corpus\.ocr must be names"):
        CorpusConfig(documents="docs", ocr=languages)
