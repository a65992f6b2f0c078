"""What the columns of a file of records seem to be."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from pdtrain.documents.records.columns import columns_in

ROW = {"id": 7, "name": "Osk", "body": "The pier of Osk is old."}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_title_and_text_are_found(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        path.write_text(json.dumps(ROW) + "\n")
    elif suffix == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([ROW]), path)
    else:
        mark = "," if suffix == "csv" else "\t"
        path.write_text(f"{mark.join(ROW)}\n{mark.join(map(str, ROW.values()))}\n")
    found = columns_in(path)
    assert (found.names, found.text, found.title) == (("id", "name", "body"), "body", "name")
    assert not found.fits_defaults and not found.holds_questions


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("count", [1, 30])
def test_columns_are_found_in_any_encoding(tmp_path, encoding, count):
    line = json.dumps(ROW | {"body": "灯塔很旧。看守人每天晚上点灯。"}, ensure_ascii=False) + "\n"
    (tmp_path / "rows.jsonl").write_bytes((line * count).encode(encoding))
    found = columns_in(tmp_path / "rows.jsonl")
    assert (found.names, found.text, found.title) == (("id", "name", "body"), "body", "name")


@pytest.mark.parametrize("content", ["", "not json", "[1]\n", '{"a": 1}\n'])
def test_what_is_no_record_has_no_text(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    found = columns_in(path)
    assert found is None or found.text == ""


def test_other_files_have_no_columns(tmp_path):
    (tmp_path / "a.txt").write_text("The pier.")
    assert columns_in(tmp_path / "a.txt") is None


@pytest.mark.parametrize("before", ["", "\n", "sep=;\n"])
def test_columns_are_parted_as_the_reader_parts_them(tmp_path, before):
    path = tmp_path / "rows.csv"
    path.write_text(f"{before}id;name;body\n7;Osk;It is old, and long.\n8;Vell;It is new.\n")
    found = columns_in(path)
    assert (found.names, found.text, found.title) == (("id", "name", "body"), "body", "name")
