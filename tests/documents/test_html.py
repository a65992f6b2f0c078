"""HTML pages: the text of the article, its heading as the title, and nothing of the frame."""

import pytest

PAGE = """<!DOCTYPE html>
<html><head><title>Osk - Home</title><style>p { color: red }</style>
<script>var hidden = "script";</script></head>
<body><nav><a href="/">hidden menu</a></nav><header><p>hidden header</p></header>
<h1>The harbour of  Osk</h1>
<!-- hidden comment -->
<p>The pier is
   260&nbsp;metres <b>long</b> &amp; old.</p><ul><li>First</li><li>Second</li></ul>
<table><tr><th>Boat</th><td>Petrel</td></tr></table>
<aside>hidden aside</aside><noscript>hidden noscript</noscript>
<form><button>hidden button</button></form><footer>hidden footer</footer></body></html>"""


def test_html_gives_its_text_and_its_title(read_one):
    document = read_one("osk.html", PAGE)
    assert document.title == "The harbour of Osk"
    assert document.text.splitlines()[0] == "The pier is 260 metres long & old."
    assert "First\nSecond" in document.text and "Petrel" in document.text
    for absent in ("hidden", "script", "color", "DOCTYPE", "html", "<", "Home"):
        assert absent not in document.text


def test_a_page_that_stands_in_one_form_keeps_its_text(read_one):
    page = "<body><form><label>hidden</label><p>It is dark.</p><textarea>hidden</textarea></form>"
    assert read_one("page.html", page).text == "It is dark."


def test_a_page_without_a_heading_takes_its_title(read_one):
    page = "<html><head><title>Osk at night</title></head><body><p>It is dark.</p></body></html>"
    document = read_one("x.htm", page)
    assert (document.title, document.text) == ("Osk at night", "It is dark.")


def test_a_page_without_heading_and_title_takes_the_name_of_its_file(read_one):
    assert read_one("old_harbour.html", "<p>It is dark.</p>").title == "Old Harbour"


@pytest.mark.parametrize(
    "page",
    [
        "<header><h1>My site</h1></header><main><h1>Osk</h1><p>It is dark.</p></main>",
        "<header><h1>My site</h1></header><article><header><h1>Osk</h1></header>It is dark.",
        "<article><header><h1>Osk</h1></header><h1>It is dark.</h1></article>",
        "<main><aside><h1>Menu</h1></aside><article><header><h1>Osk</h1></header>It is dark.",
        "<header><h1>Osk</h1></header><p>It is dark.</p>",
        "<title>My site</title><nav><h1>Menu</h1></nav><h1>Osk</h1><p>It is dark.</p>",
    ],
)
def test_the_title_is_the_heading_of_the_article_not_of_the_site(read_one, page):
    document = read_one("x.html", page)
    assert (document.title, document.text) == ("Osk", "It is dark.")


def test_a_second_heading_stays_in_the_text(read_one):
    document = read_one("x.html", "<h1>Osk</h1><p>It is dark.</p><h1>Vell</h1><p>Rain.</p>")
    assert (document.title, document.text.split()) == ("Osk", "It is dark. Vell Rain.".split())
