"""Read plain text and Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source
from pdtrain.documents.encoding.decoding import read_text
from pdtrain.documents.plain import add_plain, join_lines
from pdtrain.documents.readers.html import add_html, is_page, read_html
from pdtrain.documents.readers.markdown_text.dialects import plain_markdown
from pdtrain.documents.readers.markdown_text.syntax import formula, reference, times, write_numbers
from pdtrain.documents.readers.markdown_text.tags import show_what_is_no_tag, text_among_tags
from pdtrain.documents.readers.subtitles import CUE_TIMES, add_subtitles

if TYPE_CHECKING:
    from markdown_it.token import Token

TAG = re.compile(r"<[^<>]*>")
DEEPEST = 100  # blocks in one another; what is deeper is left out
FRONT_MATTER = re.compile(
    r"\A(?:---[ \t]*\n(?P<yaml>.*?\n)(?:---|\.\.\.)|\+\+\+[ \t]*\n(?P<toml>.*?\n)\+\+\+)"
    r"[ \t]*(?:\n|\Z)",
    re.DOTALL,
)
# a line of it: a key, what belongs to the key above, a comment or nothing
YAML_LINE = re.compile(r"[\w\"'$@.-][^\n]*?:(?:[ \t]|\Z)|[ \t]+\S|-(?: |\Z)|[#\]}]|\s*\Z")
# what MDX has besides Markdown: statements and comments
MDX_ONLY = re.compile(
    r"(?P<fence>^(?P<mark>```+|~~~+).*?^(?P=mark))"
    r"|^import\b[^'\"\n]*(?:\{[^{}]*\}[^'\"\n]*)?(?:'[^'\n]+'|\"[^\"\n]+\")[ \t]*;?[ \t]*$"
    r"|^export[ \t]+(?:default|const|let|var|function|class|async|type|interface|\{|\*).*?"
    r"(?=\n[ \t]*\n|\Z)|\{/\*.{0,2000}?\*/\}",
    re.DOTALL | re.MULTILINE,
)
# keys of a front matter that say something about the document
KEYS = re.compile(r"^(title|author|date|description)[ \t]*[:=][ \t]*(\S.*)$", re.MULTILINE)


def read_txt(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Read a plain text file; a blank line ends a paragraph, a wrapped line does not."""
    text, warnings = read_text(source)
    if is_page(text):
        yield from read_html(source, config)
        return
    builder = BlockBuilder()
    builder.warnings += warnings
    if _are_subtitles(text):
        add_subtitles(builder, text)
    else:
        add_plain(builder, text)
    yield builder.document(source)


def _are_subtitles(text: str) -> bool:
    """Return whether a text is a file of subtitles by another name."""
    lines = text.lstrip("\n").split("\n", 8)[:8]
    has_times = [bool(CUE_TIMES.match(line)) for line in lines]
    return any(has_times if lines[0].startswith("WEBVTT") else has_times[:2])


def read_markdown(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Render Markdown and read it as HTML; a header in YAML or TOML is left out.

    Of MDX, the tags are left out like those of HTML, and so are imports, exports and comments.
    """
    text, warnings = read_text(source)
    if source.suffix == ".mdx":
        text = MDX_ONLY.sub(lambda match: match["fence"] or "", text)
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
    header = FRONT_MATTER.match(text)
    if header and (header["toml"] or _is_yaml(header["yaml"])):
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


def _is_yaml(header: str) -> bool:
    """Return whether these lines name something, and are no first slide between two rules."""
    lines = header.rstrip("\n").split("\n")
    said = [line for line in lines if line.strip() and not line.startswith("#")]
    is_slide = not lines[0].strip() and header.lstrip().startswith("#")
    return all(map(YAML_LINE.match, lines)) and bool(not is_slide and said and ":" in said[0])


def render_markdown(text: str) -> str:
    """Return the HTML of a text in Markdown, with `<br>` where lines stand for themselves."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": DEEPEST}).enable(["table", "strikethrough"])
    parser.block.ruler.at("reference", reference)
    parser.inline.ruler.before("escape", "formula", formula)
    parser.inline.ruler.before("emphasis", "times", times)
    tokens = parser.parse(plain_markdown(text))
    write_numbers(tokens)
    is_text = text_among_tags(text)
    for token in tokens:
        if token.type == "inline" and "\n" in token.content:
            _keep_line_breaks(token)
        show_what_is_no_tag(token, is_text)
    return str(parser.renderer.render(tokens, parser.options, {}))


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
