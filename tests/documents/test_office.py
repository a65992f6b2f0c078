"""Office documents and books: what was written is what is read, and bad files are named."""

import io
import zipfile

import pytest

from pdtrain.documents.document import Unreadable

docx = pytest.importorskip("docx", reason="writes the files of these tests")
pptx = pytest.importorskip("pptx")
charts = pytest.importorskip("pptx.chart.data")
kinds = pytest.importorskip("pptx.enum.chart")
openpyxl = pytest.importorskip("openpyxl", reason="writes the files of these tests")
pytest.importorskip("mammoth")
pytest.importorskip("python_calamine")

BOATS = [["Boat", "Crew"], ["Petrel", "9"], ["Tern", "12"]]


def saved(file):
    stream = io.BytesIO()
    file.save(stream)
    return stream.getvalue()


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return stream.getvalue()


def word():
    file = docx.Document()
    file.sections[0].header.paragraphs[0].text = "hidden header"
    file.sections[0].footer.paragraphs[0].text = "hidden footer"
    file.core_properties.author = "Clara Finch"
    file.add_heading("The pier of Osk", 0)
    paragraph = file.add_paragraph("It has 2")
    paragraph.add_run("10").font.superscript = True
    paragraph.add_run(" planks.")
    file.add_heading("Boats", 1)
    for item in ("Two are old.", "One is new."):
        file.add_paragraph(item, style="List Bullet")
    table = file.add_table(rows=3, cols=2)
    for row, cells in zip(table.rows, BOATS, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    return saved(file)


def test_word_documents(read_one):
    document = read_one("pier.docx", word())
    assert document.title == "The pier of Osk"
    lines = ["It has 2^10 planks.", "Boats", "Two are old.", "One is new."]
    assert document.text.split("\n") == [*lines, *map(" | ".join, BOATS)]
    assert document.blocks[-1].kind == "table" and document.blocks[-1].section == ("Boats",)
    assert document.metadata == {"author": "Clara Finch"}


LISTING = ["def burn(oil):", "", "    if oil:", "        return 'lit'"]


def typed(lines, prose):
    """Return a Word document with lines in a fixed font below a paragraph in another one."""
    file = docx.Document()
    file.add_paragraph(prose)
    for line in lines:
        file.add_paragraph().add_run(line).font.name = "Courier New"
    return saved(file)


def test_lines_in_a_fixed_font_are_a_listing(read_one):
    prose = "The lamp is lit by a small program, and everybody may read what it does here."
    document = read_one("lamp.docx", typed(LISTING, prose))
    assert document.text == "\n".join([prose, *LISTING])
    assert [block.kind for block in document.blocks] == ["prose", "code"]


def test_a_document_that_is_written_on_a_typewriter_is_prose(read_one):
    document = read_one("letter.docx", typed(["The pier is old.", "Anna Gray built it."], "Osk"))
    assert {block.kind for block in document.blocks} == {"prose"}


def test_tables_of_contents_and_marks_that_lead_back_are_no_text(read_one):
    file = docx.Document()
    for style in ("TOC Heading", "toc 1", "toc 2", "table of figures"):
        if style not in [one.name for one in file.styles]:
            file.styles.add_style(style, docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
        file.add_paragraph("The pier\t7", style=style)
    file.add_paragraph("It is old.")
    assert read_one("pier.docx", saved(file)).text == "It is old."
    for mark in "↑↩^":
        page = f'<p>It is old.</p><ol><li>So they say. <a href="#ref-1">{mark}</a></li></ol>'
        assert read_one("pier.html", page).text == "It is old.\nSo they say."


@pytest.mark.parametrize("suffix", ["docm", "dotx"])
def test_word_documents_with_macros_and_templates_are_read(read_one, suffix):
    assert read_one(f"pier.{suffix}", word()).title == "The pier of Osk"


def test_a_slide_without_a_title_is_no_part_of_the_one_before(read_one):
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = "The pier"
    slide = file.slides.add_slide(file.slide_layouts[6])
    slide.shapes.add_textbox(0, 0, 9, 9).text_frame.text = "The mill is new."
    assert [b.section for b in read_one("talk.pptx", saved(file)).blocks] == [(), ()]


def test_charts_of_slides_are_tables(read_one):
    data = charts.CategoryChartData()
    data.categories = ["Petrel", "Tern"]
    data.add_series("Crew", (9, 12))
    data.add_series("Sails", (2.5, None))
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[6])
    kind = kinds.XL_CHART_TYPE.COLUMN_CLUSTERED
    chart = slide.shapes.add_chart(kind, 0, 0, 9, 9, data).chart
    chart.chart_title.text_frame.text = "Boats of Osk"
    assert read_one("talk.pptx", saved(file)).text.split("\n") == [
        "Boats of Osk",
        " | Crew | Sails",
        "Petrel | 9 | 2.5",
        "Tern | 12 |",
    ]


def test_powerpoint_files(read_one):
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[1])
    slide.shapes.title.text = "The pier"
    slide.placeholders[1].text_frame.text = "It is long."
    slide.placeholders[1].text_frame.add_paragraph().text = "It is old."
    slide.notes_slide.notes_text_frame.text = "Say who built it."
    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = "Boats"
    table = slide.shapes.add_table(3, 2, 0, 2_000_000, 4_000_000, 1_000_000).table
    for number, cells in enumerate(BOATS):
        for column, text in enumerate(cells):
            table.cell(number, column).text = text
    document = read_one("talk.pptx", saved(file))
    first = ["The pier", "It is long.", "It is old.", "Say who built it.", "Boats"]
    assert document.text.split("\n") == [*first, *map(" | ".join, BOATS)]
    assert [b.section for b in document.blocks if b.kind == "table"] == [("Boats",)]


def test_spreadsheets(read_one):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Boats"
    for row in (
        ["Boat", "Crew", None, "Built"],
        ["Petrel", 9, None, 1883.5],
        ["Auk", 3, None, 0.1 + 0.2],
        ["Tern", 12, None, 4],
    ):
        sheet.append(row)
    sheet.append([])
    sheet.append(["Counted in May"])
    book.create_sheet("Ports").append(["Port", "Open"])
    book["Ports"].append(["Osk", True])
    book.create_sheet("Secret").append(["hidden"])
    book["Secret"].sheet_state = "hidden"
    document = read_one("boats.xlsx", saved(book))
    assert document.text.split("\n") == [
        "Boats",
        "Boat | Crew | Built",
        "Petrel | 9 | 1883.5",
        "Auk | 3 | 0.3",
        "Tern | 12 | 4",
        "Counted in May",
        "Ports",
        "Port | Open",
        "Osk | True",
    ]
    assert document.blocks[1].header == 1
    assert document.warnings == ("hidden sheets and charts left out",)


NAMES = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
CONTENT = f"""<office:document-content {NAMES}><office:body><office:text>
<text:tracked-changes><text:p>hidden</text:p></text:tracked-changes>
<text:h text:outline-level="1">Boats</text:h>
<text:p>Two<text:s/>are <text:span>old</text:span>.<office:annotation><text:p>hidden</text:p>
</office:annotation></text:p>
<text:list><text:list-item><text:p>One is new.</text:p></text:list-item></text:list>
<table:table><table:table-row><table:table-cell><text:p>Boat</text:p></table:table-cell>
<table:table-cell><text:p>Crew</text:p></table:table-cell></table:table-row>
<table:table-row><table:table-cell><text:p>Petrel</text:p></table:table-cell>
<table:table-cell><text:p>9</text:p></table:table-cell></table:table-row></table:table>
</office:text></office:body></office:document-content>"""
META = f"<office:document-meta {NAMES}><office:meta><dc:title>The pier</dc:title></office:meta>"
META += "</office:document-meta>"


def test_opendocument_texts(read_one):
    document = read_one("pier.odt", zipped(content_xml=CONTENT, meta_xml=META))
    assert document.title == "The pier"
    assert document.text == "Boats\nTwo are old.\nOne is new.\nBoat | Crew\nPetrel | 9"
    assert document.blocks[-1].header == 1


CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/b.opf"/></rootfiles></container>'
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>Piers</dc:title><dc:creator>Clara Finch</dc:creator></metadata><manifest>
<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="b.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>
<item id="p" href="p.png" media-type="image/png"/></manifest>
<spine><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/><itemref idref="p"/></spine>
</package>"""
CHAPTER = '<?xml version="1.0"?><html><head><title/></head><body><h1>{}</h1><p>{}</p></body></html>'


def book(**chapters):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/b.opf", PACKAGE)
        for name, content in chapters.items():
            archive.writestr(f"OEBPS/{name}.xhtml", content)
    return stream.getvalue()


def test_books_are_read_chapter_by_chapter(read_one):
    content = book(
        b=CHAPTER.format("Mills", "They grind."),
        a=CHAPTER.format("Boats", "They sail."),
        nav=CHAPTER.format("Contents", "hidden"),
    )
    document = read_one("b.epub", content)
    assert (document.title, document.metadata) == ("Piers", {"author": "Clara Finch"})
    assert document.text == "Boats\nThey sail.\nMills\nThey grind."
    assert document.blocks[-1].section == ("Mills",)


XHTML = '<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml">'
CLOSED_HEADS = [
    f'{XHTML}<head><script src="a.js"/><title/></head>',
    '<html><head><style type="text/css"/></head>',
    '<html><head><title/></head><body><div hidden="hidden"/></body>',
]


@pytest.mark.parametrize("head", CLOSED_HEADS)
def test_elements_of_a_chapter_that_end_at_once_swallow_nothing(read_one, head):
    chapter = f"{head}<body><h1>Mills</h1><p>They<img/> grind.</p></body></html>"
    assert read_one("b.epub", book(a=chapter, b=chapter)).text.startswith("Mills\nThey grind.")
    assert read_one("b.xhtml", chapter).text == "They grind."
    if head.startswith(XHTML):
        assert read_one("b.html", chapter).text == "They grind."


def test_html_does_not_end_an_element_at_once(read_one):
    page = "<h1>Mills</h1><p>They<b/> grind.</b></p><textarea/>swallowed"
    assert read_one("a.html", page).text == "They grind."


def test_what_a_chapter_calls_a_sidebar_or_a_menu_is_text(read_one):
    boxes = "".join(
        f'<div class="{name}"><p>A {name} of soup.</p></div>'
        for name in ("sidebar", "menu", "related", "Footer")
    )
    table = '<table><tr><td>Soup<td id="share">Nine</tr></table>'
    left_out = '<div class="toc"><p>Contents</p></div><span class="lineno">7</span>'
    chapter = f"{XHTML}<body><h1>Inns</h1>{boxes}{table}{left_out}</body></html>"
    lines = read_one("b.epub", book(a=chapter)).text.split("\n")
    assert lines == [
        "Inns",
        *(f"A {n} of soup." for n in ("sidebar", "menu", "related", "Footer")),
        "Soup | Nine",
    ]
    page = read_one("b.html", chapter.replace("<body>", "<body><p>Open.</p>")).text
    assert "of soup" not in page and "Open." in page


def test_a_missing_or_damaged_chapter_costs_no_book(read_one):
    chapter = CHAPTER.format("Boats", "They sail.")
    document = read_one("b.epub", book(a=chapter))
    assert document.text == "Boats\nThey sail."
    assert document.warnings == ("1 missing or damaged chapters left out",)
    damaged = book(a=chapter, b=chapter.replace("sail", "soar")).replace(b"soar", b"s0ar")
    assert read_one("c.epub", damaged).text == "Boats\nThey sail."
    with pytest.raises(Unreadable, match="none of its chapters can be read"):
        read_one("d.epub", book(nav=chapter))


BOMB = '<!DOCTYPE x [<!ENTITY a "secret"><!ENTITY b SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("suffix", ["docx", "pptx", "xlsx", "odt", "epub"])
def test_files_that_are_damaged_or_locked_are_named(read_one, suffix):
    for data, reason in [
        (word()[:300], "broken"),
        (b"<html>404 not found</html>", "broken"),
        (b"", "broken"),
        (zipped(a_txt="nothing of use"), "broken"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "locked"),
    ]:
        if (suffix, reason) == ("xlsx", "locked"):
            continue  # the same bytes may be an old spreadsheet
        with pytest.raises(Unreadable) as error:
            read_one(f"file.{suffix}", data)
        assert error.value.reason == reason, data[:20]


def test_entities_are_not_expanded_and_bombs_not_unpacked(read_one, monkeypatch):
    content = BOMB + CONTENT.replace("One is new", "One &a; is &b; new")
    assert "secret" not in read_one("a.odt", zipped(content_xml=content)).text
    monkeypatch.setattr("pdtrain.documents.readers.office_parts.zipped.MAX_BYTES", 1000)
    with pytest.raises(Unreadable) as error:
        read_one("b.odt", zipped(content_xml="x" * 100_000))
    assert error.value.reason == "too large"


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"


def with_parts(*parts):
    from docx.oxml import parse_xml

    file = docx.Document()
    paragraph = file.add_paragraph("See ")
    for part in parts:
        declared = f'xmlns:w="{WORD}" xmlns:m="{MATH}"'
        paragraph._p.append(parse_xml(part.replace(">", f" {declared}>", 1)))
    paragraph.add_run(".")
    return saved(file)


def m(name, content):
    return f"<m:{name}>{content}</m:{name}>"


def test_hidden_text_is_left_out(read_one):
    def run(mark, text):
        return f"<w:r><w:rPr>{mark}</w:rPr><w:t>{text}</w:t></w:r>"

    content = with_parts(
        run("<w:vanish/>", "secret"),
        run('<w:vanish w:val="1"/>', "secret"),
        run('<w:vanish w:val="0"/>', "shown"),
        run("<w:b/>", " too"),
    )
    assert read_one("a.docx", content).text == "See shown too."


def test_text_that_a_style_hides_is_left_out(read_one):
    types = docx.enum.style.WD_STYLE_TYPE
    file = docx.Document()
    word = file.styles.add_style("Secret", types.CHARACTER)
    names = ("Answer", "Solution", "Hint")
    lines = [file.styles.add_style(name, types.PARAGRAPH) for name in names]
    word.font.hidden = lines[0].font.hidden = True
    lines[1].base_style = lines[2].base_style = lines[0]
    lines[2].font.hidden = False
    file.add_paragraph("The pier is long.").add_run(" It is secret.", style="Secret")
    file.add_paragraph("It is secret.", style="Answer")
    file.add_paragraph("It is secret.", style="Solution").add_run("It is old.").font.hidden = False
    file.add_paragraph("See the mill.", style="Hint")
    wanted = "The pier is long.\nIt is old.\nSee the mill."
    assert read_one("a.docx", saved(file)).text == wanted


def test_words_with_a_reading_beside_them_are_text(read_one):
    reading = "<w:rt><w:r><w:t>かんじ</w:t></w:r></w:rt>"
    base = "<w:rubyBase><w:r><w:t>漢字</w:t></w:r></w:rubyBase>"
    content = with_parts(f"<w:r><w:ruby>{reading}{base}</w:ruby></w:r>")
    assert read_one("a.docx", content).text == "See 漢字."


def test_formulas_are_text(read_one):
    def t(text):
        return m("r", m("t", text))

    half = m("f", m("num", t("1")) + m("den", t("2b")))
    square = m("sSup", m("e", t("v")) + m("sup", t("2")))
    root = m("rad", m("e", t("a+b")))
    content = with_parts(m("oMathPara", m("oMath", half + t("m") + square + root)))
    assert read_one("a.docx", content).text == "See 1/2bmv^2√(a+b)."


def test_brackets_and_roots_of_formulas_keep_what_they_come_to(read_one):
    def t(text):
        return m("r", m("t", text))

    inner = m("d", m("e", t("a+b")))
    square = m("sSup", m("e", inner) + m("sup", t("2")))
    given = '<m:dPr><m:begChr m:val="["/><m:endChr m:val="]"/></m:dPr>'
    cube = m("rad", m("deg", t("3")) + m("e", t("8")))
    content = with_parts(m("oMath", t("2") + square + m("d", given + m("e", t("1"))) + cube))
    assert read_one("a.docx", content).text == "See 2(a+b)^2[1]³√8."


def test_lines_of_a_paragraph_on_a_slide_are_not_glued(read_one):
    file = pptx.Presentation()
    box = file.slides.add_slide(file.slide_layouts[6]).shapes.add_textbox(0, 0, 99, 99)
    box.text_frame.text = "Two boats\vare old."
    assert read_one("a.pptx", saved(file)).text == "Two boats are old."
