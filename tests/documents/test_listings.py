"""Listings of HTML pages: line ends and blanks stay, numbers of lines go, whatever holds them."""

import pytest

CODE = "def osk(x):\n    if x:\n        return  1"
LINES = CODE.split("\n")
PRE = f"<pre>{CODE}\n</pre>"


def numbered(row):
    return "".join(row.format(n, line) for n, line in enumerate(LINES, 1))


DOXYGEN = numbered(
    '<div class="line"><a id="l1"></a><span class="lineno">{:5}</span>&#160;{}</div>\n'
)
NUMBERS = "<pre>1\n2\n3\n</pre>"
PAGES = {
    "code with a style": f'<p>a</p><code style="white-space: pre">{CODE}</code>',
    "div with a style": f'<div style="color: red; white-space:pre">{CODE}</div>',
    "highlight": f'<div class="highlight">{CODE}</div>',
    "code in highlight": f'<div class="highlight"><code><span>{CODE}</span></code></div>',
    "textarea": f"<p>a</p><textarea readonly>{CODE}</textarea>",
    "sample alone": f"<p>a</p><p><samp>{CODE}</samp></p>",
    "keys alone": f"<ul><li><b><kbd>{'<br>'.join(LINES)}</kbd></b></li></ul>",
    "plaintext": f"<plaintext>{CODE}",
    "hard blanks": f"<pre>{CODE.replace(' ', '&nbsp;')}</pre>",
    "list of lines": f"<pre><ol class=linenums>{numbered('<li>{1}</li>')}</ol></pre>",
    "doxygen": f'<div class="fragment">{DOXYGEN}</div>',
    "sphinx": '<table class="highlighttable"><tr><td class="linenos"><div class="linenodiv">'
    f'{NUMBERS}</div></td><td class="code"><div class="highlight">{PRE}</div></td></tr></table>',
    "rouge": f'<table class="rouge-table"><tr><td class="rouge-gutter gl">{NUMBERS}</td>'
    f'<td class="rouge-code">{PRE}</td></tr></table>',
    "hugo": '<table class="lntable"><tr><td class="lntd"><pre><span class="lnt">1\n</span>'
    '<span class="lnt">2\n</span><span class="lnt">3\n</span></pre></td>'
    f'<td class="lntd"><pre><code>{CODE}</code></pre></td></tr></table>',
    "two columns": f"<table><tr><td>{NUMBERS}</td><td>{PRE}</td></tr></table>",
    "github": "<table>"
    + numbered('<tr><td class="blob-num" id="L{}"></td><td class="blob-code">{}</td></tr>')
    + "</table>",
    "rows": f"<table>{numbered('<tr><td>{}</td><td><code>{}</code></td></tr>')}</table>",
}
PAGES["numbers in spans"] = (
    "<pre>"
    + "\n".join(f'<span class="hljs-ln-n">{n}</span>{line}' for n, line in enumerate(LINES, 1))
    + "</pre>"
)


@pytest.mark.parametrize("kind", PAGES)
def test_lines_and_blanks_stay_and_numbers_go(read_one, kind):
    document = read_one("page.html", f"<h1>Osk</h1>{PAGES[kind]}")
    listing = document.blocks[-1]
    assert listing.kind == "code"
    assert document.text[listing.start : listing.end] == CODE
    compile(document.text[listing.start : listing.end], kind, "exec")


@pytest.mark.parametrize(
    "page, text",
    [
        ("<p>Press <kbd>Ctrl</kbd> and\n <code>ls\n -l</code>.</p>", "Press Ctrl and ls -l."),
        ('<div class="highlight"><p>It is\nold.</p></div>', "It is old."),
        ('<p><span style="white-space:pre-wrap">It is old.</span> So.</p>', "It is old. So."),
        ("<p>a</p><textarea>What do you think?</textarea>", "a"),
        (
            "<table><tr><td>1</td><td><code>up</code></td></tr>"
            "<tr><td>2</td><td><code>down</code></td></tr></table>",
            "1 | up\n2 | down",
        ),
    ],
)
def test_what_only_looks_like_a_listing_is_none(read_one, page, text):
    assert read_one("page.html", page).text == text


def test_a_letter_whose_lines_count_is_read_as_plain_text(read_one):
    letter = "Dear all,\n\nthe pier that was built in the year of the flood is old and it is\nlong."
    document = read_one("page.html", f'<div style="white-space: pre-wrap">{letter}</div>')
    assert document.text.split("\n")[0] == "Dear all,"
    assert document.text.split("\n")[1].endswith("it is long.")
    assert {block.kind for block in document.blocks} == {"prose"}


def test_nested_listings_take_no_more_time_than_the_page_is_long(read_one):
    opened = '<div class="highlight">' * 1500
    page = opened + "<span>a\nb</span>" * 20_000 + "<p>The end.</p>"
    assert read_one("page.html", page).text.endswith("The end.")
