"""Turn what site generators and note programs add to Markdown into plain Markdown.

Boxes (`!!! note`, `:::tip`, `> [!NOTE]`), tabs, attributes, shortcodes, roles, definitions and
links between notes keep their text and lose their marks. Code is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pdtrain.documents.encoding.characters import EAST_ASIAN

STEP = 4  # blanks by which the text of a box or a tab is indented
FENCE = re.compile(
    r"(?P<before>[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)\Z"
)
# of MkDocs: `!!! note "Title"`, `??? tip` and `=== "Tab"`
BOX = re.compile(
    r"(?:!!!|\?\?\?\+?)[ \t]+(?:[\w-]+(?:[ \t]+[\w-]+)*[ \t]+\"(?P<title>.*)\""
    r"|[a-z][\w-]*(?:[ \t]+(?:inline|end|annotate))*)\Z"
)
TAB = re.compile(r"===[!+]?[ \t]+\"(?P<title>.*)\"\Z")
# of Pandoc, Docusaurus, VitePress and MyST: `::: {.note}`, `:::tip Title`, `:::{note} Title`, `:::`
COLONS = re.compile(
    r":{3,}[ \t]*(?:\{(?P<braces>[^{}\n]*)\}|(?P<kind>[A-Za-z][\w-]*))?(?P<title>.*)\Z"
)
TITLE = re.compile(r"\btitle=\"([^\"]*)\"")
DIRECTIVE = re.compile(r"\{(?P<name>[\w:+-]+)\}[ \t]*(?P<title>.*)\Z")  # of MyST, after a fence
OPTION = re.compile(r"[ \t]*:[\w-]+:(?:[ \t].*)?\Z")
PROSE = frozenset(
    (
        "admonition attention caution danger error hint important note seealso tip warning card "
        "dropdown details grid grid-item grid-item-card tab-set tab-item margin sidebar topic "
        "epigraph pull-quote versionadded versionchanged deprecated glossary exercise solution "
        "definition theorem proof example remark figure"
    ).split()
)
NO_TEXT = frozenset(
    "toctree contents include tableofcontents bibliography index image button-link".split()
)
ALERT = re.compile(r"(?P<quote>[ \t]*(?:>[ \t]?)+)\[![\w-]+\][+-]?[ \t]*(?P<title>.*)\Z")
# lines that say nothing: a table of contents, attributes of a block, a label, a new page
NOTHING = re.compile(
    r"[ \t]*(?:\[TOC\]|\[\[_?TOC_?\]\]|\{:[^{}\n]*\}|\{%[^{}\n]*%\}|\([\w.:-]+\)="
    r"|\\(?:newpage|pagebreak|clearpage|tableofcontents|maketitle))[ \t]*\Z"
)
DEFINITION = re.compile(r" {0,3}:[ \t]+(?=\S)")  # of the word in the line above
ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]")
INLINE = re.compile(
    # {ref}`text <target>`
    r"\{[a-z][\w:+.-]*\}`(?P<role>[^`<\n]*?)(?:[ \t]*<[^<>`\n]*>)?`"
    # code and formulas stay
    r"|(?P<stays>(?P<ticks>`+)(?!`)[^\n]{0,2000}?(?<!`)(?P=ticks)(?!`)|\$(?![\s$])[^$\n]*\$)"
    # shortcodes of Hugo, tags of Liquid in a link or around text, attributes as {#name .class}
    r"|\{\{[<%][^\n]{0,400}?[%>]\}\}|(?<=\]\()\{%[^{}\n]*%\}|\{%-?[ \t]*(?:end)?raw[ \t]*-?%\}"
    r"|(?:(?<![ \t])[ \t]+)?\{:?[ \t]*(?:[#.][A-Za-z][\w-]*|[\w-]+=[^\s{}]+|(?<=\{:)toc)"
    r"(?:[ \t]+(?:[#.][\w-]+|[\w-]+=[^\s{}]+))*[ \t]*\}"
    # [[page#section|text]], and ![[what is shown]]
    r"|(?<![A-Za-z0-9_\])])(?P<shown>!)?\[\[(?!\s)(?P<page>(?=[^\[\]|#\n]*[^\W\d_])[^\[\]|#\n]+"
    r"|\d{4}-\d\d-\d\d)(?:#[^\[\]|\n]*)?"
    r"(?:\\?\|(?P<label>[^\[\]\n]*))?\]\](?!\()"
    # **bold** beside letters that no blanks part, where CommonMark sees no border of a word
    r"|(?<![A-Za-z0-9*\\])(?P<bold>\*\*)(?=\S)(?P<text>[^*`\n]+?)(?<=\S)\*\*(?![A-Za-z0-9*])"
)


def plain_markdown(text: str) -> str:
    """Return a text in Markdown without the marks of its dialects, in as many paragraphs."""
    return "\n".join(_lines(iter(text.split("\n"))))


def _lines(lines: Iterator[str]) -> Iterator[str]:
    indents: list[int] = []  # of the boxes and tabs that are open
    for line in lines:
        width = len(line) - len(line.lstrip(" \t"))
        while line.strip() and indents and width < indents[-1]:
            indents.pop()
        line = line[STEP * len(indents) :] if line.strip() else ""
        if fence := FENCE.match(line):
            yield from _fenced(line, fence, lines, STEP * len(indents))
        elif box := BOX.match(line.strip()) or TAB.match(line.strip()):
            indents.append(width + STEP)
            yield from ("", line[: width - STEP * (len(indents) - 1)] + (box["title"] or ""), "")
        else:
            yield from _outside(line, lines)


def _fenced(line: str, fence: re.Match[str], lines: Iterator[str], dedent: int) -> Iterator[str]:
    """Yield a block of code as it stands, or what a directive of MyST in its place holds."""
    directive = DIRECTIVE.match(fence["info"].strip())
    name = directive["name"] if directive else ""
    inner = _until_closed(fence["mark"], lines, dedent)
    if name in NO_TEXT:
        for _ in inner:
            pass
    elif directive and name in PROSE:
        held = list(inner)[:-1]
        while held and OPTION.match(held[0]):
            held.pop(0)
        title = "" if name == "figure" else directive["title"]
        yield from ("", title, "")
        yield from _lines(iter(held))
        yield ""
    else:
        yield line
        yield from inner


def _until_closed(mark: str, lines: Iterator[str], dedent: int) -> Iterator[str]:
    """Yield the lines of a block of code, with the one that closes it, or an empty one, last."""
    for line in lines:
        line = line[min(dedent, len(line) - len(line.lstrip(" \t"))) :]
        yield line
        bare = line.strip(" \t>")
        if bare.startswith(mark) and not bare.strip(mark[0]):
            return
    yield ""


def _outside(line: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield what a line outside of code becomes."""
    if NOTHING.match(line):
        yield ""
    elif alert := ALERT.match(line):
        yield alert["quote"] + alert["title"]
    elif line.lstrip().startswith(":::") and (colons := COLONS.match(line.strip())):
        title = TITLE.search(colons["braces"] or "")
        yield from ("", title[1] if title else colons["title"].rstrip(":").strip(" \t[]"), "")
    elif defined := DEFINITION.match(line):
        yield from ("", INLINE.sub(_inline, line[defined.end() :]))
    elif not line.startswith(("    ", "\t")) or ITEM.match(line):
        yield INLINE.sub(_inline, line)
    else:  # as code is indented
        yield line


def _inline(match: re.Match[str]) -> str:
    if match["stays"]:
        return match[0]
    if match["role"] is not None:
        return match["role"]
    if match["bold"]:
        around = match.string[max(0, match.start() - 1) : match.end() + 1]
        return match["text"] if EAST_ASIAN.search(around) else match[0]
    if match["page"]:
        return "" if match["shown"] else (match["label"] or match["page"]).strip()
    return ""
