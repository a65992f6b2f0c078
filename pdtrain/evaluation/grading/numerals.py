"""Write number words, millions and telephone numbers as one number in digits.

Only English words are read: in other languages many of them are other words as well. What is no
whole number as it stands, such as "two thirds" or "nineteen forty-one", stays as it is.
"""

from __future__ import annotations

import re
from decimal import Decimal

ONES = "one two three four five six seven eight nine".split()
TEENS = ("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
VALUES = (
    {word: i for i, word in enumerate(ONES, 1)}
    | {word: i for i, word in enumerate(TEENS, 10)}
    | {word: 10 * i for i, word in enumerate(TENS, 2)}
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALE = "|".join(SCALES)
WORD = rf"(?:{'|'.join(VALUES)}|zero|hundred|{SCALE})"
# what makes a part of another number of the number before it
PARTS = (
    r"(?:half|halves|quarters?|(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth"
    r"|eleventh|twelfth|hundredth|thousandth|millionth|billionth)|(?:third|fourth|fifth|sixth"
    r"|seventh|eighth|ninth|tenth|eleventh|twelfth|hundredth|thousandth|millionth)s|dozens?|scores?"
    r"|point|odd|oh|and(?= (?:an?\b|half\b|one\b)))"
)
MORE = rf"(?![\w.,:]*\d|[- ](?:and )?(?:\d|{WORD}\b)|[- ]{PARTS}\b)"  # no number ends before it
NOT_BEFORE = r"(?<![\w.,:-])(?<!\d )(?<!point )(?<!half )(?<!minus )(?<!negative )"
WORDS = re.compile(
    rf"{NOT_BEFORE}(?<!of a )(?<!half a )(?<!many a )(?:a (?=(?:hundred|{SCALE})\b))?"
    rf"{WORD}\b(?:(?:[- ]|(?:(?<=hundred)|(?<=[dn])) and ){WORD}\b)*{MORE}"
)
ROUND = re.compile(rf"{NOT_BEFORE}(\d{{1,3}}(?:\.\d{{1,6}}|,\d\d?)?)[ -]({SCALE})s?\b{MORE}")
# words of other languages, too: of Polish and Dutch, French, and the Nordic ones
ELSEWHERE = {"ten", "four", "eleven"}
ENGLISH = re.compile(
    r"\b(?:the|were|has|have|there|and|with|from|they|she|its|this|that|years?|days|months|weeks"
    r"|hours|minutes|seconds|people|percent|met(?:re|er)s|miles|feet|times)\b"
)
DATE = r"\d\d([./-])\d\d\1(?:19|20)\d\d(?!\d)"
# one for abroad or with the zero of a trunk call, and one of North America
PHONE = re.compile(
    rf"(?<![\w.,:/(+-])(?!{DATE})(?:\+\d{{1,4}}|\(?0\d{{1,5}}\)?)"
    r"(?:(?: ?\(\d{1,4}\) ?|[ ./-])\d{1,8}){1,6}(?![\w(]|[.,:/-]\d| \d)"
    r"|(?<![\w.,:/(+-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w(]|[.,:/-]\d| \d)"
)
SHORTEST_PHONE = 9  # digits: a date has eight


def in_digits(text: str) -> str:
    """Return a text in lower case with number words, millions and telephone numbers in digits."""

    def number(found: re.Match[str]) -> str:
        words, is_all = re.findall(r"\w+", found[0]), found[0] == text.strip(" .,;:!?")
        is_one_word = len(words) == 1
        if is_one_word and words[0] == "one" and not is_all:
            return found[0]  # "the one who", "no one"
        if is_one_word and words[0] in ELSEWHERE and not (is_all or ENGLISH.search(text)):
            return found[0]
        value = _value(words)
        return found[0] if value is None else str(value)

    return PHONE.sub(_phone, ROUND.sub(_rounded, WORDS.sub(number, text)))


def _value(words: list[str]) -> int | None:
    """Return the number that words say; None where they say none, or several."""
    if words == ["zero"]:
        return 0
    total, below, last_scale = 0, 0, 10**15  # `below`: what stands before the next scale
    for word in words:
        if word == "and":
            continue
        if word == "a":
            below = 1
        elif word in SCALES:
            if not below or SCALES[word] >= last_scale:
                return None
            total, below, last_scale = total + below * SCALES[word], 0, SCALES[word]
        elif word == "hundred":
            if not 1 <= below <= 9:
                return None
            below *= 100
        elif word in VALUES:
            value = VALUES[word]
            is_free = below % 100 == 0 or (value < 10 and below % 10 == 0 and below % 100 >= 20)
            if not is_free:
                return None
            below += value
        else:
            return None
    return total + below


def _rounded(found: re.Match[str]) -> str:
    value = Decimal(found[1].replace(",", ".")) * SCALES[found[2]]
    return f"{value.normalize():f}"


def _phone(found: re.Match[str]) -> str:
    """Return a telephone number without what parts its digits, as one dials it from abroad."""
    said = found[0].replace("(0)", "") if found[0].startswith("+") else found[0]
    digits = "".join(filter(str.isdigit, said))
    if len(digits) < SHORTEST_PHONE:
        return found[0]
    return f"00{digits}" if said.startswith("+") else digits
