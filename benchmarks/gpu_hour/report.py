"""Collect what a part finds, and keep it on disk while it grows: a part may be ended by force."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Skip(Exception):  # noqa: N818 - nothing went wrong
    """Say that a part cannot run on this machine; the message is the reason."""


@dataclass(frozen=True)
class Column:
    """Describe a column of a table: a key of its records, a heading, and a format of the page.

    `form` is one of `page.FORMS`.
    """

    key: str
    heading: str
    form: str = "text"


class Table:
    """Hold the records of one table; each is written to disk as it comes."""

    def __init__(self, report: Report, records: list[dict[str, Any]]) -> None:
        self._report, self._records = report, records

    def add(self, **record: Any) -> None:
        """Add a line. Values are what JSON knows; keys without a column are for the raw file."""
        self._records.append(record)
        self._report.save()


class Report:
    """Hold what a part has found, and write it to `path` whenever something is added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {
            "status": "running",
            "reason": "",
            "headlines": [],
            "about": [],
            "problems": [],
            "avoid": [],
            "notes": [],
            "tables": [],
            "files": [],
        }
        self.save()

    def table(self, title: str, columns: Sequence[Column], text: str = "") -> Table:
        """Begin a table, with a sentence below its title that says how to read it."""
        records: list[dict[str, Any]] = []
        shown = [vars(column) for column in columns]
        self._found["tables"].append(
            {"title": title, "text": text, "columns": shown, "records": records}
        )
        self.save()
        return Table(self, records)

    def about(self, text: str) -> None:
        """Add a sentence that stands before the part's tables: what is measured, on what."""
        self._add("about", text)

    def headline(self, text: str) -> None:
        """Add what the page's summary should say of this part, in a few words."""
        self._add("headlines", text)

    def problem(self, text: str) -> None:
        """Add something that is wrong, and not only slow; the part then counts as wrong."""
        self._add("problems", text)

    def avoid(self, what: str) -> None:
        """Tell the parts that follow what they should do without; they get it in their task."""
        if what not in self._found["avoid"]:
            self._add("avoid", what)

    def note(self, text: str) -> None:
        """Add a sentence that stands behind the part's tables."""
        self._add("notes", text)

    def file(self, path: Path) -> None:
        """Name a file that belongs beside the page; it is moved there."""
        self._add("files", str(path))

    def finish(self, status: str = "", reason: str = "") -> None:
        """Write the end: `done`, or `wrong` where there are problems, unless a status is given."""
        self._found["status"] = status or ("wrong" if self._found["problems"] else "done")
        self._found["reason"] = reason
        self.save()

    def save(self) -> None:
        """Write everything; a reader sees the whole file or the one before."""
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._found, indent=1), encoding="utf-8")
        temporary.replace(self._path)

    def _add(self, kind: str, text: str) -> None:
        self._found[kind].append(text)
        self.save()


@dataclass(frozen=True)
class Task:
    """Tell a part what it has: a device, a folder, and time.

    Args:
        name: the part's.
        is_dry: toy sizes on a CPU.
        folder: for files that it makes; empty at first.
        deadline: when it should be done, by `time.monotonic`.
        avoid: what an earlier part has found broken, such as "triton".
    """

    name: str
    is_dry: bool
    folder: Path
    deadline: float
    avoid: tuple[str, ...] = ()

    @cached_property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu" if self.is_dry else "cuda")

    @cached_property
    def dtype(self) -> torch.dtype:
        """bf16 on a GPU, and fp32 on a CPU, where bf16 products are slow."""
        import torch

        return torch.float32 if self.is_dry else torch.bfloat16

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()
