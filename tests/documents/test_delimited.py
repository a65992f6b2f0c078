"""CSV, TSV and JSON: records where a column holds the text, and else tables and trees."""

import pytest

from pdtrain.documents.document import Unreadable


@pytest.mark.parametrize("mark, suffix", [(",", "csv"), (";", "csv"), ("\t", "tsv"), ("|", "csv")])
def test_a_table_keeps_rows_and_columns(read_one, mark, suffix):
    rows = [["Boat", "Crew", "Port"], ["Petrel", "9", "Osk"], ["Tern", "12", "Vell"]] * 2
    content = "\r\n".join(mark.join(row) for row in rows)
    document = read_one(f"a.{suffix}", content)
    assert document.text.split("\n") == [" | ".join(row) for row in rows]
    assert (document.blocks[0].kind, document.blocks[0].header) == ("table", 1)


def test_rows_with_a_text_are_documents(read):
    found = read("a.csv", 'title,text\nPier,"It is long,\nand old."\nMill,It grinds.\n')
    assert [(d.title, d.text) for d in found] == [
        ("Pier", "It is long, and old."),
        ("Mill", "It grinds."),
    ]


def test_json_records_are_documents_and_other_json_is_kept_as_it_is(read, read_one):
    assert [d.text for d in read("a.json", '[{"text": "One."}, {"text": "Two."}]')] == [
        "One.",
        "Two.",
    ]
    document = read_one("b.json", '{"pier": {"länge": 260, "boats": ["Petrel"]}}')
    assert document.text.split("\n")[:3] == ["{", ' "pier": {', '  "länge": 260,']
    assert document.blocks[0].kind == "code"


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "<html>404</html>"])
def test_what_is_no_json_is_named(read, content):
    with pytest.raises(Unreadable) as error:
        read("a.json", content)
    assert error.value.reason == "broken"
