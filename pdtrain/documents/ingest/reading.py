"""Read one file of the corpus into a part: its documents, checked and split into passages."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document, Source, fault_of, title_from_name
from pdtrain.documents.ingest.cleaning.duplicates import signature_of
from pdtrain.documents.ingest.cleaning.filters import DocumentFilter
from pdtrain.documents.ingest.listing import CorpusFile
from pdtrain.documents.ingest.parts import Finished, PartWriter
from pdtrain.documents.ingest.remote import is_address, local_copy
from pdtrain.documents.library import read_documents
from pdtrain.documents.naming.subjects import topic_of, with_topics
from pdtrain.documents.naming.topics import topic_hash
from pdtrain.documents.records.streams import is_stream, read_stream, version_of
from pdtrain.documents.splitting import split_document
from pdtrain.records import content_id
from pdtrain.storage import sha256_file

CountTokens = Callable[[str], int]


@dataclass
class FileReader:
    """Read files into a part.

    Args:
        config: says how documents are read, split and filtered.
        part: where what was read goes.
        count_tokens: returns how many tokens the model's tokenizer makes of a text.
    """

    config: CorpusConfig
    part: PartWriter
    count_tokens: CountTokens
    _filter: DocumentFilter = field(init=False)

    def __post_init__(self) -> None:
        self._filter = DocumentFilter(self.config)

    def read(self, file: CorpusFile, known: str = "") -> Finished | None:
        """Read a file into the part, and return where it is.

        Args:
            known: the hash of what was read of this file before; None is returned if it is still
                that.
        """
        looked_at_ns = time.time_ns()
        about: dict[str, Any] = {"file": file.name, "size": file.size, "mtime_ns": file.mtime_ns}
        about |= {"looked_at_ns": looked_at_ns, "sha256": ""}
        start = self.part.begin()
        try:
            if is_stream(file.path):
                about["sha256"] = version_of(file.path)
                if about["sha256"] == known:
                    return None
                about |= self._read(file, read_stream(file.name, file.path, self.config))
                return self.part.end(start, about)
            with local_copy(file.path) as path:
                if not is_address(file.path):
                    stat = os.stat(path)
                    about |= {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
                about["sha256"] = sha256_file(path)
                if about["sha256"] == known:
                    return None
                shown = file.name if is_address(file.path) else ""
                source = Source(file.name, path, shown=shown)
                members: list[list[str]] = []
                documents = read_documents(
                    source, self.config, lambda *fault: members.append([*fault])
                )
                about |= self._read(file, documents) | with_members(members)
        except OSError as error:
            self.part.undo(start)
            about |= _failed("broken", f"it cannot be read ({error.strerror or error})")
        return self.part.end(start, about)

    def _read(self, file: CorpusFile, documents: Iterator[Document]) -> dict[str, Any]:
        """Write the documents of a file into the part, and return what the report says of it."""
        totals: Counter[str] = Counter()
        found: Counter[str] = Counter()
        warnings: Counter[str] = Counter()
        reason = detail = ""
        try:
            for document in documents:
                warnings.update(document.warnings)
                totals["documents"] += 1
                totals["characters"] += len(document.text)
                for line in self._lines(document, found):
                    self.part.add(line)
                    totals["passages"] += "document" not in line
        except Exception as error:  # a library's own error, whatever it is, costs this file
            reason, detail = fault_of(error)
        return {
            "reason": reason,
            "detail": detail,
            "documents": totals["documents"],
            "passages": totals["passages"],
            "characters": totals["characters"],
            "warnings": dict(sorted(warnings.items())),
            "personal": dict(sorted(found.items())),
        }

    def _lines(self, document: Document, found: Counter[str]) -> Iterator[dict[str, Any]]:
        """Yield the passages of a document, then the line about it."""
        about: dict[str, Any] = {"document": document.id}
        judged = self._filter.judge(document)
        if judged.reason:
            yield about | {"dropped": judged.reason, "detail": judged.detail}
            return
        hashes, signatures, topics = [], [], []
        most, overlap = self.config.max_passage_tokens, self.config.overlap_tokens
        passages = split_document(document, most, self.count_tokens, overlap)
        for passage in with_topics(document, passages):
            if dropped := self._filter.personal_in(passage.text, found):
                about.setdefault("without", []).append([passage.id, dropped])
                continue
            hashes.append(content_id(passage.heading, passage.text))
            topics.append(topic_hash(topic_of(passage)))
            if self.config.passage_duplicates == "near":
                signatures.append(signature_of(passage.text))
            yield passage.to_json()
        # a title made of a file's name says nothing of its own: copies often have other names
        title = "" if document.title == title_from_name(document.id) else document.title
        about |= {"hash": content_id(title, document.text), "passages": hashes, "topics": topics}
        if self.config.duplicates == "near":
            about["signature"] = signature_of(document.text)
        if signatures:
            about["signatures"] = signatures
        yield about


def with_members(members: list[list[str]]) -> dict[str, Any]:
    """Return what the line about an archive says of members that were left out."""
    return {"members": members} if members else {}


def _failed(reason: str, detail: str) -> dict[str, Any]:
    nothing = {"documents": 0, "passages": 0, "characters": 0, "warnings": {}, "personal": {}}
    return {"reason": reason, "detail": detail, **nothing}
