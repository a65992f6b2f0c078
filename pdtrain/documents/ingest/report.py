"""Say of every file whether it was kept, and of everything left out why: passages/report.json."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import REASONS
from pdtrain.documents.ingest.listing import entries_of
from pdtrain.documents.ingest.remote import shown_address
from pdtrain.files.durable import flush, make_folder, naming
from pdtrain.progress import say, warn

KEPT, WARNED, SKIPPED = "kept", "kept with a warning", "skipped"
LINES_SHOWN = 20


@dataclass
class FileReport:
    """Write an entry for each file as it comes, one a line, and the sums last.

    `corpus.on_error=stop` counts as an error every file that a reader could not read, or not
    wholly.
    """

    config: CorpusConfig
    folder: Path  # the stage's
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)
    _told: list[str] = field(default_factory=list)  # a line each, of the first files
    _num_told: int = 0
    _num_bad: int = 0

    def __post_init__(self) -> None:
        make_folder(self.folder)
        self.path = self.folder / "report.json"
        self._temporary = self.folder / f".report.json.{os.getpid()}.tmp"
        self._stream = self._temporary.open("w", encoding="utf-8")
        self._stream.write('{"files": [')

    def append(self, entry: dict[str, Any]) -> None:
        """Write the entry of a file and count it."""
        with naming(self.path):
            self._stream.write(",\n" if self.counts else "\n")
            self._stream.write(json.dumps(entry, ensure_ascii=False))
        state, reason = entry["state"], entry.get("reason", "")
        self.counts[state] += 1
        self.personal.update(entry.get("personal", {}))
        self.dropped.update(one["why"] for one in entry.get("dropped", ()))
        if state == SKIPPED:
            self.reasons[reason] += 1
        members = {one["reason"] for one in entry.get("members", ())}
        self._num_bad += reason in REASONS or bool(members & set(REASONS))
        if state == WARNED or reason in (*REASONS, "link"):
            self._num_told += 1
            if len(self._told) < LINES_SHOWN:
                self._told.append(line_of(entry))

    def close(self) -> None:
        """Write the sums, and put the report in its place."""
        summary = {
            "files": dict(self.counts),
            "skipped": dict(self.reasons.most_common()),
            "dropped": dict(self.dropped.most_common()),
            "personal_data": dict(self.personal.most_common()),
        }
        with naming(self.path):
            self._stream.write(f'\n], "summary": {json.dumps(summary, ensure_ascii=False)}}}\n')
            self._stream.close()
            flush(self._temporary)
            self._temporary.replace(self.path)
            flush(self.folder)

    def tell(self) -> None:
        """Tell the user the sums, and a line for each of the first bad files.

        Raises:
            ValueError: `corpus.on_error` is stop, and there is a file that was not read wholly; or
                no file was kept.
        """
        kept = self.counts[KEPT] + self.counts[WARNED]
        told = list(self._told)
        if self._num_told > len(told):
            told.append(f"and {self._num_told - len(told)} more in {self.path}")
        wrong = "".join(f"; {line}" for line in told)
        if not kept:
            raise ValueError(
                f"no document in {self._corpus()} holds text (files read: "
                f"{sum(self.counts.values())}); expected at least one sentence{wrong}"
            )
        if self.config.on_error == "stop" and self._num_bad:
            raise ValueError(
                f"{self._num_bad} files were not read, or not wholly, and corpus.on_error=stop; "
                f"mend them, list them under corpus.exclude, or set corpus.on_error=skip{wrong}"
            )
        for line in told:
            warn(f"passages: {line}")
        if self.counts[SKIPPED] or self.counts[WARNED]:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.reasons.most_common())
            say(
                f"passages: kept {kept} files, {self.counts[WARNED]} of them with a warning; "
                f"skipped {self.counts[SKIPPED]}{f' ({reasons})' if reasons else ''}: {self.path}"
            )
        for what, counter in (("left out", self.dropped), ("found", self.personal)):
            if counter:
                listed = ", ".join(f"{n} × {reason}" for reason, n in counter.most_common())
                say(f"passages: {what} {listed}")

    def _corpus(self) -> str:
        return ", ".join(map(shown_address, entries_of(self.config)))


def line_of(entry: dict[str, Any]) -> str:
    """Return one line about a file that was skipped or kept with a warning."""
    if entry["state"] == SKIPPED:
        return f"{entry['file']}: skipped, {entry['reason']}: {entry['detail']}"
    return f"{entry['file']}: kept, but {'; '.join(entry['warnings'])}"
