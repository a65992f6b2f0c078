"""Make characters that look alike be alike, and leave out those that cannot be seen."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours of terminals, in logs
LINE_ENDS = re.compile(r"[\x0b\x0c\x85\u2028\u2029]")
INVISIBLE = re.compile(
    r"[\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufeff\uffa0\ufff9-\ufffb\U000e0100-\U000e01ef]"
    r"|(?<![\u180b-\u180d\u180f\u1820-\u18aa])\u180e"  # between letters of Mongolian it is a gap
    r"|(?<![^\w\s]|\u2139)[\ufe0e\ufe0f]+(?!\u20e3)"  # but of emoji and of digits in a key
    r"|(?<![\U0001f3f4\U000e0000-\U000e007f])[\U000e0000-\U000e007f]+"  # tags, but those of flags
)
# joiners have a meaning between letters of Arabic, Indic and Mongolian scripts and inside emoji
JOINERS = re.compile(
    r"(?<![\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\u1a00-\u1cff\u2190-\u2bff"
    r"\ua800-\uabff\ufb50-\ufdff\ufe0f\ufe70-\ufefc\U00010a00-\U00011fff\U0001e900-\U0001e95f"
    r"\U0001f000-\U0001faff\U000e0020-\U000e007f])[\u200c\u200d]+"
)
EMPTY_BRAILLE = re.compile("\u2800")  # a blank among signs of Braille, and elsewhere
LIGATURES = re.compile(r"[\ufb00-\ufb06]")
WIDE_LETTERS = re.compile(r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")
# but the bars of tokens such as those of DeepSeek's models
WIDE_MARKS = re.compile(
    r"[\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b\uff5d\uff5e]|(?<!<)\uff5c(?!>)"
)
# letters in the shape that they have in a word, of half the width, or as radicals of dictionaries
SHAPED = re.compile(
    r"[\u2f00-\u2fd5\ufb1d-\ufb4f\ufb50-\ufbb1\ufbd3-\ufc5d\ufc64-\ufd3d\ufd50-\ufdc7"
    r"\ufe80-\ufefc\uff66-\uff9f]+"
)
STYLED = re.compile(r"[\U0001d400-\U0001d7ff]+")  # bold, italic and other letters of formulas
STYLED_WORD = re.compile(r"[\U0001d400-\U0001d7ff]{4}")
EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# letters and marks of scripts that put no blanks between words; Korean puts them
UNSPACED = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")
# a line break between two of them; the next line may be what another speaker says, with a dash
WRAPPED = re.compile(
    r"(?<=[\u3001-\u30ff\u3400-\u9fff\uff00-\uffef])[ \t\u3000]*\n[ \t\n\u3000]*"
    r"(?=[\u3001-\u30ff\u3400-\u9fff\uff00-\uff0c\uff0e-\uffef])"
)
ODD_ASCII = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# one of the characters of the patterns above
ODD = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u2800\u2f00-\u2fd5\u3164\ufb00-\ufdc7\ufe0e\ufe0f\ufe80-\ufeff"
    r"\uff01-\uffa0\ufff9-\ufffb\U0001d400-\U0001d7ff\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)


def on_one_line(text: str) -> str:
    """Return a text on one line, with one blank for any white space.

    A line break inside a word of a script without blanks is nothing. A vertical tab is a blank
    that no line break beside it takes away.
    """
    return " ".join(WRAPPED.sub("", text).split())


def normalise(text: str, changes: Counter[str] | None = None) -> str:
    """Return the text in the characters that people type, composed as Unicode's NFC.

    Soft hyphens, invisible characters and control characters go; ligatures and letters of full or
    half width, in the shape that they have in a word, or in the style of formulas become plain
    ones. Full-width punctuation stays where East Asian characters are, and so do single letters of
    formulas.

    Args:
        text: any text.
        changes: counts what was changed, by a short phrase; None if nobody asks.
    """
    if text.isascii():
        if not ODD_ASCII.search(text):
            return text
    elif not ODD.search(text) and unicodedata.is_normalized("NFC", text):
        return text
    counts: Counter[str] = Counter() if changes is None else changes

    def swap(pattern: re.Pattern[str], new: str, what: str) -> None:
        nonlocal text
        text, found = pattern.subn(new, text)
        if found:
            counts[what] += found

    def plain(pattern: re.Pattern[str], what: str) -> None:
        nonlocal text
        if found := sum(map(len, pattern.findall(text))):
            counts[what] += found
            text = pattern.sub(lambda m: unicodedata.normalize("NFKC", m.group()), text)

    text = LINE_ENDS.sub("\n", text)
    swap(ESCAPES, "", "terminal escapes removed")
    swap(CONTROL, "", "control characters removed")
    text = text.replace("\x1b", "")
    if soft := text.count("\u00ad"):
        counts["soft hyphens removed"] += soft
        text = text.replace("\u00ad", "")
    swap(INVISIBLE, "", "invisible characters removed")
    swap(JOINERS, "", "invisible characters removed")
    swap(EMPTY_BRAILLE, " ", "invisible characters removed")
    plain(LIGATURES, "ligatures spelled out")
    plain(WIDE_LETTERS, "full-width letters made plain")
    plain(SHAPED, "letters of another shape made plain")
    if STYLED_WORD.search(text):  # words, not the letters of formulas
        plain(STYLED, "styled letters made plain")
    if not EAST_ASIAN.search(text):
        plain(WIDE_MARKS, "full-width letters made plain")
    if not unicodedata.is_normalized("NFC", text):
        counts["paragraphs with letters composed"] += 1
        text = unicodedata.normalize("NFC", text)
    return text
