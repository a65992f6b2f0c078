"""Compare texts in any script, letter by letter."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import regex

from pdtrain.documents.language import detect_language

GRAM = 3  # letters that are compared together
# quotation marks, what is written for apostrophes (accents, primes, letters), and what is not seen
MARKS = regex.compile(
    r"[\p{Quotation_Mark}`\u00b4\u02b9-\u02bd\u02c8\u2032\u2033\u2035\u2036\p{Cf}]"
)
DASHES = regex.compile(r"[\p{Pd}−]")
# letters and digits with their marks, and the signs without which a number is another one
LETTERS = regex.compile(r"[\p{L}\p{M}\p{N}\p{Sc}%]|(?<=\p{N})[.,:](?=\p{N})|-(?=\p{N})")
LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿĀ-ž]{2,}")
SURE = 0.95  # probability from which another language is believed of so short a text
LIKELY = 0.5  # the same of a whole passage, in which the question is to be written
CHINESE = {"wuu", "yue", "gan", "hak", "nan", "lzh"}


def folded(text: str) -> str:
    """Return a text without differences of form: NFKC, no case, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def letters(text: str) -> str:
    """Return a text's letters, digits and signs of numbers alone, by which quotes are compared.

    Blanks, punctuation, kinds of quotation marks and dashes, and what cannot be seen make no
    difference: models write them in their own way.
    """
    plain = folded(DASHES.sub("-", MARKS.sub("", text)))
    return "".join(LETTERS.findall("".join(plain.split())))


def grams(text: str) -> frozenset[str]:
    """Return the runs of three letters or digits of a text, whatever stands between its words."""
    letters = "".join(c for c in folded(text) if c.isalnum())
    return frozenset(letters[i : i + GRAM] for i in range(max(1, len(letters) - GRAM + 1)))


def agreement(one: str, other: str) -> float:
    """Return the F1 of two texts' runs of three letters, from 0 to 1."""
    a, b = grams(one), grams(other)
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else float(a == b)


def script_of(text: str) -> str:
    """Return the script of most letters of a text, such as LATIN, CJK or ARABIC; or nothing.

    Kana count as CJK, with which they are written.
    """
    letters = (unicodedata.name(letter, "?") for letter in text if letter.isalpha())
    found = Counter(re.split(r"[ -]", name)[0] for name in letters)
    for kana in ("HIRAGANA", "KATAKANA", "HALFWIDTH"):
        found["CJK"] += found.pop(kana, 0)
    return found.most_common(1)[0][0] if found.total() else ""


def language_of(text: str) -> str:
    """Return the code of a passage's language by ISO 639-1; empty where it cannot be told.

    The kinds of Chinese are written alike, and are told apart badly.
    """
    return _told(text, LIKELY)


def is_foreign(question: str, source: str, language: str, *, is_translated: bool = False) -> bool:
    """Return whether a question is in another language than it is to be in.

    It is where most of it is in another script, where it has words in Latin letters that a text in
    another script has not, or where its language is told with certainty and is another.

    Args:
        source: the title and the text.
        language: that the question is to be in, by ISO 639-1; empty where it is not known.
        is_translated: the text is in another language than this: then the two are not compared.
    """
    own = _told(question, SURE) if language else ""
    if is_translated:
        return bool(own) and own != language
    script = script_of(source)
    if script and script != "LATIN":
        known = {word.casefold() for word in LATIN.findall(source)}
        others = LATIN.sub(lambda word: "" if word[0].casefold() in known else word[0], question)
        return script_of(others) != script or bool(LATIN.search(others))
    if script and script_of(question) != script:
        return True
    return bool(own) and own != language


def _told(text: str, least_probability: float) -> str:
    found = detect_language(text, least_probability)
    return "zh" if found in CHINESE else found
