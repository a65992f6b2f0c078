"""Check the form of the JSON that a file holds, whose hash anyone could have made to fit.

A shape is `str`, `bool`, `int` (a whole number), `float` (a number that a page can show), None,
`object` (anything), `[shape]` for a list, `{str: shape}` for an object with any keys, `{"key":
shape}` for one with these (`"key?"` may be missing, and others are passed over), or a tuple of
shapes of which one must fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

LARGEST = 1e15  # of a number: larger ones are no count, time or measure of ours
SUMS = {str: str}  # SHA-256 by name
MANIFEST = {  # what any stage's says
    "inputs?": str,
    "output?": str,
    "settings?": str,
    "num_records?": int,
    "num_units?": int,
    "num_steps?": int,
    "num_answers?": int,
    "units?": str,
    "metrics?": str,
    "adapter?": str,
    "shards?": [{"name": str, "sha256": str, "num_records?": int, "num_examples?": int}],
    "sha256?": SUMS,
    "tables?": SUMS,
    "pages?": SUMS,
    "merged?": SUMS,
    "sizes?": {str: int},
    "control_tokens?": {str: int},
}
METRICS = [{"step": float, str: float}]
PREDICTIONS = [
    {
        "id": str,
        "document": str,
        "question": str,
        "answers": [str],
        "prediction": str,
        "gold_in_answer": (float, None),
        "invented?": (float, None),
    }
]
ROUNDS = {"adapter": str, "best": int}  # what says which adapter is used
SHOWN_OF_ROUNDS = {  # what a report shows beside
    "best": int,
    "stopped": str,
    "facts": {"quizzed": int, "unquizzed": int, "missed_by_teacher": int},
    "rounds": [
        {
            "round": int,
            "recovery": float,
            "known": int,
            "missed": int,
            "new_questions": int,
            "new_answers": int,
        }
    ],
    "passages": [{"passage": str, "document": str, "title": str, "asked": int, "known": [int]}],
}


def expect(path: Path, value: Any, shape: Any, remedy: str) -> None:
    """Check that what a file holds has a shape.

    Args:
        remedy: what to do where it has not; ends the error's message.

    Raises:
        ValueError: it has not; the message names the place and never the value.
    """
    if (place := misplaced(value, shape)) is not None:
        raise ValueError(
            f"{path} is not what pdtrain writes: {place or 'the whole'} has another form; {remedy}"
        )


def misplaced(value: Any, shape: Any, place: str = "") -> str | None:
    """Return the first place where a value does not have a shape; None where it has it."""
    if isinstance(shape, list):
        if not isinstance(value, list | tuple):
            return place
        inner = (misplaced(one, shape[0], f"{place}[{i}]") for i, one in enumerate(value))
        return next((found for found in inner if found is not None), None)
    if isinstance(shape, dict):
        return _misplaced_key(value, shape, place)
    if isinstance(shape, tuple):
        return None if any(misplaced(value, one) is None for one in shape) else place
    return None if _is(value, shape) else place


def _misplaced_key(value: Any, shape: dict[Any, Any], place: str) -> str | None:
    if not isinstance(value, dict):
        return place
    for key, wanted in shape.items():
        if key is str:
            continue
        name = key.removesuffix("?")
        if name not in value:
            if name == key:
                return f"{place}.{name}".lstrip(".")
            continue
        if (found := misplaced(value[name], wanted, f"{place}.{name}".lstrip("."))) is not None:
            return found
    if str in shape:  # of all the others
        for inner in value.values():
            if (found := misplaced(inner, shape[str], f"a key of {place or 'it'}")) is not None:
                return found
    return None


def _is(value: Any, shape: Any) -> bool:
    if shape is object:
        return True
    if shape in (int, float):
        kinds = (int,) if shape is int else (int, float)
        return type(value) in kinds and abs(value) <= LARGEST  # which no NaN is
    return value is None if shape is None else type(value) is shape
