"""Reading takes time in proportion to the length, of whatever a file is made of."""

import time

import pytest

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Source
from pdtrain.documents.language import detect_language
from pdtrain.documents.library import READERS
from pdtrain.documents.splitting import split_document

PARAGRAPH = "The <b>pier</b> of <a href='x'>Osk</a> is long. It is 260 metres."
MADE_OF = {  # suffix, what is repeated, and how often
    "paragraphs": (".html", f"<p>{PARAGRAPH}</p>\n", 1666),
    "paragraphs that never end": (".html", f"<p>{PARAGRAPH}\n", 1666),
    "items": (".html", "<ul><li>One<li>Two</ul>", 1666),
    "nested elements": (".html", "<div><span>a", 500),
    "nested tables": (".html", "<table><tr><td>a<td>b", 233),
    "nested tables of numbers": (".html", "<table><tr><td>1<td>b", 233),
    "rows": (".html", "<tr><td>Petrel<td>9<td>Osk</tr>", 1333),
    "headings": (".html", "<h1>Osk</h1><h2>Pier</h2>It is long.", 1333),
    "raised digits": (".html", "2<sup>10</sup> and x<sub>i</sub> ", 1333),
    "formulas": (".html", "<math><mfrac><mn>3</mn><msup><mi>x</mi><mn>2</mn></msup></math> ", 1333),
    "nested formulas": (".html", "<math><mrow><mfrac><mn>3</mn>", 333),
    "elements closed at once": (".xhtml", "<a id='x'/><i/>It is long.", 2666),
    "one name of an element": (".xhtml", "<" + "x" * 100000, 1),
    "comments": (".html", "a<!-- b -->", 2666),
    "open comments": (".html", "<!-- ", 2666),
    "open brackets": (".html", "<meta <title <", 2666),
    "lines of code": (".html", "<pre>\na = 1\n  b = 2</pre>", 1333),
    "markdown": (".md", "# Osk\n\nThe *pier* is `long`.\n\n- one\n- two\n\n", 333),
    "open shortcodes": (".md", "{{< a ", 2666),
    "open formulas": (".md", "\\[ a ", 2666),
    "open notes": (".md", "[[a ", 2666),
    "open comments of MDX": (".mdx", "{/* a ", 2666),
    "boxes": (".md", '!!! note "A"\n    Oil it.\n\n:::tip B\nWait.\n:::\n', 666),
    "colons": (".md", ":::a", 2666),
    "place holders": (".md", "a <name> b<c and d>e ", 1333),
    "lists": (".md", "3. Mai\n5. Juni\n\nAnd.\n\n", 666),
    "wrapped lines": (".txt", "The pier of Osk is long and it is old, they say, and\nwet. ", 1333),
    "East Asian line breaks": (".html", "灯\n \n", 1666),
    "wide blanks and line breaks": (".html", "灯\u3000\n\u3000 \n", 1666),
    "cut words": (
        ".txt",
        "The pier of Osk is long and it is old, they say-\ning wet words. ",
        1333,
    ),
    "one cut word": (".txt", "x-\n", 2666),
    "empty lines": (".txt", "\n \n", 6666),
    "one line": (".txt", "The pier is long. ", 2666),
    "one word": (".txt", "x", 100000),
    "speech": (".txt", "so we went and then ", 2666),
    "quotations": (".txt", "“Come up. ", 2666),
    "East Asian quotations": (".txt", "「行こう。", 2666),
    "ellipses": (".txt", "… A", 6666),
    "blanks": (".txt", " " * 50 + "a", 1000),
    "soft hyphens": (".txt", "a\u00ad\u200bb\ufb01 ", 6666),
    "subtitles": (".srt", "1\n00:00:01,000 --> 00:00:02,000\n<i>Come\n\n", 1333),
    "functions": (".py", "def moor(boat):\n    return tie(boat)\n\n\n", 1000),
    "one function": (".py", "    rope = tie(boat)\n", 2000),
    "cells": (".csv", "Petrel,9,Osk\n", 2666),
    "quotes that never fit": (".csv", 'a","b\n', 6666),
    "quotes in quotes": (".csv", 'a,"b "c" d"\n', 2666),
}


def seconds(suffix, text):
    """Return the CPU time of reading and splitting a file."""
    begun = time.process_time()
    source = Source(f"a{suffix}", data=text.encode())
    for document in READERS[suffix](source, CorpusConfig()):
        split_document(document, 200, lambda text: len(text) // 4 + 1)
    return time.process_time() - begun


@pytest.mark.parametrize("name", MADE_OF)
def test_four_times_the_text_takes_no_more_than_about_four_times_as_long(name):
    """A tree that is walked anew for every element would take sixteen times as long."""
    detect_language("The pier is long.")  # its model is loaded once
    suffix, unit, count = MADE_OF[name]
    # the least of several, since other work on the machine can only add to it
    short = min(seconds(suffix, unit * count) for _ in range(3))
    long = min(seconds(suffix, unit * 4 * count) for _ in range(3))
    assert long < 9 * max(short, 0.02), f"{short:.3f} s and {long:.3f} s"
