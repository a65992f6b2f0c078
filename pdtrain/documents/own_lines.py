"""Tell the lines of a plain paragraph that stand for themselves: items, records and entries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from pdtrain.documents.blocks import TIMED

BULLET = re.compile(r"(?:[-*+•‣◦▪–]|\(?\d{1,3}[.)])\s+(?=\S)")
# the same, by letters and by signs that are hardly anything else at the beginning of a line; two
# letters that are neither alike nor a number are a word that ends what stands in brackets
ITEM = re.compile(
    rf"{BULLET.pattern}|[①-⑳・]"
    r"|(?:\(?(?:[a-z]|(?P<letter>[a-z])(?P=letter)|[ivx]{2})\)|\([ivxIVX]{1,5}\)"
    r"|\[[ xX]\]|[\uf0a7\uf0b7\uf0d8○●□■☐☑☒✓✔✗✘→►▶◆◇])\s+(?=\S)"
)
# what a record's first line begins with, where several lines begin so, as does the first
OPENERS = (
    TIMED,
    re.compile(r"\[\d{1,3}\]\s+\S"),  # of a bibliography
    re.compile(r"[—―][ \t\w]"),  # before what is said
    re.compile(r"第[一二三四五六七八九十百\d]{1,5}[条條章節节款项](?=[\s\uff1a]|$)"),
    re.compile(r"[一二三四五六七八九十]{1,3}、"),
)
# numbers of a law or a table of contents, which are no others where they count on
COUNTED = (
    re.compile(r"(?:§+ ?)?(\d{1,3}(?:\.\d{1,3})*)[.)]?\s+\S"),
    re.compile(r"([ivx]{1,5})[.)]\s+\S", re.IGNORECASE),
)
LABEL = re.compile(r"\S[^:\n]{0,40}:(?:\s|$)")  # "Monday: closed"
# also of a glossary or a list of settings, and in Chinese, but not before what somebody says
ENTRY = re.compile(
    rf"{LABEL.pattern}|\S[^:\n]{{0,40}}? [=–—-] "
    "|[^\\s\uff0c。、！？；：“”「」]{1,12}\uff1a(?![“「])"  # noqa: RUF001
)
LONG = 50  # characters of a line that may have been wrapped
QUANTITY = re.compile(rf"(?!{TIMED.pattern}|{BULLET.pattern})[\d½¼¾⅓⅔]")  # "200 g flour"
LEADERS = re.compile(  # "Soup ..... 5.00"
    r"\S.*?(?:(?<!\.)\.{4,}+|(?<! \.)(?: \.){4,}+|(?<!…)…{2,}+|(?<!_)_{4,}+)"
    r" ?\S{1,12}(?: \S{1,4})?$"
)
TIME_ALONE = re.compile(r"\W?(?:\d{1,2}:)?\d{1,2}:\d\d\W?")  # what was said then comes below


def begin_records(lines: Sequence[str]) -> list[bool]:
    """Return of each line of a paragraph whether it begins an item or a record."""
    opener, counted = _opener(lines), _counted(lines)
    return [
        bool(ITEM.match(line) or number in counted or (opener and opener.match(line)))
        for number, line in enumerate(lines)
    ]


def _opener(lines: Sequence[str]) -> re.Pattern[str] | None:
    """Return what each record among these lines begins with, if that can be told."""
    for pattern in OPENERS:
        if len(lines) > 1 and pattern.match(lines[0]) and any(map(pattern.match, lines[1:])):
            return pattern
    labelled = sum(bool(LABEL.match(line)) for line in lines)
    is_labelled = labelled > 1 and labelled >= 0.5 * len(lines) and LABEL.match(lines[0])
    return LABEL if is_labelled else None


def _counted(lines: Sequence[str]) -> set[int]:
    """Return which lines begin with a number that counts on from that of the first line."""
    found = set[int]()
    for pattern in COUNTED:
        last: tuple[int, ...] | None = None
        for number, line in enumerate(lines):
            begun = pattern.match(line)
            if begun and (last is None or _counts_on(last, _value(begun[1]))):
                last = _value(begun[1])
                found.add(number)
            if last is None:
                break
    return found


def _counts_on(last: tuple[int, ...], value: tuple[int, ...]) -> bool:
    """Return whether a number such as 2.1 follows another, as 1.2 does 1.1, 2 and 1.1.1."""
    following = [(*last[:level], last[level] + 1) for level in range(len(last))]
    return value in following or (value[:-1] in (last, *following) and value[-1] < 2)


def _value(number: str) -> tuple[int, ...]:
    if number[0].isdecimal():
        return tuple(map(int, number.split(".")))
    worth = [{"i": 1, "v": 5, "x": 10}[letter] for letter in number.lower()]
    return (sum(-one if one < then else one for one, then in pairwise([*worth, 0])),)


def are_quantities(lines: Sequence[str]) -> bool:
    """Return whether lines are a list of quantities, as in a recipe."""
    found = sum(bool(QUANTITY.match(line)) for line in lines)
    return found > 1 and found >= 0.5 * len(lines)


def stand_alone(lines: Sequence[str]) -> bool:
    """Return whether most lines begin as records do: with a time, a date, a label or a word.

    Such a word stands before a dash or a sign, as in the middle of a sentence, whose lines begin
    some with capitals and some without.
    """
    if len(lines) < 2:
        return False
    are_alike = len({line[:1].islower() for line in lines}) == 1
    most = 0.8 * len(lines)
    for pattern in (TIMED, ENTRY if are_alike else LABEL, LEADERS):
        matched = [bool(pattern.match(line)) for line in lines]
        if sum(matched) >= most:
            return pattern is TIMED or not _is_labelled_and_wrapped(lines)
    return False


def _is_labelled_and_wrapped(lines: Sequence[str]) -> bool:
    """Return whether a line goes on with what somebody says in a long one above it."""
    return _opener(lines) is LABEL and any(
        line[:1].islower() and not LABEL.match(line) and len(above) >= LONG
        for above, line in pairwise(lines)
    )
