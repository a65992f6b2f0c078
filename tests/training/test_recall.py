"""What the rounds add up to: recall by passage, which round is taken, and when they end."""

from dataclasses import replace

import pytest
from support import tiny_config

from pdtrain.config import RoundsConfig, from_dict
from pdtrain.storage import ADAPTER_WEIGHTS, sha256_file, write_json
from pdtrain.training.recall import best, best_adapter, by_passage, read_rounds, why_to_stop


def test_recall_is_counted_by_passage_among_what_was_asked():
    asked = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("c", "5")]
    found = by_passage(asked, {"1", "3", "5", "of another quiz"})
    assert found == {"a": (2, 3), "b": (0, 1), "c": (1, 1)}


@pytest.mark.parametrize(
    "recoveries, number", [([0.5], 0), ([0.2, 0.6, 0.4], 1), ([0.2, 0.6, 0.6], 1), ([0.3, 0.3], 0)]
)
def test_the_best_round_recovered_most_and_came_first(recoveries, number):
    assert best(recoveries) == number


@pytest.mark.parametrize(
    "recoveries, reason",
    [
        ([0.25], ""),
        ([1.0], "knows all"),
        ([0.25, 0.5], ""),  # a gain of least_gain is enough
        ([0.25, 0.375], "least_gain=0.25"),
        ([0.5, 0.25], "least_gain=0.25"),
        ([0.0, 0.25, 0.5], "rounds.most=2 are done"),
        ([0.0, 0.25, 1.0], "knows all"),
    ],
)
def test_rounds_end_for_a_reason(recoveries, reason):
    said = why_to_stop(recoveries, RoundsConfig(most=2, least_gain=0.25))
    assert reason in said and bool(said) == bool(reason)


def test_a_gain_of_least_gain_is_enough_in_floats_too():
    assert 0.57 - 0.56 < 0.01
    assert not why_to_stop([0.56, 0.57], RoundsConfig(most=2, least_gain=0.01))
    assert why_to_stop([0.56, 0.569], RoundsConfig(most=2, least_gain=0.01))


@pytest.fixture
def config(tmp_path):
    found = tiny_config(tmp_path, tmp_path, rounds={"most": 2})
    for folder in ("adapter", "rounds/1/adapter"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / ADAPTER_WEIGHTS).write_text(folder)
    return found


def finish(config, number):
    folder = config.folder / "rounds"
    own = sha256_file(config.folder / "adapter" / ADAPTER_WEIGHTS)
    write_json(folder / "rounds.json", {"adapter": own, "best": number})
    write_json(folder / "manifest.json", {})


def test_the_runs_adapter_is_that_of_its_best_round(config):
    assert best_adapter(config) is None and read_rounds(config.folder) is None
    finish(config, 1)
    assert best_adapter(config) == config.folder / "rounds" / "1" / "adapter"
    finish(config, 0)
    assert best_adapter(config) == config.folder / "adapter"


def test_rounds_of_another_adapter_do_not_count(config):
    finish(config, 1)
    (config.folder / "adapter" / ADAPTER_WEIGHTS).write_text("trained anew")
    assert best_adapter(config) is None


def test_without_rounds_what_an_earlier_run_left_is_not_looked_at(config):
    finish(config, 1)
    off = replace(config, rounds=RoundsConfig())
    assert best_adapter(off) == config.folder / "adapter"


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"most": -1}, r"rounds\.most must be >= 0 \(0 is off\), got -1"),
        ({"questions_per_miss": 0}, r"rounds\.questions_per_miss must be > 0, got 0"),
        ({"replay": -0.5}, r"rounds\.replay must be >= 0, got -0\.5"),
        ({"least_gain": float("nan")}, r"rounds\.least_gain must be >= 0, got nan"),
    ],
)
def test_a_knob_out_of_range_is_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        from_dict({"rounds": values})


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"questions": {"per_sentence": 0}}, r"set questions\.per_sentence >= 1"),
        ({"engine": {"kind": "deepspeed"}}, r"needs one plain process.*engine\.kind=plain"),
    ],
)
def test_what_rounds_cannot_work_with_is_refused(values, reason):
    from_dict(values)
    with pytest.raises(ValueError, match=reason):
        from_dict(values | {"rounds": {"most": 1}})


def test_raw_text_has_no_rounds():
    with pytest.raises(ValueError, match=r"set rounds\.most=0"):
        from_dict({"rounds": {"most": 1}, "train": {"objective": "raw_text"}})
