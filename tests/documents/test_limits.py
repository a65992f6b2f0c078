"""Files that would become far more than they are: refused in words, or read once."""

from __future__ import annotations

import io
import json
import time
import zipfile

import pyarrow
import pytest
from pyarrow import parquet

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Source, Unreadable
from pdtrain.documents.ingest.cleaning.filters import E_MAIL
from pdtrain.documents.library import READERS, read_documents
from pdtrain.documents.readers.office_parts import sheet_rows
from pdtrain.documents.readers.pdf_page.flow import LEADERS
from pdtrain.documents.records import tables


def read(suffix, data):
    return list(READERS[suffix](Source(f"a{suffix}", data=data), CorpusConfig()))


def test_a_table_of_one_long_row_and_many_short_ones_is_refused(monkeypatch):
    monkeypatch.setattr(sheet_rows, "MOST_CELLS", 10_000)
    wide = ",".join(["pier"] * 1000)
    with pytest.raises(Unreadable, match=r"^too large: a table of 100 rows and 1000 columns"):
        read(".csv", f"{wide}\n{'lamp,1' + chr(10)}".encode() + b"boat,2\n" * 98)


def test_cells_that_span_everything_do_not_multiply():
    cells = "<td rowspan=200 colspan=200>pier</td>" * 500
    page = f"<table><tr>{cells}</tr>{'<tr><td>lamp</td><td>boat</td></tr>' * 300}</table>"
    begun = time.process_time()
    (document,) = read(".html", page.encode())
    assert document.text.count("lamp") == document.text.count("boat") == 300
    assert document.text.count("pier") >= 500
    assert len(document.text) < 3_000_000 and time.process_time() - begun < 5


def test_a_text_that_stands_in_every_record_is_held_once_and_counted(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    column = pyarrow.array(["pier " * 20_000] * 2000).dictionary_encode()
    parquet.write_table(pyarrow.table({"text": column.cast(pyarrow.string())}), path)
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(tables, "MOST_CHARACTERS", 1_000_000)
    monkeypatch.setattr(tables, "MOST_TIMES", 0)
    with pytest.raises(Unreadable, match=r"^too large: .*record 11: the texts are"):
        for _ in read_documents(path, CorpusConfig(documents=str(path))):
            pass


def test_the_limit_grows_with_the_file():
    lines = "".join(json.dumps({"text": f"Pier {n}."}) + "\n" for n in range(100))
    assert len(read(".jsonl", lines.encode())) == 100


def test_a_book_that_names_a_page_again_and_again_has_it_once():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        root = '<container><rootfiles><rootfile full-path="c.opf"/></rootfiles></container>'
        archive.writestr("META-INF/container.xml", root)
        item = '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
        spine = '<itemref idref="a"/>' * 10_000
        archive.writestr(
            "c.opf",
            f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{item}</manifest>'
            f"<spine>{spine}</spine></package>",
        )
        archive.writestr("a.xhtml", "<html><body><p>The pier is long.</p></body></html>")
    (document,) = read(".epub", stream.getvalue())
    assert document.text.count("The pier is long.") == 1


@pytest.mark.parametrize("suffix", [".json", ".ipynb"])
def test_json_that_is_nested_without_end_is_refused(suffix):
    with pytest.raises((Unreadable, RecursionError)):
        read(suffix, b'{"text": ' + b"[" * 200_000)


def test_a_line_of_json_that_is_nested_without_end_is_refused_by_its_number():
    with pytest.raises(ValueError, match="line 1: the record is nested too deeply"):
        read(".jsonl", b'{"text": ' + b"[" * 200_000)


def test_html_that_is_nested_without_end_is_read():
    (document,) = read(".html", b"<div>" * 50_000 + b"The pier is long.")
    assert "The pier is long." in document.text


@pytest.mark.parametrize(
    "text, is_one",
    [
        ("Pier ........ 12", True),
        ("Pier . . . . . . xii", True),
        ("......", True),
        ("..... the end of it", True),
        ("Pier ... 12", False),
        ("Pier ..... and more", False),
        ("It is long. 12", False),
    ],
)
def test_a_row_of_dots_that_leads_to_a_page_number(text, is_one):
    assert bool(LEADERS.search(text)) == is_one


def test_rows_of_dots_and_long_words_take_linear_time():
    begun = time.process_time()
    assert not LEADERS.search("a" + "." * 100_000 + "y" + ". " * 100_000 + "y")
    assert not E_MAIL.findall("a." * 50_000)
    found = E_MAIL.findall(f"{'x' * 500} me.you@mail.osk.example, a@b")
    assert found == ["me.you@mail.osk.example"]
    assert time.process_time() - begun < 2
