"""Join what was read of the files into shards, without what says nothing new."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import REASONS
from pdtrain.documents.ingest.cleaning import duplicates
from pdtrain.documents.ingest.cleaning.repeated import repeated_lines, without_repeated
from pdtrain.documents.ingest.parts import DOCUMENT, FILE, Finished
from pdtrain.documents.ingest.reading import CountTokens
from pdtrain.documents.ingest.report import KEPT, SKIPPED, WARNED
from pdtrain.documents.ingest.workers import Crash
from pdtrain.documents.naming.topics import Hashes, Topics
from pdtrain.documents.records.tables import LEFT_OUT
from pdtrain.records import Passage
from pdtrain.storage import to_line

MEMBERS_NAMED = 3  # of an archive, in a warning; the report lists all
Files = dict[str, Finished | Crash]
NONE: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass
class Merger:
    """Go through what was read, file by file in order, and filter what spans files.

    Args:
        config: says what is left out.
        files: what was read, by name, in the order of the corpus.
        folder: where signatures are kept while they are compared.
        count_tokens: counts again what has lost a sentence.
    """

    config: CorpusConfig
    files: Files
    folder: Path
    count_tokens: CountTokens
    _copy_of: NDArray[np.int64] = field(default_factory=lambda: NONE)  # by document
    _copy_of_passage: NDArray[np.int64] = field(default_factory=lambda: NONE)
    _repeated: set[int] = field(default_factory=set)
    _topics: Topics = field(default_factory=lambda: Topics(np.empty(0, np.bool_), set()))
    _names: dict[int, str] = field(default_factory=dict)  # of documents that others are copies of
    _passage_names: dict[int, str] = field(default_factory=dict)

    def compare(self) -> None:
        """Find duplicates, repeated lines and topics that are not one passage's among all files."""
        if self.config.repeated_lines:
            passes = (self._all_lines() for _ in range(2))
            self._repeated = repeated_lines(passes, self.config.repeated_lines)
        how = (self.config.duplicates, self.config.passage_duplicates)
        documents, passages, topics, owners = self._hashes()
        if how[0] != "off":
            self._copy_of = self._compared(documents, how[0], lambda line: [line.get("signature")])
        if how[1] != "off":
            if len(self._copy_of):
                passages[self._copy_of[owners] >= 0] = 0  # go with their document
            self._copy_of_passage = self._compared(
                passages, how[1], lambda line: line.get("signatures", [])
            )
        self._names = dict.fromkeys(self._copy_of[self._copy_of >= 0].tolist(), "")
        of = self._copy_of_passage
        self._passage_names = dict.fromkeys(of[of >= 0].tolist(), "")
        if len(self._copy_of):
            topics[self._copy_of[owners] >= 0] = 0
        if len(of):
            topics[of >= 0] = 0
        self._topics = Topics.of(topics, self._documents(), owners)

    def _hashes(self) -> tuple[Hashes, Hashes, Hashes, NDArray[np.int64]]:
        """Return the hashes of documents, passages and their topics, and each one's document."""
        documents, passages, topics = array("Q"), array("Q"), array("Q")
        owners = array("q")
        for line in self._all_lines():
            if line.startswith(DOCUMENT):
                about = json.loads(line)
                found = about.get("passages", [])
                passages.extend(int(one, 16) for one in found)
                topics.extend(int(one or "0", 16) for one in about.get("topics", []))
                owners.extend([len(documents)] * len(found))
                documents.append(int(about["hash"], 16) if found else 0)
        first, second, third = (np.array(one, np.uint64) for one in (documents, passages, topics))
        return first, second, third, np.array(owners, np.int64)

    def _documents(self) -> Iterator[str]:
        """Yield the ids of all documents in order."""
        for line in self._all_lines():
            if line.startswith(DOCUMENT):
                yield json.loads(line)["document"]

    def _compared(
        self,
        hashes: Hashes,
        how: str,
        signatures: Callable[[dict[str, Any]], Iterable[str | None]],
    ) -> NDArray[np.int64]:
        """Return for each hash the index of what it is a copy of, or -1."""
        copy_of = duplicates.equal_to_earlier(hashes)
        if how == "exact" or not len(hashes):
            return copy_of
        path = self.folder / "signatures.tmp"
        with path.open("wb") as stream:
            for line in self._all_lines():
                if line.startswith(DOCUMENT):
                    for one in signatures(json.loads(line)):
                        stream.write(
                            duplicates.signature_bytes(one) if one else bytes(duplicates.ROW_BYTES)
                        )
        rows = np.memmap(path, np.uint32, "r", shape=(len(hashes), duplicates.NUM_HASHES))
        is_out = (copy_of >= 0) | (hashes == 0)
        near = duplicates.near_duplicates(rows, self.config.near_duplicate, is_out)
        del rows
        path.unlink()
        return np.where(copy_of >= 0, copy_of, near)

    def lines(self, entries: Entries) -> Iterator[str]:
        """Yield the passages that stay, as lines of a shard, and append an entry for each file."""
        document = passage = 0
        for name, one in self.files.items():
            if isinstance(one, Crash):
                entries.append(skipped(name, "broken", one.detail))
                continue
            file = _File()
            for line in one.lines():
                if line.startswith(FILE):
                    entries.append(file.entry(json.loads(line)))
                elif line.startswith(DOCUMENT):
                    self._end_of_document(line, document, file)
                    document += 1
                else:
                    kept = self._passage(line, document, passage, file)
                    passage += 1
                    if kept:
                        file.passages += 1
                        yield kept

    def _end_of_document(self, line: bytes, number: int, file: _File) -> None:
        """Note why a document is left out, if it is."""
        is_copy = len(self._copy_of) and self._copy_of[number] >= 0
        has_more = b'"dropped": ' in line or b'"without": ' in line
        if not is_copy and number not in self._names and not has_more:
            return
        about = json.loads(line)
        if number in self._names:
            self._names[number] = about["document"]
        if is_copy:
            of = self._names[int(self._copy_of[number])]
            file.dropped.append({"document": about["document"], "why": "duplicate", "of": of})
        elif "dropped" in about:
            file.dropped.append(
                {
                    "document": about["document"],
                    "why": about["dropped"],
                    "detail": about["detail"],
                }
            )
        for identity, kinds in about.get("without", ()):
            file.dropped.append({"passage": identity, "why": f"personal data: {kinds}"})

    def _passage(self, line: bytes, document: int, number: int, file: _File) -> str:
        """Return the line of a passage as it goes into a shard; empty if it is left out."""
        if len(self._copy_of) and self._copy_of[document] >= 0:
            return ""
        if len(self._copy_of_passage) and self._copy_of_passage[number] >= 0:
            of = self._passage_names[int(self._copy_of_passage[number])]
            identity = json.loads(line)["id"]
            file.dropped.append({"passage": identity, "why": "duplicate passage", "of": of})
            return ""
        is_named = number in self._passage_names  # another one is its copy
        if not self._repeated and not is_named and not self._topics.is_shared(number):
            return line.decode()
        whole = Passage.from_json(json.loads(line))
        passage: Passage | None = whole
        if self._repeated:
            passage = without_repeated(whole, self._repeated, self.count_tokens)
        if passage is not whole:
            file.dropped.append({"passage": whole.id, "why": "repeated lines"})
        if passage is not None:
            passage = self._topics.applied(passage, number)
        if is_named:
            self._passage_names[number] = passage.id if passage else whole.id
        if passage is whole:
            return line.decode()
        return to_line(passage.to_json()) if passage else ""

    def _all_lines(self) -> Iterator[bytes]:
        for one in self.files.values():
            if isinstance(one, Finished):
                yield from one.lines()


class Entries(Protocol):
    """Take what the report says of each file."""

    def append(self, entry: dict[str, Any], /) -> None: ...


@dataclass
class _File:
    """Count what becomes of a file."""

    passages: int = 0
    dropped: list[dict[str, Any]] = field(default_factory=list)

    def entry(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return what the report says of the file, from the line about it in its part."""
        name, reason, detail = about["file"], about["reason"], about["detail"]
        members = about.get("members", [])
        bad = [one for one in members if one[1] in REASONS]
        if bad and not reason and not self.passages and not self.dropped:
            reason, detail = bad[0][1], f"no member could be read; {bad[0][0]}: {bad[0][2]}"
        if reason and not self.passages:
            return skipped(name, reason, detail)
        if not self.passages:
            why = self.dropped[0] if self.dropped else {"why": "empty"}
            detail = f"of {why['of']}" if "of" in why else why.get("detail", "it holds no text")
            return skipped(name, why["why"], detail) | {"dropped": self.dropped}
        kept = {
            "file": name,
            "state": WARNED if about["warnings"] or reason or bad else KEPT,
            "reason": reason,
            "documents": about["documents"],
            "passages": self.passages,
            "characters": about["characters"],
        }
        warnings = [
            text if count == 1 else f"{text} ({count} documents)"
            for text, count in about["warnings"].items()
        ]
        if reason:
            after = f"what came after {about['documents']} documents was left: {detail}"
            warnings.insert(0, detail if detail.startswith(LEFT_OUT) else after)
        if bad:
            named = "; ".join(f"{member}: {why}" for member, why, _ in bad[:MEMBERS_NAMED])
            more_of_them = f" and {len(bad) - MEMBERS_NAMED} more" * (len(bad) > MEMBERS_NAMED)
            warnings.append(f"{len(bad)} members were left out ({named}{more_of_them})")
        left_out = [dict(zip(("member", "reason", "detail"), m, strict=True)) for m in members]
        more = {
            "members": left_out,
            "warnings": warnings,
            "dropped": self.dropped,
            "personal": about["personal"],
        }
        return kept | {key: value for key, value in more.items() if value}


def skipped(name: str, reason: str, detail: str) -> dict[str, Any]:
    """Return what the report says of a file that was skipped."""
    return {"file": name, "state": SKIPPED, "reason": reason, "detail": detail}
