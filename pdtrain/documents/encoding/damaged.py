"""Read a text that programs have damaged: written twice, escaped, or put together from two."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

LEAST_TWICE = 3  # letters beyond ASCII of a text that was written twice
# letters beyond ASCII in UTF-8, for a byte that is no UTF-8: some short lines of Chinese in an
# older encoding look like letters in UTF-8
LEAST_GOOD = 0.5
# a letter or two in quotes; whole words stand so in tables and in JSON, too
QUOTED = re.compile(r"""(?<!\w)([`'"])[^\s`'"]{1,2}\1(?!\w)""")
# a quote or an apostrophe as pages escape it, beside a letter
ESCAPED_QUOTE = re.compile(
    r"\w&(?:#0?39|#x27|apos|rsquo|#8217);\w|&(?:quot|#34|ldquo|#8220);\w", re.IGNORECASE
)
BARE = re.compile(r"<|&(?!(?:#\d{2,6}|#x[\da-f]{2,5}|[a-z]{2,8}\d{0,2});)", re.IGNORECASE)
# bytes that Windows-1252 has no sign for, or that a program took for those of Latin-1
WITHOUT_SIGN = re.compile("([\x80-\x9f])")


def written_once(text: str) -> str:
    """Return a text without the second UTF-8 that a program has written its letters in.

    The bytes of "é" are "Ã©" to a program that takes them for Windows-1252 and writes them again.
    A text is taken for such a one where the whole of it makes sense like that, and most such words
    are no letters in quotes, as the examples of a text about encodings are.
    """
    if text.isascii():
        return text
    with suppress(UnicodeError):
        parts = WITHOUT_SIGN.split(text)
        data = b"".join(
            part.encode("latin-1" if n % 2 else "cp1252") for n, part in enumerate(parts)
        )
        once = data.decode("utf-8")
        if len(once) - sum(map(str.isascii, once)) >= LEAST_TWICE and not _are_examples(once):
            return once
    return text


def unescaped(text: str) -> str:
    """Return a text without the escapes of pages, where the whole of it is written with them.

    A text about pages, which names some of them, has no quotes that are escaped beside a letter.
    """
    if ESCAPED_QUOTE.search(text) and not BARE.search(text):
        return html.unescape(text)
    return text


def _are_examples(text: str) -> bool:
    """Return whether half of the words with letters beyond ASCII, or more, quote such letters."""
    words = [word for word in text.split() if not word.isascii()]
    return 2 * sum(bool(QUOTED.search(word)) for word in words) >= len(words)


def of_two_encodings(
    data: bytes, read: Callable[[bytes], tuple[str, tuple[str, ...]] | None]
) -> tuple[str, tuple[str, ...]] | None:
    """Return a text in UTF-8 in which lines are in another encoding, and what is to be said of it.

    Args:
        data: the text.
        read: returns other lines in the encoding that they look like; None where it finds none.

    Returns:
        None where the text is in one encoding, or letters in UTF-8 were cut and nothing else.
    """
    lines = data.split(b"\n")
    others: list[int] = []
    num_good = num_bad = 0
    for number, line in enumerate(lines):
        if line.isascii():
            continue
        text = line.decode("utf-8", "replace")
        bad, beyond = text.count("\ufffd"), len(text) - sum(map(str.isascii, text))
        num_bad += bad
        num_good += 0 if bad else beyond
        if bad and bad == beyond:  # nothing in it is UTF-8
            others.append(number)
    if not others or not num_good or num_good < LEAST_GOOD * num_bad:
        return None
    if _are_cut([lines[number] for number in others], others[-1] == len(lines) - 1):
        return None
    found = read(b"\n".join(lines[number] for number in others))
    read_lines = found[0].split("\n") if found else []
    if found is None or len(read_lines) != len(others):
        return None
    for number, text in zip(others, read_lines, strict=True):
        lines[number] = text.encode()
    said = tuple(f"{len(others)} lines {warning}" for warning in found[1])
    text = b"\n".join(lines).decode("utf-8", "replace")
    left_out = text.count("\ufffd")
    said += (f"{left_out} characters that are no UTF-8 left out",) if left_out else ()
    return text.replace("\ufffd", ""), said


def _are_cut(lines: Sequence[bytes], is_end: bool) -> bool:
    """Return whether what is no UTF-8 in some lines are parts of its letters.

    Args:
        lines: those that have no whole letter beyond ASCII.
        is_end: the text ends with the last of them, which may be where a program stopped.
    """
    texts = [line.decode("utf-8", "replace") for line in lines]
    num_bytes = sum(byte > 127 for line in lines for byte in line)
    num_parts = sum(text.count("\ufffd") for text in texts)
    ends_cut = is_end and lines[-1][-1] > 0xC1 and texts[-1].endswith("\ufffd")
    return num_bytes >= 2 * num_parts or (ends_cut and num_parts == 1)
