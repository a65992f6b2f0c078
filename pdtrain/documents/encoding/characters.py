"""Make characters that look alike be alike, and leave out those that cannot be seen."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

OVERSTRUCK = re.compile(r"[^\n\x08]\x08")  # bold and underlined letters, as `man` writes them
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
# colours, titles and links of terminals, in logs
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()][0-9A-B])")
# quotes and dashes of Windows that were read as Latin-1, before they were saved as UTF-8
OF_WINDOWS = re.compile(r"[\x80\x82-\x84\x86-\x8c\x8e\x91-\x9c\x9e\x9f]")
LINE_ENDS = re.compile(r"[\x0b\x0c\x85\u2028\u2029]")
INVISIBLE = re.compile(
    r"[\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufdd0-\ufdef\ufeff\uffa0\ufff9-\ufffc\ufffe\uffff\U000e0100-\U000e01ef]"
    r"|(?<![\u180b-\u180d\u180f\u1820-\u18aa])\u180e"  # between letters of Mongolian it is a gap
    r"|(?<![^\w\s]|\u2139)[\ufe00-\ufe0f]+(?!\u20e3)"  # but of emoji and of digits in a key
    r"|(?<![\U0001f3f4\U000e0000-\U000e007f])[\U000e0000-\U000e007f]+"  # tags, but those of flags
)
# joiners have a meaning between letters of Arabic, Indic and Mongolian scripts and inside emoji
JOINERS = re.compile(
    r"(?<![\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\u1a00-\u1cff\u2190-\u2bff"
    r"\ua800-\uabff\ufb50-\ufdff\ufe0f\ufe70-\ufefc\U00010a00-\U00011fff\U0001e900-\U0001e95f"
    r"\U0001f000-\U0001faff\U000e0020-\U000e007f])[\u200c\u200d]+"
)
EMPTY_BRAILLE = re.compile("\u2800")  # a blank among signs of Braille, and elsewhere
# between letters of Arabic, Persian or Urdu and their marks, to fill a line
ARABIC = r"\u0620-\u063f\u0641-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f"
STRETCHED = re.compile(rf"(?<=[{ARABIC}\u064b-\u0652])\u0640++(?=[{ARABIC}])")
LIGATURES = re.compile(r"[\ufb00-\ufb06\u0132\u0133\u01c4-\u01cc\u01f1-\u01f3]")
# a vowel of Thai or Lao in two parts, the mark of a tone between or before them
TWO_PARTS = re.compile(r"\u0e4d([\u0e48-\u0e4b]?)\u0e32|\u0ecd([\u0ec8-\u0ecb]?)\u0eb2")
# radicals, which fonts of PDF files give for characters, and a bullet of Word's symbol font
SYMBOLS = str.maketrans(
    "⺁⺠⻁⻄⻅⻆⻉⻋⻑⻓⻔⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻩⻬⻮⻰\uf0b7\uf0a7\uf0d8",
    "厂民虎西见角贝车長长门青韦页风飞食马骨鬼鱼鸟黄齐齿龙•▪➢",
)
SYMBOL = re.compile("[⺁⺠⻁⻄⻅⻆⻉⻋⻑⻓⻔⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻩⻬⻮⻰\uf0b7\uf0a7\uf0d8]")
WIDE_LETTERS = re.compile(r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")
# but the bars of tokens such as those of DeepSeek's models
WIDE_MARKS = re.compile(
    r"[\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b\uff5d\uff5e]|(?<!<)\uff5c(?!>)"
)
# letters in the shape that they have in a word, of half the width, or as radicals of dictionaries
SHAPED = re.compile(
    r"[\u2f00-\u2fd5\ufb1d-\ufb4f\ufb50-\ufbb1\ufbd3-\ufc5d\ufc64-\ufd3d\ufd50-\ufdc7"
    r"\ufe80-\ufefc\uff61-\uff64\uff66-\uff9f]+"
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
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u0132\u0133\u01c4-\u01cc\u01f1-\u01f3\u034f\u061c"
    r"\u0640\u0e4d\u0ecd\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800"
    r"\u2e80-\u2fd5\u3164\uf0b7\uf0a7\uf0d8\ufb00-\ufdef\ufe00-\ufe0f\ufe80-\ufeff\uff01-\uffa0"
    r"\ufff9-\ufffc\ufffe\uffff\U0001d400-\U0001d7ff\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)


def on_one_line(text: str) -> str:
    """Return a text on one line, with one blank for any white space.

    A line break inside a word of a script without blanks is nothing. A vertical tab is a blank
    that no line break beside it takes away.
    """
    return " ".join(WRAPPED.sub("", text).split())


def visible(text: str, changes: Counter[str]) -> str:
    """Return a text without invisible characters, and count those, as `normalise` does."""
    text, found = INVISIBLE.subn("", text)
    if found:
        changes["invisible characters removed"] += found
    return text


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
    swap(OVERSTRUCK, "", "letters that others were printed over removed")
    swap(CONTROL, "", "control characters removed")
    text = text.replace("\x1b", "")
    if soft := text.count("\u00ad"):
        counts["soft hyphens removed"] += soft
        text = text.replace("\u00ad", "")
    swap(INVISIBLE, "", "invisible characters removed")
    swap(JOINERS, "", "invisible characters removed")
    swap(EMPTY_BRAILLE, " ", "invisible characters removed")
    swap(STRETCHED, "", "strokes that stretch a word removed")
    text = TWO_PARTS.sub(lambda m: f"{m[1]}\u0e33" if m[2] is None else f"{m[2]}\u0eb3", text)
    if found := len(SYMBOL.findall(text)):
        counts["symbols of a font made plain"] += found
        text = text.translate(SYMBOLS)
    if found := len(OF_WINDOWS.findall(text)):
        counts["signs of Windows-1252 made plain"] += found
        text = OF_WINDOWS.sub(lambda m: m[0].encode("latin-1").decode("cp1252"), text)
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
