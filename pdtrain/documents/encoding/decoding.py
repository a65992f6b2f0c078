"""Turn bytes into text: find the encoding."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator

import regex

from pdtrain.documents.document import Source, Unreadable
from pdtrain.documents.encoding.characters import CONTROL
from pdtrain.documents.encoding.damaged import of_two_encodings, written_once

# the first bytes of files that are no text, whatever their names say
MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstandard file",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"SQLite format 3": "a database",
    b"PAR1": "a Parquet file",
    b"{\\rtf": "a document in RTF",
}
MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# names that pages use for a wider encoding than the name says (WHATWG's encoding standard)
WIDER = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
# scripts and signs, by the first words of their letters' names; random bytes are mostly others
SCRIPTS = frozenset(
    (
        "LATIN GREEK CYRILLIC ARMENIAN HEBREW ARABIC DEVANAGARI BENGALI GURMUKHI GUJARATI ORIYA "
        "TAMIL TELUGU KANNADA MALAYALAM SINHALA THAI LAO TIBETAN MYANMAR KHMER GEORGIAN HIRAGANA "
        "KATAKANA IDEOGRAPHIC FULLWIDTH LEFT RIGHT EN EM NO-BREAK HORIZONTAL SECTION COMBINING"
    ).split()
)
OTHER_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")  # but NUL, which no text has
LIKELY = 0.75  # the least
SAMPLE = 1 << 16  # bytes that the encoding is detected from
ESCAPED = b"\x1b$"  # Japanese mail is written so, in ASCII alone
# encodings of DOS, of old Macs and of single countries: Latin text is hardly ever written in them
SELDOM = re.compile(
    r"mac-.*|cp(?!874)[4-8]\d\d|cp1006|cp1125|hp-.*|iso8859-(?:3|4|10|14|16)|kz.*|ptcp.*|koi8-t"
)
# signs that Western Europe writes beside words
SIGNS = re.compile("[\x00-\x7f\xa0\u2018\u2019\u201c-\u201e–—…€«»°±§©®²³µ½¼¾£·•×]*")
MOST_ODD = 0.05  # of the characters beyond ASCII
# a character that stands where no text has it
ODD_PLACE = regex.compile(
    r"""(?xV1)
    (?<=[A-Za-z]) [\p{L}--\p{Latin}--[µªº]--\p{Wide}]  # a letter of another script in a word
    | [\p{L}--\p{Latin}--[µªº]--\p{Wide}] (?=[A-Za-z])
    | (?<=[A-Za-z]) [\u2500-\u259f]  # a piece of a frame
    | (?<=[A-Za-z]) \p{Wide} (?=[A-Za-z])
    | (?<=[A-Za-z]) \p{Han} (?!\p{Wide})  # a single one: more of them may stand beside "PDF"
    | (?<!\p{Wide}) \p{Han} (?=[A-Za-z])
    | (?<=\p{Ll}) [[\p{Lu}&&\p{Latin}]--[A-Z]]
    | (?<=\p{L}) [[\p{P}\p{S}\p{N}\u02c6]--\p{ASCII}--[’·–—…\u2010\u2011]--\p{Wide}] (?=\p{L})
    | (?<=\p{Ll}) § (?!\w)  # stands before a number
    | [¤\u02c7\u02d8-\u02db\u02dd]  # hardly anybody writes them
    | [\p{C}--\p{ASCII}--[\u00ad\u200c-\u200f]]
    """.replace(r"\p{Wide}", r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0010ffff]")
)


def read_text(source: Source, declared: str = "") -> tuple[str, tuple[str, ...]]:
    """Return a file's text with line feeds as line ends, and the warnings about its encoding.

    The encoding is that of the byte order mark, or the declared one, or UTF-8, or the one that
    the bytes look like; a file in UTF-8 that is declared as something else is read as UTF-8.

    Args:
        source: the file.
        declared: the encoding that the file or what it came with names; empty for none.

    Raises:
        Unreadable: the file is binary, or its encoding cannot be told.
    """
    text, warnings = decode(source.read(), source.where, declared)
    return text.replace("\r\n", "\n").replace("\r", "\n"), warnings


def decode(data: bytes, where: str, declared: str = "") -> tuple[str, tuple[str, ...]]:
    """Return the text of these bytes as `read_text` does; a message calls them `where`."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding).replace("\0", ""), ()
            except UnicodeDecodeError:
                detail = (
                    f"{where} has the byte order mark of {encoding}, and is not written in it; "
                    "save it as UTF-8 in the program that wrote it"
                )
                raise Unreadable("broken", detail) from None
    for magic, what in MAGIC.items():
        if data.startswith(magic):
            raise Unreadable("binary", f"{where} is {what}, whatever its name says")
    if count := _num_stray_nuls(data):
        rest = data.replace(b"\0", b"")
        if _decoded(rest, "utf-8") is not None or not _wide_without_mark(data):
            read, warnings = decode(rest, where, declared)
            return read, (*warnings, f"{count} NUL characters removed")
    if wide := _wide_without_mark(data):
        return data.decode(wide), (f"read as {wide}",)
    if b"\0" in data:
        raise Unreadable("binary", f"{where} holds NUL bytes: it is no text")
    try:
        if ESCAPED not in data:
            read = data.decode("utf-8")
            once = written_once(read)
            return once, () if once == read else ("UTF-8 that was written twice",)
    except UnicodeDecodeError:
        pass
    if declared and (text := _decoded(data, _known(declared))) is not None:
        return text, ()
    return _detected(data, where)


def _num_stray_nuls(data: bytes) -> int:
    """Return how many NULs stand in a text, as a crash may leave them; 0 where these are many."""
    count = data.count(b"\0")
    return count if count * 100 <= len(data) and not OTHER_CONTROL.search(data) else 0


def _known(name: str) -> str:
    """Return Python's name of an encoding, or of the wider one that is meant; empty if unknown."""
    try:
        canonical = codecs.lookup(name.strip().strip("\"'")).name
    except (LookupError, ValueError):
        return ""
    return WIDER.get(canonical, canonical)


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding) if encoding else None
    except (UnicodeDecodeError, LookupError):
        return None


def wide_encoding(start: bytes) -> tuple[str, bool]:
    """Return the name of UTF-16 or UTF-32 where a file begins as one of them, and if that is sure.

    The name is empty where the file is written in something else.
    """
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding if encoding != "utf-8-sig" else "", True
    start = start[: len(start) // 2 * 2]
    # the last character may be cut
    return _wide_without_mark(start) or _wide_without_mark(start[:-2]), False


def _wide_without_mark(data: bytes) -> str:
    """Return the name of UTF-16 or UTF-32 where the bytes make sense as nothing else, or nothing.

    Even a text in another script than the Latin one has blanks and line ends, whose second byte is
    zero, and its letters are of few scripts.
    """
    start = data[:4000]
    if len(start) < 4 or len(data) % 2 or b"\0" not in start:
        return ""
    for encoding, zeros in (("utf-32-le", start[3::4]), ("utf-32-be", start[::4])):
        # no letter has a number that needs the highest of its four bytes
        if len(data) % 4 == 0 and not any(zeros) and _likeliness(start, encoding) > LIKELY:
            return encoding if _decoded(data, encoding) is not None else ""
    rest = start.replace(b"\0", b"")
    letters = sum(byte > 31 or byte in b"\t\n\r" for byte in rest if byte < 127)
    if letters > 0.9 * len(rest) and len(rest) > 0.6 * len(start):  # letters of a byte, with a NUL
        return ""
    likely = {encoding: _likeliness(start, encoding) for encoding in ("utf-16-le", "utf-16-be")}
    best = max(likely, key=lambda encoding: likely[encoding])
    return best if likely[best] > LIKELY and _decoded(data, best) is not None else ""


def _likeliness(start: bytes, encoding: str) -> float:
    """Return how likely a text in UTF-16 or UTF-32 begins with these bytes, from 0 to 1."""
    text = start.decode(encoding, "ignore")  # the last letter may be cut
    if not text or CONTROL.search(text):
        return 0.0
    found = 0.0
    for character in text:
        if character.isascii():
            found += 1.0
        elif unicodedata.category(character)[0] in "LMPSZ":
            kind = unicodedata.name(character, "").partition(" ")[0]
            found += 0.8 if kind in ("CJK", "HANGUL") else float(kind in SCRIPTS)
    return found / len(text)


def _detected(data: bytes, where: str) -> tuple[str, tuple[str, ...]]:
    """Return the text in the encoding that it looks like."""
    if mixed := of_two_encodings(data, _likeliest):
        return mixed
    damaged = data.decode("utf-8", "replace")
    if broken := damaged.count("\ufffd"):
        text = damaged.replace("\ufffd", "")
        # letters of two bytes or more hardly come about by chance
        if 2 * broken <= len(text) - sum(map(str.isascii, text)):
            return text, (f"{broken} characters that are no UTF-8 left out",)
    if found := _likeliest(data):
        return found
    ranked = _ranked(data[:SAMPLE])
    text = _decoded(data, ranked[0]) or "" if ranked else ""
    if text and _is_prose(text[:SAMPLE]):
        return text, (f"read as {ranked[0]}",)
    raise Unreadable(
        "broken" if ranked else "binary",
        f"{where} is in no encoding that could be told; save it as UTF-8 in the program that "
        "wrote it",
    )


def _likeliest(data: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Return the text in the likeliest encoding in which it reads as one; None for none."""
    for encoding in _candidates(data, _ranked(data[:SAMPLE])):
        text = _decoded(data, encoding) or ""
        if text and _odd_places(text[:SAMPLE]) <= MOST_ODD:
            return text, (f"read as {encoding}",)
    return None


def _ranked(sample: bytes) -> list[str]:
    """Return the encodings that these bytes may be in, the likeliest first, none of mainframes."""
    from chardet import EncodingEra, detect_all

    eras = EncodingEra.ALL & ~EncodingEra.MAINFRAME
    found = detect_all(sample, ignore_threshold=True, encoding_era=eras)
    return [name for one in found if (name := _known(one["encoding"] or ""))]


def _candidates(data: bytes, ranked: list[str]) -> Iterator[str]:
    """Yield the encodings to try in turn.

    The usual one of Western Europe comes first in a text that is short, where too few letters are
    left to tell its relatives apart, or that has no letters beyond ASCII in it, but only signs.
    Encodings of DOS and of old Macs come last in a text of Latin letters.
    """
    sample = data[:SAMPLE]
    beyond = sum(byte > 127 for byte in sample)
    if ESCAPED not in data:
        is_short = len(data) < 200 and beyond < 4
        if is_short or SIGNS.fullmatch(sample.decode("cp1252", "replace")):
            yield "cp1252"
        if len(re.findall(rb"[A-Za-z]", sample)) > beyond:
            ranked = sorted(ranked, key=lambda name: bool(SELDOM.fullmatch(name)))
    yield from ranked


def _odd_places(text: str) -> float:
    """Return the share of the characters beyond ASCII that stand where no text has them."""
    if CONTROL.search(text):
        return 1.0
    beyond = len(text) - sum(map(str.isascii, text))
    return sum(1 for _ in ODD_PLACE.finditer(text)) / max(beyond, 1)


def _is_prose(text: str) -> bool:
    """Return whether the letters beyond ASCII stand where words have letters."""
    beyond = list(re.finditer(r"[^\x00-\x7f]", text))
    if CONTROL.search(text):
        return False
    fitting = sum(
        match.group().isalpha() or unicodedata.category(match.group())[0] in "MPZS"
        for match in beyond
    )
    return fitting >= 0.95 * len(beyond)
