"""Bring a list that a prediction says into the order in which the gold answer lists the same."""

# ruff: noqa: RUF001 - signs of other scripts that look alike
from __future__ import annotations

import re
from collections.abc import Sequence

from pdtrain.documents.words import words

AND = "and & und et y e og och en и και ve i dan và 和 及 と 및".split()
COMMA = r"\s*[,;]\s+|\s*[、،；，]\s*|\s*\n\s*(?:[-*•]\s+)?"
JOINED = re.compile(r"\s+(?:and|&|und|et|og|och|и|και|và)\s+", re.IGNORECASE)
# behind commas alone, since they are also other words; "e" and "i" are too often names
JOINED_LAST = re.compile(r"\s+(?:y|en|ve|dan)\s+", re.IGNORECASE)
PARTED = re.compile(rf"(?:{COMMA})(?:(?:{'|'.join(AND[:-4])})\s+)?", re.IGNORECASE)
LAST_PARTED = re.compile("[和及と및]")  # of a list whose other parts commas of its script part
PLACE = re.compile(r",\s")  # of two parts with a comma, as in "Paris, Texas" and "Marsh, Tom"
MOST_PARTS = 12
LONGEST_OF_TWO, LONGEST_OF_MORE = 2, 4  # words of a part: what is longer may be a sentence


def parts_of(gold: str) -> list[list[str]]:
    """Return the words of each part of a gold answer that is a list; nothing of another.

    Numbers have an order of their own, as those of scores have.
    """
    by_commas = PARTED.split(gold)
    found = [one for part in by_commas for one in JOINED.split(part)]
    if len(by_commas) > 1:
        found[-1:] = JOINED_LAST.split(found[-1])
        if "、" in gold:
            found[-1:] = LAST_PARTED.split(found[-1])
    if not 2 <= len(found) <= MOST_PARTS or (len(found) == 2 and PLACE.search(gold)):
        return []
    parts = [words(part) for part in found]
    most = LONGEST_OF_TWO if len(parts) == 2 else LONGEST_OF_MORE
    is_list = all(0 < len(part) <= most for part in parts) and not any(map(_is_number, parts))
    return parts if is_list else []


def _is_number(part: list[str]) -> bool:
    return not any(letter.isalpha() for word in part for letter in word)


def in_order_of(gold: Sequence[str], parts: list[list[str]], said: list[str]) -> list[str]:
    """Return a prediction in which the same list has the words of the gold answer.

    The parts must all stand there once, next to one another, with nothing but "and" between them.

    Args:
        gold: the words of the gold answer.
        parts: those of its parts.
        said: the prediction's words.
    """
    for start in range(len(said)):
        end = _end(parts, said, start)
        if end:
            return [*said[:start], *gold, *said[end:]]
    return said


def _end(parts: list[list[str]], said: list[str], start: int) -> int:
    """Return the place behind a list of the parts that begins at a place; 0 where there is none."""
    left, place = sorted(parts, key=len, reverse=True), start
    while left:
        part = next((one for one in left if said[place : place + len(one)] == one), None)
        if part is None:
            if place == start or said[place : place + 1] == [] or said[place] not in AND:
                return 0
            place += 1
            continue
        left.remove(part)
        place += len(part)
    return place
