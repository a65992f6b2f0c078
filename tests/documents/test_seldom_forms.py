"""Forms of documents that few files have, and that were lost, glued or garbled once."""

# ruff: noqa: RUF001 - marks of other scripts are what some of them are about

import io
import json
import tarfile
import zipfile

import pytest

from pdtrain.config import CorpusConfig
from pdtrain.documents import archives
from pdtrain.documents.document import Source, Unreadable
from pdtrain.documents.library import read_documents
from pdtrain.documents.records.question_files import read_given, read_records


def text_of(read_one, name, content):
    return read_one(name, content).text


# --- HTML and EPUB ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page, wanted",
    [
        (
            '<h2><button class="accordion-button">How much is a berth?</button></h2><p>Forty.</p>',
            ["How much is a berth?", "Forty."],
        ),
        ("<dl><dt><button>Term</button></dt><dd>Meaning.</dd></dl>", ["Term", "Meaning."]),
        (
            "<table><tr><th><button>Boat</button></th><th>Year</th></tr><tr><td>Petrel</td>"
            "<td>1860</td></tr></table>",
            ["Boat | Year", "Petrel | 1860"],
        ),
        (
            '<button aria-expanded="false" aria-controls="a">How long is the pier?</button>'
            '<div id="a"><p>Long.</p></div>',
            ["How long is the pier?", "Long."],
        ),
        ('<aside class="caution"><p>Unplug it first.</p></aside>', ["Unplug it first."]),
        ('<aside class="starlight-aside x"><p>A tip.</p></aside>', ["A tip."]),
        (
            "<blockquote><p>Be brave.</p><footer>Ada Wells</footer></blockquote>",
            ["Be brave.", "Ada Wells"],
        ),
        (
            "<section><header><h2>Opening hours</h2></header><p>Nine.</p></section>",
            ["Opening hours", "Nine."],
        ),
        ('<dl><dt id="menu">menu</dt><dd>A list.</dd></dl>', ["menu", "A list."]),
        ('<div id="menu"><h2>Menu</h2><p>Fish soup, 12 crowns.</p></div>', ["Menu", "Fish soup"]),
    ],
)
def test_what_a_page_shows_is_read(read_one, page, wanted):
    found = text_of(read_one, "a.html", f"<body><h1>T</h1><p>Before.</p>{page}<p>After.</p></body>")
    places = [found.find(part) for part in ["Before.", *wanted, "After."]]
    assert places == sorted(places) and -1 not in places, found


@pytest.mark.parametrize(
    "page",
    [
        "<button>Read more</button>",
        '<button aria-expanded="false" aria-controls="nav">Open main Menu</button>',
        "<h2>Boats <button>Copy link</button></h2>",
        "<table><tr><td>a</td><td><button>Copy</button></td></tr></table>",
        '<p id="breadcrumbs"><a href="a">Menu</a> » <a href="b">Boats</a></p>',
        '<div id="menu">\n    <h3>Menu</h3>\n    <ul>\n        <li><a href="a">Boats</a></li>\n'
        '        <li><a href="b">Harbours</a></li>\n    </ul>\n</div>',
        '<aside class="sidebar info"><p>Copyright</p></aside>',
        "<form><label>Name</label><input></form>",
        '<div id="menu"><h3>Menu</h3><ul><li><a href="a">Boats</a></li></ul></div>',
        "<header><p>The site's name</p></header>",
        "<footer>Imprint</footer>",
    ],
)
def test_what_belongs_to_forms_and_to_the_frame_is_not(read_one, page):
    found = text_of(read_one, "a.html", f"<body><h1>T</h1><p>Before.</p>{page}</body>")
    for absent in ("Read more", "Menu", "Copy", "Name", "The site", "Imprint"):
        assert absent not in found


def test_a_chapter_has_no_frame_and_closed_elements_end(read_one, tmp_path):
    chapter = (
        '<?xml version="1.0"?><html xmlns:epub="e"><body><header><h2>The Storm</h2>'
        "<blockquote>All is sea.</blockquote></header><p>It rained.</p>"
        '<audio src="a.mp3" controls="controls"/><p>Come at once.</p>'
        '<footer>Yours, Jane</footer><aside epub:type="sidebar"><p>On dykes.</p></aside>'
        '<canvas id="c"/><p>The end.</p></body></html>'
    )
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as book:
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="c"><rootfiles><rootfile full-path="b.opf"/></rootfiles></container>',
        )
        book.writestr(
            "b.opf",
            '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
            '<item id="i" href="1.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="i"/></spine></package>',
        )
        book.writestr("1.xhtml", chapter)
    found = text_of(read_one, "b.epub", data.getvalue())
    for part in ("The Storm", "All is sea.", "It rained.", "Come at", "Jane", "dykes", "The end."):
        assert part in found


def open_document(body):
    spaces = "".join(
        f' xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for short, name in [
            ("office", "office"),
            ("text", "text"),
            ("table", "table"),
            ("draw", "drawing"),
            ("presentation", "presentation"),
        ]
    )
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        content = f"<office:document-content{spaces}>{body}</office:document-content>"
        archive.writestr("content.xml", content)
    return data.getvalue()


def test_boxes_of_open_documents_are_read_beside_their_paragraph_and_in_their_cell(read_one):
    found = text_of(
        read_one,
        "a.odt",
        open_document(
            "<text:p>Before.<draw:custom-shape><text:p>In the box.</text:p></draw:custom-shape>"
            "After.</text:p><table:table><table:table-row><table:table-cell><text:p><draw:frame>"
            "<draw:text-box><text:p>boxed</text:p></draw:text-box></draw:frame></text:p>"
            "</table:table-cell><table:table-cell><text:p>q</text:p></table:table-cell>"
            "</table:table-row></table:table>"
        ),
    )
    assert [line for line in found.split("\n") if line] == [
        "Before. After.",
        "In the box.",
        "boxed | q",
    ]


def test_a_slide_of_an_open_presentation_is_a_section(read_one):
    slide = (
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>{}</text:p>'
        "</draw:text-box></draw:frame><draw:frame><draw:text-box><text:p>{}</text:p>"
        "</draw:text-box></draw:frame></draw:page>"
    )
    pages = slide.format("Harbour", "Built 1850.") + slide.format("Bridge", "Long.")
    document = read_one("p.odp", open_document(pages))
    assert [block.section for block in document.blocks if block.kind == "prose"] == [
        ("Harbour",),
        ("Bridge",),
    ]


# --- Text, Markdown, notebooks, subtitles -------------------------------------------------------


def test_korean_lines_are_joined_with_a_blank_and_chinese_ones_without(read_one):
    korean = (
        "다음 주 회의는 서울 본사에서 열릴 예정이며 모든 부서의 담당자가 반드시\n"
        "참석해야 하고 늦지 않게 오셔야 합니다.\n"
    )
    assert "반드시 참석해야" in text_of(read_one, "k.txt", korean)
    chinese = (
        "这个村庄建于一九二零年，此后许多人在港口工作并居住在这里，\n"
        "如今每年夏天海边都会举行盛大的节日，吸引了许多国家的客人。\n"
    )
    assert text_of(read_one, "z.txt", chinese) == chinese.replace("\n", "")


def test_what_a_message_quotes_is_joined_without_its_marks(read_one):
    body = (
        "On Monday Ann wrote:\n> The dyke was built in nineteen hundred and six by the council\n"
        "> of the town, and it was raised again after the great flood.\n>\n> It is old.\n\nYes.\n"
    )
    found = text_of(read_one, "m.eml", f"Subject: Dyke\n\n{body}")
    assert "by the council of the town, and" in found and ">" not in found
    assert [line for line in found.split("\n") if line][-2:] == ["It is old.", "Yes."]


def test_what_is_no_quotation_keeps_its_signs(read_one):
    """Other lines of a message, prompts of Python's and R's, and comparisons."""
    header = "On Monday, Ann Wells <ann@osk.org> wrote:"
    mail = f"Subject: S\n\n{header}\n> It is old.\n> It is high.\nFor x > 5 use File -> Save.\n"
    found = text_of(read_one, "m.eml", mail)
    assert header in found and "For x > 5 use File -> Save." in found and "> It" not in found
    for lines in (">>> one()\n>>> two()", "> x <- c(1, 2)\n> mean(x)", "> 90 gold\n> 75 silver"):
        found = text_of(read_one, "p.txt", lines + "\n")
        assert found.count(">") == lines.count(">")
    points = ">= 90 points: gold\n>= 75 points: silver\n"
    assert text_of(read_one, "n.eml", f"Subject: S\n\n{points}").count(">=") == 2


def test_short_rules_in_chinese_stay_lines(read_one):
    rules = [
        "第一条规定居民应当登记户口并缴纳。",
        "第二条居民应当缴纳税款给市镇政府。",
        "第三条居民应当爱护公共水渠与道路。",
    ]
    assert text_of(read_one, "z.txt", "\n".join(rules)).split("\n") == rules


def test_the_title_of_the_header_stands_above_several_chapters(read_one):
    front = "---\ntitle: Annual report\n---\n"
    several = read_one("a.md", f"{front}# Introduction\n\nHello.\n\n# Results\n\nFive.\n")
    assert several.title == "Annual report" and "Introduction" in several.text
    same = read_one("a.md", f"{front}# Annual *report*\n\nHello.\n\n# Results\n\nFive.\n")
    assert same.title == "Annual report" and not same.text.startswith("Annual")
    assert read_one("a.md", f"{front}# Introduction\n\nHello.\n").title == "Introduction"
    assert read_one("a.md", f"{front}Hello.\n").title == "Annual report"


@pytest.mark.parametrize(
    "formula",
    [
        r"$\mathbf{w}_t = x_{t} + 1$",
        r"$\{a\}$",
        r"$$\begin{pmatrix} a \\ b \end{pmatrix}$$",
        r"$a_{i}*b_{j}*c$",
    ],
)
def test_formulas_stay_as_they_stand(read_one, formula):
    assert text_of(read_one, "f.md", f"# F\n\nLet {formula} be *so*.\n") == f"Let {formula} be so."
    cell = {"cell_type": "markdown", "source": f"# F\n\nLet {formula} be."}
    notebook = json.dumps({"cells": [cell], "nbformat": 4})
    assert f"Let {formula} be." in text_of(read_one, "f.ipynb", notebook)


def test_prices_are_no_formulas(read_one):
    found = text_of(read_one, "p.md", "# P\n\nIt costs $5 or *about* $6, not $7.\n")
    assert found == "It costs $5 or about $6, not $7."
    text = "Set **$HOME** and **$PATH** first, see [$A](a.html) and [$B](b.html)."
    found = text_of(read_one, "v.md", f"# V\n\n{text}\n")
    assert found == "Set $HOME and $PATH first, see $A and $B."


def test_of_a_bar_of_progress_the_last_state_stays(read_one):
    output = {"output_type": "stream", "text": "  0%| 0/3\r 33%|# 1/3\r100%|### 3/3\r\nDone\n"}
    cell = {"cell_type": "code", "source": "run()", "outputs": [output]}
    found = text_of(read_one, "n.ipynb", json.dumps({"cells": [cell], "nbformat": 4}))
    assert "100%|### 3/3" in found and "0/3" not in found and "Done" in found
    cell["outputs"] = [{"output_type": "stream", "text": "1\r2\r3\r"}]
    assert text_of(read_one, "n.ipynb", json.dumps({"cells": [cell]})).endswith("3")
    cell["outputs"] = [{"output_type": "stream", "text": "x" * 300_000}]  # in no quadratic time
    assert "x" * 300_000 in text_of(read_one, "n.ipynb", json.dumps({"cells": [cell]}))


def test_rolling_subtitles_say_each_line_once(read_one):
    rolling = (
        "WEBVTT\n\n00:00.000 --> 00:02.000\nhello and welcome\n\n"
        "00:02.000 --> 00:04.000\nhello and welcome\nto the harbour\n\n"
        "00:04.000 --> 00:06.000\nto the harbour\nof Thimble\n"
    )
    found = text_of(read_one, "r.vtt", rolling)
    assert found.split() == "hello and welcome to the harbour of Thimble".split()
    twice = (
        "WEBVTT\n\n00:00.000 --> 00:02.000\n<v Ann>Yes.</v>\n\n"
        "00:02.000 --> 00:04.000\n<v Bob>Yes.</v>\n"
    )
    assert text_of(read_one, "t.vtt", twice).split() == "Ann: Yes. Bob: Yes.".split()


def test_subtitles_without_empty_lines_between_them(read_one):
    tight = (
        "1\n00:00:01,000 --> 00:00:02,000\nThe town is old.\n2\n"
        "00:00:03,000 --> 00:00:04,000\nIt has a bridge.\n"
    )
    assert text_of(read_one, "t.srt", tight).split("\n") == ["The town is old.", "It has a bridge."]


def test_a_stray_byte_makes_no_other_encoding_of_a_text(read_one):
    text = "The town’s mayor said “no”. It’s the harbour’s bridge, the Caf".encode() + b"\xe9."
    document = read_one("m.txt", text)
    assert "town’s mayor said “no”" in document.text
    assert document.warnings == ("1 characters that are no UTF-8 left out",)


# --- Mailboxes and archives ---------------------------------------------------------------------


def test_one_bad_message_costs_no_other(tmp_path):
    box = b"".join(
        b"From a@b Mon\nSubject: S%d\n\nBody %d%s.\n\n" % (i, i, b"\0" if i == 2 else b"")
        for i in (1, 2, 3)
    )
    (tmp_path / "b.mbox").write_bytes(box)
    found, fault = _read_all(tmp_path / "b.mbox", tmp_path)
    assert [one.title for one in found] == ["S1", "S3"]
    assert "messages left out: 1, the first of them: binary" in fault


def _read_all(path, tmp_path):
    """Return the documents of a file, and what was said after the last one."""
    found = []
    try:
        for one in read_documents(path, CorpusConfig(documents=str(tmp_path))):
            found.append(one)
    except ValueError as error:
        return found, str(error)
    return found, ""


def test_one_bad_member_costs_no_other(monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.txt", "Alpha.")
        archive.writestr("film.mp4", "x" * 2000)
        archive.writestr("p.png", "picture")
        archive.writestr("z.txt", "Zeta.")
    damaged = data.getvalue().replace(b"picture", b"pikture", 1)
    left_out = []
    found = archives.expand(Source("d.zip", data=damaged), lambda *why: left_out.append(why))
    assert [one.name for one in found] == ["d.zip/a.txt", "d.zip/z.txt"]
    assert [why[:2] for why in left_out] == [
        ("d.zip/film.mp4", "too large"),
        ("d.zip/p.png", "broken"),
    ]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_is_left_out_counts_towards_what_an_archive_may_hold(monkeypatch, kind):
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000)
    monkeypatch.setattr(archives, "FREE_BYTES", 30_000)
    monkeypatch.setattr(archives, "MOST_TIMES", 1)
    data, size = io.BytesIO(), 9_000 if kind == "zip" else 20_000
    if kind == "zip":
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for i in range(50):
                archive.writestr(f"{i}.txt", "x" * size)
        packed = bytearray(data.getvalue())
        for place in range(len(packed) - 4):  # other checksums of all members
            if packed[place : place + 4] in (b"PK\x03\x04", b"PK\x01\x02"):
                packed[place + (14 if packed[place + 2] == 3 else 16)] ^= 1
        source = Source("d.zip", data=bytes(packed))
    else:
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            for i in range(50):
                member = tarfile.TarInfo(f"{i}.txt")
                member.size = size
                archive.addfile(member, io.BytesIO(b"x" * size))
        source = Source("d.tar.gz", data=data.getvalue())
    left_out = []
    with pytest.raises(Unreadable, match="too large"):
        list(archives.expand(source, lambda *why: left_out.append(why)))
    assert len(left_out) < 5


# --- Tables and records -------------------------------------------------------------------------


def test_quotes_behind_backslashes_stay_in_their_cell(read_one):
    table = 'name,note\nOsk,"He said \\"no\\", and left"\nVell,plain\n'
    assert 'Osk | He said "no", and left' in text_of(read_one, "m.csv", table)
    plain = 'id,note,more\n1,"{""a"": ""he said \\""no\\"", and, left"", ""b"": 2}",ok\n'
    row = text_of(read_one, "j.csv", plain).split("\n")[1]
    assert row.startswith("1 | {") and row.endswith("} | ok") and row.count(" | ") == 2
    paths = 'name,path\nOsk,C:\\data\\new\nVell,"say \\"no\\" here"\n'
    assert "C:\\data\\new" in text_of(read_one, "p.csv", paths)


def test_inches_are_no_quotes_of_a_table_with_tabs(read_one):
    table = 'item\tsize\nBolt\t5" long\nNut\t"small one\nRing\t3" wide\n'
    lines = text_of(read_one, "t.tsv", table).split("\n")
    assert lines[1:] == ['Bolt | 5" long', 'Nut | "small one', 'Ring | 3" wide']
    quoted = 'item\tnote\nBolt\t"two\nlines"\n'
    assert "Bolt | two lines" in text_of(read_one, "q.tsv", quoted)
    assert "Bolt | two lines" in text_of(read_one, "s.tsv", quoted + 'Nut\t"x"y\n')


def test_an_empty_line_begins_no_other_table(read_one):
    table = "name,founded\nAlder,1850\n\nCedar,1870\nDogwood,1880\n"
    assert text_of(read_one, "b.csv", table).split("\n")[1:] == [
        "Alder | 1850",
        "Cedar | 1870",
        "Dogwood | 1880",
    ]


def test_one_odd_record_makes_no_code_of_a_list(tmp_path):
    path = tmp_path / "l.json"
    path.write_text(json.dumps([{"title": "A", "text": "First."}, {"title": "C"}]))
    found, fault = _read_all(path, tmp_path)
    assert [one.text for one in found] == ["First."] and "records left out: 1" in fault


def test_tables_of_questions_are_read_as_those_of_documents_are(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("question; answer;document\nWho founded it?;Tobias, the elder;a.md;more\n")
    (one,) = read_given(path)
    assert (one.question, one.answers, one.document) == (
        "Who founded it?",
        ("Tobias, the elder",),
        "a.md",
    )
    path.write_text("question,answer,context\nWho?,Tobias," + "x" * 200_000 + "\n")
    assert len(list(read_records(path))) == 1
    path.write_text("a,b\n1,2,3\n")
    with pytest.raises(ValueError, match="found a, b"):
        list(read_given(path))
