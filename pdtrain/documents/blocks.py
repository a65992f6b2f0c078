"""Put a document together from headings, paragraphs, code and tables, as every reader does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from pdtrain.documents.document import Block, Document, Kind, Source, is_no_title, title_from_name
from pdtrain.documents.encoding.characters import normalise, on_one_line

CELLS = " | "  # stands between the cells of a row
# a line that begins with a time or a date, as those of logs do
TIMED = re.compile(r"\W?(?:\d{1,2}:\d\d|\d{4}[-./]\d|\d{1,2}([-./])\d{1,2}\1\d)")


class BlockBuilder:
    """Collect the blocks of a document in order, each in tidy characters."""

    def __init__(self) -> None:
        self.title = ""
        self.metadata: dict[str, str] = {}
        self.warnings: list[str] = []
        self.changes: Counter[str] = Counter()
        self._texts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0  # characters of the text so far
        self._headings: list[tuple[int, str]] = []  # level and words of those that are open

    def __bool__(self) -> bool:
        """Return whether there is any text."""
        return bool(self._blocks)

    @property
    def length(self) -> int:
        """Return the number of characters so far."""
        return self._length

    def heading(self, text: str, level: int) -> None:
        """Add a heading, which the blocks after it stand under until one of its level comes."""
        words = self._line(text)
        if words:
            while self._headings and self._headings[-1][0] >= level:
                self._headings.pop()
            self._add(words, "heading")
            self._headings.append((level, words))

    def end_section(self, level: int) -> None:
        """Let what follows stand under no heading of this level or a deeper one."""
        self._headings = [one for one in self._headings if one[0] < level]

    def prose(self, text: str) -> None:
        """Add a paragraph; any white space in it becomes one blank.

        A line break inside a word of a script without blanks goes.
        """
        self._add(self._line(text), "prose")

    def code(self, text: str, is_source: bool = False) -> None:
        """Add lines that keep their breaks and indentation; those of a log are paragraphs.

        Args:
            text: the lines.
            is_source: a program, whose letters are meant as they are, alike as they may look.
        """
        if not is_source:  # a compiler takes no no-break blank for a blank
            text = normalise(text, self.changes).replace("\xa0", " ")
        lines = [line.rstrip() for line in text.split("\n")]
        full = [number for number, line in enumerate(lines) if line]
        lines = lines[full[0] : full[-1] + 1] if full else []
        filled = [line for line in lines if line]
        if filled and sum(bool(TIMED.match(line)) for line in filled) >= 0.8 * len(filled):
            for line in filled:
                self._add(line.strip(), "prose")
        else:
            self._add("\n".join(lines), "code")

    def table(self, rows: Sequence[Sequence[str]], header: int = 0) -> None:
        """Add a table, one row a line, without the columns at its end that nothing stands in.

        Args:
            rows: the texts of the cells.
            header: the first so many rows name the columns.
        """
        cells = [[self._line(cell) for cell in row] for row in rows]
        width = max((n for row in cells for n, cell in enumerate(row, 1) if cell), default=0)
        lines = [CELLS.join(row[:width]).rstrip() for row in cells]
        kept = [(n < header, line) for n, line in enumerate(lines) if line.strip(" |")]
        names = sum(is_header for is_header, _ in kept)
        text = "\n".join(line for _, line in kept)
        self._add(text, "table", names if names < len(kept) else 0)

    def document(self, source: Source, record: object = None) -> Document:
        """Return the document.

        A title made of the file's name takes the place of one that is empty or says nothing, but
        not for a record: all records of the file would have it.
        """
        notes = [f"{count} {what}" for what, count in self.changes.items()]
        named = title_from_name(source.name) if record is None else ""
        title = self._line(self.title)
        return Document(
            id=source.name if record is None else f"{source.name}:{record}",
            title=self._line(named) if is_no_title(title) else title,
            text="\n".join(self._texts),
            blocks=tuple(self._blocks),
            metadata={k: v for k, v in self.metadata.items() if v},
            warnings=tuple(dict.fromkeys([*self.warnings, *notes])),
        )

    def add_metadata(self, found: Mapping[str, str | None]) -> None:
        """Take the values that are not empty, in tidy characters."""
        self.metadata |= {k: self._line(v) for k, v in found.items() if v and v.strip()}

    def _line(self, text: str) -> str:
        return on_one_line(normalise(text, self.changes))

    def _add(self, text: str, kind: Kind, header: int = 0) -> None:
        if not text.strip():
            return
        start = self._length + bool(self._texts)
        section = tuple(words for _, words in self._headings)
        self._texts.append(text)
        self._length = start + len(text)
        self._blocks.append(Block(start, self._length, kind, section, header))
