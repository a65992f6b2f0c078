"""A model that thinks when its prompt lets it: silent by default, or its thoughts are cut off."""

import pytest
import thinking_templates as templates
from fake_backend import OPENINGS
from support import tiny_config, tiny_model, tiny_tokenizer
from thinking_model import THOUGHT, ThinkingModel

from pdtrain.cli import main
from pdtrain.config import ModelConfig, PromptConfig, SamplingConfig, dump
from pdtrain.generation.backend import open_backend
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.generation.thoughts import ThinkingBackend
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.models.chat.thinking import find, is_thought, let_think
from pdtrain.storage import read_json, read_shards

SENTENCES = [
    f"The {kind} of {place} was built in {year} by {name}."
    for year, (kind, place, name) in enumerate(
        (
            (kind, place, name)
            for kind, name in (
                ("mill", "Anna Gray"),
                ("pier", "Paul Reed"),
                ("tower", "Tobias Wells"),
                ("school", "Mary Finch"),
                ("bridge", "Hugo Stone"),
            )
            for place in ("Osk", "Vellau", "Brandholm", "Oak End", "Tarn", "Lower Hill")
        ),
        1801,
    )
]


def says(prompt, rng):
    """Ask for the phrase that is shown, answer with the sentence that is shown, else be polite."""
    turn = prompt.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
    if "\nAnswer: " in turn:
        shown, _, answer = turn.rpartition("\nAnswer: ")
        rest = " ".join(shown.replace(answer, "").rstrip(".").split())
        return f"{rng.choice(OPENINGS)} {rest}?"
    if "Using only the text above" in turn:
        return turn.split("\n\n")[-2]
    return "It is so."


def run_with(
    folder,
    monkeypatch,
    template,
    *stages,
    thinks_always=False,
    marks=("<think>", "</think>"),
    **model,
):
    """Run stages over the documents with a base that thinks where it can; return status, config."""
    opening, ending = marks
    documents = folder / "documents"
    documents.mkdir(parents=True)
    for start in range(0, len(SENTENCES), 5):
        text = " ".join(SENTENCES[start : start + 5])
        (documents / f"buildings_{start}.txt").write_text(text)
    base = tiny_model(folder / "model")
    (base / "chat_template.jinja").write_text(template)
    config = tiny_config(
        folder / "run",
        base,
        model=model,
        corpus={"documents": str(documents)},
        questions={"per_pair": 0, "per_entity": 0, "sampling": {"max_new_tokens": 200}},
        answers={
            "quote": False,
            "checks": 0,
            "enough_per_sentence": 99,
            "sampling": {"max_new_tokens": 200},
        },
    )

    def of_base(model, prompts, *, batch_size=32):
        tokenizer = load_tokenizer(model, thinks=model.thought_tokens > 0)
        silent = () if thinks_always else (f"{ending}\n\n", f"<|im_start|>assistant\n{ending}")
        chat = prove(tokenizer, prompts, None)
        return ThinkingModel(says, chat, f"{opening}\n", f"\n{ending}\n\n", silent)

    monkeypatch.setattr(HuggingFaceBackend, "of_base", of_base)
    dump(config, folder / "config.yaml")
    status = 0
    for stage in stages:
        status = status or main([stage, str(folder / "config.yaml")])
    return status, config


def texts(config, stage):
    return [record["text"] for record in read_shards(config.folder / stage)]


STAGES = ("passages", "questions", "answers")


@pytest.mark.parametrize(
    "template",
    [
        templates.QWEN3,
        templates.QWEN3_5,
        templates.NAMES_MARKS,
        templates.DISABLES,
        templates.MODE_OFF,
        templates.MODE_CHAT,
        templates.ASKED_IN_SYSTEM,
    ],
    ids=[
        "a_switch",
        "a_switch_and_an_open_header",
        "no_switch",
        "a_switch_that_is_true_for_no",
        "a_switch_of_words",
        "one_of_several_words",
        "asked_in_the_system_text",
    ],
)
def test_no_thought_is_in_two_hundred_questions_and_answers(template, tmp_path, monkeypatch):
    status, config = run_with(tmp_path, monkeypatch, template, *STAGES)
    assert status == 0
    for stage in ("questions", "answers"):
        found = texts(config, stage)
        assert len(found) >= 200 and len(set(found)) > 20
        assert not any(is_thought(text) or THOUGHT[:20] in text for text in found)
    assert all(text in " ".join(SENTENCES) for text in texts(config, "answers"))


REFLECTION = ("<reflection>", "</reflection>")


@pytest.mark.parametrize("template", [templates.REFLECTS, templates.REFLECTS_AT_ONCE])
def test_marks_that_the_template_alone_knows_are_written_as_an_empty_thought(
    template, tmp_path, monkeypatch
):
    status, config = run_with(tmp_path, monkeypatch, template, *STAGES, marks=REFLECTION)
    assert status == 0
    for stage in ("questions", "answers"):
        found = texts(config, stage)
        assert len(found) >= 200
        assert not any("reflection" in text or THOUGHT[:20] in text for text in found)


def test_marks_that_nobody_knows_are_refused_where_every_reply_begins_with_them(
    tmp_path, monkeypatch, capsys
):
    status, config = run_with(
        tmp_path, monkeypatch, templates.BARE, "run", thinks_always=True, marks=REFLECTION
    )
    assert status == 1 and "they begin with <reflection>" in capsys.readouterr().err
    assert not (config.folder / "passages").exists()


def test_a_template_that_was_silenced_by_hand_gives_the_same_questions_and_answers(
    tmp_path, monkeypatch
):
    by_hand = templates.QWEN3.replace(templates.OFF, "{% if true %}")
    kept = []
    for name, template in (("switch", templates.QWEN3), ("hand", by_hand)):
        status, config = run_with(tmp_path / name, monkeypatch, template, *STAGES)
        assert status == 0
        kept.append([texts(config, stage) for stage in ("questions", "answers")])
    assert kept[0] == kept[1]


def test_the_same_base_thinks_where_its_template_is_left_alone(tmp_path, monkeypatch, capsys):
    """Otherwise the test above would show nothing."""
    status, _ = run_with(tmp_path, monkeypatch, templates.QWEN3, "questions", thinking="template")
    assert status == 1
    assert "3 of 3 replies" in (said := capsys.readouterr().err)
    assert "are thoughts" in said and "set model.thinking=auto" in said


def test_with_thinking_on_thoughts_are_cut_off_before_anything_is_kept(tmp_path, monkeypatch):
    status, config = run_with(
        tmp_path, monkeypatch, templates.QWEN3, *STAGES, thinking="on", thinking_budget=400
    )
    assert status == 0
    for stage in ("questions", "answers"):
        found = texts(config, stage)
        assert len(found) >= 200
        assert not any(is_thought(text) or THOUGHT[:20] in text for text in found)
    assert all(text in " ".join(SENTENCES) for text in texts(config, "answers"))


def test_a_base_that_cannot_be_silenced_is_refused_before_the_first_stage(
    tmp_path, monkeypatch, capsys
):
    status, config = run_with(tmp_path, monkeypatch, templates.BARE, "run", thinks_always=True)
    assert status == 1
    said = capsys.readouterr().err
    assert "3 of 3 replies" in said and "chat_template.jinja, or take another model" in said
    assert not (config.folder / "passages").exists()
    assert not config.run.thinking_file.exists()


def test_one_that_thinks_behind_an_empty_thought_is_told_what_is_left(
    tmp_path, monkeypatch, capsys
):
    status, _ = run_with(tmp_path, monkeypatch, templates.QWEN3, "run", thinks_always=True)
    said = capsys.readouterr().err
    assert status == 1 and "set model.thinking=on, which cuts thoughts off" in said


def test_off_is_advised_where_it_says_more(tmp_path, monkeypatch, capsys):
    template = templates.GRANITE_3 + "{#- <think> -#}"
    status, _ = run_with(tmp_path, monkeypatch, template, "run")
    assert status == 1 and "set model.thinking=off" in capsys.readouterr().err
    status, config = run_with(tmp_path / "off", monkeypatch, template, *STAGES, thinking="off")
    assert status == 0 and len(texts(config, "answers")) >= 200


def test_the_base_is_asked_once_for_a_run_and_its_settings(tmp_path, monkeypatch):
    status, config = run_with(tmp_path, monkeypatch, templates.QWEN3, "passages", "questions")
    assert status == 0
    kept = read_json(config.run.thinking_file)
    assert kept["off"] == {"enable_thinking": False} and kept["opener"] == ""
    monkeypatch.setattr(HuggingFaceBackend, "of_base", lambda *_, **__: pytest.fail("asked again"))
    assert main(["questions", str(tmp_path / "config.yaml")]) == 0
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("thinking: auto", "thinking: 'off'"))
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        main(["questions", str(tmp_path / "config.yaml")])


# --- The backend that cuts thoughts off -----------------------------------------------------------

SAMPLING = SamplingConfig(temperature=0, max_new_tokens=60)
FORMS = {  # template, what the model writes before and after a thought, ends without a thought
    "bare_header": (templates.QWEN3, "<think>\n", "\n</think>\n\n", "</think>\n\n"),
    "open_header": (templates.R1, "<think>\n", "\n</think>\n\n", "</think>\n\n"),
    "channels": (
        templates.HARMONY,
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "final<|message|>",
    ),
    "recipients": (
        templates.RECIPIENTS,
        " to=self<|message|>",
        "<|eom|><|start|>assistant to=user<|message|>",
        "to=user<|message|>",
    ),
}


def thinking_backend(template, opening, ending, silent, budget=400, one_token=False):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    found = find(tokenizer, ModelConfig(thinking="on"))
    if one_token:
        tokenizer.add_special_tokens({"extra_special_tokens": [found.end]}, False)
    chat = prove(let_think(tokenizer, found), PromptConfig(system=""), None)
    model = ThinkingModel(lambda *_: "It is 260 metres long.", chat, opening, ending, (silent,))
    return ThinkingBackend(model, found, budget)


@pytest.mark.parametrize("one_token", [True, False], ids=["mark_of_one_token", "of_several"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_answer_is_what_the_model_says_behind_its_thought(form, one_token):
    backend = thinking_backend(*form, one_token=one_token)
    chat = backend.chat
    prompts = [chat.student("How long is it?"), chat.student("Is it long?")]
    done = backend.sample(prompts, SAMPLING, seed=1)
    wanted = (*chat.ids("It is 260 metres long."), chat.stop_ids[0])
    assert [c.token_ids for c in done] == [wanted, wanted]
    assert all(c.finished and c.text == "It is 260 metres long." for c in done)
    behind = backend.base.asked[-1].rpartition("Is it long?")[2]
    header = chat.tokenizer.decode(prompts[1]).rpartition("Is it long?")[2]
    opening = form[1] if not header.endswith(form[1]) else ""
    assert behind == header + opening + THOUGHT + form[2]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_thought_is_ended_where_the_budget_is_spent(form):
    backend = thinking_backend(*form, budget=30)
    done = backend.sample([backend.chat.student("How long is it?")], SAMPLING, seed=1)
    assert done[0].text == "It is 260 metres long."
    thinking = backend.thinking
    behind = backend.base.asked[-1]
    assert behind.endswith(thinking.end + thinking.after) and THOUGHT not in behind
    assert backend.base.calls[0].sampling.max_new_tokens == 30
    assert backend.base.calls[1].sampling == SAMPLING


def test_stop_tokens_of_the_caller_hold_for_the_answer_alone():
    backend = thinking_backend(*FORMS["bare_header"])
    stop = backend.chat.ids(" 260")[-1]
    assert stop not in backend.chat.ids("It is")
    prompts = [backend.chat.student("How long is it?")]
    (done,) = backend.sample(prompts, SAMPLING, seed=1, stop_ids=[stop])
    assert done.text.startswith("It is") and "metres" not in done.text


def test_a_reply_without_a_thought_is_asked_for_behind_an_empty_one():
    backend = thinking_backend(templates.QWEN3, "<think>\n", "\n</think>\n\n", "assistant\n")
    backend.base.silent = ("assistant\n", "</think>\n\n")
    (done,) = backend.sample([backend.chat.student("How long is it?")], SAMPLING, seed=1)
    assert done.text == "It is 260 metres long."
    assert backend.base.asked[-1].endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_text_that_is_no_chat_is_continued_without_a_thought():
    backend = thinking_backend(*FORMS["bare_header"])
    text = backend.chat.ids("The first thing to know is that")
    backend.sample([text, backend.chat.student("How long is it?")], SAMPLING, seed=1)
    assert len(backend.base.calls[0].prompts) == 1, "only the question is thought about"
    assert backend.base.calls[1].prompts[0] == "The first thing to know is that"


def test_what_does_not_fit_the_window_with_its_thought_is_refused():
    backend = thinking_backend(*FORMS["bare_header"])
    backend.base.window = 450
    with pytest.raises(ValueError, match=r"lower model.thinking_budget or corpus.max_passage"):
        backend.sample([backend.chat.student("How long is it?")], SAMPLING, seed=1)


def test_a_real_model_thinks_up_to_the_budget_and_its_answer_is_its_own(tmp_path):
    """With a model of transformers, the answer is what it samples behind its thought."""
    folder = tiny_model(tmp_path)
    (folder / "chat_template.jinja").write_text(templates.QWEN3)
    config = tiny_config(tmp_path, folder, model={"thinking": "on", "thinking_budget": 9})
    backend = open_backend(config)
    assert isinstance(backend, ThinkingBackend)
    prompt = backend.chat.student("How long is it?")
    (found,) = backend.sample([prompt], SAMPLING, seed=3)
    (thought,) = backend.base.sample(
        [prompt], SamplingConfig(temperature=0, max_new_tokens=9), seed=3
    )
    behind = [*prompt, *thought.token_ids, *backend.chat.ids("</think>\n\n")]
    (wanted,) = backend.base.sample([behind], SAMPLING, seed=3)
    assert found == wanted
