"""Texts in Markdown, as a viewer renders them."""

import pytest
from markdown_it import MarkdownIt

from pdtrain.reporting.markdown import code_span, escape_markdown

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "<https://example.org>",
    "*a* _b_ __c__ ~~d~~ `e` snake_case_name",
    "&lt;b&gt; &amp; &#106;",
    r"back\slash \[x] \\",
    "a | b || c",
    "# a heading #",
]


def shown(tokens) -> str:
    """Return the text of rendered Markdown; assert that it has no markup."""
    assert {token.type for token in tokens} <= {"text", "text_special"}
    return "".join(token.content for token in tokens)


@pytest.mark.parametrize("text", HOSTILE)
def test_an_escaped_text_is_shown_as_it_is(text):
    heading = RENDERER.parse(f"# {escape_markdown(text)}\n")
    assert shown(heading[1].children) == text
    table = RENDERER.parse(f"| head |\n| --- |\n| {escape_markdown(text)} |\n")
    cells = [token for token in table if token.type == "inline"]
    assert len(cells) == 2 and shown(cells[1].children) == text


def test_an_escaped_text_is_one_line():
    assert escape_markdown("one\n\n# two\r\nthree") == r"one \# two three"


@pytest.mark.parametrize("text", ["document_1.md", "harbour", "rounds.least_gain=0.01", "a-b (c)"])
def test_plain_names_are_left_as_they_are(text):
    assert escape_markdown(text) == text


@pytest.mark.parametrize("address", ["https://example.org/x", "www.example.org", "me@example.org"])
def test_a_bare_address_is_broken_for_viewers_that_make_links_of_it(address):
    escaped = escape_markdown(address)
    assert address not in escaped
    assert shown(RENDERER.parse(escaped)[1].children) == address


@pytest.mark.parametrize("text", ["plain", "a `b` c", "``", "`", "x``y`", "<b> & [x](y)"])
def test_a_span_of_code_holds_any_text(text):
    (token,) = RENDERER.parse(f"# {code_span(text)}\n")[1].children
    assert (token.type, token.content) == ("code_inline", text)
