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


# --- What stands in the text ------------------------------------------------------------------


@pytest.mark.parametrize(
    "inside, text",
    [
        ("It has 2<sup>10</sup> steps.", "It has 2^10 steps."),
        ("It holds 3 m<sup>3</sup> of oil.", "It holds 3 m^3 of oil."),
        ("It is 10<sup>−6</sup> or x<sup>n + 1</sup>.", "It is 10^−6 or x^(n + 1)."),
        ("The 5<sup>th</sup> of May.", "The 5th of May."),
        ("He left in 1883<sup><a href='#3'>3</a></sup>.", "He left in 1883[3]."),
        (
            "He left early.<sup>3</sup> She stayed<sup>[4]</sup>.",
            "He left early.[3] She stayed[4].",
        ),
        ("H<sub>2</sub>O and CO<sub>2</sub>", "H2O and CO2"),
        ("log<sub>2</sub> of x<sub>i</sub>", "log_2 of x_i"),
        ("She said <q>come up</q>.", "She said “come up”."),
        ("He wrote <del>ten</del> <ins>nine</ins> letters.", "He wrote nine letters."),
        ("<ruby>灯<rp>(</rp><rt>とう</rt><rp>)</rp></ruby>台", "灯台"),
        ("A<!-- note -->B<b>C</b><i>D</i> <code>e_f</code>", "ABCD e_f"),
        ("Light<wbr>house 1 &lt; 2 &amp;amp;", "Lighthouse 1 < 2 &amp;"),
        ('<a class="headerlink" href="#x">¶</a>Osk', "Osk"),
        (
            '<math alttext="x^2"><semantics><mi>x</mi><annotation encoding="application/x-tex">'
            "x^{2}</annotation></semantics></math> is even",
            "x^{2} is even",
        ),
    ],
)
def test_what_is_raised_lowered_or_marked_reads_right(read_one, inside, text):
    assert read_one("x.html", f"<h1>T</h1><p>{inside}</p>").text == text
    cells = read_one("y.html", f"<h1>T</h1><table><tr><td>{inside}<td>9</table>").text
    assert cells == f"{text} | 9"


TEN = "<msup><mn>10</mn><mn>6</mn></msup>"
SUM = "<mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow>"


@pytest.mark.parametrize(
    "formula, text",
    [
        ("<mfrac><mn>3</mn><mn>4</mn></mfrac>", "3/4"),
        (f"<mfrac>\n <mrow>{SUM}</mrow>\n <mn>2.5</mn>\n</mfrac>", "(a+b)/2.5"),
        ("<mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup>", "E=mc^2"),
        (f"<mn>2</mn><mo>·</mo>{TEN}", "2·10^6"),
        (f"<mn>2</mn><mo>\u2062</mo>{TEN}", "2·10^6"),
        (f"<mn>1</mn>{TEN}", "1 10^6"),
        ("<mn>1</mn><mo>\u2064</mo><mfrac><mn>1</mn><mn>2</mn></mfrac>", "1 1/2"),
        (f"<msup><mfenced>{SUM}</mfenced><mn>2</mn></msup>", "(a+b)^2"),
        (f"<mo>(</mo>{SUM}<msup><mo>)</mo><mn>2</mn></msup>", "(a+b)^2"),
        ("<msup><mn>10</mn><mrow><mo>−</mo><mn>3</mn></mrow></msup>", "10^(−3)"),
        ("<msub><mi>x</mi><mi>i</mi></msub><mi>y</mi>", "x_i y"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "x_i^2"),
        ("<msqrt><mn>16</mn></msqrt>", "√16"),
        (f"<msqrt>{SUM}</msqrt>", "√(a+b)"),
        ("<mroot><mn>8</mn><mn>3</mn></mroot>", "³√8"),
        (
            "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi>"
            "</munderover><mi>i</mi>",
            "∑_(i=1)^n i",
        ),
        ("<mi>sin</mi><mo>\u2061</mo><mi>x</mi>", "sin x"),
        ("<mo>(</mo><mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>", "(n; k)"),
        (
            "<mo>[</mo><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd>"
            "<mn>3</mn></mtd><mtd><mn>4</mn></mtd></mtr></mtable><mo>]</mo>",
            "[1 2; 3 4]",
        ),
        ("<mmultiscripts><mi>C</mi><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts>", "_6^14 C"),
        # what has none of these places stays as it stands
        ("<mn>1</mn><mn>0</mn><mi>x</mi><mi>y</mi>", "10xy"),
        ("<mn>1</mn><mo>,</mo><mn>000</mn>", "1,000"),
        ("<mover><mi>x</mi><mo>¯</mo></mover>", "x¯"),
        ("<msup><mn>20</mn><mo>°</mo></msup><mi>C</mi>", "20°C"),
        ("<msup><mi>f</mi><mo>\u2032</mo></msup><mo>(</mo><mi>x</mi><mo>)</mo>", "f\u2032(x)"),
        ("x = 2", "x = 2"),
    ],
)
def test_formulas_of_a_page_keep_their_numbers(read_one, formula, text):
    page = f"<h1>T</h1><p>So <math><semantics><mrow>{formula}</mrow></semantics></math>.</p>"
    assert read_one("x.html", page).text == f"So {text}."


def test_a_number_before_a_fraction_stays_apart(read_one):
    page = "<h1>T</h1><p>2<math><mfrac><mn>1</mn><mn>2</mn></mfrac></math> miles.</p>"
    assert read_one("x.html", page).text == "2 1/2 miles."


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>secret</p>",
        '<p style="color: red; display : none">secret</p>',
        '<span style="visibility:hidden">secret</span>',
        '<div aria-hidden="true"><p>secret</p></div>',
        "<dialog><p>secret</p></dialog>",
        "<template><p>secret</p></template>",
        '<p class="sr-only">secret</p>',
        '<div role="navigation"><ul><li>secret</ul></div>',
        '<div class="sphinxsidebar"><p>secret</p></div>',
        '<div class="toc"><ul><li>secret</ul></div>',
        '<div id="cookie-banner">secret</div>',
        "<svg><title>secret</title><text>secret</text></svg>",
        "<video>secret</video>",
        "<nav><div><p>secret</p></div></nav>",
    ],
)
def test_what_is_hidden_or_belongs_to_the_frame_is_left_out(read_one, hidden):
    page = f"<h1>T</h1><p>First.</p>{hidden}<p>Last.</p>"
    assert read_one("x.html", page).text == "First.\nLast."
    page = f"<h1>T</h1><table><tr><td>A{hidden}</td><td>B</td></tr></table>"
    assert read_one("y.html", page).text == "A | B"


def test_a_page_that_is_all_frame_is_read_all_the_same(read_one):
    assert read_one("x.html", '<div class="toc"><p>Pier</p><p>Mill</p></div>').text == "Pier\nMill"


def test_what_documentation_sets_aside_belongs_to_the_text(read_one):
    page = '<p>Mind it.[1]</p><aside class="footnote brackets"><p>[1] Since 1870.</p></aside>'
    assert read_one("x.html", page).text == "Mind it.[1]\n[1] Since 1870."
    page = (
        '<p>It is dark.</p><div class="sidebar"><p class="sidebar-title">Why</p><p>Night.</p></div>'
    )
    assert read_one("y.html", page).text == "It is dark.\nWhy\nNight."


def test_only_the_main_part_of_a_page_is_read(read_one):
    page = "<div>Buy now!</div><main><h1>Osk</h1><p>It is dark at night.</p></main><div>More</div>"
    assert read_one("x.html", page).text == "It is dark at night."
    page = "<main><p>Hi.</p></main><div>" + "It is dark at night. " * 9 + "</div>"
    assert "dark" in read_one("y.html", page).text, "what is called main is not"


CODE = "def burn(hours):\n    # one litre an hour\n    return hours &lt; 9\n\n\nburn(3)"


@pytest.mark.parametrize(
    "wrapped",
    [
        "<pre>\n{}\n</pre>",
        "<pre><code class='language-python'>{}</code></pre>",
        "<div class='highlight'><pre><span></span><span class='k'>{}</span>\n</pre></div>",
        "<table class='highlighttable'><tr><td class='linenos'><pre>1\n2</pre></td>"
        "<td><pre>{}</pre></td></tr></table>",
        "<div><pre>{}</pre><button>Copy</button></div>",
    ],
)
def test_code_keeps_its_lines_and_blanks(read_one, wrapped):
    document = read_one("x.html", f"<h1>T</h1><p>Thus:</p>{wrapped.format(CODE)}<p>Done.</p>")
    code = CODE.replace("&lt;", "<")
    assert document.text == f"Thus:\n{code}\nDone."
    assert [block.kind for block in document.blocks] == ["prose", "code", "prose"]


def test_lines_of_code_that_are_elements_are_lines(read_one):
    lines = read_one("x.html", "<h1>T</h1><pre><div>a = 1</div><div>b = 2</div>c<br>d</pre>").text
    assert lines == "a = 1\nb = 2\nc\nd"


def test_the_lines_of_a_log_are_sentences(read_one):
    document = read_one("x.html", "<h1>T</h1><pre>07:00 lamp out\n07:05 keeper asleep</pre>")
    assert document.text == "07:00 lamp out\n07:05 keeper asleep"
    assert [block.kind for block in document.blocks] == ["prose", "prose"]


TABLE = """<table><caption>Boats of Osk</caption>
<thead><tr><th>Boat<th>Crew<th>Port</thead>
<tr><td rowspan=2>Petrel<td>9 <b>men</b><td>Osk
<tr><td>2 dogs<td><ul><li>Vell<li>Tarn</ul>
<tr><td>Tern<td colspan=2>none
</table>"""


def test_a_table_is_one_row_a_line_and_no_cells_are_glued(read_one):
    document = read_one("x.html", f"<h1>T</h1><p>See:</p>{TABLE}<p>End.</p>")
    assert document.text.split("\n") == [
        "See:",
        "Boats of Osk",
        "Boat | Crew | Port",
        "Petrel | 9 men | Osk",
        "Petrel | 2 dogs | Vell Tarn",
        "Tern | none |",
        "End.",
    ]
    table = document.blocks[2]
    assert (table.kind, table.header) == ("table", 1)


def test_tables_that_place_things_on_the_page_are_read_as_a_page(read_one):
    inner = "<table><tr><td>Petrel<td>9<tr><td>Tern<td>12</table>"
    page = f"<h1>T</h1><table><tr><td><h2>Boats</h2><p>Two.</p>{inner}<td><p>Aside.</p></table>"
    assert read_one("x.html", page).text == "Boats\nTwo.\nPetrel | 9\nTern | 12\nAside."


def test_headings_are_the_sections_of_what_follows(read_one):
    page = "<h1>Osk</h1><p>a</p><h2>Pier</h2><h3>Age</h3><p>b</p><h2>Mill</h2><p>c</p>"
    sections = [b.section for b in read_one("x.html", page).blocks if b.kind == "prose"]
    assert sections == [(), ("Pier", "Age"), ("Mill",)]


def test_broken_pages_are_read_as_browsers_do(read_one):
    assert read_one(
        "x.html", "<p>One<p>Two<li>Three</b></div><div>Four</div><table><td>5<td>6"
    ).text == ("One\nTwo\nThree\nFour\n5 | 6")
    assert read_one("y.html", "").text == read_one("z.html", "<html></html>").text == ""
    deep = "<div>" * 3000 + "It is deep." + "</div>" * 3000
    assert read_one("d.html", deep).text == "It is deep."
    assert (
        read_one("e.html", '<?xml version="1.0" encoding="latin-1"?><p>Gräßlin').text == "Gräßlin"
    )


# --- What manuals put around their text --------------------------------------------------------


@pytest.mark.parametrize(
    "page, title, text",
    [
        (
            "<title>SELECT</title><h1>1. Overview</h1><p>It asks.</p><h1>2. Order</h1><p>It sorts.",
            "SELECT",
            "1. Overview\nIt asks.\n2. Order\nIt sorts.",
        ),
        (
            "<title>Files | Osk</title><header><h1>Osk manual</h1></header><h2>Files</h2><p>Old.",
            "Files | Osk",
            "Files\nOld.",
        ),
        ("<title>Data.Osk</title><h1>Documentation</h1><p>It is old.", "Data.Osk", "It is old."),
        (
            '<h1>Osk<a href="#osk">¶</a></h1><h2>Age <a href="#age">#</a></h2><p>Old.',
            "Osk",
            "Age\nOld.",
        ),
        (
            '<h1>Osk</h1><div class="header"><p>Next: <a>Age</a>, Up: Top</p></div>Old.',
            "Osk",
            "Old.",
        ),
        (
            "<h1>Osk</h1><pre><code>import a;</code><code>require(a);</code></pre>",
            "Osk",
            "import a;\nrequire(a);",
        ),
    ],
)
def test_titles_marks_and_leads_of_manuals(read_one, page, title, text):
    document = read_one("x.html", page)
    assert (document.title, document.text) == (title, text)


FRAMES = ["Navigation", "Menu", "Cookies", "Related", "Share"]


@pytest.mark.parametrize("word", FRAMES)
def test_a_section_whose_heading_is_the_word_for_a_frame_is_text(read_one, word):
    name = word.lower()
    page = f"""<h1>Osk</h1><p>It is a port.</p><section id="{name}"><h2>{word}</h2><p>Go on.</p>
        </section><h2 id="{name}">{word}</h2><p>Then stop.</p><div id="{name}">Home</div>"""
    lines = read_one("a.html", page).text.split("\n")
    assert lines == ["It is a port.", word, "Go on.", word, "Then stop."]
    rst = f"Osk\n===\n\nIt is a port.\n\n{word}\n{'-' * len(word)}\n\nGo on.\n"
    assert read_one("a.rst", rst).text.split("\n") == ["It is a port.", word, "Go on."]


def test_a_note_of_a_book_is_text(read_one):
    note = '<aside epub:type="footnote" id="n"><p>Built in 1801.</p></aside>'
    assert read_one("a.xhtml", f"<p>The pier is old.</p>{note}").text.split("\n") == [
        "The pier is old.",
        "Built in 1801.",
    ]
    assert read_one("b.xhtml", "<p>Old.</p><aside epub:type='x'><p>Buy!</p></aside>").text == "Old."


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>灯塔很\n  旧。看守人每<b>\n天</b>点灯。</p>", "灯塔很旧。看守人每天点灯。"),
        ("<ul><li>灯\n塔</ul>", "灯塔"),
        ("<h1>x</h1><h2>港\n口</h2>", "港口"),
        ("<table><tr><td>港\n口<td>灯</table>", "港口 | 灯"),
        # a blank that is one stays
        ("<p>PDF\n文件。灯\n<i>PDF</i></p>", "PDF 文件。灯 PDF"),
        ("<p>등대는\n오래되었다.</p>", "등대는 오래되었다."),
        ("<p>灯 塔</p>", "灯 塔"),
        ("<h1>x</h1><h2>第一章<br>\n港口</h2>", "第一章 港口"),
        ("<table><tr><td><p>港</p>\n<p>口</p><td>灯</table>", "港 口 | 灯"),
    ],
)
def test_a_line_break_inside_a_word_of_a_script_without_blanks_goes(read_one, page, text):
    assert read_one("a.html", page).text == text
