"""passages → questions: what is asked of what, and that nothing else decides it."""

import json
from dataclasses import replace

import pytest
from support import tiny_config, tiny_lesson, tiny_model, write_lesson

from pdtrain.storage import read_shards
from pdtrain.synthesis import questions, writer
from pdtrain.synthesis.text import normalise


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def few(monkeypatch):
    """A random model's questions would all be dropped: keep what it says."""
    real = writer.fault
    monkeypatch.setattr(
        writer,
        "fault",
        lambda question, *rest: real(replace(question, kind="recital"), *rest),
    )


COUNTS = {"per_sentence": 3, "per_passage": 2, "sampling": {"max_new_tokens": 6}, "per_entity": 0}


def asked(folder, model, passages, **sections):
    config = tiny_config(folder, model, **{"questions": COUNTS, **sections})
    write_lesson(config, passages)
    questions.ask(config)
    return list(read_shards(config.folder / "questions"))


def test_questions_of_a_passage_do_not_depend_on_the_other_passages(tmp_path, model, few):
    passages = [replace(passage, title="Osk Osk") for passage in tiny_lesson()[0]]
    whole = asked(tmp_path / "whole", model, passages)
    part = asked(tmp_path / "part", model, passages[1:2])
    assert part == [row for row in whole if row["passage_id"] == passages[1].id]
    assert any(row["kind"] == "fact" for row in part)
    assert {"fact", "reverse"} <= {row["kind"] for row in whole}


def test_a_question_is_asked_once_and_has_an_id_of_its_own(tmp_path, model, few):
    passages, _, _ = tiny_lesson()
    rows = asked(tmp_path, model, passages)
    assert len({row["id"] for row in rows}) == len(rows)
    texts = [(row["passage_id"], normalise(row["text"])) for row in rows]
    assert len(set(texts)) == len(texts)
    lengths = {p.id: len(p.sentences) for p in passages}
    assert all(-1 <= row["sentence"] < lengths[row["passage_id"]] for row in rows)
    whole = {row["kind"] for row in rows if row["sentence"] < 0}
    assert whole == {"summary", "list"}


def test_another_seed_asks_otherwise(tmp_path, model, few):
    passages, _, _ = tiny_lesson()
    texts = [
        {r["text"] for r in asked(tmp_path / str(seed), model, passages[:1], seed=seed)}
        for seed in (0, 1)
    ]
    assert texts[0] != texts[1]


def test_a_model_without_a_system_role_asks_too(tmp_path, few):
    folder = tiny_model(tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system') }}{% endif %}"
        + template
    )
    passages, _, _ = tiny_lesson(num_passages=1)
    rows = asked(tmp_path / "run", folder, passages, prompts={"system": ""})
    assert any(row["kind"] == "fact" for row in rows)


def test_held_out_questions_are_left_out_by_the_stage(tmp_path, model, capsys):
    passages, _, _ = tiny_lesson(num_passages=1)
    everything = asked(tmp_path / "all", model, passages)
    path = tmp_path / "held_out.jsonl"
    path.write_text(json.dumps({"question": everything[0]["text"], "answers": ["x"]}) + "\n")
    rest = asked(tmp_path / "rest", model, passages, evaluate={"questions": str(path)})
    assert rest == everything[1:]
    assert "1 equal to a held-out question" in capsys.readouterr().err
