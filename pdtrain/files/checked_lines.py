"""Write and read lines of JSON that end with a checksum of themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pdtrain.storage import sha256_text, to_line

CHECKED = re.compile(rb'^(\{.*), "check": "([0-9a-f]{16})"\}\n$', re.DOTALL)


def checked_line(value: dict[str, Any]) -> str:
    """Return a JSON object as a line that ends with its checksum."""
    body = to_line(value)[:-2]
    return f'{body}, "check": "{_checksum(body)}"}}\n'


def unchecked(line: bytes, *, must: bool = False) -> dict[str, Any] | None:
    """Return the object of a line, without its checksum; None where the line is damaged.

    Args:
        must: a line without a checksum is damaged too.
    """
    found = CHECKED.match(line)
    if found is None and (must or not line.endswith(b"\n")):
        return None
    try:
        if found and _checksum(found[1].decode()) != found[2].decode():
            return None
        value = json.loads(found[1] + b"}" if found else line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _checksum(body: str) -> str:
    return sha256_text(body)[:16]


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the first byte of every line of a file, and the line."""
    start = 0
    with path.open("rb") as file:
        for line in file:
            yield start, line
            start += len(line)


def read_checked_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the objects of a file's lines, and the numbers of the damaged ones, from 1."""
    found, damaged = [], []
    for number, (_, line) in enumerate(lines_of(path) if path.exists() else (), 1):
        value = unchecked(line)
        if value is not None:
            found.append(value)
        elif line.strip():
            damaged.append(number)
    return found, damaged
