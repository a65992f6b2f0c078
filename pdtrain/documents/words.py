"""Cut a text into words that can be compared, whatever script and form it is written in.

Differences of form are removed first: compatibility forms (NFKC), case, kinds of digits and dashes,
what cannot be seen, and signs that a script's users leave out as they like. A script that puts no
blanks between words, or ties particles to them as Korean does, is compared letter by letter.
English words are those of SQuAD's normalisation, but for numbers, which keep their sign and their
decimals, and for what has no blank after a comma, a slash or the like.
"""

# ruff: noqa: RUF001 - letters that look alike are what this is about
from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import regex

ARTICLES = frozenset(("a", "an", "the"))
ARABIC_ARTICLE = "ال"
SHORTEST_WITH_ARTICLE = 5  # letters
# letters that are words of their own; marks follow them
SCRIPTS = "Han Hiragana Katakana Hangul Bopomofo Yi Thai Lao Khmer Myanmar Tibetan".split()
LETTER = "[[" + "".join(f"\\p{{{name}}}" for name in SCRIPTS) + "ー々]&&\\p{L}]"
OTHER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--{LETTER}]"
JOINED = "-.&_·‐‑׳״"  # leave no gap inside a word
ENDING = rf"'(?=(?:s|t|re|ll|ve|d|m)(?!{OTHER}))"  # what SQuAD leaves on its word
# of a language or a note such as C++ and F#, and of a mark or a blood group such as B+ and AB+; an
# ion and a number of units or more, K+ and 5 m+, are words without it
SIGNED = rf"(?:(?<=(?<!{OTHER})[a-z])(?:\+\+|\#)|(?<=(?<!{OTHER})(?:[a-fo]|ab))\+(?!{OTHER}))?+"
NUMBER = r"(?:(?<![\p{L}\p{N})\]%-])-)?(?:\d++(?:[.,:]\d++|'\d{3}(?!\d))*+|\.\d++)"
WORD = regex.compile(
    rf"(?V1)(?P<number>(?<!{OTHER}){NUMBER}(?!{OTHER}))"
    rf"|(?P<letter>{LETTER}\p{{M}}*)"
    rf"|(?P<other>{OTHER}+(?:(?:[{JOINED}]+|{ENDING}|(?<=\d)[,:](?=\d)){OTHER}+)*{SIGNED})"
)
RUN = regex.compile(rf"(?V1)(?P<letters>(?:{LETTER}\p{{M}}*)+)|(?P<other>{OTHER}{{2,}})")
ASCII_RUN = re.compile(r"\w\w+")  # what `RUN` finds, in less time
ONE_LETTER = regex.compile(rf"(?V1){LETTER}\p{{M}}*")
GAPS = regex.compile(rf"(?V1)(?<!\d)[.]|[.](?!\d)|[{JOINED.replace('.', '')}']")
GERSHAYIM = regex.compile(r'(?<=\p{Hebrew})"(?=\p{Hebrew})')  # of an acronym
MINUS = regex.compile(r"[−–﹣](?=\.?\d)")
PRIME = regex.compile(r"(?<=\p{L})[´′](?=\p{L})")  # typed for an apostrophe
# the mark of a tone on the first vowel, where others write it on the second: "hòa" and "hoà"
TONE = re.compile("([òóỏõọ](?=[ae])|[ùúủũụ](?=y))([aey])")
SIGN = regex.compile(r"(?<=\p{Nd})(?=\p{No})")  # of a power, a fraction or a footnote
GROUP_BLANK = regex.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
GROUPS = regex.compile(r"[1-9]\d{0,2}(?:([.,])\d{3})(?:\1\d{3})*|[1-9]\d?(?:,\d\d)+,\d{3}")
LEADING_ZERO = re.compile(r"(?<!\d)0+(?=\d)")
# marks that are mostly left out, or cannot be seen, whose name begins so
OPTIONAL_MARKS = ("ARABIC", "HEBREW", "VARIATION SELECTOR")
SPELT_ALIKE = {
    "ı": "i",  # it and "i" are capitals of one another in Turkish
    "\u0307": "",  # what is left of a Turkish capital
    "ـ": "",
    "أ": "ا",
    "إ": "ا",
    "آ": "ا",
    "ٱ": "ا",
    "ى": "ي",
    "ی": "ي",  # this and the next three as Persian and Urdu write them
    "ک": "ك",
    "ہ": "ه",
    "ھ": "ه",
    "ة": "ه",
    "ё": "е",
    "ș": "ş",
    "ț": "ţ",
    "ʻ": "'",
    "ʾ": "",
    "ʿ": "",
    "٫": ".",
    "٬": ",",
    "’": "'",
    "‘": "'",
    "ʼ": "'",
}


def words(text: str, *, with_articles: bool = False) -> list[str]:
    """Return the words of a text by which answers are graded, without articles.

    A number is one word: "1,750", "1.750" and "1750" are equal, and so are "3,5", "3.50" and "3.5",
    but "-5" is not "5", and "3.5" holds no "35". A separator before exactly three digits groups
    them.

    Args:
        with_articles: keeps "a", "an" and "the", which may be names.
    """
    found = []
    for match in WORD.finditer(plain(text)):
        if match["number"]:
            found.append(number(match["number"]))
        elif match["letter"]:
            found.append(match["letter"])
        elif (word := _bare(GAPS.sub("", match["other"]))) and (
            with_articles or word not in ARTICLES
        ):
            found.append(word)
    return found


def ending_article(text: str) -> str:
    """Return a text's last word where it is "a" or the like, which is no article there; or ""."""
    found = words(text, with_articles=True)
    return found[-1] if found and found[-1] in ARTICLES else ""


def search_words(text: str) -> list[str]:
    """Return what a text is found by: words of two letters or more, and pairs of single letters.

    Letters of scripts without blanks are taken in overlapping pairs.
    """
    if text.isascii():
        return ASCII_RUN.findall(text.lower())
    found = []
    for match in RUN.finditer(plain(text)):
        if match["other"]:
            found.append(_bare(match["other"]))
            continue
        letters = ONE_LETTER.findall(match["letters"])
        found += ["".join(pair) for pair in pairwise(letters)] or letters
    return found


def holds(text: Sequence[str], part: Sequence[str]) -> bool:
    """Return whether some words stand in a text, one after the other; no words stand in none."""
    ends = len(text) - len(part) + 1
    return bool(part) and any(text[i : i + len(part)] == part for i in range(ends))


def length(found: Sequence[str]) -> int:
    """Return how many words there are, where two letters of a script without blanks make one."""
    num_letters = sum(ONE_LETTER.fullmatch(word) is not None for word in found)
    return len(found) - num_letters // 2


def plain(text: str) -> str:
    """Return a text without differences of form, whose punctuation is still there."""
    if text.isascii():
        return text.lower()
    text = PRIME.sub("'", SIGN.sub(" ", MINUS.sub("-", text)))
    text = GERSHAYIM.sub("", GROUP_BLANK.sub("", text))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(map(_plain, TONE.sub(_on_second, folded)))


def _on_second(vowels: re.Match[str]) -> str:
    """Return two vowels with the mark of the first one on the second."""
    marked = unicodedata.normalize("NFD", vowels[1])
    return marked[0] + unicodedata.normalize("NFC", vowels[2] + marked[1])


@lru_cache(maxsize=65536)
def _plain(letter: str) -> str:
    """Return what a letter of a folded text is compared as."""
    if letter.isascii():
        return letter
    if letter in SPELT_ALIKE:
        return SPELT_ALIKE[letter]
    name, category = unicodedata.name(letter, ""), unicodedata.category(letter)
    if category == "Nd":
        return str(unicodedata.decimal(letter))
    if category == "Cf" or (category == "Mn" and name.startswith(OPTIONAL_MARKS)):
        return ""
    if name.startswith("GREEK"):  # capitals have no accents
        parts = unicodedata.normalize("NFD", letter)
        return "".join(one for one in parts if not unicodedata.combining(one))
    return letter


def number(text: str) -> str:
    """Return a number with "." before its decimals, and without separators and empty decimals.

    What has several separators that group no digits, such as a date or a time, keeps them, and
    loses the zeros that its parts begin with; the minutes of a time keep theirs.
    """
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    digits = digits.replace("'", "")
    if ":" in digits:
        hours, colon, rest = digits.partition(":")
        return sign + LEADING_ZERO.sub("", hours) + colon + rest
    if GROUPS.fullmatch(digits):
        return sign + digits.replace(".", "").replace(",", "")
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return sign + digits
    whole, decimals = digits[:last], digits[last + 1 :]
    if GROUPS.fullmatch(whole) and digits[last] not in whole:
        whole = whole.replace(".", "").replace(",", "")
    if not whole.isdigit() and whole:
        return sign + LEADING_ZERO.sub("", digits)
    decimals, whole = decimals.rstrip("0"), LEADING_ZERO.sub("", whole)
    return f"{sign}{whole or '0'}{'.' if decimals else ''}{decimals}"


def _bare(word: str) -> str:
    """Return a word without an Arabic article."""
    has_article = len(word) >= SHORTEST_WITH_ARTICLE and word.startswith(ARABIC_ARTICLE)
    return word.removeprefix(ARABIC_ARTICLE) if has_article else word
