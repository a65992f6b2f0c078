"""Escape texts so that Markdown shows them as they are.

A name, a title or a document's id may hold anything: none of it may turn into a link, an image or
HTML in `report.md` or on the model card, which others open in a viewer.
"""

from __future__ import annotations

import re

# Characters that mean something to Markdown or HTML. An underscore inside a word means nothing, and
# names are full of them; a colon, a dot and an @ matter where a bare address becomes a link.
SPECIAL = re.compile(
    r"[\\`*\[\]<>&|~#]|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.|(?<=\w)@(?=\w)"
)


def escape_markdown(text: str) -> str:
    """Return a text as part of one line of Markdown, without any markup, in a table too."""
    return SPECIAL.sub(lambda found: f"\\{found[0]}", re.sub(r"\s+", " ", text))


def code_span(text: str) -> str:
    """Return a text as one span of code, whatever backquotes it holds."""
    line = re.sub(r"[\r\n]+", " ", text)
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not line or line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"
