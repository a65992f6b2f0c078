"""Read the questions out of what a model replied, however it wrapped them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import chain
from typing import Any

from pdtrain.synthesis.asking.templates import OF_PAIRS, OF_PASSAGES, OF_SENTENCES

DECODER = json.JSONDecoder(strict=False)  # models break lines within texts
TRAILING = re.compile(r",\s*(?=[}\]])")  # a comma behind the last item, which JSON does not know
VERDICT = re.compile(r"[\W_]*(yes|no)(?![^\W_])(?![ \t]+\w)", re.IGNORECASE)


def schema(kinds: Iterable[str], least: int) -> dict[str, Any]:
    """Return what an engine may hold a reply to: an array of questions, as the prompts ask for.

    Args:
        kinds: that a question may have.
        least: so many questions, at least.
    """
    return {
        "type": "array",
        "minItems": least,
        "items": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": [*kinds]},
                "question": {"type": "string"},
                "sentences": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
                "quote": {"type": "string"},
            },
            "required": ["kind", "question", "sentences", "quote"],
            "additionalProperties": False,
        },
    }


SCHEMA = schema([*OF_SENTENCES, *OF_PASSAGES], least=1)
PAIR_SCHEMA = schema(OF_PAIRS, least=0)  # two texts may have nothing in common


def items(text: str, *, is_finished: bool = True) -> tuple[list[dict[str, Any]], str]:
    """Return the objects in a reply, and what is wrong with the rest of it.

    An array may stand in a code fence, between other words or in an object's field, and several in
    several fields. Line breaks in a text and a comma behind the last item are no fault. Of a reply
    that breaks off, or has a fault in the midst, the whole objects count.

    Args:
        is_finished: the model ended the reply; otherwise the limit of tokens cut it.

    Returns:
        The objects in order; and "empty", "refused" (there is no JSON in it), "broken JSON",
        "endless" (cut by the limit) or an empty text.
    """
    if not text.strip():
        return [], "empty"
    found, place, is_broken = list[dict[str, Any]](), 0, False
    while (start := text.find("{", place)) >= 0:
        try:
            value, place = _decoded(text, start)
        except (ValueError, RecursionError):  # a number of endless digits, brackets without end
            is_broken, place = True, start + 1
            continue
        nested = [list_ for list_ in value.values() if _is_list_of_objects(list_)]
        found += chain(*nested) if nested else [value]
    if not is_finished:
        return found, "endless"
    if is_broken:
        return found, "broken JSON"
    return found, "" if found else "refused"


def _decoded(text: str, start: int) -> tuple[dict[str, Any], int]:
    """Return the object that begins at a place of a text, and the place behind it.

    Raises:
        ValueError: there is none.
        RecursionError: it is nested too deeply.
    """
    while True:
        try:
            return DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            comma = text.rfind(",", start, error.pos + 1)
            trailing = TRAILING.match(text, comma) if comma >= 0 else None
            # Python tells the comma or the bracket behind it
            if trailing is None or error.pos not in trailing.span():
                raise
            text = f"{text[:comma]} {text[comma + 1 :]}"  # so that all places stay the same


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def is_no(text: str) -> bool:
    """Return whether a reply to a yes-or-no question is a no; anything else is not."""
    return _verdict(text) == "no"


def is_yes(text: str) -> bool:
    """Return whether a reply to a yes-or-no question is a yes; anything else is not."""
    return _verdict(text) == "yes"


def _verdict(text: str) -> str:
    """Return the yes or no that a reply is or begins with, whatever is added behind a sign."""
    found = VERDICT.match(text)
    return found[1].casefold() if found else ""
