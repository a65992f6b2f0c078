"""Escape texts so that Markdown shows them as they are.

A name, a title or a document's id may hold anything: none of it may turn into a link, an image or
HTML in `report.md` or on the model card, which others open in a viewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pdtrain.progress import printable

# Characters that mean something to Markdown or HTML. An underscore inside a word means nothing, and
# names are full of them; a colon, a dot and an @ matter where a bare address becomes a link.
SPECIAL = re.compile(
    r"[\\`*\[\]<>&|~#]|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.|(?<=\w)@(?=\w)"
)

COMMAND = re.compile(r"`(pdtrain [a-z]+ CONFIG)`")


def escape_markdown(text: str) -> str:
    """Return a text as part of one line of Markdown, without any markup, in a table too."""
    line = printable(re.sub(r"\s+", " ", text))
    return SPECIAL.sub(lambda found: f"\\{found[0]}", line)


def commands_in(note: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a note, and whether each is a command of ours that stood in backquotes.

    Other backquotes are part of the text: a name may hold one.
    """
    for index, part in enumerate(COMMAND.split(note)):
        if part:
            yield part, index % 2 == 1


def code_span(text: str) -> str:
    """Return a text as one span of code, whatever backquotes it holds."""
    line = printable(re.sub(r"[\r\n]+", " ", text))
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not line or line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"
