"""Keep a record, beside an adapter's weights, of the passages that it was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from pdtrain.storage import read_json, write_json

DOCUMENTS = "documents.json"


@dataclass(frozen=True)
class LearnedPassages:
    """Hold the ids of the passages that an adapter has learned; no text.

    Args:
        documents: the passages of every document, including those that the adapter it started from
            had learned.
        new: those among them that the adapter it started from had not learned; empty without one.
    """

    started_from: str | None  # SHA-256 of that adapter's weights
    documents: dict[str, list[str]]
    new: list[str]

    @property
    def passages(self) -> set[str]:
        """Return the ids of all passages."""
        return {passage for own in self.documents.values() for passage in own}


def read(folder: Path) -> LearnedPassages | None:
    """Read the record from an adapter's folder; None where there is none.

    Raises:
        ValueError: the file is not what `write` writes.
    """
    path = folder / DOCUMENTS
    if not path.is_file():
        return None
    try:
        found = LearnedPassages(**read_json(path))
    except (TypeError, ValueError):
        found = None
    if found is None or not _is_sound(found):
        raise ValueError(
            f'{path} must be {{"started_from": a hash or null, "documents": {{document: [passage '
            'ids]}, "new": [passage ids]}}; remove it, and nothing is taken for learned'
        )
    return found


def _is_sound(found: LearnedPassages) -> bool:
    return (
        isinstance(found.started_from, str | None)
        and isinstance(found.documents, dict)
        and all(_are_ids(own) for own in [*found.documents.values(), found.new])
    )


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def write(folder: Path, learned: LearnedPassages) -> None:
    """Write the record into an adapter's folder."""
    write_json(folder / DOCUMENTS, asdict(learned))
