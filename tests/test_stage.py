"""Test that a stage redoes only what changed, and goes on after a kill at any moment."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from pdtrain import stage
from pdtrain.progress import Stopped
from pdtrain.storage import read_json, read_shards, write_json

UNITS = {"a": 2, "b": 0, "c": 3, "d": 1, "e": 1}  # by id, how many records each makes


class Work:
    """Make as many records as a unit says, count the calls, and die at one of them if asked to."""

    def __init__(self, die_at=None, prefix="record"):
        self.done, self.die_at, self.prefix = [], die_at, prefix

    def __call__(self, name, num_records):
        if len(self.done) == self.die_at:
            raise KeyboardInterrupt
        self.done.append(name)
        return [{"unit": name, "text": f"{self.prefix} {i} of {name}"} for i in range(num_records)]


@pytest.fixture(params=[2, 10_000], ids=["many_shards", "one_shard"])
def records_per_shard(request):
    return request.param


@pytest.fixture
def run(records_per_shard):
    def run(folder, units=UNITS, work=None, **settings):
        """Run the stage, and return the units that it worked on."""
        work = work or Work()
        size = {"records_per_shard": records_per_shard}
        stage.run_units(folder, "records", settings, units, work, "units", **size)
        return work.done

    return run


def output(folder):
    """Return everything that the stages after this one can see."""
    manifest = read_json(folder / "manifest.json")
    return list(read_shards(folder)), {k: v for k, v in manifest.items() if k != "inputs"}


def left_over(folder):
    names = {path.name for path in folder.iterdir()}
    shards = {shard["name"] for shard in read_json(folder / "manifest.json")["shards"]}
    return names - shards - {"manifest.json", "units.jsonl", "units-copy.jsonl"}


@pytest.fixture
def undisturbed(run, tmp_path):
    run(tmp_path / "undisturbed")
    return output(tmp_path / "undisturbed")


def test_records_are_in_the_order_of_the_units(run, tmp_path):
    run(tmp_path)
    records, manifest = output(tmp_path)
    assert [record["unit"] for record in records] == list("aacccde")
    assert (manifest["num_records"], manifest["num_units"]) == (7, 5)
    assert not left_over(tmp_path)


def test_what_is_up_to_date_is_left_alone(run, tmp_path):
    run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert stage.run_units(tmp_path, "records", {}, UNITS, Work(die_at=0), "units") is False
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_stop_file_ends_it_after_the_unit_at_work_and_stays(run, tmp_path, undisturbed):
    """One that is still there at the next start costs one more start for each unit."""
    folder, stop, work = tmp_path / "stopped", tmp_path / "STOP", Work()
    stop.touch()
    for number in range(1, 3):
        with pytest.raises(Stopped, match=rf"at records: {number} of 5 units; .*\(remove .*STOP f"):
            stage.run_units(folder, "records", {}, UNITS, work, "units", stop_file=stop)
    assert work.done == ["a", "b"] and stop.exists()
    stop.unlink()
    assert run(folder) == ["c", "d", "e"]
    assert output(folder) == undisturbed


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_stop_file_that_comes_while_units_are_at_work_loses_none_that_is_done(tmp_path, at_once):
    stop, first, second = tmp_path / "STOP", Work(), Work()

    def work(name, num_records):
        if name == "c":
            stop.touch()
        return first(name, num_records)

    options = {"at_once": at_once, "stop_file": stop}
    with pytest.raises(Stopped):
        stage.run_units(tmp_path, "records", {}, UNITS, work, "units", **options)
    kept = len((tmp_path / "journal.jsonl").read_text().splitlines())
    stop.unlink()
    stage.run_units(tmp_path, "records", {}, UNITS, second, "units", **options)
    assert 0 < len(second.done) < len(UNITS) and kept >= len(UNITS) - len(second.done)
    assert [record["unit"] for record in read_shards(tmp_path)] == list("aacccde")


def test_a_journal_that_came_back_after_a_loss_of_power_is_removed(run, tmp_path):
    run(tmp_path)
    (tmp_path / "journal.jsonl").write_text("{}\n")
    assert run(tmp_path) == [] and not left_over(tmp_path)


def test_a_shard_of_an_earlier_output_is_removed_after_a_kill_that_left_it(run, tmp_path):
    run(tmp_path)
    (tmp_path / "00009.jsonl").write_text("{}\n")
    assert run(tmp_path) == [] and not left_over(tmp_path)


@pytest.mark.parametrize(
    "changed, redone",
    [
        pytest.param({**UNITS, "x": 2}, "x", id="one_more"),
        pytest.param({"x": 1, **UNITS}, "x", id="one_more_in_front"),
        pytest.param({k: v for k, v in UNITS.items() if k != "c"}, "", id="one_gone"),
        pytest.param({"a": 2, "b": 0, "X": 4, "d": 1, "e": 1}, "X", id="one_changed"),
        pytest.param(dict(reversed(UNITS.items())), "", id="another_order"),
        pytest.param({"b": 0}, "", id="only_one_without_records"),
        pytest.param({"x": 0, "y": 0}, "xy", id="all_new_and_empty"),
    ],
)
def test_only_what_changed_is_redone(run, changed, redone, tmp_path, records_per_shard):
    run(tmp_path / "kept")
    done = run(tmp_path / "kept", changed)
    run(tmp_path / "fresh", changed)
    assert output(tmp_path / "kept") == output(tmp_path / "fresh")
    assert not left_over(tmp_path / "kept")
    if records_per_shard > 100:
        assert "".join(done) == redone
    else:  # a unit that a shard's border cuts is redone too
        assert set(redone) <= set(done) <= set(redone) | set("ac")


@pytest.mark.parametrize("change", ["a line more", "a line less", "other words", "gone"])
def test_what_was_changed_after_it_was_written_is_not_carried_over(run, tmp_path, change, capsys):
    """In such a shard the records of one unit would pass for those of another."""
    kept = tmp_path / "kept"
    run(kept)
    path = next(path for path in kept.glob("0*.jsonl") if "record 0 of a" in path.read_text())
    lines = path.read_text().splitlines(keepends=True)
    new = {"a line more": [lines[0], *lines], "a line less": lines[1:]}
    new["other words"] = [lines[0].replace("record 0", "record X"), *lines[1:]]
    path.write_text("".join(new[change])) if change in new else path.unlink()
    units = {name: count for name, count in UNITS.items() if name != "a"}
    run(kept, units)
    run(tmp_path / "fresh", units)
    assert output(kept) == output(tmp_path / "fresh") and not left_over(kept)
    assert f"{path} is damaged" in capsys.readouterr().err


def test_other_settings_redo_everything(run, tmp_path):
    run(tmp_path, temperature=1)
    assert run(tmp_path, work=Work(prefix="new"), temperature=2) == list(UNITS)
    assert {record["text"].split()[0] for record in output(tmp_path)[0]} == {"new"}


@pytest.mark.parametrize("die_at", range(5))
def test_a_kill_between_units_costs_none_of_them(run, die_at, tmp_path, undisturbed):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", work=Work(die_at))
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert run(tmp_path / "killed") == list(UNITS)[die_at:]
    assert output(tmp_path / "killed") == undisturbed
    assert not left_over(tmp_path / "killed")


def test_kills_one_after_the_other(run, tmp_path, undisturbed):
    folder, done = tmp_path / "killed", []
    while not (folder / "manifest.json").exists():
        work = Work(die_at=1)
        with suppress(KeyboardInterrupt):
            run(folder, work=work)
        done += work.done
    assert done == list(UNITS)
    assert output(folder) == undisturbed


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_journal_whose_last_line_was_cut_goes_on(run, cut, tmp_path, undisturbed):
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run(folder, work=Work(3))
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert run(folder) == ["c", "d", "e"]
    assert output(folder) == undisturbed


def test_a_journal_that_ends_anywhere_goes_on(run, tmp_path, undisturbed):
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run(folder, work=Work(4))
    whole = (folder / "journal.jsonl").read_bytes()
    for length in range(0, len(whole), 29):
        for path in folder.iterdir():
            path.unlink()
        (folder / "journal.jsonl").write_bytes(whole[:length])
        run(folder)
        assert output(folder) == undisturbed


def test_a_journal_of_other_settings_is_not_believed(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, work=Work(3, prefix="old"), temperature=1)
    assert run(tmp_path, temperature=2) == list(UNITS)
    assert {record["text"].split()[0] for record in output(tmp_path)[0]} == {"record"}


def test_a_kill_while_redoing_keeps_the_old_and_the_new(run, tmp_path):
    run(tmp_path / "kept")
    changed = {"x": 1, **UNITS, "y": 2}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "kept", changed, Work(1))
    rest = run(tmp_path / "kept", changed)
    assert "y" in rest and "x" not in rest
    run(tmp_path / "fresh", changed)
    assert output(tmp_path / "kept") == output(tmp_path / "fresh")


def dies_at_write(monkeypatch, number):
    """Die before the given write, rename or removal of a file."""
    seen = []
    for owner, name in ((Path, "replace"), (Path, "unlink")):
        real = getattr(owner, name)

        def step(*args, _real=real, **options):
            seen.append(args)
            if len(seen) == number + 1:
                raise KeyboardInterrupt
            return _real(*args, **options)

        monkeypatch.setattr(owner, name, step)


def test_a_kill_before_any_write_of_a_first_output(run, tmp_path, undisturbed, monkeypatch):
    for number in range(100):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            dies_at_write(patch, number)
            try:
                run(folder)
                break
            except KeyboardInterrupt:
                pass
        run(folder)
        assert output(folder) == undisturbed
    assert number >= 3, "the kill was meant to hit several writes"


def test_a_kill_before_any_write_of_a_changed_output(run, tmp_path, monkeypatch):
    changed = {"x": 1, "a": 2, "c": 3, "e": 1, "y": 2}
    run(tmp_path / "fresh", changed)
    for number in range(100):
        folder = tmp_path / str(number)
        run(folder)
        with monkeypatch.context() as patch:
            dies_at_write(patch, number)
            try:
                run(folder, changed)
                break
            except KeyboardInterrupt:
                pass
        run(folder, changed)
        assert output(folder) == output(tmp_path / "fresh")
    assert number >= 3, "the kill was meant to hit several writes"


def test_records_may_hold_any_line_break_of_unicode(tmp_path):
    """JSON leaves U+0085, U+2028 and U+2029 as they are; in Python they end a line of text."""
    records = [{"text": "one\u2028two\x85three\u2029four"}, {"text": "five"}]
    for units in ({"a": records}, {"b": [], "a": records}):
        stage.run_units(tmp_path, "records", {}, units, lambda _, found: found, "units")
        assert list(read_shards(tmp_path)) == records


def test_the_output_hash_follows_the_records_and_not_how_they_came_about(run, tmp_path):
    for name in ("one", "two", "other"):
        folder = tmp_path / name
        if name == "two":
            with pytest.raises(KeyboardInterrupt):
                run(folder, work=Work(2))
        run(folder, work=Work(prefix="other" if name == "other" else "record"))
    one, two, other = (stage.output_hash(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two != other


def test_an_unfinished_stage_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"not there or not finished; run `pdtrain questions CON"):
        stage.output_hash(tmp_path / "questions")


def test_marking_finished_makes_current(tmp_path):
    assert not stage.is_current(tmp_path, "inputs")
    stage.mark_finished(tmp_path, "inputs", num_steps=3)
    assert stage.is_current(tmp_path, "inputs") and not stage.is_current(tmp_path, "others")
    assert json.loads((tmp_path / "manifest.json").read_text())["num_steps"] == 3
    write_json(tmp_path / "manifest.json", {"inputs": "others", "output": "x"})
    assert not stage.is_current(tmp_path, "inputs")
