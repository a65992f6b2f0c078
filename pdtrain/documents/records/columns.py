"""Look at the columns of a file of records, and guess which of them hold title and text."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.records.delimiters import rows_of
from pdtrain.documents.records.lines import utf8_lines
from pdtrain.documents.records.question_answers import is_question
from pdtrain.documents.records.question_files import LINES

TITLES = ("title", "name", "heading", "headline", "subject", "label")
LOOKED_AT = 20  # records
LONGEST_LINE = 1 << 22  # bytes of a line of JSON that is looked at


@dataclass(frozen=True)
class Columns:
    """Hold the names of a file's columns, and what they seem to be."""

    names: tuple[str, ...]
    text: str  # the column with the longest texts; empty where none holds any
    title: str  # empty where none looks like it

    @property
    def holds_questions(self) -> bool:
        """Tell whether they are those of questions and answers."""
        return "text" not in self.names and is_question(self.names)

    @property
    def fits_defaults(self) -> bool:
        """Tell whether the stage finds the text without being told where it is."""
        return "text" in self.names or self.holds_questions

    def config(self, config: CorpusConfig) -> CorpusConfig:
        """Return the config that reads such records."""
        if self.fits_defaults or not self.text:
            return config
        return replace(config, text_field=self.text, title_field=self.title or config.title_field)


def columns_in(path: Path) -> Columns | None:
    """Return the columns of a file of records; None for other files, and where it has none."""
    try:
        records = _first_records(path)
    except Exception:  # whatever is wrong with it, the stage that reads it will say
        return None
    if not records:
        return None
    names = list(dict.fromkeys(str(name) for record in records for name in record))
    lengths = {name: sum(_length(record.get(name)) for record in records) for name in names}
    title = next((name for known in TITLES for name in names if name.lower() == known), "")
    text = max(names, key=lambda name: lengths[name])
    return Columns(tuple(names), text if lengths[text] else "", title if title != text else "")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0


def _first_records(path: Path) -> list[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    if suffix in LINES:
        with path.open("rb") as stream:
            start = list(islice(iter(lambda: stream.readline(LONGEST_LINE), b""), LOOKED_AT))
        lines = [*utf8_lines(io.BytesIO(b"".join(start)), path.name)[0]]
        if len(start) == LOOKED_AT:  # the end of the last one may be cut
            lines = lines[:-1]
        found = [json.loads(line.decode("utf-8-sig")) for line in lines if line.strip()]
    elif suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
            names, rows = rows_of(text.read(LONGEST_LINE), suffix, CorpusConfig())
            found = [dict(zip(names, row, strict=False)) for row in islice(rows, LOOKED_AT)]
    elif suffix == ".parquet":
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            found = next(file.iter_batches(batch_size=LOOKED_AT)).to_pylist()
    elif suffix == ".arrow":
        from pyarrow import ipc

        with path.open("rb") as stream, ipc.open_stream(stream) as batches:
            found = next(iter(batches)).slice(0, LOOKED_AT).to_pylist()
    else:
        return []
    return [record for record in found if isinstance(record, Mapping)]
