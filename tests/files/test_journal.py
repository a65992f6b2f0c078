"""Test that a damaged line of a journal costs its own unit, and that old journals are read."""

import json

import pytest

from pdtrain.files.checked_lines import checked_line, read_checked_lines, unchecked
from pdtrain.files.journal import Journal
from pdtrain.stage import run_units
from pdtrain.storage import hash_json, read_shards, to_line

SETTINGS = {"a": 1}
UNITS = {f"u{i}": i for i in range(6)}


def records(_, number):
    return [{"n": number, "text": 'a "check": "0123456789abcdef"}\u2028\n'}] * (number % 3)


def begun(folder, num_units=5):
    """Return the path of a journal with finished units."""
    folder.mkdir(exist_ok=True)
    with Journal(folder, hash_json(SETTINGS)) as journal:
        for unit in list(UNITS)[:num_units]:
            journal.add(unit, records(unit, UNITS[unit]))
    return journal.path


def redone(folder):
    """Finish the stage, and return the units that were worked on."""
    done = []

    def work(unit, number):
        done.append(unit)
        return records(unit, number)

    run_units(folder, "records", SETTINGS, UNITS, work, "units")
    wanted = [record for unit, number in UNITS.items() for record in records(unit, number)]
    assert list(read_shards(folder)) == wanted
    return done


def test_what_is_whole_is_kept(tmp_path):
    begun(tmp_path)
    assert redone(tmp_path) == ["u5"]


@pytest.mark.parametrize("bit", [0, 3, 6])
def test_a_flipped_bit_costs_its_own_unit_and_is_said(tmp_path, bit, capsys):
    path = begun(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    middle = bytearray(lines[2])
    middle[len(middle) // 2] ^= 1 << bit
    path.write_bytes(b"".join([*lines[:2], bytes(middle), *lines[3:]]))
    assert redone(tmp_path) == ["u1", "u5"]
    assert "journal.jsonl: 1 lines are damaged" in capsys.readouterr().err


def test_a_line_without_its_checksum_does_not_count(tmp_path):
    path = begun(tmp_path)
    header, first, *rest = path.read_text().splitlines(keepends=True)
    del first
    path.write_text("".join([header, to_line({"unit": "u0", "records": [{"n": 9}]}), *rest]))
    assert redone(tmp_path) == ["u0", "u5"]


def test_a_line_that_was_cut_short_costs_its_own_unit(tmp_path, capsys):
    path = begun(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    assert redone(tmp_path) == ["u4", "u5"]
    assert "damaged" not in capsys.readouterr().err


def test_a_damaged_first_line_begins_anew_and_is_said(tmp_path, capsys):
    path = begun(tmp_path)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    assert redone(tmp_path) == list(UNITS)
    assert "journal.jsonl is damaged" in capsys.readouterr().err


def test_a_journal_of_an_earlier_version_is_read_and_gone_on_with(tmp_path):
    lines = [{"settings": hash_json(SETTINGS)}]
    lines += [{"unit": unit, "records": records(unit, UNITS[unit])} for unit in ("u0", "u2")]
    (tmp_path / "journal.jsonl").write_text("".join(map(to_line, lines)))
    assert redone(tmp_path) == ["u1", "u3", "u4", "u5"]


def test_every_single_flipped_bit_of_a_line_is_found():
    line = checked_line({"unit": "u", "records": [{"n": 1, "text": "ü"}]}).encode()
    assert unchecked(line, must=True) == {"unit": "u", "records": [{"n": 1, "text": "ü"}]}
    for place in range(len(line)):
        for bit in range(8):
            data = bytearray(line)
            data[place] ^= 1 << bit
            assert unchecked(bytes(data), must=True) is None, (place, bit)


def test_damaged_lines_are_numbered(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = checked_line({"step": 1})
    path.write_text(good + good.replace("1", "2", 1) + to_line({"step": 3}) + good[:-4])
    found, damaged = read_checked_lines(path)
    assert found == [{"step": 1}, {"step": 3}] and damaged == [2, 4]
    assert json.loads(good)["step"] == 1
