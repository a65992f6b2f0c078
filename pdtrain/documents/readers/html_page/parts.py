"""Tell the parts of a page apart: its title, its main part, its frame, and what it hides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

# elements that begin and end a paragraph
BLOCKS = frozenset(
    (
        "html body p div br hr li ul ol dl dt dd tr td th table caption thead tbody tfoot pre "
        "blockquote section article main header footer address aside center details summary dialog "
        "fieldset legend figure figcaption form h1 h2 h3 h4 h5 h6 hgroup menu dir listing xmp"
    ).split()
)
# elements that hold nothing to learn; a form stays, since some pages stand in one as a whole
NOT_TEXT = frozenset(
    (
        "head script style noscript template svg canvas iframe object embed audio video map button "
        "title label select datalist textarea input del rt rp nav"
    ).split()
)
FRAME = frozenset(["header", "footer", "aside"])
FRAME_ROLES = frozenset("navigation banner contentinfo search complementary menu menubar".split())
# elements of forms whose words a page may show as its text, where they are all that these hold
SHOWN = frozenset(["button", "label"])
HOLDERS = frozenset("h1 h2 h3 h4 h5 h6 dt summary th legend".split())
NAMED_BY_ID = frozenset("dt dd th".split())  # an id names the entry, not its purpose
# what writers of documentation set aside, and which belongs to the text all the same
ASIDES = frozenset(
    (
        "footnote footnote-list footnotes admonition topic note tip warning caution important "
        "danger hint info callout starlight-aside"
    ).split()
)
NOTES = frozenset(  # roles of the same
    "note doc-footnote doc-footnotes doc-endnote doc-endnotes doc-note doc-notes doc-rearnote "
    "doc-rearnotes doc-tip".split()
)
# names of classes and ids that say what a part is for
FRAME_NAMES = frozenset(
    (
        "headerlink sphinxsidebar breadcrumb breadcrumbs navbar nav navigation navheader navfooter "
        "sidebar menu related toc toctree-wrapper footer site-header site-footer cookie cookies "
        "cookie-banner cookie-consent skip-link skiplink sr-only visually-hidden "
        "screen-reader-text pagination share social social-share advertisement ads adsbygoogle "
        "mw-editsection editsection mw-jump-link noprint linenos lineno linenodiv copybtn "
        "clearer back-to-top element-contents element-shortcontents nav-panel fancy_toc"
    ).split()
)
# those that no chapter of a book has for its own words either
BOOK_FRAME_NAMES = frozenset(
    (
        "headerlink toc toctree-wrapper fancy_toc element-contents element-shortcontents "
        "mw-editsection editsection mw-jump-link skip-link skiplink linenos lineno linenodiv "
        "copybtn"
    ).split()
)
# classes of the numbers before the lines of a listing
NUMBER_NAMES = frozenset(
    (
        "blob-num codelineno gutter hljs-ln-n hljs-ln-numbers line-number line-numbers "
        "line-numbers-rows line_number linenumber linenumbers lineno linenos ln lnt lntd "
        "rouge-gutter"
    ).split()
)
# how paragraphs begin that lead to other pages of a manual
LEADS = re.compile(r"\s*(?:Next|Previous|Prev|Up):")
SECTION = re.compile(r"\d+(?:\.\d+)*\.?\s+\D")  # begins the heading of a numbered section
# of links from a heading to itself, and from a note to where it is mentioned
MARKS = frozenset("# ¶ § 🔗 🔗︎ ⚓ ∞ ↑ ↩ ↩︎ ↩️ ⏎ ⤴ ^".split())
HIDDEN = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
HEADINGS = {f"h{level}": level for level in range(1, 7)}
DEEPEST = 100  # elements between an article and its header
MOST_LINKS = 0.5  # of the characters of a part that is named by its heading, and no menu
LEAST_WORDS = 5  # of a button that opens an answer and asks nothing: fewer say "Open the menu"
LEAST_SHARE = 0.25  # of a page's characters that its main part holds, or it is not taken for it


def is_hidden(element: _Element) -> bool:
    """Return whether a browser would not show an element."""
    attributes = element.attrib
    if not attributes:
        return bool(element.tag == "dialog")
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or (element.tag == "dialog" and "open" not in attributes)
        or bool(HIDDEN.search(attributes.get("style", "")))
    )


def forget_frame(page: _Element) -> None:
    """Take the names of a frame from the classes and ids of a chapter, which has no frame.

    What is called a menu or a sidebar is one of a tavern there, or a box in the text.
    """
    for element in page.iter():
        for name in ("class", "id"):
            words = element.get(name, "").split()
            kept = [w for w in words if w.lower() not in FRAME_NAMES - BOOK_FRAME_NAMES]
            if len(kept) < len(words):
                element.set(name, " ".join(kept))


def is_boilerplate(element: _Element, by_class: bool, in_book: bool = False) -> bool:
    """Return whether an element is no text, or belongs to the frame around the text.

    Args:
        element: an element of a page.
        by_class: the names of its classes and its id count, too.
        in_book: the page is a chapter, which has no frame; see `forget_frame`.
    """
    if element.tag in NOT_TEXT:
        return element.tag not in SHOWN or not _is_shown(element)
    attributes = element.attrib
    names = set(attributes.get("class", "").lower().split())
    identity = set(attributes.get("id", "").lower().split())
    if element.tag not in NAMED_BY_ID and (
        FRAME_NAMES.isdisjoint(identity) or not _is_named_by_heading(element, names)
    ):
        names |= identity
    role = attributes.get("role", "")
    if element.tag in FRAME:
        if in_book or _is_part_of_text(element):
            return False
        in_text = (names & ASIDES and not names & FRAME_NAMES) or role in NOTES
        in_text = in_text or _has_sidebar_title(element)
        return not in_text and not (element.tag == "header" and _in_article(element))
    if element.tag in ("main", "article", "body"):
        return False
    if element.tag == "a" and (element.text or "").strip() in MARKS and not len(element):
        return attributes.get("href", "").startswith("#")
    if "header" in names and LEADS.match("".join(islice(element.itertext(), 5))):
        return True
    if role in FRAME_ROLES:
        return True
    return by_class and bool(names & FRAME_NAMES) and not _has_sidebar_title(element)


def _is_shown(element: _Element) -> bool:
    """Return whether a button or label holds text, such as a heading that unfolds."""
    words = "".join(element.itertext()).split()
    holder = element.getparent()
    while holder is not None and holder.tag not in BLOCKS:
        holder = holder.getparent()
    if holder is not None and holder.tag in HOLDERS:
        left = sum(len(text.split()) for text in element.itertext())
        for text in holder.itertext():
            left -= len(text.split())
            if left < 0:  # it holds something else as well
                return False
        return True
    unfolds = "aria-expanded" in element.attrib and "aria-controls" in element.attrib
    asks = bool(words) and words[-1].endswith("?")
    return element.tag == "button" and unfolds and (asks or len(words) >= LEAST_WORDS)


def _is_part_of_text(element: _Element) -> bool:
    """Return whether a header or footer is that of a section or of a quotation."""
    parent = element.getparent()
    if element.tag == "header":
        return parent is not None and parent.tag == "section"
    return element.tag == "footer" and any(
        one.tag in ("blockquote", "figure") for one in islice(element.iterancestors(), DEEPEST)
    )


def _is_named_by_heading(element: _Element, names: set[str]) -> bool:
    """Return whether the words of a heading are the id: "Navigation" of a handbook for sailors."""
    if element.tag in HEADINGS:
        return True
    if element.tag == "div" and "section" not in names:
        if _links(element) > MOST_LINKS * sum(map(_num_shown, element.itertext())):
            return False
    elif element.tag != "section" and "section" not in names:
        return False
    heading = next((one for one in islice(element, 3) if one.tag in HEADINGS), None)
    words = "" if heading is None else "".join(heading.itertext()).lower()
    return "-".join(re.findall(r"\w+", words)) == element.get("id", "").lower()


def is_line_number(element: _Element) -> bool:
    """Return whether an element holds the number of a line of a listing, or those of all lines."""
    names = element.get("class", "").lower().split()
    return not NUMBER_NAMES.isdisjoint(names) and not "".join(element.itertext()).strip(
        "0123456789 \t\r\n\xa0"
    )


def _has_sidebar_title(element: _Element) -> bool:
    """Return whether this is a sidebar of docutils, which is a part of the text in a box."""
    return len(element) > 0 and "sidebar-title" in element[0].get("class", "").split()


def _in_article(element: _Element) -> bool:
    parent = element.getparent()
    for _ in range(DEEPEST):
        if parent is None or parent.tag not in ("div", "section", "header"):
            break
        parent = parent.getparent()
    return parent is not None and parent.tag in ("main", "article")


def find_main(page: _Element) -> _Element:
    """Return the part of a page that holds its text, or the page if no part says so."""
    named = [part for part in page.iter("main", "article", "div") if _is_main(part)]
    mains = [part for part in named if part.tag != "article"] or named
    if len(mains) != 1:
        return page
    return mains[0] if _length(mains[0]) >= LEAST_SHARE * _length(page) else page


def _is_main(part: _Element) -> bool:
    return part.tag in ("main", "article") or part.get("role") == "main"


def _links(part: _Element) -> int:
    return sum(_num_shown(text) for link in part.iter("a") for text in link.itertext())


def _num_shown(text: str) -> int:
    return len("".join(text.split()))


def _length(part: _Element) -> int:
    return sum(len(text) for text in _texts(part))


def _texts(part: _Element) -> Iterator[str]:
    """Yield the texts below an element that are not those of scripts and styles."""
    for element in part.iter():
        if isinstance(element.tag, str) and element.tag not in ("script", "style", "title"):
            yield element.text or ""
        if element is not part:
            yield element.tail or ""


def find_title(page: _Element) -> _Element | None:
    """Return the heading of the article, or the page's title element where it has none.

    The page's header may hold a heading, too: the name of the site.
    """
    in_article: list[_Element] = []
    in_text: list[_Element] = []
    headings: list[_Element] = []
    for heading in page.iter("h1"):
        if is_hidden(heading):
            continue
        parents = [parent.tag for parent in heading.iterancestors()]
        frame = [tag for tag in parents if tag in NOT_TEXT or tag in FRAME]
        headings.append(heading)
        if not frame:
            in_text.append(heading)
        if ("main" in parents or "article" in parents) and set(frame) <= {"header"}:
            in_article.append(heading)
        if in_article or len(headings) > 100:
            break
    named = next((title for title in page.iter("title") if (title.text or "").strip()), None)
    if in_article:
        return in_article[0]
    if in_text and not (named is not None and _are_sections(in_text, named)):
        return in_text[0]
    # a heading in the frame alone is that of the site
    return named if named is not None else next(iter(headings), None)


def _are_sections(headings: list[_Element], title: _Element) -> bool:
    """Return whether headings of the first level are those of sections, below the page's title."""
    first = " ".join("".join(headings[0].itertext()).split())
    if first.casefold() in (title.text or "").casefold():
        return False
    return len(headings) > 2 or bool(SECTION.match(first))
