"""Test which adapter a run is about, by what its rounds left."""

from dataclasses import replace

import pytest
from support import tiny_config

from pdtrain.config import RoundsConfig
from pdtrain.storage import ADAPTER_WEIGHTS, sha256_file, write_json


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
    summary = {"adapter": own, "best": number, "rounds": [{}] * (number + 1)}
    write_json(folder / "rounds.json", summary)
    write_json(folder / "manifest.json", {})


def test_the_runs_adapter_is_that_of_its_best_round(config):
    assert config.run.best_adapter is None and config.run.rounds() is None
    finish(config, 1)
    assert config.run.best_adapter == config.folder / "rounds" / "1" / "adapter"
    finish(config, 0)
    assert config.run.best_adapter == config.folder / "adapter"


def test_rounds_of_another_adapter_do_not_count(config):
    finish(config, 1)
    (config.folder / "adapter" / ADAPTER_WEIGHTS).write_text("trained anew")
    assert config.run.best_adapter is None


def test_without_rounds_what_an_earlier_run_left_is_not_looked_at(config):
    finish(config, 1)
    off = replace(config, rounds=RoundsConfig())
    assert off.run.best_adapter == config.folder / "adapter"


@pytest.mark.parametrize("tables", [None, 0.5, "new", [], {"new": 1}])
def test_scores_by_age_of_another_form_are_refused_in_words(config, tables):
    write_json(config.run.scores_by_age_file, tables)
    with pytest.raises(ValueError, match="run `pdtrain evaluate CONFIG` again"):
        config.run.scores_by_age()
