"""Recognise the text of pages that are pictures, by the program Tesseract where the user asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

from pdtrain.documents.readers.pdf_page.lines import Run
from pdtrain.errors import how_to_install

DOTS_PER_INCH = 300
POINTS_PER_INCH = 72
MOST_PIXELS = 40_000_000  # of a page; larger ones are drawn with fewer dots
SECONDS = 300  # that a page may take
LEAST_SURE = 30  # per cent; what is less sure is mostly no word but dirt or a drawing
# heights of lines between these parts of the page's median are those of one font: how high a line
# is depends on its letters
SAME_FONT = (0.6, 1.5)


def check(languages: str) -> None:
    """Check that text can be recognised in these languages, such as "deu+eng".

    Raises:
        ValueError: a package, the program or a language is missing; the message says which.
    """
    try:
        import pytesseract
    except ImportError:
        raise ValueError(f"corpus.ocr needs an extra: {how_to_install('ocr')}") from None
    try:
        known = set(pytesseract.get_languages())
    except pytesseract.TesseractNotFoundError:
        raise ValueError(
            "corpus.ocr needs the program tesseract, which is not installed; on Debian and Ubuntu: "
            "apt install tesseract-ocr"
        ) from None
    if missing := [one for one in languages.split("+") if one not in known]:
        raise ValueError(
            f"corpus.ocr={languages!r}: tesseract does not know {', '.join(missing)}; it knows "
            f"{', '.join(sorted(known))}. On Debian and Ubuntu: apt install "
            f"tesseract-ocr-{missing[0].replace('_', '-')}"
        )


def recognised(page: Any, languages: str) -> tuple[Run, ...]:
    """Return the lines of a page that Tesseract finds on its picture, as runs.

    Args:
        page: of pypdfium2.
        languages: as `check` takes them.

    Raises:
        RuntimeError: the page took too long, or the program failed.
    """
    import pytesseract

    width, height = page.get_size()
    scale = DOTS_PER_INCH / POINTS_PER_INCH
    scale = min(scale, (MOST_PIXELS / max(1.0, width * height)) ** 0.5)
    picture = page.render(scale=scale, grayscale=True).to_pil()
    found = pytesseract.image_to_data(
        picture, lang=languages, timeout=SECONDS, output_type=pytesseract.Output.DICT
    )
    return tuple(_with_sizes([*_lines(found, scale, height)]))


def _lines(found: dict[str, list[Any]], scale: float, height: float) -> Iterator[Run]:
    """Yield the lines in points from the lower left corner."""
    words: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, text in enumerate(found["text"]):
        if str(text).strip() and float(found["conf"][number]) >= LEAST_SURE:
            place = tuple(found[key][number] for key in ("block_num", "par_num", "line_num"))
            words[place].append(number)
    for numbers in words.values():
        left = min(found["left"][n] for n in numbers) / scale
        right = max(found["left"][n] + found["width"][n] for n in numbers) / scale
        top = height - min(found["top"][n] for n in numbers) / scale
        bottom = height - max(found["top"][n] + found["height"][n] for n in numbers) / scale
        text = " ".join(str(found["text"][n]).strip() for n in numbers)
        yield Run(left, bottom, right, top, text, top - bottom)


def _with_sizes(runs: list[Run]) -> Iterator[Run]:
    """Yield the runs with the sizes of their fonts."""
    usual = median([run.size for run in runs]) if runs else 0.0
    for run in runs:
        is_usual = SAME_FONT[0] * usual < run.size < SAME_FONT[1] * usual
        size = usual if is_usual else run.size
        yield Run(run.left, run.bottom, run.right, run.top, run.text, size)
