"""`pdtrain chat` in a pipe, with a tiny model."""

import io
from pathlib import Path

import pytest
import torch
from support import tiny_model

from pdtrain.config import RunConfig, from_dict
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model
from pdtrain.records import Passage
from pdtrain.reporting import chat
from pdtrain.storage import write_json, write_shards

TEXTS = {
    "Lighthouse": "The lighthouse of Oak End was built by Anna Gray.",
    "Barometer": "The barometer of Paul Reed is filled with sunflower oil.",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunConfig:
    place = tmp_path_factory.mktemp("chat")
    values = {"out_dir": str(place / "run"), "adapter": {"rank": 4}}
    values["model"] = {"name": str(tiny_model(place / "tiny")), "device": "cpu"}
    config = from_dict(values | {"answers": {"sampling": {"max_new_tokens": 6}}})
    model = add_adapter(load_model(config.model), config.adapter, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(str(config.folder / "adapter"), save_embedding_layers=False)
    write_json(config.folder / "adapter" / "manifest.json", {"inputs": "x", "output": "x"})
    passages = [
        Passage(name, f"{name}.md", name, text, 0, len(text), 12, ((0, len(text)),)).to_json()
        for name, text in TEXTS.items()
    ]
    shards = write_shards(config.folder / "passages", passages, 10)
    manifest = {"inputs": "x", "output": "x", "shards": shards}
    write_json(config.folder / "passages" / "manifest.json", manifest)
    return config


@pytest.fixture
def ask(run, monkeypatch, capsys):
    """Chat with lines on standard input; return what goes to standard output and to error."""

    def asked(text: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        chat.chat(run)
        return capsys.readouterr()

    return asked


def test_a_question_in_a_pipe_gets_two_labelled_lines(ask):
    out, _ = ask("Who built the lighthouse?\n")
    base, adapter = out.splitlines()
    assert base.startswith("base: ") and adapter.startswith("adapter: ")
    assert base.split(": ", 1)[1] != adapter.split(": ", 1)[1]


def test_the_same_question_gets_the_same_answers(ask):
    twice, _ = ask("Who built the lighthouse?\nWho built the lighthouse?\n")
    lines = twice.splitlines()
    assert lines[:2] == lines[2:]


@pytest.mark.parametrize("end", ["\n", "/quit\n", "  \n"])
def test_an_empty_line_or_quit_ends(ask, end):
    out, _ = ask(f"Who?\n{end}Who else?\n")
    assert len(out.splitlines()) == 2


def test_no_question_no_answer(ask):
    assert ask("")[0] == ""


def test_open_shows_the_teacher_with_the_passage_it_found_until_switched_off(ask):
    out, _ = ask("/open\nWhat is the barometer of Paul Reed filled with?\n/open\nWho?\n")
    lines = out.splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("teacher, reading 'Barometer': ")


def test_an_unknown_command_is_explained_and_not_asked(ask):
    out, err = ask("/help\n")
    assert out == "" and "/open" in err


def test_a_question_too_long_for_the_model_is_told_and_the_next_one_answered(ask):
    out, err = ask("Why? " * 3000 + "\nWho?\n")
    assert "does not fit" in err
    assert len(out.splitlines()) == 2


def test_no_question_goes_to_a_file(ask, run):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    ask("Who built the lighthouse?\n")
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_without_an_adapter_the_command_that_makes_it_is_named(tmp_path):
    with pytest.raises(ValueError, match="pdtrain train CONFIG"):
        chat.chat(from_dict({"out_dir": str(tmp_path)}))


def test_without_passages_the_command_that_makes_them_is_named(ask, run, tmp_path, monkeypatch):
    hidden = Path(run.folder / "passages").rename(tmp_path / "passages")
    try:
        _, err = ask("/open\nWho?\n")
    finally:
        hidden.rename(run.folder / "passages")
    assert "pdtrain passages CONFIG" in err


def test_terminal_escapes_never_reach_the_terminal():
    assert chat.printable("a\x1b[31mred\x07\n b\u202e") == "a [31mred b"


def test_columns_stand_beside_each_other_and_fit():
    text = chat.columns({"base": "one two three four five", "adapter": "six"}, 27)
    lines = text.splitlines()
    assert all(len(line) <= 27 for line in lines)
    assert lines[0].startswith("base") and lines[0].endswith("adapter")
    assert lines[2] == "one two      │ six"
