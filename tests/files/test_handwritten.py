"""Test that a config is taken as a person means it, and that its faults are said with a place."""

import pytest

from pdtrain.config import load


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "tides.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize("text", ["0123", "1.10", "12e4567", "2024-01-02", "on", "1_0", "010"])
def test_a_text_is_what_stands_in_the_file(write, text):
    config = load(write(f"name: {text}\nmodel: {{name: a/b, revision: {text}}}\n"))
    assert (config.name, config.model.revision) == (text, text)
    assert load(write("model: {name: a/b, revision: }")).model.revision is None
    assert load(write("name: 'a'\nnotes: |\n  Two\n  lines\n")).notes == "Two\nlines\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_files_of_any_editor_are_read(write, ending, mark):
    text = ending.join(["name: tides", "train:", "  epochs: 3", ""])
    config = load(write(mark + text.encode()))
    assert (config.name, config.train.epochs) == ("tides", 3)


def test_a_section_without_a_line_is_none(write):
    text = "train:\n  # epochs: 3\ncorpus:\n  exclude:\nanswers: {sampling: }\ndeepspeed:\n"
    assert load(write(text)) == load(write("train: {}\n"))
    assert load(write(""), ["train=null"]) == load(write(""))


def test_names_of_layers_may_be_a_list(write):
    for value in ("[q_proj, v_proj]", "\n  - q_proj\n  - v_proj\n"):
        config = load(write(f"adapter:\n  target_modules: {value}"))
        assert config.adapter.target_modules == "q_proj,v_proj"


FAULTS = [
    (b"train:\n\tepochs: 3\n", r"not valid YAML: line 2, column 1: .*; indent with blanks"),
    (b"name: a\nseed: 1\nname: b\n", r"not valid YAML: line 3, column 1: found duplicate key name"),
    (b"name: a\n---\nname: b\n", r"line 2, column 1: .*another document"),
    ("name: caf\xe9\n".encode("latin-1"), r"not UTF-8; save it as UTF-8"),
    ("name: a\n".encode("utf-16"), r"not UTF-8; save it as UTF-8"),
    (b"train: {epochs: }\n", r"train\.epochs: nothing stands behind it; give it a value, or leave"),
    (b"name: [a, b]\n", r"name: expected a text, and a list came"),
    (b"train.epochs: 3\n", r"unknown key train\.epochs; .* `train: \{epochs: …\}`"),
    (b"questions.sampling.top_k: 3\n", r"`questions: \{sampling: \{top_k: …\}\}`"),
    ("train:\n\u00a0epochs: 3\n".encode(), r"unknown key train?\.'\\xa0epochs'|'\\xa0epochs'"),
    (b"model: {name: '${oc.env:NO_SUCH_1}'}\n", r"model\.name: .*'NO_SUCH_1' not found.*oc\.env"),
    (b"model: {name: './${oc.env:NO_SUCH_1}'}\n", r"model\.name: .*'NO_SUCH_1' not found"),
    (b"corpus: {documents: '${DOCS}'}\n", r"corpus\.documents: .*'DOCS' not found; .*oc\.env"),
    (b"out_dir: $HOME/runs\n", r"out_dir holds \$HOME, which only a shell expands; .*oc\.env:HOME"),
    (b"corpus: {documents: [a, $DOCS/b]}\n", r"corpus\.documents holds \$DOCS"),
    (b"model: {name: $MODEL}\n", r"model\.name holds \$MODEL"),
]


@pytest.mark.parametrize("text, message", FAULTS)
def test_a_fault_is_said_with_its_place_and_its_cure(write, text, message):
    with pytest.raises(ValueError, match=message):
        load(write(text))


def test_a_folder_may_be_called_like_a_variable(write, tmp_path):
    (tmp_path / "$DOCS").mkdir()
    config = load(write("corpus: {documents: $DOCS}\nnotes: It costs $5 or $HOME.\n"))
    assert config.corpus.documents == str(tmp_path / "$DOCS")


def test_variables_of_the_environment_are_read_by_name(write, monkeypatch):
    monkeypatch.setenv("TIDES_FOLDER", "/data/tides")
    config = load(write("corpus: {documents: '${oc.env:TIDES_FOLDER}/pages'}\n"))
    assert config.corpus.documents == "/data/tides/pages"
