"""Write formulas in one line, so that no number in them runs into another one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

Piece = tuple[str, str]  # the name of an element, and its text

TOKENS = frozenset("mi mn mo ms mtext".split())
NOT_SHOWN = frozenset("annotation annotation-xml mphantom mprescripts none".split())
SCRIPTS = {  # the places of what is lowered and what is raised; the base comes first
    "msub": ("sub",),
    "msup": ("sup",),
    "msubsup": ("sub", "sup"),
    "munder": ("sub",),
    "mover": ("sup",),
    "munderover": ("sub", "sup"),
}
COMPOSED = frozenset((*SCRIPTS, "mfrac", "mroot", "mmultiscripts"))  # a place for each child
# operators that are not shown, and what stands in their place where letters would be glued
UNSEEN = {"\u2061": " ", "\u2062": "·", "\u2063": ", ", "\u2064": " "}
DECIMAL = re.compile(r"\d+\.\d+")
# what stands beside a letter as it is: primes, degrees, and the accents above and below one
MARK = re.compile(r"['\u2032-\u2037°∘]+|[\u00a8\u00af^~ˆˇ˘˙\u02dc‾→⃗\u23de\u23df_\u0332\u0304]")
RAISED = str.maketrans("0123456789n", "⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ")
BRACKETS = {"(": ")", "[": "]", "{": "}", "⟨": "⟩"}


# --- The parts of any formula ---------------------------------------------------------------------


def fraction(above: str, below: str) -> str:
    """Return a fraction with a slash: 3/4, (a+b)/2."""
    return f"{whole(above)}/{whole(below)}"


def root(text: str, index: str = "") -> str:
    """Return a root, with its index raised: √16, ³√(a+b)."""
    return f"{index.translate(RAISED)}√{whole(text)}"


def scripted(base: str, lowered: str = "", raised: str = "") -> str:
    """Return what has something lowered or raised beside it: x_i, 10^6, (a+b)^2."""
    marked = bool(MARK.fullmatch(raised))
    low = f"_{whole(lowered)}" if lowered else ""
    high = raised if marked else f"^{whole(raised)}" if raised else ""
    return f"{whole(base)}{high}{low}" if marked else f"{whole(base)}{low}{high}"


def whole(text: str) -> str:
    """Return text in brackets if it is more than one word or number."""
    is_one = text.isalnum() or len(text) < 2 or DECIMAL.fullmatch(text) or _in_brackets(text)
    return text if is_one else f"({text})"


def _in_brackets(text: str) -> bool:
    """Return whether the bracket that begins a text is closed by the one that ends it."""
    opening, closing = text[0], BRACKETS.get(text[0], "")
    if not closing or text[-1] != closing:
        return False
    depth = 0
    for place, character in enumerate(text):
        depth += (character == opening) - (character == closing)
        if not depth:
            return place == len(text) - 1
    return False


# --- MathML ---------------------------------------------------------------------------------------


def mathml(formula: _Element) -> str:
    """Return a formula of MathML as text, whose elements alone say what is raised or divided."""
    from lxml import etree

    open_elements: list[list[list[Piece]]] = [[]]
    for event, element in etree.iterwalk(formula, events=("start", "end")):
        if event == "start":
            open_elements.append([])
        else:
            inner = open_elements.pop()
            open_elements[-1].append(_pieces(element, inner))
    return _joined(open_elements[0][0])


def _pieces(element: _Element, inner: list[list[Piece]]) -> list[Piece]:
    """Return what an element adds to the row that it stands in.

    Args:
        element: an element of MathML.
        inner: what each of its children has added.
    """
    name = str(element.tag)
    if name in NOT_SHOWN:
        return []
    if name == "mo" and element.text and element.text.strip() in UNSEEN:
        return [(name, element.text)]
    if name in TOKENS or name == "mspace":
        return [(name, _joined(_row(element, inner)))]
    if name in ("semantics", "maction"):
        return inner[0] if inner else []
    if name in ("mtable", "mtr", "mlabeledtr"):
        mark = "; " if name == "mtable" else " "  # between rows, and between cells
        return [(name, mark.join(filter(None, map(_joined, inner))))]
    if name == "mfenced":
        return [(name, _fenced(element, inner))]
    if name == "msqrt":
        return [(name, root(_joined(_row(element, inner))))]
    if name not in COMPOSED:  # to join what stands in each level of many would take their square
        return _row(element, inner)
    written = _composed(element, list(map(_joined, inner)))
    return _row(element, inner) if written is None else [(name, written)]


def _composed(element: _Element, parts: list[str]) -> str | None:
    """Return an element that has a place for each of its children; None for any other one."""
    name = str(element.tag)
    if name == "mmultiscripts" and parts:
        return _multiscripts(element, parts)
    if name == "mfrac" and len(parts) == 2:
        if re.match(r"0(?![.\d]*[1-9])", element.get("linethickness", "")):  # one above the other
            return "; ".join(parts)
        return fraction(*parts)
    if name == "mroot" and len(parts) == 2:
        return root(*parts)
    places = SCRIPTS.get(name)
    if places is None or len(parts) != 1 + len(places):
        return None
    found = dict(zip(places, parts[1:], strict=True))
    if name.startswith("mu") and MARK.fullmatch(found["sub"]):  # a line below
        return scripted(f"{parts[0]}{found['sub']}", "", found.get("sup", ""))
    return scripted(parts[0], found.get("sub", ""), found.get("sup", ""))


def _multiscripts(element: _Element, parts: list[str]) -> str:
    """Return a letter with what stands at its corners; in the order of MathML, lowered first."""
    names = [str(child.tag) for child in element]
    before = names.index("mprescripts") if "mprescripts" in names else len(names)
    left, right = parts[before + 1 :], parts[1:before]
    first = "".join(scripted("", *left[at : at + 2]) for at in range(0, len(left), 2))
    last = "".join(scripted("", *right[at : at + 2]) for at in range(0, len(right), 2))
    return f"{first}{' ' if first else ''}{whole(parts[0])}{last}"


def _fenced(element: _Element, inner: list[list[Piece]]) -> str:
    marks = "".join(element.get("separators", ",").split())
    joined = ""
    for number, part in enumerate(map(_joined, inner)):
        mark = marks[min(number, len(marks)) - 1] if number and marks else ""
        joined += f"{mark}{' ' if mark and mark in ',;' else ''}{part}"
    return f"{element.get('open', '(')}{joined}{element.get('close', ')')}"


def _row(element: _Element, inner: list[list[Piece]]) -> list[Piece]:
    """Return what stands side by side in an element."""
    row: list[Piece] = []
    is_text = element.tag in TOKENS

    def text(found: str | None) -> None:
        if found and found.strip():
            row.append(("mtext", found if is_text else found.strip()))

    text(element.text)
    for child, pieces in zip(element, inner, strict=True):
        if row:
            row += pieces
        else:
            row = pieces  # a copy in every element of a deep formula would take long
        text(child.tail)
    return row


def _joined(row: list[Piece]) -> str:
    """Return a row as text, with a blank where a number or a name would run into the next."""
    parts: list[str] = []
    before: Piece = ("", "")
    between = ""
    for name, text in row:
        text = " ".join(text.split())
        if text in UNSEEN:
            between = UNSEEN[text]
            continue
        if not text:
            between = " " if name == "mspace" else between
            continue
        is_glued = parts and text[0].isalnum() and before[1][-1].isalnum()
        if is_glued and (between == " " or not _may_touch(before, (name, text), bool(between))):
            parts.append(between or " ")
        parts.append(text)
        before, between = (name, text), ""
    return "".join(parts)


def _may_touch(before: Piece, after: Piece, is_apart: bool) -> bool:
    """Return whether a letter or a number is read alike with the next one behind it: 2x, mc^2."""
    if before[0] == after[0] == "mn":
        return not is_apart
    if before[0] not in ("mi", "mn") or (before[0] == "mi" and len(before[1]) > 1):
        return False
    return after[0] != "mtext" and after[1][0].isalpha() and not after[1][1:2].isalnum()
