"""Make plain text of what a Word document has in elements that its library leaves out."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, BinaryIO

from pdtrain.documents.readers.html_page.formulas import fraction, root, scripted

if TYPE_CHECKING:
    from lxml.etree import _Element

PARTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
STYLES = "word/styles.xml"
MARKS = (b"ruby>", b"oMath>", b"vanish")
SHOWN = frozenset("t tab br cr noBreakHyphen sym".split())  # what a run holds that is seen
OFF = ("0", "false", "off")


def with_plain_text(stream: BinaryIO) -> BinaryIO:
    """Return a Word document in which formulas are text, and words without their readings.

    The readings are those beside Chinese characters. Hidden text is left out. A document that has
    none of these is returned as it is.
    """
    with zipfile.ZipFile(stream) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name in PARTS}
        hiding = _hiding_styles(archive)
        marks = (*MARKS, *(f'"{style}"'.encode() for style in hiding))
        found = {n: data for n, data in found.items() if any(mark in data for mark in marks)}
        if not found:
            stream.seek(0)
            return stream
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as copy:
            for name in archive.namelist():
                if not name.startswith("word/media/"):  # pictures are not read
                    copy.writestr(
                        name,
                        _changed(found[name], hiding) if name in found else archive.read(name),
                    )
    changed.seek(0)
    return changed


def _hiding_styles(archive: zipfile.ZipFile) -> set[str]:
    """Return the styles that hide text, by what elements call them, and those based on them."""
    styles = archive.read(STYLES) if STYLES in archive.namelist() else b""
    if b"vanish" not in styles:
        return set()
    above = {}  # by style: the one it is based on
    hides = {}  # by style: whether it hides text; none where it says nothing
    for style in _parsed(styles).iter("{*}style"):
        name = next((value for key, value in style.items() if key.endswith("}styleId")), "")
        based = style.find("{*}basedOn")
        above[name] = "" if based is None else _value(based)
        for mark in style.iterfind("{*}rPr/{*}vanish"):
            hides[name] = _value(mark) not in OFF
    found = {name for name, is_hidden in hides.items() if is_hidden}
    while (
        more := {name for name, base in above.items() if base in found and hides.get(name, True)}
        - found
    ):
        found |= more
    return found


def _parsed(data: bytes) -> _Element:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    return etree.fromstring(data, parser)


def _changed(data: bytes, hiding: set[str]) -> bytes:
    from lxml import etree

    root = _parsed(data)
    word = etree.QName(root).namespace
    for run in [*root.iter("{*}r")]:
        if _is_hidden(run, hiding):
            for part in [part for part in run if _name(part) in SHOWN]:
                run.remove(part)  # what begins and ends fields stays
    for ruby in [*root.iter("{*}ruby")]:
        base = "".join(text.text or "" for text in ruby.iterfind("{*}rubyBase//{*}t"))
        _replace(ruby, etree.Element(f"{{{word}}}t"), base)
    for formula in [*root.iter("{*}oMathPara"), *root.iter("{*}oMath")]:
        if any(_name(above) in ("oMath", "oMathPara") for above in formula.iterancestors()):
            continue  # a part of what is replaced
        run = etree.Element(f"{{{word}}}r")
        _replace(formula, run, "")
        etree.SubElement(run, f"{{{word}}}t").text = _written(formula)
    return etree.tostring(root)


def _is_hidden(run: _Element, hiding: set[str]) -> bool:
    """Return whether a mark hides a run, or its style or that of its paragraph does."""
    if (mark := run.find("{*}rPr/{*}vanish")) is not None:
        return _value(mark) not in OFF
    if not hiding:
        return False
    styles = [run.find("{*}rPr/{*}rStyle")]
    if (paragraph := next(run.iterancestors("{*}p"), None)) is not None:
        styles.append(paragraph.find("{*}pPr/{*}pStyle"))
    return any(style is not None and _value(style) in hiding for style in styles)


def _replace(element: _Element, by: _Element, text: str) -> None:
    parent = element.getparent()
    if parent is not None:
        by.text = text or None
        parent.replace(element, by)


def _name(element: _Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _written(part: _Element) -> str:
    """Return a formula in one line: a fraction with a slash, what is raised behind a ^."""
    name = _name(part)
    if name == "t":
        return part.text or ""
    texts = [(_name(child), _written(child)) for child in part]
    inner = dict(texts)
    if name == "f":
        return fraction(inner.get("num", ""), inner.get("den", ""))
    if name == "rad":
        return root(inner.get("e", ""), inner.get("deg", ""))
    if name in ("sSup", "sSub", "sSubSup"):
        return scripted(inner.get("e", ""), inner.get("sub", ""), inner.get("sup", ""))
    if name == "d":
        return _in_brackets(part)
    blank = " " if name == "oMathPara" else ""
    return blank.join(text for _, text in texts if text)


def _in_brackets(part: _Element) -> str:
    """Return what Word draws brackets around, with them; round ones where it names none."""
    named = {_name(one): _value(one) for one in part.iterfind("{*}dPr/*")}
    inner = [_written(child) for child in part if _name(child) == "e"]
    opening, closing = named.get("begChr", "("), named.get("endChr", ")")
    return f"{opening}{named.get('sepChr', '|').join(inner)}{closing}"


def _value(element: _Element) -> str:
    return next((value for name, value in element.items() if name.endswith("}val")), "")
