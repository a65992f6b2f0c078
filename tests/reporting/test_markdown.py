"""Texts in Markdown, as a viewer renders them."""

import pytest
from markdown_it import MarkdownIt

from pdtrain.reporting.markdown import code_span, commands_in, escape_markdown

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


@pytest.mark.parametrize("name", [*HOSTILE, "a`<img src=x>", "`x` <b>", "``` <b>", "`pdtrain rm`"])
def test_a_note_about_a_name_is_text_but_for_its_command(name):
    note = f"{name} is stale: run `pdtrain evaluate CONFIG`."
    parts = list(commands_in(note))
    assert "".join(f"`{p}`" if c else p for p, c in parts) == note
    assert [part for part, is_command in parts if is_command] == ["pdtrain evaluate CONFIG"]


def test_no_character_that_a_terminal_obeys_is_left():
    assert escape_markdown("a\x1b[2Jb\u202ec") == "a\ufffd\\[2Jb\ufffdc"
    assert code_span("a\x1bb") == "`a\ufffdb`"
