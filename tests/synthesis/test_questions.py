"""passages → questions: what the stage asks, and that nothing else decides it."""

import json
from dataclasses import replace

import pytest
from fake_backend import FakeBackend, ask_well
from support import tiny_config, tiny_model, tiny_records, write_records

from pdtrain.records import Passage
from pdtrain.storage import read_json, read_shards
from pdtrain.synthesis import questions
from pdtrain.synthesis.text import normalise

TEXTS = {
    "The Blue Mill": (
        "In 1801 Anna Gray built the Blue Mill beside the river at Oak End. "
        "The Blue Mill grinds rye and oats for the old village."
    ),
    "The Tower Clock": "The Tower Clock of Oak End was made by old Paul Reed in a cold winter.",
}


def passages():
    found = []
    for title, text in TEXTS.items():
        end = text.index(". ") + 1 if ". " in text else len(text)
        spans = ((0, end), (end + 1, len(text)))[: 1 + (end < len(text))]
        found.append(Passage(title, f"{title}.md", title, text, 0, len(text), 20, spans))
    return found


def asked(folder, passages, backend=None, **sections):
    """The questions of the stage, each as an object; kinds about two things are off."""
    off = {"per_pair": 0, "per_entity": 0}
    sections["questions"] = off | sections.get("questions", {})
    config = tiny_config(folder, "none", **sections)
    write_records(config, passages)
    questions.ask(config, backend or FakeBackend(ask_well))
    return list(read_shards(config.folder / "questions"))


def test_questions_of_a_passage_do_not_depend_on_the_other_passages(tmp_path):
    whole = asked(tmp_path / "whole", passages())
    part = asked(tmp_path / "part", passages()[:1])
    assert part == [row for row in whole if row["passage_id"] == "The Blue Mill"]
    assert {"fact", "reverse"} <= {row["kind"] for row in part}


def test_a_question_is_asked_once_and_has_an_id_of_its_own(tmp_path):
    rows = asked(tmp_path, passages())
    assert len({row["id"] for row in rows}) == len(rows)
    texts = [(row["passage_id"], normalise(row["text"])) for row in rows]
    assert len(set(texts)) == len(texts)
    lengths = {p.id: len(p.sentences) for p in passages()}
    assert all(-1 <= row["sentence"] < lengths[row["passage_id"]] for row in rows)
    whole = {row["kind"] for row in rows if row["sentence"] < 0}
    assert whole == {"summary", "list"}


def test_another_seed_asks_otherwise(tmp_path):
    texts = [
        {row["text"] for row in asked(tmp_path / str(seed), passages(), seed=seed)}
        for seed in (0, 1)
    ]
    assert texts[0] != texts[1]


def test_a_second_time_the_model_is_not_asked_and_an_edit_asks_about_its_passage_alone(tmp_path):
    first = asked(tmp_path, passages())
    backend = FakeBackend(ask_well)
    assert asked(tmp_path, passages(), backend) == first and not backend.calls
    mill, clock = passages()
    edited = replace(mill, id="edited", title="The Blue Mill of Oak End")
    again = asked(tmp_path, [edited, clock], backend)
    assert backend.asked and not any("Tower Clock" in prompt for prompt in backend.asked)
    own = [row for row in again if row["passage_id"] == clock.id]
    assert own == [row for row in first if row["passage_id"] == clock.id]


def test_held_out_questions_are_left_out_by_the_stage(tmp_path):
    everything = asked(tmp_path / "all", passages())
    path = tmp_path / "held_out.jsonl"
    path.write_text(json.dumps({"question": everything[0]["text"], "answers": ["x"]}) + "\n")
    rest = asked(
        tmp_path / "rest",
        passages(),
        questions={"near_duplicate": 1.0},
        evaluate={"questions": str(path)},
    )
    taken = normalise(everything[0]["text"])
    without = asked(tmp_path / "equal", passages(), questions={"near_duplicate": 1.0})
    assert rest == [row for row in without if normalise(row["text"]) != taken]
    assert len(rest) < len(without)


def test_what_was_asked_is_counted_by_sentence_and_kind(tmp_path):
    rows = asked(tmp_path, passages())
    (mill, clock) = read_json(tmp_path / "coverage.json")["passages"]
    for counts in (mill, clock):
        own = [row for row in rows if row["passage_id"] == counts["passage"]]
        assert sum(counts["questions"].values()) == len(own) and counts["answers"] == {}
        about = [row["sentence"] for row in own]
        assert counts["questions_per_sentence"] == [
            about.count(index) for index in range(counts["sentences"])
        ]


def test_passages_alone_are_trained_on_without_questions(tmp_path):
    backend, config = (
        FakeBackend(ask_well),
        tiny_config(tmp_path, "none", train={"objective": "raw_text"}),
    )
    questions.ask(config, backend)
    assert not backend.calls and not (tmp_path / "questions").exists()


@pytest.mark.parametrize("has_role", [True, False])
def test_a_real_model_is_asked_with_and_without_a_system_role(tmp_path, has_role):
    """A random model says nothing that is kept, but it is asked: what is dropped was said."""
    folder = tiny_model(tmp_path / "model")
    if not has_role:
        template = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.jinja").write_text(
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system') }}{% endif %}"
            + template
        )
    few = {"per_sentence": 2, "per_entity": 0, "sampling": {"max_new_tokens": 6}}
    prompts = {} if has_role else {"system": ""}
    config = tiny_config(tmp_path / "run", folder, questions=few, prompts=prompts)
    write_records(config, tiny_records(num_passages=1)[0])
    questions.ask(config)
    assert {"recital", "summary"} <= {question.kind for question in config.run.questions()}
