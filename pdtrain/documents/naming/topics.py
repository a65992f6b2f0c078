"""Tell passages of different documents apart where requests about all of them call them alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pdtrain.documents.naming.subjects import bare, is_titled, topic_of, with_topic
from pdtrain.records import Passage, content_id

NO_TOPIC = ""  # stands for the hash of none
Hashes = NDArray[np.uint64]


def topic_hash(topic: str) -> str:
    """Return 64 bits that are the same for topics of the same words, in hexadecimal."""
    return content_id("topic", bare(topic)) if topic else NO_TOPIC


def places_of(document: str) -> Iterator[str]:
    """Yield the words that may tell a document from others of its title: its folder, its path.

    A record of a file has nothing but the file's folder.

    Args:
        document: its id.
    """
    path = PurePosixPath(document)
    folder = path.parent.as_posix()
    if folder != ".":
        yield folder
    if ":" not in path.name:
        yield document


@dataclass
class Topics:
    """Say what passages are called that another document has the name of.

    Args:
        shared: by number of a passage, whether it is called as one of another document.
        told: the hashes of topics with a folder that one passage alone has.
    """

    shared: NDArray[np.bool_]
    told: set[int]

    @classmethod
    def of(cls, hashes: Hashes, documents: Iterable[str], owners: NDArray[np.int64]) -> Topics:
        """Compare all passages.

        Args:
            hashes: of each passage's topic; 0 for those that have none or are left out.
            documents: the ids of all documents, in order; gone through once.
            owners: the number of each passage's document.
        """
        _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        shared = (counts[inverse] > 1) & (hashes != 0)
        told: dict[int, int] = {}
        if shared.any():
            begins = np.searchsorted(owners, np.arange(owners[-1] + 2))
            for number, document in enumerate(documents):
                if number + 1 >= len(begins):
                    break
                folder = next(places_of(document), "")
                for passage in range(begins[number], begins[number + 1]):
                    if shared[passage] and folder:
                        key = _key(int(hashes[passage]), folder)
                        told[key] = told.get(key, 0) + 1
        return cls(shared, {key for key, count in told.items() if count == 1})

    def applied(self, passage: Passage, number: int) -> Passage:
        """Return a passage under a topic that no other one has, or without any."""
        if not len(self.shared) or not self.shared[number]:
            return passage
        topic = topic_of(passage)
        if not is_titled(passage, topic):  # what the text names is no better known by its file
            return with_topic(passage, "")
        of = int(topic_hash(topic), 16)
        for turn, place in enumerate(places_of(passage.document_id)):
            is_path = place == passage.document_id
            if is_path or (turn == 0 and _key(of, place) in self.told):
                return with_topic(passage, f"{topic} ({place})")
        return with_topic(passage, "")

    def is_shared(self, number: int) -> bool:
        """Tell whether a passage must be told from another one."""
        return bool(len(self.shared)) and bool(self.shared[number])


def _key(topic: int, folder: str) -> int:
    return int(content_id(topic, folder), 16)
