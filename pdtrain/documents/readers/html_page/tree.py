"""Parse HTML as browsers do, into a tree that can be walked fast."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxml.etree import _Element

# attributes that some reader looks at
KEPT = frozenset(
    (
        "alttext aria-controls aria-expanded aria-hidden class close colspan content encoding "
        "hidden href id lang linethickness name open readonly role rowspan separators style"
    ).split()
)
# XHTML may close at once what swallows the rest of the page in HTML
XML = re.compile(r"\s*<\?xml|\s*<!DOCTYPE[^>]*XHTML", re.IGNORECASE)
XML_ROOT = re.compile(r"""<html\b[^<>]*\bxmlns\s*=\s*["']http://www\.w3\.org/1999/xhtml["']""")
HEAD = 4096  # characters that a page's root begins in
DEEPEST = 2000  # elements in one another
TAG = re.compile(r"<(/?)([a-zA-Z][^\s/<>]*)[^<>]*>")
# elements that end where the next one of their kind begins, or at once
NEVER_OPEN = frozenset(
    (
        "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th "
        "thead tbody tfoot option optgroup colgroup caption rp rt html head body"
    ).split()
)
# elements without content, which end at once in HTML as well, and any other one that does
CLOSED = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr)\b)"
    r"([a-z][^\s/<>]*+)([^<>]*)/>",
    re.IGNORECASE,
)


def parse_html(html: str, is_xml: bool = False) -> _Element:
    """Return the root of a page's tree, without comments and the contents of templates.

    The page is parsed by the rules of HTML5, whatever is missing or wrong in it, in time that
    grows with its length only.

    Args:
        html: the page, or a part of one.
        is_xml: any element may be closed at once, as in a page that says itself that it is XML.
    """
    from lxml.etree import Element
    from selectolax.lexbor import LexborHTMLParser

    root = Element("html")
    html = html.replace("\0", "")
    if is_xml or XML.match(html) or XML_ROOT.search(html, 0, HEAD):
        html = CLOSED.sub(r"<\1\2></\1>", html)
    page = LexborHTMLParser(_flattened(html)).root
    if page is not None:
        _copy_attributes(page, root)
        _copy_children(page, root)
    return root


def _flattened(html: str) -> str:
    """Leave out what opens elements deeper than any page has them; the text in them stays.

    The parser looks at all elements that are open whenever another one opens, so that a page of
    nothing but open elements would take it the square of its length.
    """
    if html.count("<") - 2 * html.count("</") <= DEEPEST:
        return html
    depth = 0

    def keep(found: re.Match[str]) -> str:
        nonlocal depth
        if found[2].lower() in NEVER_OPEN:
            return found[0]
        if found[1]:
            depth = max(0, depth - 1)
        elif depth == DEEPEST:
            return " "
        else:
            depth += 1
        return found[0]

    return TAG.sub(keep, html)


def _copy_children(page: Any, root: _Element) -> None:
    """Copy what is below a node of the parser's tree."""
    from lxml.etree import SubElement

    node, parent = page.child, root
    before: _Element | None = None  # the parent's last child so far
    open_nodes: list[tuple[Any, _Element, _Element]] = []
    while node is not None or open_nodes:
        if node is None:
            node, parent, before = open_nodes.pop()
            node = node.next
            continue
        tag = node.tag
        if tag == "-text":
            node, text = _texts(node)
            if before is None:
                parent.text = text
            else:
                before.tail = text
            continue
        if tag[0] not in "-!_":  # no comment, doctype or such
            element = SubElement(parent, tag if tag.isalnum() else _legal(tag))
            _copy_attributes(node, element)
            child = node.child
            if child is not None:
                open_nodes.append((node, parent, element))
                node, parent, before = child, element, None
                continue
            before = element
        node = node.next


def _texts(node: Any) -> tuple[Any, str]:
    """Return the text of a node and of those up to the next element, and what comes then."""
    texts: list[str] = []
    while node is not None and node.tag[0] in "-!_":
        if node.tag == "-text":
            texts.append(node.text_content)
        node = node.next
    return node, "".join(texts)


def _legal(tag: str) -> str:
    """Return a name for elements of other vocabularies, whose own may be none for the tree."""
    return tag if tag.replace("-", "").isalnum() else "span"


def _copy_attributes(node: Any, element: _Element) -> None:
    for name, value in node.attributes.items():
        if name in KEPT:
            element.set(name, _printable(value or ""))
        elif name == "epub:type" and value and not node.attributes.get("role"):
            element.set("role", _printable(f"doc-{value}"))  # what pages of later books call it


def _printable(value: str) -> str:
    return value if value.isprintable() else "".join(c if c.isprintable() else " " for c in value)
