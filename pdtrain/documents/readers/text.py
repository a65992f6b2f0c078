"""Read plain text and Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.decoding import read_text
from pdtrain.documents.document import Document, Source
from pdtrain.documents.plain import add_plain, join_lines
from pdtrain.documents.readers.html import add_html
from pdtrain.documents.readers.subtitles import CUE_TIMES, add_subtitles

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

TAG = re.compile(r"<[^<>]*>")
# dollars inside a text of prices have blanks before the second or digits behind it
FORMULA = re.compile(
    r"\$\$(?:[^$\\]|\\.)+\$\$|\$(?![\s$])(?:[^$\\\n]|\\[^\n])*(?<!\s)\$(?![\w$])", re.DOTALL
)
DEEPEST = 100  # blocks in one another; what is deeper is left out
FRONT_MATTER = re.compile(
    r"\A(?:---[ \t]*\n(?P<yaml>.*?\n)(?:---|\.\.\.)|\+\+\+[ \t]*\n(?P<toml>.*?\n)\+\+\+)[ \t]*\n",
    re.DOTALL,
)
# keys of a front matter that say something about the document
KEYS = re.compile(r"^(title|author|date|description)[ \t]*[:=][ \t]*(\S.*)$", re.MULTILINE)


def read_txt(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a plain text file; a blank line ends a paragraph, a wrapped line does not."""
    text, warnings = read_text(source)
    builder = BlockBuilder()
    builder.warnings += warnings
    if CUE_TIMES.match("\n".join(text.split("\n", 3)[1:2])):  # subtitles by another name
        add_subtitles(builder, text)
    else:
        add_plain(builder, text)
    yield builder.document(source)


def read_markdown(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Render Markdown and read it as HTML; a header in YAML or TOML is left out."""
    text, warnings = read_text(source)
    builder = BlockBuilder()
    builder.warnings += warnings
    add_markdown(builder, text, source)
    yield builder.document(source)


def add_markdown(builder: BlockBuilder, text: str, source: Source) -> None:
    """Add the blocks of a text in Markdown.

    Its first heading of level 1 becomes the title, unless there are several of them below another
    title in the header.
    """
    found: dict[str, Any] = {}
    if header := FRONT_MATTER.match(text):
        found = {
            key: value.rstrip(" \t").strip("'\"")
            for key, value in KEYS.findall(header["yaml"] or header["toml"])
        }
        text = text[header.end() :]
    title = found.pop("title", "")
    builder.add_metadata(found)
    page = render_markdown(text)
    first = " ".join(TAG.sub("", page.partition("<h1>")[2].partition("</h1>")[0]).split())
    if title and page.count("<h1>") > 1 and html.unescape(first).casefold() != title.casefold():
        builder.title = title  # it names the whole, and they its sections
    add_html(builder, page, source)
    builder.title = builder.title or title


def render_markdown(text: str) -> str:
    """Return the HTML of a text in Markdown, with `<br>` where lines stand for themselves."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": DEEPEST}).enable(["table", "strikethrough"])
    parser.block.ruler.at("reference", _reference)
    parser.inline.ruler.before("escape", "formula", _formula)
    tokens = parser.parse(text)
    for token in tokens:
        if token.type == "inline" and "\n" in token.content:
            _keep_line_breaks(token)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _formula(state: StateInline, silent: bool) -> bool:
    """Read a formula as it stands: its backslashes and underscores are no Markdown."""
    found = FORMULA.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _reference(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Read where a link leads to; a footnote of one word would pass for that, and be lost."""
    from markdown_it.rules_block import reference

    begins = state.bMarks[first] + state.tShift[first]
    return not state.src.startswith("[^", begins) and reference(state, first, last, silent)


def _keep_line_breaks(token: Token) -> None:
    """Make line breaks hard where the lines were not wrapped, as in a list without bullets."""
    breaks = [child for child in token.children or [] if child.type in ("softbreak", "hardbreak")]
    lines = [line.strip() for line in token.content.split("\n")]
    if len(breaks) != len(lines) - 1:
        return
    standing = join_lines(lines)
    number = 0
    held = lines[0]
    for child, line in zip(breaks, lines[1:], strict=True):
        if held == standing[number]:
            child.type = "hardbreak"
            number, held = number + 1, line
        else:
            joint = "" if standing[number].startswith(held + line) else " "
            held = f"{held}{joint}{line}"
