"""Run folders in which anything may stand, with sums that fit: refused in words, or read as data.

Whoever makes such a folder makes its hashes as well, so that nothing but the form of a value can
tell. The whole number: `pytest -m "slow or not slow" tests/files/test_hostile_run_folders.py`.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest
from run_folders import (
    make_rounds,
    make_run,
    make_scores_by_age,
    write_predictions,
    write_stage,
)

from pdtrain import cli
from pdtrain.config import dump
from pdtrain.reporting.summary import COMPARED
from pdtrain.run_folder import RunFolder
from pdtrain.storage import read_json, read_jsonl, read_shards, to_line, write_json

LIVE = "\x1b[2J<img src=x onerror=alert(1)>`id`|[a](javascript:b)"
NUMBERS_OF_THEIRS = (-1, 10**6, 2**70, 1e308, float("nan"), 0.5)
HOSTILE = (None, True, *NUMBERS_OF_THEIRS, "", "../../x", LIVE, [], {}, [LIVE])
LIVING = re.compile(r"\x1b|(?<!\\)<img")  # Markdown shows \< as it stands
STAGES = ("passages", "questions", "answers")
OBJECTS = (
    "scores.json",
    "scores_by_age.json",
    "adapter/manifest.json",
    "passages/manifest.json",
    "questions/manifest.json",
    "rounds/rounds.json",
    "rounds/manifest.json",
)
NUMBERS = [
    pytest.param(60, id="some"),
    pytest.param(500, id="all", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a finished run, with rounds, scores by age and curves."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = make_rounds(make_run(folder))
    make_scores_by_age(folder)
    dump(config, config.run.config_file)
    assert cli.main(["report", str(folder)]) == 0
    return folder


def changed(rng, value):
    """Return a JSON value of which one part is something else, gone, or there once more."""
    parts = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    if not parts or rng.random() < 0.05:
        return rng.choice(HOSTILE)
    key, inner = rng.choice(parts)
    found = dict(value) if isinstance(value, dict) else list(value)
    if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
        found[key] = changed(rng, inner)
    elif (what := rng.random()) < 0.2:
        del found[key]
    elif what < 0.3 and isinstance(value, list):
        found.append(inner)
    else:
        found[key] = rng.choice(HOSTILE)
    return found


def spoil(rng, folder: Path) -> str:
    """Change one thing in a run folder, make its sums fit, and return where."""
    run = RunFolder(folder)
    what = rng.choice([*OBJECTS, *STAGES, "predictions", "metrics"])
    if what in STAGES:
        records = list(read_shards(folder / what))
        place = rng.randrange(len(records))
        records[place] = changed(rng, records[place])
        write_stage(folder / what, records)
    elif what == "predictions":
        system = rng.choice(COMPARED)
        _, *lines = read_jsonl(run.predictions_file(system))
        place = rng.randrange(len(lines))
        lines[place] = changed(rng, lines[place])
        write_predictions(folder, system, lines)
    elif what == "metrics":
        lines = list(read_jsonl(run.metrics_file))
        place = rng.randrange(len(lines))
        lines[place] = changed(rng, lines[place])
        run.metrics_file.write_text("".join(map(to_line, lines)))
    else:
        write_json(folder / what, changed(rng, read_json(folder / what)))
    return what


@pytest.mark.parametrize("number", NUMBERS)
def test_anything_in_a_run_folder_is_refused_in_words_or_shown_as_data(
    whole, tmp_path, capsys, number
):
    faults, refused = [], 0
    for seed in range(number):
        rng, folder = random.Random(seed), tmp_path / "theirs"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        (folder / "report" / "manifest.json").unlink()
        what = spoil(rng, folder)
        for command in ("report", "verify"):
            try:
                refused += cli.main([command, str(folder)]) != 0
            except Exception as error:
                faults.append(f"seed {seed}, {what}: {command}: {type(error).__name__} {error}")
        shown = capsys.readouterr()
        pages = [folder / name for name in ("report.html", "report.md")]
        texts = [path.read_text(encoding="utf-8") for path in pages if path.exists()]
        assert not any(LIVING.search(text) for text in texts), f"seed {seed}: {what}"
        assert "\x1b" not in shown.out + shown.err, f"seed {seed}: {what}"
    assert not faults, "\n".join(faults)
    assert 0 < refused < 2 * number
