"""Read texts and questions of general knowledge, on which forgetting is measured.

Nothing is ever trained on them: the samples that hold an adapter to its base (`regularization`)
are about other things. `evaluate.unrelated` names a file that takes the place of the bundled one,
which was written for this project and is under its licence.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pdtrain.storage import read_jsonl

BUNDLED = Path(__file__).with_name("unrelated.jsonl")


class Unrelated(NamedTuple):
    """Hold what has nothing to do with the documents, in the order of the file."""

    texts: tuple[str, ...]
    questions: tuple[str, ...]


def read(path: str = "") -> Unrelated:
    """Read a JSONL file whose records are {"text": "..."} or {"question": "..."}.

    Args:
        path: the file; the bundled one if empty.

    Raises:
        ValueError: there is no such file, it is empty, or one of its records is neither a text nor
            a question of at least two words.
    """
    file = Path(path) if path else BUNDLED
    if not file.is_file():
        raise ValueError(
            f"evaluate.unrelated={path!r} is not a file; expected JSONL with "
            '{"text": "..."} or {"question": "..."} a line, or leave it empty for the bundled ones'
        )
    records = list(read_jsonl(file))
    found = Unrelated(_texts(records, "text"), _texts(records, "question"))
    if sum(map(len, found)) != len(records) or not records:
        raise ValueError(
            f'{path}: expected {{"text": "..."}} or {{"question": "..."}} in every record, found '
            f"{sum(map(len, found))} of them in {len(records)} records"
        )
    return found


def _texts(records: Iterable[object], key: str) -> tuple[str, ...]:
    return tuple(
        record[key]
        for record in records
        if isinstance(record, dict)
        and isinstance(record.get(key), str)
        and len(record[key].split()) > 1
    )
