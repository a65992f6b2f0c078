"""Bring a list that a prediction says into the order in which the gold answer lists the same."""

# ruff: noqa: RUF001 - signs of other scripts that look alike
from __future__ import annotations

import re
from collections.abc import Sequence

from pdtrain.documents.words import words

AND = "and & und et y e og och en и και ve i dan và 和 及 と 및".split()
JOINER = rf"(?:{'|'.join(AND[:-4])})"
PARTED = re.compile(
    rf"\s*[,;]\s+(?:{JOINER}\s+)?|\s*[、،；]\s*|\s*，\s*|\s*\n\s*(?:[-*•]\s+)?|\s+{JOINER}\s+",
    re.IGNORECASE,
)
LAST_PARTED = re.compile("[和及と및]")  # of a list whose other parts commas of its script part
MOST_PARTS = 12


def parts_of(gold: str) -> list[list[str]]:
    """Return the words of each part of a gold answer that is a list; nothing of another."""
    found = PARTED.split(gold)
    if len(found) > 1 and "、" in gold:
        found[-1:] = LAST_PARTED.split(found[-1])
    parts = [words(part) for part in found]
    return parts if 2 <= len(parts) <= MOST_PARTS and all(parts) else []


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
