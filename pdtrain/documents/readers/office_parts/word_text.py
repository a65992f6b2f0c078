"""Make plain text of what a Word document has in elements that its library leaves out."""

from __future__ import annotations

import io
import zipfile
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from pdtrain.documents.readers.html_page.formulas import fraction, root, scripted

if TYPE_CHECKING:
    from lxml.etree import _Element

PARTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
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
        found = {n: data for n, data in found.items() if any(mark in data for mark in MARKS)}
        if not found:
            stream.seek(0)
            return stream
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as copy:
            for name in archive.namelist():
                if not name.startswith("word/media/"):  # pictures are not read
                    copy.writestr(
                        name, _changed(found[name]) if name in found else archive.read(name)
                    )
    changed.seek(0)
    return changed


def _changed(data: bytes) -> bytes:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    root = etree.fromstring(data, parser)
    word = etree.QName(root).namespace
    for hidden in [*root.iter("{*}vanish")]:
        _empty(hidden)
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


def _empty(hidden: _Element) -> None:
    """Take out what the run shows that a mark hides, and leave what begins and ends fields."""
    run = next(islice(hidden.iterancestors(), 1, 2), None)
    if run is not None and _name(run) == "r" and _value(hidden) not in OFF:
        for part in [part for part in run if _name(part) in SHOWN]:
            run.remove(part)


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
