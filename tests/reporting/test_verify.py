"""Test that `pdtrain verify` names damaged files and what would be redone, and changes nothing."""

import json

import pytest
from run_folders import make_run

from pdtrain.cli import main
from pdtrain.reporting.verify import verify
from pdtrain.stage import mark_finished, run_units
from pdtrain.storage import sums, write_checked, write_headed


@pytest.fixture
def folder(tmp_path):
    """Return a run folder with a stage of units, an adapter, scores and a report."""
    folder = tmp_path / "run"
    make_run(folder)
    (folder / "config.yaml").write_text("name: x\n")
    for name in ("questions", "answers"):
        for path in (folder / name).iterdir():
            path.unlink()
        units = {"a": 1, "b": 2}
        run_units(folder / name, name, {}, units, lambda unit, _: [{"id": unit}], "units")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    mark_finished(folder / "adapter", "x", ["adapter_model.safetensors"])
    write_headed(folder / "scores" / "base.jsonl", {"inputs": "x"}, [{"id": 1}])
    tables = sums(folder, ["scores.json"])
    mark_finished(folder / "scores", "x", ["base.jsonl"], tables=tables)
    (folder / "report.html").write_text("<p>")
    mark_finished(folder / "report", "x", pages=sums(folder, ["report.html"]))
    write_checked(folder / "coverage.json", {"of": {}})
    return folder


def state(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_folder_is_whole(folder, capsys):
    before = state(folder)
    assert main(["verify", str(folder)]) == 0
    assert "whole" in capsys.readouterr().out and state(folder) == before


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("questions/manifest.json", "the stage is done again"),
        ("answers/units.jsonl", "restored from units-copy.jsonl"),
        ("answers/units-copy.jsonl", "restored from units.jsonl"),
        ("adapter/adapter_model.safetensors", "from its last checkpoint"),
        ("scores/base.jsonl", "asked again"),
        ("scores.json", "asked again"),
        ("report.html", "written again"),
        ("coverage.json", "counted again"),
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "emptied", "a folder"])
def test_damage_is_named_with_what_is_done_about_it(folder, name, remedy, damage, capsys):
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 2
    path.write_bytes(bytes(data) if damage == "flipped" else b"")
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    before = state(folder)
    assert main(["verify", str(folder)]) == 1
    said = capsys.readouterr().out
    assert f"{path}: " in said and remedy in said and "1 files are damaged" in said
    assert state(folder) == before


def test_a_shard_and_a_journal(folder):
    shard = next((folder / "answers").glob("0*.jsonl"))
    shard.write_text(shard.read_text() + "\n")
    (folder / "questions" / "journal.jsonl").write_text(json.dumps({"settings": "x"}) + "\n{")
    assert {damage.path.name for damage in verify(folder)} == {shard.name, "journal.jsonl"}


def test_a_list_of_units_whose_copy_is_damaged_too(folder):
    for name in ("units.jsonl", "units-copy.jsonl"):
        (folder / "answers" / name).write_text("")
    found = verify(folder)
    assert {damage.path.name for damage in found} == {"units.jsonl", "units-copy.jsonl"}
    assert {damage.remedy for damage in found} == {"a changed corpus costs all units"}


def test_a_run_of_an_earlier_version_without_copies_is_whole(folder):
    for path in folder.rglob("units-copy.jsonl"):
        path.unlink()
    assert verify(folder) == []


def test_what_a_killed_run_left_is_named(folder):
    (folder / ".scores.json.17.tmp").write_text("")
    (damage,) = verify(folder)
    assert "removed" in damage.remedy


def test_what_is_no_run_folder_is_refused(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
