"""Read plain text and Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.decoding import read_text
from pdtrain.documents.document import Document, Source
from pdtrain.documents.plain import add_plain, join_lines
from pdtrain.documents.readers.html import add_html
from pdtrain.documents.readers.markdown_dialects import plain_markdown
from pdtrain.documents.readers.subtitles import CUE_TIMES, add_subtitles

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

TAG = re.compile(r"<[^<>]*>")
# dollars inside a text of prices have blanks before the second or digits behind it
FORMULA = re.compile(
    r"\$\$(?:[^$\\]|\\.)+\$\$|\$(?![\s$])(?:[^$\\\n]|\\[^\n])*(?<!\s)\$(?![\w$])"
    r"|\\\((?:[^\\\n]|\\[^\n)]){0,2000}\\\)|\\\[(?:[^\\]|\\[^\]]){0,2000}\\\]",
    re.DOTALL,
)
IN_FORMULAS = re.compile(r"[\\_^=+]")  # brackets without any of these were only escaped
TIMES = re.compile(r"(?<=[\d)])\*(?=[A-Za-z0-9(])|(?<=[A-Za-z0-9])\*(?=\d)|(?<=\d)\*\*(?=\d)")
ONE_TAG = re.compile(r"<(?P<closes>/?)(?P<name>[A-Za-z][\w.:-]*)(?P<rest>[^<>]*)>")
STRUCK = re.compile(r"<s>(?=[^<]*\w)(?:(?!</?s>).)*</s>", re.DOTALL)
IsText = Callable[[re.Match[str], str], bool]
ELEMENTS = frozenset(
    (
        "a abbr acronym address area article aside audio b base bdi bdo big blockquote body br "
        "button canvas caption center cite code col colgroup data datalist dd del details dfn "
        "dialog dir div dl dt em embed fieldset figcaption figure font footer form frame frameset "
        "h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label legend li "
        "link main map mark math menu meta meter nav noframes noscript object ol optgroup option "
        "output p param picture pre progress q rb rp rt rtc ruby s samp script search section "
        "select slot small source span strike strong style sub summary sup svg table tbody td "
        "template textarea tfoot th thead time title tr track tt u ul var video wbr "
        # of formulas and drawings
        "annotation circle clippath defs ellipse g line lineargradient mfrac mi mn mo mover mroot "
        "mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover path "
        "polygon polyline rect semantics stop text tspan use"
    ).split()
)
DEEPEST = 100  # blocks in one another; what is deeper is left out
FRONT_MATTER = re.compile(
    r"\A(?:---[ \t]*\n(?P<yaml>.*?\n)(?:---|\.\.\.)|\+\+\+[ \t]*\n(?P<toml>.*?\n)\+\+\+)"
    r"[ \t]*(?:\n|\Z)",
    re.DOTALL,
)
# a line of it: a key, what belongs to the key above, a comment or nothing
YAML_LINE = re.compile(r"[\w\"'$.-][^\n]*?:(?:[ \t]|\Z)|[ \t]+\S|- |[#\]}]|\s*\Z")
# keys of a front matter that say something about the document
# what MDX has besides Markdown: statements and comments
MDX_ONLY = re.compile(
    r"(?P<fence>^(?P<mark>```+|~~~+).*?^(?P=mark))"
    r"|^import\b[^'\"\n]*(?:\{[^{}]*\}[^'\"\n]*)?(?:'[^'\n]+'|\"[^\"\n]+\")[ \t]*;?[ \t]*$"
    r"|^export[ \t]+(?:default|const|let|var|function|class|async|type|interface|\{|\*).*?"
    r"(?=\n[ \t]*\n|\Z)|\{/\*.{0,2000}?\*/\}",
    re.DOTALL | re.MULTILINE,
)
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
    return all(map(YAML_LINE.match, lines)) and bool(lines[0].strip() and said and ":" in said[0])


def render_markdown(text: str) -> str:
    """Return the HTML of a text in Markdown, with `<br>` where lines stand for themselves."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": DEEPEST}).enable(["table", "strikethrough"])
    parser.block.ruler.at("reference", _reference)
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.inline.ruler.before("emphasis", "times", _times)
    tokens = parser.parse(plain_markdown(text))
    _write_numbers(tokens)
    is_text = _text_among_tags(text)
    for token in tokens:
        if token.type == "inline" and "\n" in token.content:
            _keep_line_breaks(token)
        _show_what_is_no_tag(token, is_text)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _write_numbers(tokens: Sequence[Token]) -> None:
    """Write the numbers of list items that do not just count: "3. Mai 1990" begins no third step.

    A list counts where it begins with 1, or where the list before it ended, and leaves none out.
    """
    lists: list[list[int]] = []  # of those that are open: the places of their items
    next_number: dict[int, int] = {}  # by depth
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            next_number.clear()
        elif token.type in ("ordered_list_open", "bullet_list_open"):
            lists.append([])
        elif token.type == "list_item_open":
            lists[-1].append(place)
        elif token.type == "bullet_list_close":
            lists.pop()
        elif token.type == "ordered_list_close":
            items = [tokens[place] for place in lists[-1]]
            numbers = [int(item.info) for item in items]
            first = numbers[0]
            in_turn = numbers == [*range(first, first + len(numbers))]
            counts = in_turn and (first < 2 or first == next_number.get(len(lists)))
            if not counts and len({*numbers, first}) > (first < 2):
                for place, item in zip(lists[-1], items, strict=True):
                    _write_before(tokens[place + 1 : place + 3], f"{item.info}{item.markup} ")
            next_number[len(lists)] = numbers[-1] + 1
            lists.pop()


def _write_before(inside: Sequence[Token], text: str) -> None:
    """Write a text before a paragraph, if that is what these tokens begin."""
    from markdown_it.token import Token

    if len(inside) == 2 and inside[0].type == "paragraph_open" and inside[1].children is not None:
        inside[1].children.insert(0, Token("text", "", 0, content=text))


def _text_among_tags(text: str) -> IsText:
    """Return a function that tells what only looks like a tag in this text.

    It takes a match of `ONE_TAG` and the text before it. Place holders, parameters of types,
    control tokens and comparisons are text; elements of HTML and a page's components are not.
    """
    closed = {tag["name"] for tag in ONE_TAG.finditer(text) if tag["closes"]}
    # the ends of a text as models know it are not struck out
    is_struck = text.count("<s>") == text.count("</s>") == len(STRUCK.findall(text))
    elements = ELEMENTS if is_struck else ELEMENTS - {"s"}

    def is_text(tag: re.Match[str], before: str) -> bool:
        name, rest = tag["name"], tag["rest"]
        if name.lower() in elements:
            return before[-1:].isalnum() and "=" not in rest and bool(rest.strip(" /"))
        if "=" in rest and not tag["closes"]:
            return False
        is_component = not name.islower() or not name.isalpha()
        return not (is_component and (name in closed or rest.endswith("/")))

    return is_text


def _show_what_is_no_tag(token: Token, is_text: IsText) -> None:
    """Turn what only looks like a tag into text."""
    if token.type == "html_block":
        shown = ONE_TAG.sub(
            lambda tag: html.escape(tag[0], quote=False) if is_text(tag, "") else tag[0],
            token.content,
        )
        begins = shown.startswith("&lt;") and token.content.startswith("<")
        token.content = f"<p>{shown}</p>\n" if begins else shown
    before = ""
    for child in token.children or []:
        tag = ONE_TAG.fullmatch(child.content) if child.type == "html_inline" else None
        if tag and is_text(tag, before):
            child.type = "text"
        before = child.content


def _formula(state: StateInline, silent: bool) -> bool:
    """Read a formula as it stands: its backslashes and underscores are no Markdown."""
    found = FORMULA.match(state.src, state.pos)
    if found is None or (found[0][0] == "\\" and not IN_FORMULAS.search(found[0][2:-2])):
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _times(state: StateInline, silent: bool) -> bool:
    """Read a star between factors as it stands; in a word it would begin what is in italics."""
    found = TIMES.match(state.src, state.pos)
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
