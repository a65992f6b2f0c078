"""Templates of a record's columns: literal substitution, and nothing that could run."""

import json
import math

import pyarrow
import pytest
from pyarrow import parquet

from pdtrain.config import from_dict
from pdtrain.documents.records.templates import columns_of, fields_of, fill


@pytest.mark.parametrize(
    "template, record, text",
    [
        ("{title}\n\n{body}", {"title": "Osk", "body": "A pier."}, "Osk\n\nA pier."),
        ("{title}\n\n{body}", {"title": None, "body": "A pier."}, "A pier."),
        ("{title}\n\n{body}", {"title": math.nan, "body": "A pier."}, "A pier."),
        ("By {who}.", {"who": None}, ""),
        ("{n} goats", {"n": 3}, "3 goats"),
        ("{n} goats", {"n": 0}, "0 goats"),
        ("{tags}", {"tags": ["old", "wet"]}, "old\nwet"),
        ("{meta.year}", {"meta": {"year": 1883}}, "1883"),
        ("{meta.year}", {"meta": None}, ""),
        ("{meta.year}", {"meta.year": 7, "meta": {"year": 1883}}, "7"),
        ("{{{a}}}", {"a": "x"}, "{x}"),
        ("{a}", {"a": "{b} {a.__class__}"}, "{b} {a.__class__}"),
        ("{two words}", {"two words": "yes"}, "yes"),
    ],
)
def test_values_stand_in_the_places_of_their_names(template, record, text):
    assert fill(template, record) == text


@pytest.mark.parametrize(
    "template, record, message",
    [
        ("{head}", {"body": "secret"}, r"expected a value under 'head', found body"),
        ("{body.__class__}", {"body": "secret"}, r"under 'body.__class__', found body"),
        ("{body[0]}", {"body": "secret"}, r"expected a value under 'body\[0\]'"),
        ("{body!r}", {"body": "secret"}, r"expected a value under 'body!r'"),
        ("{body}", {"body": {"a": "secret"}}, r"'body' holds dict, not a text"),
        ("{body}", {"body": b"secret"}, r"'body' holds bytes, not a text"),
    ],
)
def test_nothing_but_columns_is_looked_up_and_errors_do_not_quote(template, record, message):
    with pytest.raises(ValueError, match=message) as error:
        fill(template, record)
    assert "secret" not in str(error.value)


def test_the_names_in_a_template_are_known():
    assert fields_of("{a} {b.c} {{d}} {a}") == ["a", "b.c"]
    assert columns_of("{a} {b.c} {b.d}", ["a", "b", "x"]) == ["a", "b"]
    with pytest.raises(ValueError, match=r"expected a column 'c', found a, b; correct the name"):
        columns_of("{c}", ["b", "a"])


@pytest.mark.parametrize("key", ["text", "title"])
def test_a_template_without_a_name_is_refused(key):
    with pytest.raises(ValueError, match=rf"corpus.{key} must name a column in braces.*'body'"):
        from_dict({"corpus": {key: "body"}})


ROWS = [{"head": "Osk", "body": "The pier.", "id": 5}, {"head": None, "body": "A mill.", "id": 6}]


def test_documents_are_made_of_templates_in_every_kind_of_file(read, tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "r.parquet")
    contents = {
        "r.jsonl": "\n".join(map(json.dumps, ROWS)),
        "r.json": json.dumps(ROWS),
        "r.csv": "head,body,id\nOsk,The pier.,5\n,A mill.,6\n",
        "r.parquet": (tmp_path / "r.parquet").read_bytes(),
    }
    for name, content in contents.items():
        found = read(name, content, text="{head}\n\n{body}", title="{head} ({id})")
        assert [d.text for d in found] == ["Osk\nThe pier.", "A mill."], name
        assert [d.title for d in found] == ["Osk (5)", "(6)"], name
        assert [d.id for d in found] == [f"{name}:5", f"{name}:6"]


def test_a_template_with_a_wrong_name_says_which_columns_there_are(read, tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "r.parquet")
    with pytest.raises(ValueError, match=r"r.parquet: expected a column 'x', found body, head, id"):
        read("r.parquet", (tmp_path / "r.parquet").read_bytes(), text="{x}")
    with pytest.raises(ValueError, match=r"r.jsonl, record 1: expected a value under 'x'"):
        read("r.jsonl", json.dumps(ROWS[0]), text="{x}")
