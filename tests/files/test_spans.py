"""Keys and spans of many units in little memory: against a dictionary."""

import json
import random
import tracemalloc
from pathlib import Path

import pytest

from pdtrain.files import spans
from pdtrain.files.spans import Index, Renamed, Span, Spans, Stored
from pdtrain.stage import run_units
from pdtrain.storage import hash_json


def keys(count, seed=0):
    rng = random.Random(seed)
    return [f"{rng.getrandbits(64):x}" * rng.choice([1, 4]) for _ in range(count)]


@pytest.mark.parametrize("repeats", [0, 7])
def test_an_index_numbers_texts_as_a_dictionary_does(repeats):
    texts = [*keys(200), "", "ö", *keys(200)[:repeats]]
    index, wanted = Index(texts), list(dict.fromkeys(texts))
    assert list(index) == wanted and len(index) == len(wanted)
    assert [index[index.find(text)] for text in texts] == texts
    assert [index.find(text) for text in wanted] == [texts.index(text) for text in wanted]
    assert all(index.find(text) == -1 for text in keys(200, seed=1))


def test_texts_of_the_same_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(spans, "KEY", lambda text: 7)
    index = Index(["a", "b", "a", "c"])
    assert list(index) == ["a", "b", "c"]
    assert [index.find(text) for text in "abcd"] == [0, 1, 3, -1]


def test_an_empty_index_holds_nothing():
    index = Index()
    assert list(index) == [] and len(index) == 0 and index.find("a") == -1
    assert len(Spans(index)) == 0 and list(Spans(index)) == []


def test_spans_are_kept_as_by_a_dictionary():
    names, rng = keys(300), random.Random(2)
    spans_, wanted = Spans(Index(names)), {}
    for _ in range(900):
        name = rng.choice(names)
        span = Span(
            Path(f"journal-{rng.randrange(3)}.jsonl"), rng.getrandbits(40), rng.randrange(9)
        )
        spans_[name] = wanted[name] = span
    del spans_[names[0]], wanted[names[0]]
    assert dict(spans_) == wanted and len(spans_) == len(wanted)
    assert list(spans_) == [name for name in names if name in wanted], "in the order of the units"
    assert all((name in spans_) == (name in wanted) for name in names)
    spans_["unknown"] = Span(Path("x"), 0, 0)
    assert "unknown" not in spans_
    with pytest.raises(KeyError):
        spans_[names[0]]


def test_the_first_span_of_a_unit_counts():
    spans, first = Spans(Index(["a", "b"])), Span(Path("journal.jsonl"), 1, 2)
    spans.add([("a", first), ("a", Span(Path("0.jsonl"), 5, 6)), ("c", first)])
    assert dict(spans) == {"a": first}


RECORDS = [{"id": i, "of": name} for i, name in enumerate("aabbbcaddc")]


@pytest.mark.parametrize("records_per_shard", [2, 3, 100])
def test_the_records_of_a_key_are_read_together_wherever_they_are(tmp_path, records_per_shard):
    units = {str(record["id"]): record for record in RECORDS}
    run_units(
        tmp_path,
        "records",
        {},
        units,
        lambda _, record: [record],
        "records",
        records_per_shard=records_per_shard,
    )
    stored = Stored(tmp_path, lambda record: record["of"], list)
    wanted = {name: [r for r in RECORDS if r["of"] == name] for name in "abcd"}
    assert dict(stored) == wanted and list(stored) == list("abcd") and len(stored) == 4
    assert "a" in stored and "e" not in stored
    with pytest.raises(KeyError):
        stored["e"]
    renamed = Renamed(stored, hash_json)
    assert dict(renamed) == {hash_json(found): found for found in wanted.values()}
    assert dict(Renamed(renamed, lambda found: found[0]["of"])) == wanted
    assert spans.index_of(stored) is stored.index, "the keys of a corpus are held once"
    assert spans.index_of(renamed) is renamed.index


def test_a_shard_that_was_changed_is_refused(tmp_path):
    run_units(tmp_path, "records", {}, {"a": 1}, lambda *_: [{"of": "a"}], "units")
    (shard,) = tmp_path.glob("0*.jsonl")
    shard.write_text(json.dumps({"of": "b"}) + "\n")
    with pytest.raises(ValueError, match="not what its manifest says"):
        Stored(tmp_path, lambda record: record["of"], list)


def test_a_stage_holds_neither_its_units_nor_their_records(tmp_path):
    """Four times the units take a third more memory at most, where all would take four times it."""

    class Units(dict):
        """Make a unit of 2,000 letters when it is asked for."""

        def __getitem__(self, key):
            return key * 100

    def peak(count):
        units = Units.fromkeys(f"{number:020}" for number in range(count))
        tracemalloc.start()
        run_units(
            tmp_path / str(count),
            "records",
            {},
            units,
            lambda _, text: [{"text": text}],
            "units",
            records_per_shard=50,
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # what is imported the first time
    small, large = peak(500), peak(2000)
    assert large < small + 1500 * 300, "some tens of bytes a unit, and not 2,000"
