"""Sum up what was read of a file, so that damage to it is found before it becomes passages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pdtrain.storage import CHECK, to_line

FILE = b'{"file": '  # how lines about files begin


class LineSum:
    """Sum up the lines of a file for the checksum in its last line."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, line: bytes) -> None:
        """Take a passage's line, or that about a document."""
        self._hash.update(line)

    def of(self, record: dict[str, Any]) -> str:
        """Return the checksum that goes into the line about the file."""
        whole = self._hash.copy()
        whole.update(to_line(record).encode())
        return whole.hexdigest()[:16]

    def record(self, line: bytes) -> dict[str, Any] | None:
        """Return the line about the file without its checksum; None where it does not fit."""
        try:
            record = json.loads(line)
        except ValueError:
            return None
        if not isinstance(record, dict):
            return None
        check = record.pop(CHECK, None)
        return record if check is None or check == self.of(record) else None


def num_damaged(path: Path) -> int:
    """Return how many stretches of a part, one for each file, do not fit their checksums."""
    count, sums = 0, LineSum()
    with path.open("rb") as stream:
        stream.readline()
        for line in stream:
            if not line.startswith(FILE):
                sums.add(line)
                continue
            count += sums.record(line) is None
            sums = LineSum()
    return count
