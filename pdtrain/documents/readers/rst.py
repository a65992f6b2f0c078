"""Read reStructuredText, the markup of Python's documentation."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pdtrain.config import CorpusConfig
from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Document, Source
from pdtrain.documents.encoding.decoding import read_text
from pdtrain.documents.readers.html import add_html

if TYPE_CHECKING:
    from docutils import nodes

SETTINGS: dict[str, Any] = {
    "_disable_config": True,  # or a docutils.conf of the machine would decide what is read
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,  # above the worst fault: none is printed,
    "halt_level": 5,  # and none ends the parse
    "traceback": True,  # raise exceptions, or docutils would print them and exit
    "syntax_highlight": "none",
    "math_output": "LaTeX",
    "initial_header_level": 1,  # of several titles, the first is the document's
    "line_length_limit": 1_000_000,  # of a file with a longer line, docutils reads nothing
    "stylesheet_path": "",
}
PART = {"doctitle_xform": False, "docinfo_xform": False}  # a part has no title and no authors
ERROR = 3  # docutils' level of what it could not read at all

# the directive `date` would change the text of a file from day to day
DATE = re.compile(r"^\.\. \|[^|\n]+\|\s+date::.*$", re.MULTILINE)
DIRECTIVE = re.compile(r"\.\.\s+(?P<name>\S+?)::(?P<argument>[^\n]*)\n?(?P<rest>.*)", re.DOTALL)
OPTIONS = re.compile(r"\A(?:[ \t]*:[\w-]+:.*\n?)+")
# directives that only name other places, and those whose content is no markup
NOT_TEXT = (
    "toctree index highlight autosummary automodule autoclass autofunction automethod autodata "
    "autoattribute autoexception autoproperty literalinclude"
).split()
CODE = (
    "code code-block sourcecode prompt ipython jupyter-execute code-cell testcode testoutput "
    "doctest graphviz mermaid uml productionlist"
).split()
# :role:`text <target>`, `text`_ and text_
INLINE = re.compile(r"(?::[\w:+.-]+:)?`?[~!]?(?P<text>[^`]+?)(?:\s<[^<>`]*>)?`?_{0,2}")


def read_rst(source: Source, config: CorpusConfig) -> Iterator[Document]:
    """Render reStructuredText and read it as HTML; no other file is read, and nothing is run.

    Directives and roles that docutils does not know, such as those of Sphinx, keep their text.
    """
    from docutils.core import publish_from_doctree
    from docutils.writers.html5_polyglot import Writer

    text, warnings = read_text(source)
    writer = Writer()
    publish_from_doctree(_parse(text), writer=writer, settings_overrides=SETTINGS)
    # notes, warnings and footnotes belong to the text, unlike what stands aside on a page
    html = re.sub(r"(</?)aside\b", r"\1div", writer.parts["html_body"])
    builder = BlockBuilder()
    builder.warnings += warnings
    add_html(builder, html, source)
    yield builder.document(source)


def _parse(source: str, **settings: bool) -> nodes.document:
    """Return the tree of a document, with text in place of what docutils could not read."""
    from docutils import nodes
    from docutils.core import publish_doctree

    tree = publish_doctree(DATE.sub("", source), settings_overrides=SETTINGS | settings)
    for image in list(tree.findall(nodes.image)):  # an image may ask for a file to be embedded
        image.parent.remove(image)
    for kind in tree.findall(nodes.classifier):  # "argument : its type" in a list of definitions
        kind.insert(0, nodes.Text(" : "))
    for message in list(tree.findall(nodes.system_message)):
        message.parent.replace(message, _text_of(message))
    for problem in list(tree.findall(nodes.problematic)):
        inline = INLINE.fullmatch(problem.astext())
        text = inline["text"] if inline else problem.astext()
        problem.parent.replace(problem, nodes.Text(text))
    for cell in list(tree.findall(nodes.entry)):
        if all(isinstance(child, nodes.paragraph) for child in cell):  # one row, one line
            content = [node for child in cell for node in [*child, nodes.Text(" ")]]
            cell.clear()
            cell.extend(content)
    return tree


def _text_of(message: nodes.system_message) -> list[nodes.Node]:
    """Return the text that an error message quotes since docutils could not read it.

    What a warning quotes is either in the tree as well, or it was left out on purpose.
    """
    from docutils import nodes

    quoted = message.next_node(nodes.literal_block)
    if quoted is None or message["level"] < ERROR:
        return []
    directive = DIRECTIVE.fullmatch(quoted.astext())
    if not directive:
        return [nodes.literal_block("", quoted.astext())]
    if directive["name"] in NOT_TEXT:
        return []
    content = OPTIONS.sub("", textwrap.dedent(directive["rest"]))
    if directive["name"] in CODE:
        return [nodes.literal_block("", content)]
    return list(_parse(f"{directive['argument'].strip()}\n\n{content}", **PART))
