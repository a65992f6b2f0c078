"""What templates do about thoughts is found by rendering; both sides' prompts end in the answer."""

import importlib.util
from pathlib import Path

import pytest
import thinking_templates as templates
from support import tiny_model, tiny_tokenizer

from pdtrain.config import ModelConfig, PromptConfig
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import common_prefix, prove
from pdtrain.models.chat.thinking import find, is_thought, let_think, silenced, without_thought
from pdtrain.records import Passage

PASSAGE = Passage(
    "p", "d", "Osk", "Osk has a pier. It is 260 metres long.", 0, 38, 12, ((0, 15), (16, 38))
)
CHATML = "<|im_end|>\n<|im_start|>assistant\n"
EMPTY = "<think>\n\n</think>\n\n"
REFLECTION = "<reflection>\n\n</reflection>\n\n"
OFF = {"enable_thinking": False}
# family: template, variables that are set, what is written behind the header, end of a prompt
FAMILIES = {
    "qwen3": (templates.QWEN3, OFF, "", CHATML + EMPTY),
    "qwen3_5_that_thinks": (templates.QWEN3_5, OFF, "", CHATML + EMPTY),
    "qwen3_5_that_does_not": (templates.QWEN3_5_SMALL, {}, "", CHATML + EMPTY),
    "qwen3_8_with_levels": (templates.QWEN3_8, OFF, "", CHATML + EMPTY),
    "deepseek_r1": (templates.R1, {}, "\n</think>\n\n", "<|Assistant|>" + EMPTY),
    "deepseek_3_1": (templates.DEEPSEEK_3_1, {}, "", "<|Assistant|></think>"),
    "nemotron_3": (templates.NEMOTRON_3, OFF, "", CHATML + "<think></think>"),
    "glm_4": (templates.GLM_4, OFF, "", "/nothink<|assistant|>\n<think></think>"),
    "gpt_oss": (
        templates.HARMONY,
        {},
        "<|channel|>final<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "muse_glimmer": (
        templates.RECIPIENTS,
        {},
        " to=user<|message|>",
        "<|eot|><|start|>assistant to=user<|message|>",
    ),
    "cohere_2": (
        templates.COHERE_2,
        {},
        "",
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|assistant|><|START_RESPONSE|>",
    ),
    "gemma_4": (templates.GEMMA_4, {}, "", "<turn|>\n<|turn>model\n"),
    "lfm_2_5": (templates.LFM_2_5, {}, "<think></think>", CHATML + "<think></think>"),
    "smollm_3": (templates.SMOLLM_3, OFF, "", CHATML + "<think>\n\n</think>\n"),
    "granite_3": (templates.GRANITE_3, {}, "", CHATML),
    "seed": (
        templates.SEED,
        {"thinking_budget": 0},
        "",
        CHATML + "<seed:think>I answer at once.</seed:think>",
    ),
    "names_marks_alone": (templates.NAMES_MARKS, {}, EMPTY, CHATML + EMPTY),
    "square_brackets": (
        templates.BRACKETS,
        {},
        "[THINK]\n\n[/THINK]\n\n",
        CHATML + "[THINK]\n\n[/THINK]\n\n",
    ),
    "plain": (templates.BARE, {}, "", CHATML),
    "a_switch_that_is_true_for_no": (
        templates.DISABLES,
        {"disable_thinking": True},
        "",
        CHATML + EMPTY,
    ),
    "a_name_that_says_no": (templates.SAYS_NO, {"no_thoughts_please": True}, "", CHATML),
    "a_switch_of_words": (templates.MODE_OFF, {"thinking_mode": "off"}, "", CHATML + EMPTY),
    "one_of_several_words": (templates.MODE_CHAT, {"mode": "chat"}, "", CHATML + "</think>"),
    "a_level_that_is_none": (templates.LEVEL_NONE, {"reasoning_effort": "none"}, "", CHATML),
    "asked_in_the_system_text": (
        templates.ASKED_IN_SYSTEM,
        {},
        "\n</think>\n\n",
        CHATML + EMPTY,
    ),
    "marks_of_its_own": (templates.REFLECTS, {}, REFLECTION, CHATML + REFLECTION),
    "marks_of_its_own_in_the_header": (
        templates.REFLECTS_AT_ONCE,
        {},
        "\n</reflection>\n\n",
        CHATML + REFLECTION,
    ),
    "an_unknown_mark_in_the_header": (
        templates.SCRATCHPAD_AT_ONCE,
        {},
        "\n</scratchpad>\n\n",
        CHATML + "<scratchpad>\n\n</scratchpad>\n\n",
    ),
    "an_unknown_mark_with_an_end_of_its_own": (
        templates.PIPES_AT_ONCE,
        {},
        "\n\n<|end_thinking|>\n\n",
        CHATML + "<|thinking|>\n\n<|end_thinking|>\n\n",
    ),
    "an_unknown_mark_that_has_ended": (
        templates.NO_SCRATCHPAD,
        {},
        "",
        CHATML + "<scratchpad></scratchpad>\n",
    ),
    "a_level_that_is_zero": (
        templates.LEVEL_ZERO,
        {"thinking_level": 0},
        "",
        CHATML + "<think></think>",
    ),
}
CASES = pytest.mark.parametrize("template, off, opener, end", FAMILIES.values(), ids=FAMILIES)


def tokenizer_of(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def found(template, thinking="auto", **given):
    config = ModelConfig(thinking=thinking, chat_template_kwargs=given)
    return find(tokenizer_of(template), config)


def proved(template, thinking="auto", system="", **given):
    tokenizer = silenced(tokenizer_of(template), found(template, thinking, **given))
    return prove(tokenizer, PromptConfig(system=system), None)


def ends(chat):
    """Return what stands behind the question in both prompts; it must be the same tokens."""
    sides = chat.student("How long is it?"), chat.teacher(PASSAGE, "How long is it?")
    texts = [chat.tokenizer.decode(ids).rpartition("How long is it?")[2] for ids in sides]
    size = len(chat.ids(texts[0]))
    assert texts[0] == texts[1] and sides[0][-size:] == sides[1][-size:]
    return texts[0]


def prompt_of(tokenizer, **variables):
    message = [{"role": "user", "content": "How long is it?"}]
    return tokenizer.apply_chat_template(
        message, tokenize=False, add_generation_prompt=True, **variables
    )


@CASES
def test_auto_turns_thoughts_off_by_what_the_template_has(template, off, opener, end):
    thinking = found(template)
    assert (thinking.off, thinking.opener) == (off, opener)
    assert ends(proved(template)) == end


@CASES
def test_the_template_that_is_kept_renders_what_the_original_does_with_variables(
    template, off, opener, end
):
    """An exported tokenizer writes the prompts of training without being told anything."""
    kept = silenced(tokenizer_of(template), found(template))
    original = tokenizer_of(template)
    assert prompt_of(kept) == prompt_of(original, **off) + opener
    turns = [
        {"role": "user", "content": "Who built it?"},
        {"role": "assistant", "content": "Anna Gray."},
    ]
    assert kept.apply_chat_template(turns, tokenize=False) == original.apply_chat_template(
        turns, tokenize=False, **off
    ), "nothing is added to a chat that ends with a reply"
    if not off and not opener:
        assert kept.chat_template == original.chat_template


@CASES
def test_what_was_settled_once_is_settled(template, off, opener, end):
    """A merged export is a base again, and needs nothing more."""
    kept = silenced(tokenizer_of(template), found(template))
    again = find(kept, ModelConfig())
    assert again.opener == "" and prompt_of(silenced(kept, again)) == prompt_of(kept)


@CASES
def test_prompts_of_several_turns_share_all_that_stands_before_the_request(
    template, off, opener, end
):
    """Templates strip the thoughts of earlier turns: what they write there must not depend on
    what comes later, or nothing could be read once for several prompts."""
    chat = proved(template)
    shots = [("Osk?", "Where is Osk?"), ("A pier?", "Who built the pier?")]
    first, other = (chat.few_shot("Ask.", shots, text) for text in ("Boats?", "Summer?"))
    shared = chat.tokenizer.decode(first[: common_prefix([first, other])])
    assert "Who built the pier?" in shared and not is_thought(shared.rpartition("pier?")[2])
    assert chat.tokenizer.decode(first).endswith(end)
    twins = [chat.teacher(PASSAGE, question) for question in ("How long is it?", "Is it old?")]
    assert PASSAGE.text in chat.tokenizer.decode(twins[0][: common_prefix(twins)])


ON = {
    "qwen3": (templates.QWEN3, {"enable_thinking": True}, "</think>", "\n\n"),
    "qwen3_5_that_does_not": (
        templates.QWEN3_5_SMALL,
        {"enable_thinking": True},
        "</think>",
        "\n\n",
    ),
    "deepseek_r1": (templates.R1, {}, "</think>", "\n\n"),
    "deepseek_3_1": (templates.DEEPSEEK_3_1, {"thinking": True}, "</think>", "\n\n"),
    "glm_4": (templates.GLM_4, {"enable_thinking": True}, "</think>", "\n"),
    "gpt_oss": (
        templates.HARMONY,
        {},
        "<|end|>",
        "<|start|>assistant<|channel|>final<|message|>",
    ),
    "muse_glimmer": (
        templates.RECIPIENTS,
        {},
        "<|eom|>",
        "<|start|>assistant to=user<|message|>",
    ),
    "gemma_4": (templates.GEMMA_4, {"enable_thinking": True}, "<channel|>", ""),
    "seed": (templates.SEED, {"thinking_budget": 1024}, "</seed:think>", "\n\n"),
    "a_switch_that_is_true_for_no": (
        templates.DISABLES,
        {"disable_thinking": False},
        "</think>",
        "\n\n",
    ),
    "a_switch_of_words": (templates.MODE_CHAT, {"mode": "thinking"}, "</think>", "\n\n"),
    "marks_of_its_own": (templates.REFLECTS, {}, "</reflection>", "\n\n"),
}


@pytest.mark.parametrize("template, on, end, after", ON.values(), ids=ON)
def test_with_thinking_on_the_model_may_think_and_the_end_of_a_thought_is_known(
    template, on, end, after
):
    thinking = found(template, "on")
    assert (thinking.on, thinking.end, thinking.after) == (on, end, after)
    thinks = prompt_of(let_think(tokenizer_of(template), thinking))
    assert thinks == prompt_of(tokenizer_of(template), **on)
    assert ends(proved(template, "on")) == ends(proved(template)), "training reads no thought"


def test_a_known_mark_in_the_header_has_its_own_end():
    header = "{{ '<|begin_of_thought|>\\n' }}"
    opened = templates.with_header(templates.CHATML, templates.ASSISTANT, header)
    assert found(opened, "on").end == "<|end_of_thought|>"


def test_levels_go_to_the_variable_that_knows_them():
    assert found(templates.HARMONY, "high").on == {"reasoning_effort": "high"}
    assert found(templates.RECIPIENTS, "low").on == {"reasoning_strength": "low"}
    both = found(templates.QWEN3_8, "medium").on
    assert both == {"enable_thinking": True, "reasoning_effort": "medium"}
    with pytest.raises(ValueError, match=r"thinking=high: .* no such level; set model.thinking=on"):
        found(templates.QWEN3, "high")


def test_a_level_and_the_same_variable_agree_or_are_refused():
    given = {"reasoning_effort": "high"}
    assert found(templates.HARMONY, "high", **given).on == given
    with pytest.raises(ValueError, match=r"thinking=low and .*reasoning_effort='high' contradict"):
        found(templates.HARMONY, "low", **given)


def test_off_writes_an_empty_thought_beside_a_switch_that_leaves_the_header_bare():
    assert found(templates.GEMMA_4, "off").opener == "<|channel>thought\n<channel|>"
    assert found(templates.QWEN3, "off").opener == "", "its switch writes one"
    assert found(templates.BARE, "off").opener == "", "nothing says how its thoughts would look"


def test_a_template_is_left_alone_where_that_is_asked_for():
    assert ends(proved(templates.QWEN3_5, "template")) == CHATML + "<think>\n"
    assert ends(proved(templates.LFM_2_5, "template")) == CHATML


def test_further_variables_reach_every_prompt():
    assert ends(proved(templates.QWEN3, "template", enable_thinking=False)) == CHATML + EMPTY
    thinking = found(templates.HARMONY, reasoning_effort="low")
    assert thinking.off == {"reasoning_effort": "low"}
    chat = proved(templates.HARMONY, reasoning_effort="low")
    assert "Reasoning: low" in chat.tokenizer.decode(chat.student("Why?"))
    assert found(templates.QWEN3, enable_thinking=False) == found(templates.QWEN3)


@pytest.mark.parametrize("value", ['a "word"', "it's {{ x }} %}", "né\n", None, 1.5, [1, {"a": 2}]])
def test_a_variable_of_any_json_type_is_written_into_the_template(value):
    template = "{{ '[' ~ value ~ ']' }}" + templates.BARE
    kept = silenced(tokenizer_of(template), found(template, value=value))
    assert prompt_of(kept).startswith(f"[{value}]")


@pytest.mark.parametrize(
    "template, thinking, given, message",
    [
        (
            templates.BARE,
            "auto",
            {"enable_thinkin": False},
            "enable_thinkin, which the model's cha",
        ),
        (templates.QWEN3, "auto", {"enable_thinking": True}, "does not; set model.thinking=on"),
        (templates.DISABLES, "auto", {"disable_thinking": False}, "set model.thinking=on"),
        (templates.MODE_CHAT, "auto", {"mode": "thinking"}, "set model.thinking=on"),
        (templates.BARE, "on", {}, "no mark that ends a thought.*set model.thinking=auto"),
        (templates.QWEN3, "low", {}, "no such level"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_set(template, thinking, given, message):
    with pytest.raises(ValueError, match=message):
        found(template, thinking, **given)


@pytest.mark.parametrize(
    "text, thinks",
    [
        ("<think>\nOkay, the user", True),
        ("\n<think>", True),
        ("<|channel|>analysis<|message|>The user asks", True),
        ("<|channel|>final<|message|>Paris.", True),
        (" to=self<|message|>Hm.", True),
        ("Hm, let me see.</think>\n\nParis.", True),
        ("[THINK]Hm.", True),
        ("<seed:think>", True),
        ("Paris is what I think.", False),
        ("I am thinking: <b>Paris</b>.", False),
        ("", False),
    ],
)
def test_a_thought_is_known_by_its_marks(text, thinks):
    assert is_thought(text) is thinks


@pytest.mark.parametrize(
    "text, said",
    [
        ("<think>Paris?</think>\n\nParis", "\n\nParis"),
        ("Is it </think>? No.</think>Paris", "Paris"),
        (" [THINK]Rome?[/THINK]Paris", "Paris"),
        ("<think>Is it Paris", ""),
        ("Paris <think>", "Paris <think>"),
        ("Paris", "Paris"),
        ("", ""),
    ],
)
def test_what_a_reply_says_stands_behind_its_thought(text, said):
    assert without_thought(text) == said


def test_a_loaded_tokenizer_is_silent_and_thinks_where_it_is_asked_to(tmp_path):
    folder = tiny_model(tmp_path)
    (folder / "chat_template.jinja").write_text(templates.QWEN3)
    silent = load_tokenizer(ModelConfig(name=str(folder)))
    assert prompt_of(silent).endswith(CHATML + EMPTY)
    config = ModelConfig(name=str(folder), thinking="on")
    assert prompt_of(load_tokenizer(config)).endswith(CHATML + EMPTY)
    assert prompt_of(load_tokenizer(config, thinks=True)).endswith(CHATML)


# --- The templates that TRL ships -----------------------------------------------------------------

TRL = importlib.util.find_spec("trl")
FOLDER = Path(TRL.origin).parent / "chat_templates" if TRL and TRL.origin else Path()
SHIPPED = sorted(FOLDER.glob("*.jinja")) if TRL else []
# these take a message's content as parts, not as text
IN_PARTS = ("idefics3", "llava_next", "smolvlm")
SILENT = {  # how a prompt ends, by the beginning of the file's name
    "qwen3": EMPTY,
    "deepseek": EMPTY,
    "nemotron_3": "<think></think>",
    "glm4moe": "\n<think></think>",
    "gptoss": "<|start|>assistant<|channel|>final<|message|>",
    "muse_glimmer": "<|start|>assistant to=user<|message|>",
    "cohere2": "<|START_RESPONSE|>",
    "gemma4": "<|turn>model\n",
    "lfm2_2_5": "<think></think>",
}
NEVER_THINK = ("qwen3_instruct_2507", "qwen3_vl")  # and hold no mark of a thought


@pytest.mark.skipif(not SHIPPED, reason="TRL, whose templates are read, is not installed")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_template_that_trl_ships_is_silent_on_both_sides(path):
    if path.stem.removesuffix("_training") in IN_PARTS:
        pytest.skip("it takes contents in parts, with images")
    template = path.read_text(encoding="utf-8")
    try:
        chat = proved(template, system="Be brief.")
    except ValueError as error:
        assert "system message" in str(error) and path.stem in ("gemma", "gemma_training")
        chat = proved(template)
    wanted = next((end for name, end in SILENT.items() if path.stem.startswith(name)), "")
    if path.stem.startswith(NEVER_THINK):
        wanted = CHATML
    end = ends(chat)
    assert end.endswith(wanted) and end.count("<think>") <= 1
    assert ("<think>" in end) <= ("</think>" in end)


def test_trl_still_ships_the_templates_that_are_tested_by_name():
    if not SHIPPED:
        pytest.skip("TRL, whose templates are read, is not installed")
    names = {path.stem for path in SHIPPED}
    assert all(any(name.startswith(family) for name in names) for family in SILENT)
