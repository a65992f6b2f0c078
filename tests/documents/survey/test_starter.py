"""`pdtrain init`: what it finds in a folder, and the config that it writes."""

import json
from pathlib import Path

import pytest

from pdtrain.cli import main
from pdtrain.config import RunConfig, load
from pdtrain.documents.ingest.listing import list_files
from pdtrain.documents.survey.look import look, tokens_of
from pdtrain.documents.survey.starter import summary

ENGLISH = "The pier of Osk was built in 1883, and the keeper kept three goats. " * 8
GERMAN = "Der Leuchtturm wurde im Jahre 1883 von einem Ingenieur aus der Stadt erbaut. " * 8


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """A folder as people have it, and the working folder beside it."""
    folder = tmp_path / "My docs"
    (folder / "de").mkdir(parents=True)
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"{ENGLISH} Number {number}.")
    (folder / "de/turm.md").write_text(f"# Turm\n\n{GERMAN}")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 cut off")
    (folder / "song.mp3").write_bytes(b"ID3")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_config_loads_and_reads_what_was_found(docs, capsys):
    assert main(["init", "My docs", "model.name=Qwen/Qwen3-8B"]) == 0
    config = load("My-docs.yaml")
    assert (config.name, config.model.name) == ("My-docs", "Qwen/Qwen3-8B")
    assert len(list_files(config.corpus).files) == 32
    text = Path("My-docs.yaml").read_text()
    for said in ("30     .txt", "1      .md", "broken: broken.pdf", "1 files (.mp3)", "en 9", "de"):
        assert said in text, said
    assert "languages: [en, de]" in text
    assert config.plan.passages == look(docs, 512).total("passages")
    assert config.retain.weight > 0 and config.retain.reading > 0, "its adapter still reads"
    assert config.train.learning_rate == 1e-4, "the default suits the embedded model alone"
    assert "pdtrain inspect My-docs.yaml" in capsys.readouterr().err


def test_a_config_that_is_there_is_left_alone(docs, capsys):
    Path("My-docs.yaml").write_text("# mine\n")
    assert main(["init", "My docs"]) == 1
    assert "name=My-docs-2" in capsys.readouterr().err
    assert Path("My-docs.yaml").read_text() == "# mine\n"
    assert main(["init", "My docs", "name=second"]) == 0
    second = load("second.yaml")
    assert (second.name, second.model.name) == ("second", "embedded")
    assert second.train.learning_rate == RunConfig().train.learning_rate
    said = Path("second.yaml").read_text().replace("# train:", "train:")
    Path("third.yaml").write_text(said)
    assert load("third.yaml").train.learning_rate == 1e-4, "what is proposed must be a config"


@pytest.mark.parametrize("given", ["train.epochs=3", "nonsense"])
def test_other_keys_are_set_in_the_file(docs, capsys, given):
    assert main(["init", "My docs", given]) == 1
    assert "init takes model.name=… and name=…" in capsys.readouterr().err


def test_a_folder_without_documents_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["init", "empty"]) == 1
    assert "holds no document" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml"))


def test_numbers_of_a_sample_are_scaled_to_all_files(docs):
    found = look(docs, 512)
    kind = found.kinds[".txt"]
    assert (kind.files, kind.files_read) == (30, 20)
    written = sum(len(path.read_text().strip()) for path in docs.glob("*.txt"))
    assert kind.of_all(kind.characters) == pytest.approx(written, rel=0.02)
    assert kind.of_all(kind.documents) == 30
    assert any("32 files" in line and "read: 22 of them" in line for line in summary(found))


def test_columns_of_records_are_named_in_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"headline": "Osk", "body": ENGLISH, "n": 3}] * 3
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["init", "rows.jsonl"]) == 0
    corpus = load("rows.yaml").corpus
    assert (corpus.text_field, corpus.title_field) == ("body", "headline")
    assert '# text: "{headline}\\n\\n{body}"' in Path("rows.yaml").read_text()


def test_questions_and_answers_are_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faq").mkdir()
    (tmp_path / "faq/a.csv").write_text("question,answer\nWho?,Anna Gray built it.\n")
    assert main(["init", "faq"]) == 0
    assert load("faq.yaml").questions.given == "faq/a.csv"


def test_names_do_not_leave_their_comments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = 'it\'s #1: "odd"'
    (tmp_path / odd).mkdir()
    (tmp_path / odd / "a.txt").write_text(ENGLISH)
    (tmp_path / odd / "x\nname: stolen.pdf").write_bytes(b"no pdf")
    assert main(["init", odd]) == 0
    (path,) = tmp_path.glob("*.yaml")
    config = load(path)
    assert config.name == "it-s-1-odd" and len(list_files(config.corpus).files) == 2


def test_the_folder_one_works_in_leaves_out_runs_and_configs(docs, monkeypatch):
    monkeypatch.chdir(docs)
    assert main(["init", "."]) == 0
    corpus = load("My-docs.yaml").corpus
    names = [file.name for file in list_files(corpus).files]
    assert len(names) == 32 and "My-docs.yaml" not in names


def test_tokens_are_estimated_by_script():
    assert tokens_of("a" * 400) == 100
    assert 60 < tokens_of("灯" * 100) < 80
    assert 100 < tokens_of("я" * 400) < 150
