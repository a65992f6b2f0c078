# ruff: noqa: RUF001
"""One document a record: JSON lines, and the Parquet and Arrow files of Hugging Face data sets."""

import io
import json

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Source
from pdtrain.documents.ingest.listing import document_paths
from pdtrain.documents.library import read_documents
from pdtrain.documents.records.lines import utf8_lines
from pdtrain.documents.records.question_files import read_records
from pdtrain.documents.records.tables import documents_of_records, read_json_lines

# --- JSON lines ---------------------------------------------------------------------------------


def test_records_of_jsonl_are_documents(read):
    lines = (
        '{"id": "osk", "title": "Osk", "text": "The pier."}\n\n{"text": "No title."}\n'
        '{"text": "Odd title.", "title": null}\n'
    )
    found = read("rows.jsonl", lines)
    assert [d.text for d in found] == ["The pier.", "No title.", "Odd title."]
    assert [d.title for d in found] == ["Osk", "", ""]
    assert found[0].id == "rows.jsonl:osk" and len({d.id for d in found}) == 3


def test_jsonl_fields_have_names(read_one):
    found = read_one(
        "r.jsonl", '{"body": "B.", "head": "H"}', text_field="body", title_field="head"
    )
    assert (found.text, found.title) == ("B.", "H")


@pytest.mark.parametrize(
    "line, message",
    [
        (
            '{"body": "secret"}',
            r"record 1: expected a text under 'text', found body; set corpus.text_f",
        ),
        ('{"text": 7}', r"record 1: 'text' holds int, not a text; set corpus.text_field"),
        ('["secret"]', r"record 1: expected a text under 'text', found list"),
        ('{"text": "secret', r"rows.jsonl, line 1: expected one JSON object a line"),
    ],
)
def test_records_that_do_not_fit_are_named_and_not_quoted(read, line, message):
    with pytest.raises(ValueError, match=message) as error:
        read("rows.jsonl", line)
    assert "secret" not in str(error.value)


PIERS = {
    "cp1252": "Am Hafen wohnt Frau Gräßlin. Sie führt über die Brücke und zählt die Möwen.",
    "gb18030": "灯塔很旧。看守人每天晚上点灯。冬天海峡结冰，人们步行到岛上去。夏天才有船离开港口。",
    "cp932": "灯台は古い。毎晩、灯台守がランプに火をともす。冬になると海峡は凍り、人々は歩く。",
    "cp1251": "Маяк старый. Его построил инженер из города, и смотритель зажигает лампу вечером.",
    "utf-16": "The pier. 灯塔很旧。 🚢\u2028It is long.",
    "utf-16-le": "The pier of Osk. 灯塔很旧。",
    "utf-32": "The pier. Brücke.",
    "utf-8-sig": "The pier. Brücke.",
}


@pytest.mark.parametrize("encoding", PIERS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_records_of_any_encoding_are_those_that_were_written(read, tmp_path, encoding, suffix):
    texts = ["Plain.", PIERS[encoding], "Last."]
    lines = "\r\n".join(json.dumps({"text": t}, ensure_ascii=False) for t in texts)
    found = read(f"rows{suffix}", lines.encode(encoding))
    assert [d.text for d in found] == ["Plain.", "\n".join(texts[1].splitlines()), "Last."]
    is_guessed = encoding not in ("utf-16", "utf-32", "utf-8-sig")
    assert ("read as " in " ".join(found[0].warnings)) is is_guessed
    asked = json.dumps({"question": "Who?", "answer": texts[1]}, ensure_ascii=False)
    (tmp_path / "asked.jsonl").write_bytes(asked.encode(encoding))
    assert [r["answer"] for r in read_records(tmp_path / "asked.jsonl")] == [texts[1]]


def test_a_line_that_is_no_utf8_costs_no_other_line_its_letters(read):
    good = json.dumps({"text": PIERS["gb18030"]}, ensure_ascii=False).encode()
    found = []
    with pytest.raises(ValueError, match=r"left out: 1, .*line 2 is not UTF-8 .* save the file"):
        for one in documents_of(b"\n".join([good, b'{"text": "M\xfcll"}', good])):
            found.append(one.text)
    assert found == [PIERS["gb18030"]] * 2


def documents_of(data):
    return read_json_lines(Source("rows.jsonl", data=data), CorpusConfig())


def test_records_are_decoded_a_line_at_a_time():
    """A reader that took the whole file would meet the end of the data before the first record."""
    line = json.dumps({"text": PIERS["gb18030"]}, ensure_ascii=False) + "\n"
    for encoding in ("gb18030", "utf-16"):
        stream = io.BytesIO((line * 20_000).encode(encoding))
        lines, _ = utf8_lines(stream, "rows.jsonl")
        assert json.loads(next(iter(lines))) == json.loads(line)
        assert stream.tell() < 100_000


def test_half_a_surrogate_pair_is_refused(read_one):
    with pytest.raises(ValueError, match=r"record 1: half of a surrogate pair"):
        read_one("rows.jsonl", '{"text": "broken \\ud83d character"}\n')


# --- Parquet and Arrow --------------------------------------------------------------------------


def test_records_of_parquet_are_those_of_jsonl(tmp_path):
    """In several row groups, with an id that some lack, and a name that looks like a pattern."""
    rows = [
        {"id": f"n{n}" if n % 2 else None, "title": f"T{n}", "text": f"Pier {n}."} for n in range(7)
    ]
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    (tmp_path / "a/rows[1]*.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "b/rows[1]*.parquet", row_group_size=2)
    parquet.write_table(table.slice(0, 1), tmp_path / "b/rows1x.parquet")  # the pattern's other fit
    config = CorpusConfig(documents=str(tmp_path / "a"))
    expected = list(read_documents(tmp_path / "a/rows[1]*.jsonl", config))
    config = CorpusConfig(documents=str(tmp_path / "b"))
    found = list(read_documents(tmp_path / "b/rows[1]*.parquet", config))
    assert [(d.title, d.text) for d in found] == [(d.title, d.text) for d in expected]
    assert [d.id.split(":")[1] for d in found] == ["1", "n1", "3", "n3", "5", "n5", "7"]
    assert [d.id.split(":")[1] for d in expected] == [d.id.split(":")[1] for d in found]


def test_records_of_a_saved_data_set_are_those_of_jsonl(tmp_path):
    rows = [{"title": f"T{n}", "text": f"Pier {n}." if n else None, "more": n} for n in range(5)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved", num_shards=2)
    config = CorpusConfig(documents=str(tmp_path / "saved"))
    paths = document_paths(config)
    assert [path.suffix for path in paths] == [".arrow", ".arrow"]
    found = [d for path in paths for d in read_documents(path, config)]
    assert [(d.title, d.text) for d in found] == [(r["title"], r["text"] or "") for r in rows]
    assert len({d.id for d in found}) == 5


def test_other_columns_are_not_read(tmp_path):
    """Some hold what cannot be made a Python object without more packages, or at all."""
    path = tmp_path / "rows.parquet"
    kind = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    columns = {"text": ["The pier."], "m": pyarrow.array([[("a", 1)]], kind), "sound": [b"RIFF"]}
    info = json.dumps({"info": {"features": {"sound": {"_type": "Audio"}}}})
    table = pyarrow.table(columns).replace_schema_metadata({"huggingface": info})
    parquet.write_table(table, path)
    assert only_record(path).text == "The pier."
    parquet.write_table(table.slice(0, 0), path)
    assert list(read_documents(path, CorpusConfig(documents=str(path)))) == []


def only_record(path):
    (found,) = read_documents(path, CorpusConfig(documents=str(path)))
    return found


@pytest.mark.parametrize("size", [0, 20, -4, -300])
def test_a_parquet_file_that_is_not_whole_is_named(tmp_path, size):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["The pier."] * 50}), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"rows.parquet cannot be read as Parquet: "):
        only_record(path)


@pytest.mark.parametrize("size", [0, 20, -300])
def test_an_arrow_file_that_is_not_whole_is_named(tmp_path, size):
    datasets.Dataset.from_list([{"text": "The pier."}] * 50).save_to_disk(tmp_path / "saved")
    (path,) = (tmp_path / "saved").glob("*.arrow")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"arrow cannot be read as an Arrow stream: "):
        only_record(path)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"body": ["secret"], "n": [1]}, "expected a column 'text', found body, n; set corpus"),
        ({"text": [b"secret"]}, "record 1: 'text' holds bytes, not a text"),
        ({"text": [7]}, "record 1: 'text' holds int, not a text"),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_columns_that_hold_no_text_are_named_and_not_quoted(tmp_path, kind, columns, message):
    path = tmp_path / f"rows.{kind}"
    table = pyarrow.table(columns)
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    with pytest.raises(ValueError, match=message) as error:
        only_record(path)
    assert "secret" not in str(error.value) and "cannot be read" not in str(error.value)


@pytest.mark.parametrize("title", ['"nan"', '" NaN "', '"<NA>"', "NaN", "null", '""', "[]", "{}"])
def test_what_stands_for_no_title_is_none(read_one, title):
    document = read_one("rows.jsonl", f'{{"title": {title}, "text": "The pier."}}')
    assert document.title == ""


def test_nan_is_no_title_and_no_text(read):
    documents = read("rows.jsonl", '{"title": NaN, "text": "The pier."}\n{"text": NaN}')
    assert [(d.title, d.text) for d in documents] == [("", "The pier."), ("", "")]


@pytest.mark.parametrize(
    "title", ["N/A", "#N/A", "-", "--", "untitled", " None ", "NULL", "no title", "?", "NA"]
)
def test_what_people_write_for_no_title_is_none(read_one, title):
    line = json.dumps({"title": title, "text": "The pier is old."})
    assert read_one("a.jsonl", line).title == ""


def test_a_mark_of_a_table_is_no_title_and_no_text(read):
    titles = ["true", "false", "Infinity", '"(none)"', '"undefined"', '["Pier"]', '{"en": "Pier"}']
    lines = "\n".join(f'{{"title": {title}, "text": "The pier."}}' for title in titles)
    assert {document.title for document in read("rows.jsonl", lines)} == {""}
    texts = [
        read("a.csv", f"title,text\nPier,{text}\n")[0].text for text in ("nan", "NULL", "None")
    ]
    assert texts == ["", "", ""]


def test_titles_of_few_letters_are_titles(read_one):
    for title in ("C", "1984", "大", "N", "Nan Osk"):
        assert read_one("a.jsonl", json.dumps({"title": title, "text": "Old."})).title == title


def test_the_paragraphs_of_a_text_may_be_a_list(tmp_path, read):
    table = pyarrow.table({"text": [["The pier is old.", "It is long."], []]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read("rows.parquet", (tmp_path / "rows.parquet").read_bytes())
    assert [d.text for d in rows] == ["The pier is old.\nIt is long.", ""]
    with pytest.raises(ValueError, match="'text' holds list, not a text"):
        read("rows.jsonl", '{"text": ["secret", 7]}')


PAGES = {
    "<p>The pier &amp; the <b>mill</b>.</p>\n<pre>pump:\n  oil: 3</pre>": (
        "The pier & the mill.\npump:\n  oil: 3"
    ),
    "<!-- wp:paragraph -->\n<P class='a'>One.</P><p>Two.</p>\n<!-- /wp:paragraph -->": "One.\nTwo.",
    "<!DOCTYPE html><html><body><nav>Home</nav><p>One.</p></body></html>\n": "One.",
    "<p> is the mark of a paragraph.": "<p> is the mark of a paragraph.",
    "The mark <p> begins one that ends with </p>": "The mark <p> begins one that ends with </p>",
    "<|im_start|>user\nHello</s>": "<|im_start|>user\nHello</s>",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_text_that_is_a_page_is_read_as_one(read_one, page):
    line = json.dumps({"title": "Piers", "text": page})
    found = read_one("rows.jsonl", line)
    assert found.text == PAGES[page]
    assert found.title == "Piers"


def test_the_title_of_a_page_is_without_its_tags(read_one):
    found = read_one("rows.csv", 'title,text\n"<i>Piers</i> &amp; mills","<p>Old.</p>"\n')
    assert (found.title, found.text) == ("Piers & mills", "Old.")
    found = read_one("rows.jsonl", '{"text": "<h1>Piers</h1><p>Old.</p>"}')
    assert (found.title, found.text) == ("Piers", "Old.")


BAD_LINES = ["{broken", '"text"', '{"title": "Osk"}', '{"text": 7}', '{"text": "\\ud800"}']


@pytest.mark.parametrize("bad", BAD_LINES)
@pytest.mark.parametrize("place", range(3))
def test_a_bad_record_is_left_out_and_the_others_are_read(tmp_path, bad, place):
    lines = ['{"text": "The pier is old."}', '{"text": "The mill is new."}']
    lines.insert(place, bad)
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    documents = read_documents(path, CorpusConfig(documents=str(tmp_path)))
    found = []
    with pytest.raises(ValueError, match=r"records left out: 1, the first of them: .*a\.jsonl"):
        found.extend(document.text for document in documents)
    assert found == ["The pier is old.", "The mill is new."], "the error comes after the last one"


def test_a_stream_of_bad_records_alone_ends_soon():
    taken = []
    records = (taken.append(n) or {"body": "Osk"} for n in range(10**9))
    source = Source("a", data=b"")
    with pytest.raises(ValueError, match=r"record 1: expected a text under 'text', found body"):
        list(documents_of_records(records, source, CorpusConfig(documents="a")))
    assert len(taken) == 100


def test_a_type_in_the_title_of_a_page_is_no_tag(read_one):
    record = {"text": "<p>How do I make one?</p>", "title": "Why <b>List<String></b> &amp; co?"}
    assert read_one("a.jsonl", json.dumps(record)).title == "Why List<String> & co?"


def test_markdown_between_elements_of_a_page_keeps_its_lines(read_one):
    text = '<p align="center">Mill</p>\n\n# Install\n\n- tar\n- wax\n\n<p>License</p>'
    assert "\n- tar\n- wax\n" in read_one("a.jsonl", json.dumps({"text": text})).text
    page = "<p>The mill:</p>\n<pre>\n# tar\n</pre>\n<p>old</p>"
    found = read_one("a.jsonl", json.dumps({"text": page})).text
    assert found.split("\n") == ["The mill:", "# tar", "old"]


def test_a_text_with_the_escapes_of_a_page_is_read_without_them(read):
    texts = {
        "It&#39;s &quot;R&amp;D&quot;&nbsp;&ndash; fish &amp; tar": 'It\'s "R&D" – fish & tar',
        "Write &amp; for an ampersand and &quot; for a quote.": None,
        "It&#39;s a & b.": None,
        "if (a &lt; b) print(&quot;x&quot;) < 3": None,
    }
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    wanted = [text if read_as is None else read_as for text, read_as in texts.items()]
    assert [document.text for document in read("a.jsonl", lines)] == wanted


TITLES = ["train-00000-of-00001", "part-00003.parquet", "550e8400-e29b-41d4-a716-446655440000"]
TITLES += ["d41d8cd98f00b204e9800998ecf8427e", "Sans titre", "No title available", "无标题"]


@pytest.mark.parametrize("title", TITLES)
def test_a_title_that_a_machine_gives_is_none(read_one, title):
    assert read_one("a.jsonl", json.dumps({"title": title, "text": "Old."})).title == ""


NUMBERED = ["Part 3", "Train 12", "Test 2024", "Data 12345", "Test 10000", "20240501", "A-1"]
NUMBERED += ["Facade", "AC-DC-1980-1981-1983-1990"]


@pytest.mark.parametrize("title", NUMBERED)
def test_a_title_with_a_number_is_one(read_one, title):
    assert read_one("a.jsonl", json.dumps({"title": title, "text": "Old."})).title == title


def test_what_is_missing_in_a_list_of_paragraphs_is_left_out(read):
    lines = '{"text": ["One.", null, "Two."]}\n{"text": [null]}\n{"text": " - "}\n'
    lines += '{"text": "a - b"}'
    assert [document.text for document in read("a.jsonl", lines)] == ["One.\nTwo.", "", "", "a - b"]
