"""What the base makes up about other things: kinds, seeds, and what is never trained on."""

import json

import pytest
from fake_backend import FakeBackend
from support import tiny_config, tiny_model, tiny_tokenizer

from pdtrain.config import from_dict
from pdtrain.synthesis import regularization
from pdtrain.synthesis.held_out import read_unrelated
from pdtrain.synthesis.text import content_words, normalise

TOPICS = ("volcanoes", "chess", "salt")
SETTINGS = {"weight": 1.0, "per_topic": 4, "sampling": {"max_new_tokens": 6}}


def collected(folder, backend=None, model="none", topics=TOPICS, **sections):
    config = tiny_config(folder, model, retain=SETTINGS, **sections)
    regularization.collect(config, backend, topics)
    return list(config.run.regularization())


def at_random(prompt, rng):
    return f"What is number {rng.random()}?"


def test_topics_are_asked_about_and_texts_are_opened(tmp_path):
    backend = FakeBackend(at_random)
    found = collected(tmp_path, backend)
    assert len({one.id for one in found}) == len(found) == 12
    for place, topic in enumerate(TOPICS):
        own = found[4 * place : 4 * place + 4]
        assert [one.kind for one in own] == ["question", "text", "request", "question"]
        assert all(topic in one.prompt for one in own if one.kind != "question")
    asked, answered = backend.calls
    assert sum(f"Topic: {topic}" in prompt for topic in TOPICS for prompt in asked.prompts) == 6
    # a text is opened without a chat, and everything else is asked in one
    plain = {prompt for prompt in answered.prompts if "<|im_start|>" not in prompt}
    assert plain == {one.prompt for one in found if one.kind == "text"}


def test_neighbours_get_other_wordings(tmp_path):
    found = collected(tmp_path, FakeBackend(at_random))
    texts = [o.prompt.replace(t, "") for t in TOPICS for o in found if t in o.prompt]
    assert len(set(texts)) == len(texts)


def test_the_same_seed_makes_the_same_and_another_makes_others(tmp_path):
    first, again = (collected(tmp_path / name, FakeBackend(at_random)) for name in "ab")
    assert first == again
    other = collected(tmp_path / "c", FakeBackend(at_random), seed=1)
    assert not {one.text for one in other} & {one.text for one in first}


def test_a_group_of_topics_does_not_depend_on_the_groups_after_it(tmp_path):
    many = regularization.TOPICS[: regularization.TOGETHER + 2]
    whole = collected(tmp_path / "whole", FakeBackend(at_random), topics=many)
    part = collected(tmp_path / "part", FakeBackend(at_random), topics=many[:-2])
    assert part == whole[: len(part)] and len(part) < len(whole)


def test_a_second_time_nothing_is_made_and_a_weight_is_no_reason(tmp_path):
    first, backend = collected(tmp_path, FakeBackend(at_random)), FakeBackend(at_random)
    config = tiny_config(tmp_path, "none", retain=SETTINGS | {"weight": 0.5, "per_step": 9})
    regularization.collect(config, backend, TOPICS)
    assert not backend.calls and list(config.run.regularization()) == first


def test_without_a_weight_nothing_is_made(tmp_path):
    backend = FakeBackend(at_random)
    regularization.collect(tiny_config(tmp_path, "none"), backend)
    assert not backend.calls and not (tmp_path / "retain").exists()


def asked_by_base(folder, *questions, **sections):
    """The prompts that are kept of a base that asks these in turn."""
    backend = FakeBackend.in_turn(*questions)
    return {normalise(one.prompt) for one in collected(folder, backend, **sections)}


def test_what_forgetting_is_measured_on_is_never_trained_on(tmp_path):
    """A base that asks what is held out, in other letters, is not heard."""
    held_out = read_unrelated().questions
    prompts = asked_by_base(tmp_path, held_out[1].upper(), "What else?")
    assert normalise("What else?") in prompts
    assert not prompts & {normalise(question) for question in held_out}


def test_what_the_documents_are_asked_is_never_trained_on_either(tmp_path):
    """Nor nearly: what the base says without the passage would be learned as the answer."""
    path = tmp_path / "q.jsonl"
    held_out = "How many harbour masters has the old town of Osk had since the year 1812?"
    path.write_text(json.dumps({"question": held_out, "answers": ["9"]}) + "\n")
    near = held_out.replace("old ", "")
    prompts = asked_by_base(tmp_path, near, "What else?", evaluate={"questions": str(path)})
    assert normalise("What else?") in prompts and normalise(near) not in prompts
    prompts = asked_by_base(tmp_path / "unknown", near, "What else?")
    assert normalise(near) in prompts


def test_a_question_is_one_line_and_an_empty_or_repeated_one_is_dropped(tmp_path):
    prompts = asked_by_base(tmp_path, "What now?\nAnd then?", "", topics=TOPICS[:1])
    assert normalise("What now?") in prompts and len(prompts) == 3
    prompts = asked_by_base(tmp_path / "twice", "What now?", topics=TOPICS[:1])
    assert normalise("What now?") in prompts and len(prompts) == 3


def test_a_real_model_keeps_the_tokens_that_it_sampled(tmp_path):
    model = tiny_model(tmp_path / "model")
    found = collected(tmp_path / "run", model=model)
    tokenizer = tiny_tokenizer()
    assert found and all(0 < len(one.token_ids) <= 6 for one in found)
    for one in found:
        assert tokenizer.decode(one.token_ids, skip_special_tokens=True).strip() == one.text


def test_topics_are_not_those_of_the_texts_that_forgetting_is_measured_on():
    from pdtrain.synthesis.regularization import SHOTS

    bundled = read_unrelated()
    topics = set().union(*(content_words(topic) for topic in regularization.TOPICS))
    for question in (*bundled.questions, *bundled.texts):
        shared = content_words(question) & topics
        assert len(shared) <= 1, (question, shared)
    shown = {normalise(question) for _, question in SHOTS}
    assert not shown & {normalise(question) for question in bundled.questions}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"weight": -1}, r"retain\.weight must be >= 0 \(0 is off\), got -1"),
        ({"per_step": 0}, r"retain\.per_step must be > 0, got 0"),
        ({"per_topic": 0}, r"retain\.per_topic must be > 0, got 0"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict({"retain": values})
