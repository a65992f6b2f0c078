"""Plain text and Markdown: paragraphs, titles, encodings, and no trace of the markup."""

import pytest

from pdtrain.documents.document import Unreadable


def test_text_files_join_wrapped_lines(read_one):
    document = read_one("old_harbour.txt", "One line\nand more.\r\n\r\nAnother   paragraph.\n")
    assert document.text == "One line and more.\nAnother paragraph."
    assert (document.id, document.title) == ("old_harbour.txt", "Old Harbour")


MARKDOWN = """---
title: hidden
tags: [hidden]
---
# The *old* harbour

The [pier](https://hidden) is **long**
and old.

![Osk](hidden.png)

| Boat | Crew |
|---|---|
| Petrel | 9 |

- one
- two

<!-- hidden -->

```
code stays
```
"""


def test_markdown_is_read_as_text(read_one):
    document = read_one("osk.md", MARKDOWN)
    assert document.title == "The old harbour"
    assert document.text.startswith("The pier is long and old.")
    for part in ("Boat | Crew\nPetrel | 9\n", "one\ntwo", "code stays"):
        assert part in document.text
    for absent in ("hidden", "**", "](", "|\n", "\n|", "---", "#"):
        assert absent not in document.text


def test_front_matter_goes_with_any_line_ends(read_one):
    source = "---\r\ntitle: hidden\r\n---\r\n# Osk\r\n\r\nIt is dark.\r\n"
    document = read_one("osk.md", source)
    assert (document.title, document.text) == ("Osk", "It is dark.")


def test_a_rule_in_markdown_is_not_front_matter(read_one):
    document = read_one("osk.md", "First.\n\n---\n\nSecond.\n\n---\n\nThird.\n")
    assert document.text.split() == ["First.", "Second.", "Third."]


def test_a_byte_order_mark_is_not_text(read_one):
    for name in ("bom.txt", "bom.md", "bom.html"):
        assert read_one(name, b"\xef\xbb\xbfThe pier.").text == "The pier."


def test_a_binary_file_is_refused_whatever_its_name(read_one):
    with pytest.raises(Unreadable, match=r"binary: .*picture.txt is a PNG picture") as error:
        read_one("picture.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    assert error.value.reason == "binary"
    with pytest.raises(Unreadable, match=r"zeros.md holds NUL bytes: it is no text") as error:
        read_one("zeros.md", b"text\x00\x00text")
    assert error.value.reason == "binary"


def test_a_header_in_toml_is_left_out(read_one):
    document = read_one("a.md", '+++\ntitle = "The pier"\ndraft = false\n+++\n\nIt is old.\n')
    assert (document.title, document.text) == ("The pier", "It is old.")


@pytest.mark.parametrize("note", ["1801", "https://osk.example", "Built in 1801."])
def test_a_footnote_is_text(read_one, note):
    text = f"The pier[^1] is [old][2].\n\n[^1]: {note}\n\n[2]: https://x.example\n"
    lines = read_one("a.md", text).text.split("\n")
    assert lines == ["The pier[^1] is old.", f"[^1]: {note}"]


def test_a_page_in_a_text_file_is_read_as_a_page(read_one):
    page = "\n<!DOCTYPE html><html><body><h1>Piers</h1><p>Old &amp; long.</p></body></html>"
    document = read_one("a.txt", page)
    assert (document.title, document.text) == ("Piers", "Old & long.")


def test_rich_text_by_another_name_is_refused(read_one):
    with pytest.raises(Unreadable, match="is a document in RTF, whatever its name says"):
        read_one("a.txt", r"{\rtf1\ansi The pier is old.\par}")
