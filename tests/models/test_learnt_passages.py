"""Test the record of what an adapter has learnt."""

import json

import pytest

from pdtrain.models import learnt_passages
from pdtrain.models.learnt_passages import Learnt
from pdtrain.storage import write_json


def test_a_record_goes_out_and_in(tmp_path):
    made = Learnt("abc", {"a.txt": ["1", "2"], "b.txt": []}, ["2"])
    learnt_passages.write(tmp_path, made)
    assert learnt_passages.read(tmp_path) == made and made.passages == {"1", "2"}
    assert learnt_passages.read(tmp_path / "absent") is None
    for broken in ({"documents": {"a": "12"}}, {"new": [1]}, {"started_from": 3}):
        values = json.loads((tmp_path / "documents.json").read_text()) | broken
        other = tmp_path / "other"
        write_json(other / "documents.json", values)
        with pytest.raises(ValueError, match=r"documents.json must be"):
            learnt_passages.read(other)
