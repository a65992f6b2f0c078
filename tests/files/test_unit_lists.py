"""Test that the list of a stage's units is restored from its copy, and the copy from the list."""

import shutil

import pytest

from pdtrain import storage
from pdtrain.stage import run_units
from pdtrain.storage import read_shards

UNITS = {f"u{i}": i % 3 for i in range(6)}
LIST, COPY = "units.jsonl", "units-copy.jsonl"


@pytest.fixture(autouse=True)
def _a_new_process(monkeypatch):
    monkeypatch.setattr(storage, "_told", set())


def run(folder, units=UNITS):
    """Run the stage, and return the units that it worked on."""
    done = []

    def work(unit, number):
        done.append(unit)
        return [{"unit": unit, "n": n} for n in range(number)]

    run_units(folder, "records", {}, units, work, "units")
    wanted = [{"unit": unit, "n": n} for unit, number in units.items() for n in range(number)]
    assert list(read_shards(folder)) == wanted
    return done


def damage(path, how):
    data = path.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "another count":
        path.write_bytes(data.replace(b'"num_records": 1', b'"num_records": 2', 1))
    else:
        path.write_bytes({"flipped": data[:9] + b"X" + data[10:], "emptied": b""}[how])


HOWS = ["flipped", "another count", "emptied", "removed"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", [LIST, COPY])
def test_either_is_restored_from_the_other_with_a_line(tmp_path, name, how, capsys):
    run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    damage(tmp_path / name, how)
    assert run(tmp_path) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    other = COPY if name == LIST else LIST
    said = capsys.readouterr().err
    if (name, how) == (COPY, "removed"):
        assert "damaged" not in said  # an earlier version wrote none
    else:
        assert f"{name} is damaged" in said and f"restored from {other}" in said


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", [LIST, COPY])
def test_a_changed_input_costs_its_own_unit_with_either_of_them(tmp_path, name, how, capsys):
    run(tmp_path)
    damage(tmp_path / name, how)
    assert run(tmp_path, UNITS | {"new": 2}) == ["new"]
    assert (f"{LIST} is damaged" in capsys.readouterr().err) == (name == LIST)
    assert (tmp_path / LIST).read_bytes() == (tmp_path / COPY).read_bytes()


def test_two_damaged_lists_cost_nothing_until_an_input_changes(tmp_path, capsys):
    run(tmp_path)
    for name in (LIST, COPY):
        damage(tmp_path / name, "flipped")
    assert run(tmp_path) == []
    assert "once an input changes all units are done again" in capsys.readouterr().err
    assert run(tmp_path, UNITS | {"new": 2}) == [*UNITS, "new"]
    assert (tmp_path / LIST).read_bytes() == (tmp_path / COPY).read_bytes()


def test_an_output_of_an_earlier_version_is_read_as_before(tmp_path, capsys):
    for name in ("current", "changed"):
        run(tmp_path / name)
        (tmp_path / name / COPY).unlink()
    assert run(tmp_path / "current") == []
    assert run(tmp_path / "changed", UNITS | {"new": 2}) == ["new"]
    assert "damaged" not in capsys.readouterr().err


def test_a_folder_in_the_place_of_a_list_is_named(tmp_path):
    run(tmp_path)
    (tmp_path / LIST).unlink()
    (tmp_path / LIST).mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        run(tmp_path)
    assert caught.value.filename == str(tmp_path / LIST)
    shutil.rmtree(tmp_path / LIST)
    assert run(tmp_path) == []
