"""Define what the sections are checked with, and which stages a knob decides."""

from __future__ import annotations

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


def decides(*stages: str) -> dict[str, tuple[str, ...]]:
    """Return the metadata of a knob that changes what these stages put out; of none if empty.

    A knob without such metadata decides what its section does, as `config.RunConfig` says it.
    `RunConfig.hash_for` hashes the values of all knobs that decide a stage, so that the stage runs
    again when one of them changes.
    """
    return {"decides": stages}
