"""Tell the tags in Markdown from what only looks like one."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

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
        "nobr marquee blink image xmp listing "
        # of formulas and drawings
        "annotation circle clippath defs ellipse g line lineargradient mfrac mi mn mo mover mroot "
        "mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover path "
        "polygon polyline rect semantics stop text tspan use"
    ).split()
)


def text_among_tags(text: str) -> IsText:
    """Return a function that tells what only looks like a tag in this text.

    It takes a match of `ONE_TAG` and the text before it. Place holders, parameters of types,
    control tokens and comparisons are text; elements of HTML and a page's components are not.
    """
    tags = list(ONE_TAG.finditer(text))
    closed = {tag["name"] for tag in tags if tag["closes"]}
    opened = {tag["name"] for tag in tags if "=" in tag["rest"]}
    # the ends of a text as models know it are not struck out
    is_struck = text.count("<s>") == text.count("</s>") == len(STRUCK.findall(text))
    elements = ELEMENTS if is_struck else ELEMENTS - {"s"}

    def is_text(tag: re.Match[str], before: str) -> bool:
        name, rest = tag["name"], tag["rest"]
        if name.lower() in elements:
            return before[-1:].isalnum() and "=" not in rest and bool(rest.strip(" /"))
        if "=" in rest or (tag["closes"] and name in opened):
            return False
        is_component = not name.islower() or not name.isalpha()
        return not (is_component and (name in closed or rest.endswith("/")))

    return is_text


def show_what_is_no_tag(token: Token, is_text: IsText) -> None:
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
