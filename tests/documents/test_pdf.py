"""PDF files: text in the order in which it is read, and files without any text named as such."""

import sys

import pytest
from pdf_files import assembled, drawn, pdf_of

from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Source, Unreadable
from pdtrain.documents.readers.pdf_page.flow import add_pages
from pdtrain.documents.readers.pdf_page.layout import Page
from pdtrain.documents.readers.pdf_page.lines import Run


def pdf(*pages):
    """Return a PDF whose pages hold these lines."""
    font = 3 + 2 * len(pages)
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    objects += [f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    for number, lines in enumerate(pages):
        content = "BT /F 12 Tf 14 TL 20 250 Td " + "".join(f"({line}) Tj T* " for line in lines)
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents {4 + 2 * number} 0 R"
            f" /Resources << /Font << /F {font} 0 R >> >> >>",
            f"<< /Length {len(content) + 2} >>\nstream\n{content}ET\nendstream",
        ]
    objects += ["<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    return assembled(objects)


def column(x, top, *lines):
    return [(x, top - 14 * number, line) for number, line in enumerate(lines)]


PICTURE = "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray "
PICTURE += "/BitsPerComponent 8 /Length 1 >>\nstream\n0\nendstream"
SHOWN = "q 400 0 0 400 90 200 cm /I Do Q"


def with_pictures(*contents):
    number = 4 + 2 * len(contents)
    return pdf_of(contents, PICTURE, f"/XObject << /I {number} 0 R >>")


def test_a_pdf_gives_the_text_of_all_its_pages(read_one):
    document = read_one("old_pier.pdf", pdf(["The pier is", "old."], ["It is long."]))
    assert document.text == "The pier is old.\nIt is long."
    assert (document.id, document.title) == ("old_pier.pdf", "Old Pier")


def test_without_the_extra_the_command_that_installs_it_is_named(read_one, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(ValueError, match=r"old_pier.pdf is a PDF.* `pip install -e '\.\[doc"):
        read_one("old_pier.pdf", pdf(["The pier is old."]))


LEFT = """The mill of Vellau was built by the en-
gineer Clara Finch, who had come
from Osk. It ground chestnut flour
until the river froze in the winter""".split("\n")
RIGHT = """of 1921. Then it was sold to the town,
which made a museum of it. Visitors
pay nine crowns, and its well-
known cafe is open until late. It""".split("\n")
MILL = """The mill of Vellau was built by the engineer Clara Finch, who had come from Osk. It ground
chestnut flour until the river froze in the winter of 1921. Then it was sold to the town, which
made a museum of it. Visitors pay nine crowns, and its well-known cafe is open until late. It has
room for forty-eight people. Nobody swims in the river."""


def test_columns_are_read_one_after_the_other_and_the_frame_is_left_out(read_one):
    """The file writes line by line over both columns, as some programs do."""
    pairs = zip(column(72, 700, *LEFT), column(320, 700, *RIGHT), strict=True)
    lines = [place for pair in pairs for place in pair]
    head, foot = (72, 800, "Yearbook of the Vellau Society"), "Page {} of 2"
    second = column(72, 700, "has room for forty-eight people.", "Nobody swims in the river.")
    pages = [head, *lines, (300, 30, foot.format(1))], [head, *second, (300, 30, foot.format(2))]
    assert read_one("mill.pdf", drawn(*pages)).text == MILL.replace("\n", " ")


def test_a_gap_and_an_indented_line_begin_a_paragraph(read_one):
    lines = [
        (72, 700, "The pier of Osk is made of larch wood and it is very old, as all"),
        (72, 686, "piers are."),
        (72, 644, "Nine boats lie at it in summer, and in winter there are only two of"),
        (72, 630, "them left."),
        (90, 616, "Nobody knows who built it, although many have asked the mayor"),
        (72, 602, "about it."),
    ]
    text = read_one("pier.pdf", drawn(lines)).text
    assert [line.split(" ")[0] for line in text.split("\n")] == ["The", "Nine", "Nobody"]


def test_cells_that_stand_below_one_another_are_a_table(read_one):
    rows = [("Boat", "Crew", "Port"), ("Petrel", "9 men", "Osk"), ("Tern", "12 men", "Vell")]
    places = [
        (72 + 120 * column, 700 - 16 * line, cell)
        for line, row in enumerate(rows)
        for column, cell in enumerate(row)
    ]
    document = read_one("boats.pdf", drawn([(72, 740, "The boats of the year:"), *places]))
    assert document.text.split("\n")[1:] == [" | ".join(row) for row in rows]
    assert document.blocks[1].kind == "table"


@pytest.mark.parametrize(
    "first, second, whole",
    [
        ("It was a light-", "house of stone.", "It was a lighthouse of stone."),
        ("It is a well-", "known place.", "It is a well-known place."),
        ("She met Miss Bell-", "Finch there.", "She met Miss Bell-Finch there."),
        ("A bell-ringer lives here. The bell-", "ringer sleeps.", "bell-ringer sleeps."),
    ],
)
def test_a_word_that_a_line_end_cuts_is_whole_again(read_one, first, second, whole):
    assert read_one("a.pdf", drawn(column(72, 700, first, second))).text.endswith(whole)


def test_a_scan_is_named_and_half_a_scan_is_a_warning(read_one):
    with pytest.raises(Unreadable, match=r"pictures without text \(2 of 2\).*ocrmypdf") as error:
        read_one("scan.pdf", with_pictures(SHOWN, SHOWN))
    assert error.value.reason == "scan"
    words = "BT /F 11 Tf 72 700 Td (The pier.) Tj ET"
    document = read_one("half.pdf", with_pictures(words, SHOWN))
    assert (document.text, document.warnings) == (
        "The pier.",
        ("pages 2 are pictures without text",),
    )


def test_files_that_are_locked_cut_off_or_no_pdf_are_named(read_one):
    whole = drawn(column(72, 700, "The pier."))
    key = b"/O <" + b"11" * 32 + b"> /U <" + b"22" * 32 + b">"
    lock = b"/Encrypt << /Filter /Standard /V 2 /R 3 /Length 128 /P -44 " + key + b" >>"
    locked = whole.replace(b"/Root 1 0 R", b"/Root 1 0 R /ID [<01><01>] " + lock)
    for name, data, reason in [
        ("locked.pdf", locked, "locked"),
        ("cut.pdf", whole[:150], "broken"),
        ("page.pdf", b"<html>404 not found</html>", "broken"),
        ("empty.pdf", b"", "broken"),
        ("pageless.pdf", pdf(), "empty"),
    ]:
        with pytest.raises(Unreadable) as error:
            read_one(name, data)
        assert (error.value.reason, name in str(error.value)) == (reason, True)


@pytest.mark.parametrize(
    "limit, message",
    [
        ("pdf.MOST_PAGES", "it has 1 pages, at most 0"),
        ("pdf_page.runs.MOST_RUNS", "pieces of text, at most 0"),
    ],
)
def test_a_file_of_too_many_pages_or_pieces_is_refused(read, monkeypatch, limit, message):
    monkeypatch.setattr(f"pdtrain.documents.readers.{limit}", 0)
    with pytest.raises(Unreadable, match=f"^too large: .*{message}"):
        read("a.pdf", drawn([(20, 700, "The pier is long.")]))


LYING = [
    "The lamps of Osk and their oil",
    "North lamp burns twelve litres",
    "South lamp burns four",
]


def turned(matrix, stamp=""):
    """Return a PDF with lines that are turned by a matrix, and a line that lies as usual."""
    lines = "".join(f"BT /F 11 Tf 0 {-14 * n} Td ({line}) Tj ET " for n, line in enumerate(LYING))
    usual = f"BT /F 11 Tf 60 20 Td ({stamp}) Tj ET " if stamp else ""
    return pdf_of([f"q {matrix} cm {lines}Q {usual}"])


@pytest.mark.parametrize("matrix", ["0 1 -1 0 500 60", "0 -1 1 0 60 800", "-1 0 0 -1 500 800"])
def test_a_page_that_lies_on_its_side_is_read_as_its_reader_turns_it(read_one, matrix):
    assert read_one("a.pdf", turned(matrix)).text.split() == " ".join(LYING).split()
    assert read_one("b.pdf", turned(matrix, "7")).text.split()[:3] == ["The", "lamps", "of"]


def test_a_stamp_at_the_margin_is_no_text(read_one):
    stamp = "q 0 1 -1 0 30 300 cm BT /F 11 Tf (Downloaded from the harbour of Osk) Tj ET Q "
    lines = "".join(f"BT /F 11 Tf 60 {700 - 14 * n} Td ({x}) Tj ET " for n, x in enumerate(LYING))
    found = read_one("a.pdf", pdf_of([stamp + lines])).text
    assert "Downloaded" not in found and "The lamps of Osk" in found
    with pytest.raises(Unreadable) as error:  # it does not make a scan a document
        read_one(
            "b.pdf",
            pdf_of(
                [stamp + "q 400 0 0 400 90 200 cm /I Do Q"],
                f"{PICTURE}/BitsPerComponent 8 /Length 1 >>\nstream\n0\nendstream",
                "/XObject << /I 6 0 R >>",
            ),
        )
    assert error.value.reason == "scan"


def test_words_stamped_across_a_page_are_no_text(read_one):
    across = "q 0.7 0.7 -0.7 0.7 100 100 cm BT /F 48 Tf 0 0 Td (DRAFT) Tj ET Q "
    lines = "".join(f"BT /F 11 Tf 60 {300 - 14 * n} Td ({x}) Tj ET " for n, x in enumerate(LYING))
    assert read_one("a.pdf", pdf_of([across + lines])).text.split() == " ".join(LYING).split()


def test_letters_that_are_drawn_one_by_one_are_words(read_one):
    widths = {"i": 222, "l": 222, "t": 278, "f": 278, " ": 278, "r": 333, "I": 278, ".": 278}
    place, letters = 60.0, []
    for letter in "It is still full of oil.":
        if letter != " ":
            letters.append((place, 700, letter))
        place += 11 * widths.get(letter, 556) / 1000
    assert read_one("a.pdf", drawn(letters)).text == "It is still full of oil."


def test_a_line_has_its_own_letters_where_lines_overlap(read_one):
    note = "BT /F 6 Tf 200 707 Td (7) Tj ET "
    lines = "".join(f"BT /F 11 Tf 60 {710 - 6 * n} Td ({x}) Tj ET " for n, x in enumerate(LYING))
    found = read_one("a.pdf", pdf_of([note + lines])).text
    assert found.count("7") == 1 and found.count("oil") == 1


def test_what_was_written_into_a_form_is_text(read_one):
    shown = "BT /F 11 Tf 2 4 Td (Greta Holm) Tj ET"
    asked = "BT /F 11 Tf 60 700 Td (Name of the keeper:) Tj ET"
    file = assembled(
        [
            "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [5 0 R] >> >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Annots [5 0 R]"
            " /Resources << /Font << /F 7 0 R >> >> >>",
            f"<< /Length {len(asked)} >>\nstream\n{asked}\nendstream",
            "<< /Type /Annot /Subtype /Widget /FT /Tx /T (keeper) /V (Greta Holm) /F 4"
            " /Rect [180 696 300 712] /AP << /N 6 0 R >> >>",
            "<< /Type /XObject /Subtype /Form /BBox [0 0 120 16] /Resources << /Font << /F 7 0 R >>"
            f" >> /Length {len(shown)} >>\nstream\n{shown}\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )
    assert read_one("a.pdf", file).text == "Name of the keeper: Greta Holm"


def sized(*texts):
    """Return a PDF of one page with texts: (x, y, size, text)."""
    return pdf_of([" ".join(f"BT /F {s} Tf {x} {y} Td ({t}) Tj ET" for x, y, s, t in texts)])


def test_the_mark_of_a_note_stands_behind_its_word(read_one):
    lines = [(60, 700, 11, "The lamp is lit by hand each evening."), (60, 686, 11, "It is old")]
    lines += [(95, 690.5, 6, "7"), (102, 686, 11, "and holds twelve litres of oil.")]
    wanted = "The lamp is lit by hand each evening. It is old[7] and holds twelve litres of oil."
    assert read_one("a.pdf", sized(*lines)).text == wanted


@pytest.mark.parametrize(
    ("letter", "first", "whole"),
    [
        ("T", "he keeper lit the lamp of the harbour", "The keeper lit the lamp of the harbour"),
        ("A", "lamp stood there when the boats came", "A lamp stood there when the boats came"),
    ],
)
def test_a_tall_letter_begins_the_first_line_beside_it(read_one, letter, first, whole):
    more = ["and burned a litre of its oil an hour", "in all the nights of a winter by the sea,"]
    below = "where a lamp was all that the boats could see of the land."
    texts = [(60, 684, 34, letter), (86, 700, 11, first)]
    texts += [(86, 700 - 14 * n, 11, line) for n, line in enumerate(more, 1)]
    found = read_one("a.pdf", sized(*texts, (60, 658, 11, below))).text
    assert " ".join(found.split()) == f"{whole} {' '.join(more)} {below}"


def test_what_stands_before_an_item_is_no_cell(read_one):
    items = ["fill the oil", "trim the wick", "light the lamp"]
    for marks in ("-", "-", "-"), ("1.", "2.", "3."), ("a\\)", "b\\)", "c\\)"):
        texts = [(60, 700 - 14 * n, mark) for n, mark in enumerate(marks)]
        texts += [(100, 700 - 14 * n, item) for n, item in enumerate(items)]
        wanted = [f"{m} {item}".replace("\\", "") for m, item in zip(marks, items, strict=True)]
        document = read_one("a.pdf", drawn(texts))
        assert document.text.split("\n") == wanted
        assert {block.kind for block in document.blocks} == {"prose"}


SPEECH = [
    "The keeper says that the lamp was lit each evening at",
    "eight, and that he filled its oil in the morning, when",
    "the boats had come home. He has written all of it down",
    "in a book that lies in the town hall, where anybody may",
    "read it. The mayor asks how much oil it needs. It needs",
    "twelve litres in a night of winter.",
]


@pytest.mark.parametrize("step", [1, 5])
def test_numbers_that_count_the_lines_of_a_page_are_no_text(read_one, step):
    texts = [(90, 700 - 14 * n, line) for n, line in enumerate(SPEECH)]
    numbers = [(60, 700 - 14 * n, f"{step * (n + 1):2}") for n in range(len(SPEECH))]
    assert " ".join(read_one("a.pdf", drawn(texts + numbers)).text.split()) == " ".join(SPEECH)


def test_numbers_of_the_rows_of_a_table_are_text(read_one):
    boats = ["Petrel of the north harbour", "Tern of Vell", "Gull", "Heron of Osk", "Skua", "Auk"]
    texts = [(90, 700 - 14 * n, boat) for n, boat in enumerate(boats)]
    texts += [(60, 700 - 14 * n, str(n + 1)) for n in range(len(boats))]
    found = read_one("a.pdf", drawn(texts)).text.split("\n")
    assert found == [f"{n} | {boat}" for n, boat in enumerate(boats, 1)]


def test_empty_lines_of_a_listing_stay(read_one):
    lines = ["def burn(oil):", "    lit = oil > 0", "", "    return lit"]
    content = "".join(
        f"BT /F 11 Tf 60 {700 - 14 * n} Td ({line}) Tj ET ".replace("(oil)", "\\(oil\\)")
        for n, line in enumerate(lines)
        if line
    )
    file = pdf_of([content]).replace(b"Helvetica", b"Courier")
    assert read_one("a.pdf", file).text.split("\n") == lines


@pytest.mark.parametrize("first", [0, 1, 2])  # the line of the cell that the others stand beside
def test_a_cell_of_several_lines_is_one(read_one, first):
    texts = [(60, 700, "Part"), (160, 700, "What it does"), (400, 700, "Price")]
    wick = ["carries the oil to the flame, where", "it burns, and has to be trimmed", "each day"]
    texts += [(160, 676 - 12 * n, line) for n, line in enumerate(wick)]
    texts += [(60, 676 - 12 * first, "Wick"), (400, 676 - 12 * first, "3")]
    texts += [(60, 628, "Glass"), (160, 628, "keeps the wind out"), (400, 628, "12")]
    assert read_one("a.pdf", drawn(texts)).text.split("\n") == [
        "Part | What it does | Price",
        f"Wick | {' '.join(wick)} | 3",
        "Glass | keeps the wind out | 12",
    ]


@pytest.mark.parametrize(
    "title", ["(anonymous)", "(unspecified)", "untitled", "PowerPoint Presentation", "report.docx"]
)
def test_what_a_program_calls_a_file_without_a_title_is_none(read_one, title):
    escaped = title.replace("(", r"\(").replace(")", r"\)")
    file = pdf_of(["BT /F 11 Tf 60 700 Td (The pier is long.) Tj ET"], f"<< /Title ({escaped}) >>")
    file = file.replace(b"/Root 1 0 R", b"/Root 1 0 R /Info 6 0 R")
    assert read_one("north_pier.pdf", file).title == "North Pier"


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("看守人每天晚上点灯。冬天海", "峡结冰。", "看守人每天晚上点灯。冬天海峡结冰。"),
        ("등대지기가 매일 저녁 불을 켠다고", "한다.", "등대지기가 매일 저녁 불을 켠다고 한다."),
        ("文件的格式是一种常见的 PDF", "格式。", "文件的格式是一种常见的 PDF 格式。"),
    ],
)
def test_no_blank_is_put_into_a_word_of_a_script_without_blanks(first, second, whole):
    builder = BlockBuilder()
    runs = [
        Run(72, 700 - 14 * n, 72 + 11 * len(line), 711 - 14 * n, line, 11)
        for n, line in enumerate((first, second))
    ]
    add_pages(builder, [Page(595, 842, tuple(runs), False)])
    assert builder.document(Source("a.pdf", data=b"")).text == whole
