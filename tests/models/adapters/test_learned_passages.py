"""Test the record of what an adapter has learned."""

import json

import pytest

from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.storage import write_json


def test_a_record_goes_out_and_in(tmp_path):
    made = LearnedPassages("abc", {"a.txt": ["1", "2"], "b.txt": []}, ["2"])
    learned_passages.write(tmp_path, made)
    assert learned_passages.read(tmp_path) == made and made.passages == {"1", "2"}
    assert learned_passages.read(tmp_path / "absent") is None
    for broken in ({"documents": {"a": "12"}}, {"new": [1]}, {"started_from": 3}):
        values = json.loads((tmp_path / "documents.json").read_text()) | broken
        other = tmp_path / "other"
        write_json(other / "documents.json", values)
        with pytest.raises(ValueError, match=r"documents.json must be"):
            learned_passages.read(other)
