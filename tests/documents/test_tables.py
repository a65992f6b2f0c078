"""Tables of every format: empty, merged and nested cells leave the others in their columns."""

import io
import zipfile

import pytest
from pdf_files import drawn

docx = pytest.importorskip("docx", reason="writes the files of these tests")
pptx = pytest.importorskip("pptx")
openpyxl = pytest.importorskip("openpyxl", reason="writes the files of these tests")
pytest.importorskip("mammoth")
pytest.importorskip("python_calamine")

# the first cell of the second row reaches down, and a cell of the first row to the right
ROWS = [["Boat", "Crew", "", "Port"], ["Petrel", "", "9", "Osk"], ["", "3", "", "Vell"]]
READ = ["Boat | Crew |  | Port", "Petrel |  | 9 | Osk", "Petrel | 3 |  | Vell"]


def saved(file):
    stream = io.BytesIO()
    file.save(stream)
    return stream.getvalue()


def filled(table):
    for number, cells in enumerate(ROWS):
        for column, text in enumerate(cells):
            table.cell(number, column).text = text
    table.cell(0, 1).merge(table.cell(0, 2))
    table.cell(1, 0).merge(table.cell(2, 0))


def word():
    file = docx.Document()
    filled(file.add_table(3, 4))
    return saved(file)


def slides():
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[6])
    filled(slide.shapes.add_table(3, 4, 0, 0, 4_000_000, 1_000_000).table)
    return saved(file)


NAMES = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
)
COVERED = "<table:covered-table-cell/>"


def odf_cell(text, span=""):
    return f"<table:table-cell {span}><text:p>{text}</text:p></table:table-cell>"


def odf(body):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(
            "content.xml",
            f"<office:document-content {NAMES}><office:body><office:text>{body}"
            "</office:text></office:body></office:document-content>",
        )
    return stream.getvalue()


def opendocument():
    wide, tall = 'table:number-columns-spanned="2"', 'table:number-rows-spanned="2"'
    rows = [
        odf_cell("Boat") + odf_cell("Crew", wide) + COVERED + odf_cell("Port"),
        odf_cell("Petrel", tall) + "<table:table-cell/>" + odf_cell("9") + odf_cell("Osk"),
        COVERED + odf_cell("3") + '<table:table-cell table:number-columns-repeated="1"/>'
        "<table:table-cell><table:table><table:table-row><table:table-cell><text:p>Vell</text:p>"
        "</table:table-cell></table:table-row></table:table></table:table-cell>",
    ]
    table = "".join(f"<table:table-row>{row}</table:table-row>" for row in rows)
    return odf(f"<table:table>{table}</table:table>")


HTML = """<table><tr><th>Boat<th colspan=2>Crew<th>Port
<tr><td rowspan=2>Petrel<td><td>9<td>Osk<tr><td>3<td><td>Vell</table>"""


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.docx", word),
        ("a.pptx", slides),
        ("a.odt", opendocument),
        ("a.html", lambda: HTML.encode()),
    ],
)
def test_empty_and_merged_cells(read_one, name, content):
    assert read_one(name, content()).text.split("\n") == READ


def test_merged_cells_of_a_sheet_name_groups_of_columns_and_titles(read_one):
    book = openpyxl.Workbook()
    sheet = book.active
    rows = [
        [],
        [None, "Crew of the boats"],
        [None, "Boat", "2019", None, "2020"],
        [None, None, "Q1", "Q2", "Q1"],
        [None, "Petrel", 9, None, 12],
        [None, None, 3, 4, "=1+2"],
    ]
    for row in rows:
        sheet.append(row)
    for cells in ("B2:E2", "C3:D3", "B5:B6"):
        sheet.merge_cells(cells)
    document = read_one("crew.xlsx", saved(book))
    assert document.text.split("\n") == [
        "Crew of the boats",
        "Boat | 2019 | 2019 | 2020",
        " | Q1 | Q2 | Q1",
        "Petrel | 9 |  | 12",
        "Petrel | 3 | 4 |",
    ]
    assert [(block.kind, block.header) for block in document.blocks] == [("prose", 0), ("table", 2)]
    assert document.warnings == ("1 formulas without a value left out",)


def test_an_empty_cell_of_a_pdf_table_shifts_no_other(read_one):
    rows = [
        ("Boat", "Crew", "Port", "Built"),
        ("Petrel", "9 men", "Osk", "1883"),
        ("Tern", "", "Vell", "1901"),
        ("", "7 men", "", "1902"),
        ("Gull", "", "", "1903"),
        ("", "", "Hale", ""),
        ("Heron", "5 men", "", "1904"),
    ]
    places = [
        (72 + 110 * column, 700 - 16 * line, cell)
        for line, row in enumerate(rows)
        for column, cell in enumerate(row)
        if cell
    ]
    document = read_one("boats.pdf", drawn(places))
    assert document.text.split("\n") == [" | ".join(row).rstrip() for row in rows]


NESTED = "<table><tr><td>mast</td><td>2</td></tr><tr><td>sail</td><td>3</td></tr></table>"


def test_a_small_table_in_a_cell_is_what_the_cell_says(read_one):
    page = f"<table><tr><th>Boat<th>Parts</tr><tr><td>Petrel<td>It has {NESTED}</table>"
    assert read_one("a.html", page).text == "Boat | Parts\nPetrel | It has mast, 2; sail, 3"


def test_a_table_that_only_places_things_is_no_table(read_one):
    long = "The pier is old. " * 30
    page = f"<table><tr><td>Menu<td>{long}</tr><tr><td>x<td>{NESTED}</tr></table>"
    document = read_one("a.html", page)
    assert [b.kind for b in document.blocks] == ["prose", "prose", "prose", "table"]


def test_rows_of_other_lengths_than_the_header(read, read_one):
    assert (
        read_one("a.csv", "name,age\nAnna,3,Osk\nBo\n").text
        == "name | age |\nAnna | 3 | Osk\nBo |  |"
    )
    first, second = read("b.csv", "title,text\nA,It is old.,more\nB,It is new.\n")
    assert (first.text, first.warnings) == (
        "It is old.",
        ("cells beyond the last column left out",),
    )
    assert (second.text, second.warnings) == ("It is new.", ())


def test_headings_between_the_rows_of_a_table_divide_it(read_one):
    page = (
        '<h1>Osk</h1><table><tr><td colspan="2"><h2>Boats</h2></td></tr>'
        "<tr><td>Petrel</td><td>old</td></tr><tr><td>Tern</td><td>new</td></tr>"
        '<tr><td colspan="2"><h2>Ports</h2></td></tr><tr><td>Vell</td><td>open</td></tr></table>'
    )
    document = read_one("a.html", page)
    assert document.text == "Boats\nPetrel | old\nTern | new\nPorts\nVell | open"
    assert [block.kind for block in document.blocks] == ["heading", "table"] * 2


def test_a_page_whose_columns_are_a_table_below_a_heading_is_no_table(read_one):
    body = "<p>It is old.</p>" * 40
    page = f"<table><tr><td><h1>Osk</h1></td></tr><tr><td>Menu</td><td>{body}</td></tr></table>"
    document = read_one("a.html", page)
    assert document.title == "Osk" and {block.kind for block in document.blocks} == {"prose"}


def test_columns_at_the_end_that_nothing_stands_in_are_left_out(read_one):
    empty = '<table:table-cell table:number-columns-repeated="900"/>'
    rows = "".join(
        f"<table:table-row>{odf_cell(a)}{odf_cell(b)}{empty}</table:table-row>"
        for a, b in (("Boat", "Crew"), ("Petrel", ""))
    )
    content = odf(f"<table:table>{rows}</table:table>")
    assert read_one("a.odt", content).text.split("\n") == ["Boat | Crew", "Petrel |"]


def test_a_word_in_an_open_document_is_read_without_its_reading(read_one):
    ruby = "<text:ruby-base>漢字</text:ruby-base><text:ruby-text>かんじ</text:ruby-text>"
    assert read_one("a.odt", odf(f"<text:p><text:ruby>{ruby}</text:ruby>です</text:p>")).text == (
        "漢字です"
    )


def test_a_cell_that_is_wide_and_tall_leaves_the_others_in_their_columns(read_one):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["Boat", "Kind", "Crew"], ["Petrel", None, 9], [None, None, 3], ["Tern", "new", 4]):
        sheet.append(row)
    sheet.merge_cells("A2:B3")
    lines = read_one("a.xlsx", saved(book)).text.split("\n")
    assert lines == [
        "Boat | Kind | Crew",
        *["Petrel | Petrel | " + n for n in "93"],
        "Tern | new | 4",
    ]


def test_a_line_of_code_may_stand_in_a_cell(read_one):
    rows = [("List", "ls -l"), ("Copy", "cp &lt;a&gt; b")]
    cells = "".join(f"<tr><td>{a}</td><td><pre>{b}\n</pre></td></tr>" for a, b in rows)
    table = f"<table><tr><th>To</th><th>Say</th></tr>{cells}</table>"
    assert read_one("a.html", table).text.split("\n") == [
        "To | Say",
        "List | ls -l",
        "Copy | cp <a> b",
    ]
    listing = read_one("b.html", table.replace("ls -l", "ls -l\nls -a"))
    assert "ls -l\nls -a" in [listing.text[b.start : b.end] for b in listing.blocks]
