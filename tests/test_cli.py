"""Test the commands: exit status, one line that helps, no passage and no traceback."""

import os
import subprocess
import sys

import pytest
import yaml
from support import DATA, tiny_model, tiny_tokenizer

from pdtrain import __version__
from pdtrain.api import stage_function as stage
from pdtrain.cli import HELP, main
from pdtrain.stage import STAGES

NO_SYSTEM = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(tmp_path, model):
    path = tmp_path / "my.yaml"
    values = {
        "out_dir": str(tmp_path / "run"),
        "model": {"name": str(model), "device": "cpu"},
        "corpus": {"documents": str(DATA)},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def fails(capsys, *arguments, status=1):
    """Run a command that must fail, and return the last line that it prints."""
    assert main([str(argument) for argument in arguments]) == status
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    *_, last = said.err.strip().splitlines()
    return last


def test_a_stage_that_works_ends_with_zero(config):
    assert main(["passages", str(config)]) == 0
    assert (config.parent / "run" / "passages" / "manifest.json").is_file()
    assert (config.parent / "run" / "config.yaml").is_file()


def test_a_run_folder_is_a_config_too(config, capsys):
    assert main(["passages", str(config)]) == 0
    manifest = config.parent / "run" / "passages" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert main(["passages", str(config.parent / "run")]) == 0
    assert manifest.stat().st_mtime_ns == before, "the same config: nothing is done again"
    said = fails(capsys, "passages", config.parent / "run", "train.epochs=3")
    assert "a run folder is taken as it was made" in said


def test_notes_of_a_config_are_said_first(config, capsys):
    assert main(["passages", str(config), "notes='mind: the gap'"]) == 0
    assert capsys.readouterr().err.startswith("mind: the gap\n")


def test_a_quiet_command_says_nothing_but_what_goes_wrong(config, capsys):
    assert main(["passages", str(config), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["-q", "answers", str(config)]) == 1
    assert capsys.readouterr().err.startswith("pdtrain answers: ")


def test_a_verbose_command_says_more_than_a_plain_one(config, capsys):
    assert main(["passages", str(config)]) == 0
    capsys.readouterr()
    assert main(["passages", str(config)]) == 0
    plain = capsys.readouterr().err
    assert main(["passages", str(config), "--verbose"]) == 0
    assert len(capsys.readouterr().err) > len(plain)


def test_overrides_reach_the_run(config):
    assert main(["passages", str(config), "corpus.max_passage_tokens=60", "name=mine"]) == 0
    written = yaml.safe_load((config.parent / "run" / "config.yaml").read_text())
    assert written["corpus"]["max_passage_tokens"] == 60 and written["name"] == "mine"


def test_a_misspelt_key_is_answered_with_ours(config, capsys):
    said = fails(capsys, "run", config, "train.epoch=3")
    assert said.startswith("pdtrain run: ") and "did you mean train.epochs?" in said
    assert not (config.parent / "run").exists(), "a refused config leaves nothing behind"


MISTAKES = [
    pytest.param(
        "corpus.documents=absent", "corpus.documents='absent' does not exist", id="missing_folder"
    ),
    pytest.param("corpus.documents=empty", "'empty' holds no document", id="empty_folder"),
    pytest.param("corpus.documents=blank", "holds text (files read: 1)", id="nothing_but_blanks"),
    pytest.param("corpus.documents=binary", "photo.txt is a PNG picture", id="binary_txt"),
    pytest.param(
        "corpus.documents=rows", "record 1: expected a text under 'text'", id="other_field"
    ),
    pytest.param(
        "model.name=./absent-model", "is not a folder on this machine", id="missing_model"
    ),
    pytest.param("model.name=empty", "is a folder without config.json", id="no_model"),
    pytest.param("model.name=no_template", "has no chat template", id="base_model"),
]


@pytest.mark.parametrize("override, message", MISTAKES)
def test_a_mistake_is_answered_in_one_line(
    override, message, config, model, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files = {
        "blank/a.txt": b" \n\n",
        "binary/photo.txt": b"\x89PNG\r\n\x1a\n\x00\x00 secret",
        "rows/a.jsonl": b'{"body": "secret"}\n',
        "no_template/config.json": (model / "config.json").read_bytes(),
    }
    (tmp_path / "empty").mkdir()
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "no_template")
    said = fails(capsys, "run", config, override)
    assert message in said and "secret" not in said


def test_a_template_without_a_system_role_is_refused_before_anything_is_asked(
    config, capsys, tmp_path
):
    folder = tiny_model(tmp_path / "no_system")
    (folder / "chat_template.jinja").write_text(NO_SYSTEM)
    said = fails(capsys, "run", config, f"model.name={folder}")
    assert "has no system role and drops its text; set prompts.system=''" in said


def test_a_stage_before_its_turn_says_what_to_run(config, capsys):
    said = fails(capsys, "answers", config)
    assert "run `pdtrain questions CONFIG` first, or `pdtrain run CONFIG`" in said


def test_a_config_that_is_not_there_is_named(capsys, tmp_path):
    assert "absent.yaml is not a file" in fails(capsys, "run", tmp_path / "absent.yaml")


def test_an_interrupted_run_says_how_to_go_on(config, capsys, monkeypatch):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr("pdtrain.documents.passages.split", interrupted)
    said = fails(capsys, "run", config, status=130)
    assert "what was finished is kept" in said and "the same command goes on from there" in said


def test_a_mistake_of_ours_keeps_its_traceback(config, monkeypatch):
    def broken(config):
        raise RuntimeError("ours")

    monkeypatch.setattr("pdtrain.documents.passages.split", broken)
    with pytest.raises(RuntimeError, match="ours"):
        main(["passages", str(config)])


def test_a_traceback_can_be_asked_for(config, monkeypatch):
    monkeypatch.setenv("PDTRAIN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="did you mean"):
        main(["run", str(config), "train.epoch=3"])


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly", "config.yaml"], ["run"], ["run", "--fast", "x"], ["run", "x", "-q", "-v"]],
)
def test_what_is_no_command_ends_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: pdtrain" in capsys.readouterr().err


def test_help_names_every_stage_and_the_version_is_the_packages(capsys):
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as end:
            main([flag])
        assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in HELP) and set(STAGES) < set(HELP)
    assert f"pdtrain {__version__}" in said


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_a_function_of_a_config(name):
    assert callable(stage(name))


def test_the_module_runs_as_the_command_does(config):
    result = subprocess.run(
        [sys.executable, "-m", "pdtrain", "run", str(config), "train.epoch=3"],
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert "did you mean train.epochs?" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments, status", [(["--version"], 0), (["--nonsense"], 2)])
def test_one_of_several_ranks_ends_as_a_single_process_does(arguments, status):
    ranks = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    code = f"import sys; sys.argv = ['pdtrain', *{arguments}]; from pdtrain.cli import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | ranks,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
