"""Find the passages of a document by what a question may call it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from pdtrain.records import Passage

# a record's id stands behind its file's name, or behind the name of a stream and its split
RECORD = re.compile(
    r"(.+?\.(?:jsonl|json|csv|tsv|parquet|arrow|mbox)|[^/:]+:[^/:]+(?::\d+)?):(.+)", re.DOTALL
)
PACKED = re.compile(r"\.(?:gz|bz2|xz|zst)(?=:|$)")  # what a file loses when it is unpacked


class DocumentNames:
    """Hold the places of passages by what a question may call their document, in any case.

    That is the document's id, its title, its path, its file's name with or without the ending, and
    for a record the record's id.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._by_id: dict[str, list[int]] = defaultdict(list)
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for place, passage in enumerate(passages):
            self._by_id[_plain(passage.document_id)].append(place)
            for name in _names(passage):
                self._by_name[name].append(place)

    def places(self, document: str) -> Sequence[int]:
        """Return the places of the passages of a document; none where no document is called so.

        A whole id counts before a part of one.
        """
        name = _plain(document)
        return self._by_id.get(name, []) or self._by_name.get(name, [])


def _names(passage: Passage) -> set[str]:
    """Return what a question may call the passage's document, beside its id."""
    name = _plain(passage.document_id)
    match = RECORD.fullmatch(name)
    file, record = match.groups() if match else (name, "")
    path = PurePosixPath(file)
    names = {_plain(passage.title), file, path.name, path.stem, record}
    if record:
        names.add(f"{path.name}:{record}")
    return names - {""}


def _plain(name: str) -> str:
    return PACKED.sub("", name.strip().lower())
