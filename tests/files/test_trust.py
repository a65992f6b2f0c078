"""What a run folder from someone else may not do."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import yaml
from support import folders_inside_one_another

import pdtrain
from pdtrain import cli
from pdtrain.config import dump, from_dict, load_run, stored
from pdtrain.files.trust import own_file, unrepeated, without_unrepeated
from pdtrain.progress import printable
from pdtrain.run_folder import RunFolder
from pdtrain.stage import run_units
from pdtrain.storage import misfits, read_json, read_shards, run_lock, sha256_text, write_json

ASKS = {
    "model": {"trust_remote_code": True},
    "evaluate": {
        "judge": {"url": "http://judge.example/v1", "model": "j", "key_variable": "CLOUD_SECRET"}
    },
}
REPEATED = [
    "model.trust_remote_code=true",
    "evaluate.judge.url=http://judge.example/v1",
    "evaluate.judge.key_variable=CLOUD_SECRET",
]


@pytest.fixture
def hostile(tmp_path):
    """Return a run folder whose config asks for code and for an address."""
    folder = tmp_path / "theirs"
    dump(from_dict({"out_dir": str(folder), **ASKS}), folder / "config.yaml")
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:PDTRAIN_TEST_SECRET}",
        "${oc.decode:${oc.env:PDTRAIN_TEST_SECRET}}",
        "${oc.create:{a:1}}",
        "${name}",
        r"\${name}",
        "${",
        "a ${x} b",
    ],
)
def test_a_stored_text_is_taken_literally(tmp_path, monkeypatch, text):
    monkeypatch.setenv("PDTRAIN_TEST_SECRET", "hunter2")
    values = {"name": "theirs", "notes": text, "prompts": {"system": text}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    try:
        config = load_run(tmp_path)
    except ValueError as error:  # no text that OmegaConf can hold: refused by the file's name
        assert "config.yaml is damaged" in str(error) and "hunter2" not in str(error)
        return
    assert config.notes == config.prompts.system
    assert "hunter2" not in config.notes
    assert config.notes.replace("\\", "") == text.replace("\\", "")


@pytest.mark.parametrize("text", ["${oc.env:HOME}", r"\${x}", r"\\${x}", r"\\\${x}", "$x {y} ${"])
def test_what_a_run_stores_comes_back_character_by_character(tmp_path, text):
    config = replace(from_dict({"out_dir": str(tmp_path)}), notes=text)
    dump(config, tmp_path / "config.yaml")
    assert load_run(tmp_path).notes == text
    assert stored(tmp_path)["notes"] == text


BOMB = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nnotes: *c\n"


@pytest.mark.parametrize(
    "text",
    [BOMB, "notes: " + "[" * 5000, "- a list", "notes: 'x", "notes: !!python/object:os.x {}"],
    ids=["aliases", "deep", "a list", "no YAML", "an object"],
)
def test_a_stored_config_that_expands_or_is_none_is_refused_by_name(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml is damaged, or not what pdtrain writes"):
        load_run(tmp_path)


def test_an_endless_config_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("notes: " + "x" * (1 << 20))
    with pytest.raises(ValueError, match="it is larger than"):
        load_run(tmp_path)


def test_code_addresses_and_keys_count_only_when_repeated(hostile):
    config = load_run(hostile)
    assert not config.model.trust_remote_code
    assert config.evaluate.judge.url == ""
    assert config.evaluate.judge.key_variable == "OPENAI_API_KEY"
    config = load_run(hostile, REPEATED)
    assert config.model.trust_remote_code
    assert config.evaluate.judge.url == "http://judge.example/v1"
    assert config.evaluate.judge.key_variable == "CLOUD_SECRET"
    assert load_run(hostile, REPEATED[1:2]).evaluate.judge.key_variable == "OPENAI_API_KEY"


def test_what_was_not_repeated_is_shown_as_a_line_to_add(hostile):
    shown = unrepeated(hostile, stored(hostile), [])
    assert all(one in shown for one in REPEATED)
    assert unrepeated(hostile, stored(hostile), REPEATED) == ""


@pytest.mark.parametrize(
    "repeated",
    [["evaluate.judge.url=http://other.example/v1"], ["train.epochs=9"], ["model.name=x/y"]],
)
def test_only_what_the_folder_asks_for_may_be_repeated(hostile, repeated):
    with pytest.raises(ValueError, match="a run folder is taken as it was made"):
        load_run(hostile, repeated)


def test_the_command_line_shows_what_a_folder_asks_for(hostile, capsys):
    assert cli.main(["report", str(hostile)]) == 0
    assert "asks for settings that count only when repeated" in capsys.readouterr().err
    assert stored(hostile)["evaluate"]["judge"]["url"], "the folder's own config stays as it is"
    assert cli.main(["report", str(hostile), *REPEATED]) == 0
    assert "count only when repeated" not in capsys.readouterr().err


def test_python_takes_repeated_settings_too(hostile):
    assert not pdtrain.open_run(hostile).config.model.trust_remote_code
    assert pdtrain.open_run(hostile, *REPEATED).config.model.trust_remote_code


def test_keys_of_other_programs_and_of_every_section_are_asked_for():
    values = {"deepspeed": {"csv_monitor": 1}, "generation": {"server": {"url": "http://x/v1"}}}
    assert without_unrepeated(values, []) == {"generation": {"server": {}}}
    assert without_unrepeated(values, ['deepspeed={"csv_monitor": 1}'])["deepspeed"]


def test_an_address_counts_only_when_repeated_wherever_it_stands(tmp_path):
    values = {
        "corpus": {"documents": ["s3://theirs/documents", "/mine"]},
        "evaluate": {"questions": "https://theirs.example/q.jsonl"},
        "notes": "see https://theirs.example",
        "prompts": {"system": "You answer by https://theirs.example."},
    }
    dump(from_dict(values), tmp_path / "config.yaml")
    config = load_run(tmp_path)
    assert config.corpus.documents == config.evaluate.questions == ""
    assert "https://" in config.notes and "https://" in config.prompts.system
    repeated = ['corpus.documents=["s3://theirs/documents", "/mine"]']
    assert repeated[0] in unrepeated(tmp_path, stored(tmp_path), [])
    assert load_run(tmp_path, repeated).corpus.documents == values["corpus"]["documents"]


def test_a_shell_line_that_is_shown_is_quoted():
    values = {"evaluate": {"judge": {"url": "http://x/v1;rm -rf ~\x1b[2K`id`$(id)"}}}
    shown = unrepeated("theirs", values, [])
    assert "'evaluate.judge.url=http://x/v1;rm -rf ~\ufffd[2K`id`$(id)'" in shown


# --- Paths and links --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret.jsonl", "/etc/passwd", "a/b.jsonl", "..", "", 7, None])
def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path, name):
    with pytest.raises(ValueError, match="which is no file of its folder"):
        own_file(tmp_path, name)
    write_json(tmp_path / "manifest.json", {"shards": [{"name": name, "sha256": "x"}]})
    refusal = "which is no file of its folder" if isinstance(name, str) else "missing or damaged"
    with pytest.raises(ValueError, match=refusal):
        list(read_shards(tmp_path))


def test_a_shard_that_is_a_link_is_refused(tmp_path):
    run_units(tmp_path / "s", "s", {}, {"u": 1}, lambda *_: [{"a": 1}], "units")
    (shard,) = read_json(tmp_path / "s" / "manifest.json")["shards"]
    path = tmp_path / "s" / shard["name"]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link; put the file itself there"):
        list(read_shards(tmp_path / "s"))


@pytest.mark.parametrize("best", ["../../theirs", "1", -1, 2, 9, True, 1.0, None, [1]])
def test_rounds_cannot_name_a_folder_elsewhere_as_the_best(tmp_path, best):
    run = RunFolder(tmp_path, has_rounds=True)
    run.rounds_folder.mkdir()
    write_json(run.rounds_folder / "manifest.json", {"inputs": "x"})
    write_json(run.rounds_file, {"adapter": "x", "best": best, "rounds": [{}, {}]})
    with pytest.raises(ValueError, match="names no round of this run as the best"):
        run.rounds()


@pytest.mark.parametrize("place", ["journal.jsonl", ".lock", "config.yaml", "passages", "a/b/c"])
def test_nothing_is_written_through_a_link_in_a_run_folder(tmp_path, place):
    target = tmp_path / "mine"
    target.write_text("precious")
    run = tmp_path / "run"
    (run / place).parent.mkdir(parents=True)
    (run / place).symlink_to(target)
    with pytest.raises(ValueError, match=r"is a link to .*mine"), run_lock(run):
        raise AssertionError("the lock was taken")
    assert target.read_text() == "precious"


@pytest.mark.parametrize("place", ["journal.jsonl", "config.yaml", "adapter/manifest.json"])
def test_a_pipe_in_a_run_folder_is_refused_and_never_waited_for(hostile, place, capsys):
    path = hostile / place
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is no file and no folder but a pipe"), run_lock(hostile):
        raise AssertionError("the lock was taken")
    with pytest.raises(ValueError, match=r"a pipe, a socket|has no config\.yaml"):
        load_run(hostile)
    assert cli.main(["verify", str(hostile)]) == 1
    assert f"{path}: it is no file and no folder" in capsys.readouterr().out


def test_folders_inside_one_another_without_end_are_refused(hostile, capsys):
    with folders_inside_one_another(hostile):
        with pytest.raises(ValueError, match="is a folder inside more than 50 others"):
            load_run(hostile)
        with pytest.raises(ValueError, match="inside more than 50 others"), run_lock(hostile):
            raise AssertionError("the lock was taken")
        assert cli.main(["verify", str(hostile)]) == 1
        assert "it is a folder inside more than 50 others" in capsys.readouterr().out


def test_verify_names_links_and_follows_none(hostile, tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    (hostile / "coverage.json").symlink_to(tmp_path / "mine")
    assert cli.main(["verify", str(hostile)]) == 1
    assert f"{hostile / 'coverage.json'}: it is a link" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\x1b]0;title\x07.part", "b\x1b[2J.part"])
def test_names_of_files_steer_no_terminal(hostile, name, capsys):
    folder = hostile / "passages" / "files"
    folder.mkdir(parents=True)
    (folder / name).mkdir()
    assert cli.main(["verify", str(hostile)]) == 1
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown and "it is no file" in shown


@pytest.mark.parametrize(
    "name", ["../other/model.safetensors", "/etc/passwd", "a/../../b", "link/b"]
)
def test_sums_of_a_manifest_cannot_be_of_files_elsewhere(tmp_path, name):
    (tmp_path / "link").symlink_to("/etc")
    assert "leads out of the folder" in misfits(tmp_path, {name: "x"})[name]


def test_sums_may_be_of_files_in_folders_of_their_own(tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/model.safetensors").write_text("x")
    known = {"merged/model.safetensors": sha256_text("x")}
    assert misfits(tmp_path, known) == {}


def test_a_run_folder_that_is_a_link_itself_is_used(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with run_lock(tmp_path / "run"):
        assert os.path.exists(tmp_path / "disk/.lock")


def test_a_lock_truncates_nothing(tmp_path):
    (tmp_path / "notes").write_text("precious")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "notes", tmp_path / "run/.lock")
    with run_lock(tmp_path / "run"):
        pass
    assert (tmp_path / "notes").read_text() == "precious"


# --- What is shown ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        {"<script>": {}},
        {"base": {"![x](y)": {"value": 1, "low": 1, "high": 1, "n": 1}}},
        {"base": {"gold": {"value": "<b>", "low": 1, "high": 1, "n": 1}}},
        {"base": {"gold": {"other": 1}}},
        {"base": 7},
        [],
    ],
)
def test_scores_that_are_no_numbers_are_refused(tmp_path, table):
    write_json(tmp_path / "scores.json", table)
    with pytest.raises(ValueError, match="not what the evaluation writes"):
        RunFolder(tmp_path).scores()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\x1b[31mb", "a\ufffd[31mb"),
        ("a\rb\x07", "a\ufffdb\ufffd"),
        ("\x9b2J", "\ufffd2J"),
        ("txt.\u202eexe", "txt.\ufffdexe"),
        ("a\nb\tc", "a\nb\tc"),
        ("Grüße, 港", "Grüße, 港"),
        ("caf\udce9", "caf?"),
    ],
)
def test_a_terminal_obeys_nothing_of_a_name(text, shown):
    assert printable(text) == shown


def test_a_line_and_an_error_are_shown_without_control_characters(tmp_path, capsys):
    name = tmp_path / "a\x1b]0;title\x07.yaml"
    assert cli.main(["plan", str(name)]) == 1
    assert "\x1b" not in capsys.readouterr().err
