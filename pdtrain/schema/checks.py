"""Define what the sections are checked with, and which stages a knob decides."""

from __future__ import annotations

import math
import os

LARGEST = 2**63 - 1  # a whole number that tensors hold
LONGEST_NAME = 200  # bytes, so that endings may be added; file systems take 255

# the stages that put a chat before the model
ASKS_MODEL = (
    "questions",
    "answers",
    "retain",
    "teacher",
    "train",
    "predictions",
    "forgetting",
    "quiz",
)


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message where the condition does not hold."""
    if not condition:
        raise ValueError(message)


def require_number(name: str, value: object) -> None:
    """Raise ValueError where a number is none that can be computed with.

    Comparisons hold for an endless number, which would be met after hours, in a loss that is NaN. A
    time, a rate of the plan or the norm that gradients are clipped to may be endless.

    Args:
        name: the knob, for the message.
        value: of any type.
    """
    if isinstance(value, float):
        may_be_endless = name.endswith(("_seconds", "_per_second", "max_grad_norm")) and value > 0
        is_one = math.isfinite(value) or (math.isinf(value) and may_be_endless)
        require(is_one, f"{name} must be a finite number, got {value}")
    elif isinstance(value, int):
        require(abs(value) <= LARGEST, f"{name} must be at most {LARGEST}, got a larger number")


def require_name(name: str, what: str) -> None:
    """Raise ValueError where a name is not that of a single file or folder in the one it is put in.

    Args:
        name: the name, which paths are made of.
        what: the knob, for the message.
    """
    wrong = ""
    if not name.strip() or name != name.strip():
        wrong = "is empty or begins or ends with a blank"
    elif "/" in name or "\\" in name:
        wrong = "holds a path separator"
    elif name.startswith("."):
        wrong = "begins with a dot"
    elif not name.isprintable():
        wrong = "holds control characters"
    elif len(os.fsencode(name)) > LONGEST_NAME:
        wrong = f"has more than {LONGEST_NAME} bytes"
    require(
        not wrong,
        f"{what}={name[:LONGEST_NAME]!r} {wrong}; expected the name of one folder, such as "
        "handbook-2. out_dir says where a run is written",
    )


def decides(*stages: str) -> dict[str, tuple[str, ...]]:
    """Return the metadata of a knob that changes what these stages put out; of none if empty.

    A knob without such metadata decides what its section does, as `config.RunConfig` says it.
    `RunConfig.hash_for` hashes the values of all knobs that decide a stage, so that the stage runs
    again when one of them changes.
    """
    return {"decides": stages}
