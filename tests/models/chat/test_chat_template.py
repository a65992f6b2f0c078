"""Templates in the shapes that real models have: proved to fit, or refused with the reason."""

import pytest
from chat_families import LLAMA_3
from support import CHATML, tiny_tokenizer

from pdtrain.config import PromptConfig
from pdtrain.models.chat.chat_template import common_prefix, prove
from pdtrain.records import Passage

SYSTEM = "Answer briefly."
PASSAGE = Passage(
    "p", "d", "Osk", "Osk has a pier. It is 260 metres long.", 0, 38, 12, ((0, 15), (16, 38))
)
QUESTION = "How long is the pier of Osk?"

CHATML_WITH_DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}" + CHATML
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (messages[0]['content'] + '\n\n' if loop.last and "
    "messages[0]['role'] == 'system' else '') + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
DROPS_SYSTEM = CHATML.replace(
    "{% for message in messages %}",
    "{% for message in messages if message['role'] != 'system' %}",
)
STRIPS = CHATML.replace("message['content']", "message['content'] | trim")
THINKS = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n")
CUTS = CHATML.replace("message['content']", "message['content'][:40]")
SHOUTS = CHATML.replace("message['content']", "message['content'] | upper")
REPEATS = CHATML.replace("message['content']", "message['content'] + ' ' + message['content']")
HEADER_BY_LENGTH = CHATML.replace(
    "<|im_start|>assistant\n' }}",
    "<|im_start|>assistant' + (' long' if messages[-1]['content'] | length > 60 else '') }}",
)
GOOD = {
    "chatml": (CHATML, SYSTEM),
    "chatml_with_default_system": (CHATML_WITH_DEFAULT_SYSTEM, SYSTEM),
    "default_system_left_in_place": (CHATML_WITH_DEFAULT_SYSTEM, ""),
    "llama_3": (LLAMA_3, SYSTEM),
    "gemma_without_system_text": (GEMMA, ""),
    "mistral": (MISTRAL, SYSTEM),
    "strips_content": (STRIPS, SYSTEM),
    "adds_a_think_block": (THINKS, SYSTEM),
    "no_system_text_to_drop": (DROPS_SYSTEM, ""),
}


def tokenizer_with(template, end="<|im_end|>"):
    tokenizer = tiny_tokenizer()
    for token in (end, "<start_of_turn>", "<|start_header_id|>", "<|end_header_id|>"):
        tokenizer.add_special_tokens({"extra_special_tokens": [token]}, False)
    tokenizer.chat_template = template
    return tokenizer


def proved(template, system=SYSTEM, eos_ids=None, **prompts):
    return prove(tokenizer_with(template), PromptConfig(system=system, **prompts), eos_ids)


def decoded(chat, ids):
    return chat.tokenizer.decode(ids)


@pytest.mark.parametrize("template, system", GOOD.values(), ids=GOOD)
def test_the_teacher_reads_the_passage_the_student_does_not_and_both_end_alike(template, system):
    chat = proved(template, system)
    teacher = decoded(chat, chat.teacher(PASSAGE, QUESTION))
    student = decoded(chat, chat.student(QUESTION))
    assert teacher.count(PASSAGE.text) == 1 and "260" not in student
    assert teacher.count(QUESTION) == student.count(QUESTION) == 1
    assert teacher.count(SYSTEM) == student.count(SYSTEM) == (1 if system else 0)
    header = student.split(QUESTION)[1]
    assert header and teacher.split(QUESTION)[1] == header


@pytest.mark.parametrize("template, system", GOOD.values(), ids=GOOD)
def test_no_special_token_is_added_to_what_the_template_writes(template, system):
    chat = proved(template, system)
    text = chat.tokenizer.apply_chat_template(
        [{"role": "system", "content": system}] * bool(system)
        + [{"role": "user", "content": QUESTION}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert decoded(chat, chat.student(QUESTION)) == text


BAD = {
    "refuses_system": (GEMMA, r"refuses a system message \(System role not supported\); set promp"),
    "drops_system": (DROPS_SYSTEM, r"no system role and drops its text; set prompts.system=''"),
    "cuts_content": (CUTS, "shows the teacher the (passage|question) 0 times, expected once"),
    "changes_case": (SHOUTS, "drops its text|0 times, expected once"),
    "repeats_content": (REPEATS, "shows the teacher the passage 2 times, expected once"),
    "another_header_for_the_teacher": (HEADER_BY_LENGTH, "continues differently after the quest"),
}


@pytest.mark.parametrize("template, message", BAD.values(), ids=BAD)
def test_a_template_that_does_not_fit_is_refused_with_the_reason(template, message):
    with pytest.raises(ValueError, match=message):
        proved(template)


def test_a_template_that_always_fails_is_not_said_to_refuse_the_system_text():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content' }}{% endfor %}"
    with pytest.raises(ValueError, match=r"fails on a question .*chat_template\.jinja"):
        prove(tokenizer, PromptConfig(system="Be brief."), None)


def test_a_template_that_shows_the_student_the_passage_is_refused():
    leaky = "{{ 'Passage sentinel 7142.' }}" + CHATML
    with pytest.raises(ValueError, match=r"passage 2 times|must not see it"):
        proved(leaky)


@pytest.mark.parametrize(
    "teacher",
    [
        "{passage}\n\n{question}",
        "{question}\n\nThe text:\n{passage}",
        "Title: {title}\n{passage}\n{question}\nBe brief.",
        "{passage}\n{question}\n",
        "{passage}{focus}{question}",
    ],
)
def test_any_wording_of_the_teachers_prompt_ends_in_the_same_header(teacher):
    chat = proved(CHATML, teacher=teacher)
    both = [chat.teacher(PASSAGE, QUESTION, 1), chat.student(QUESTION)]
    header = chat.ids("<|im_end|>\n<|im_start|>assistant\n")
    assert [ids[-len(header) :] for ids in both] == [header, header]


def test_the_sentence_that_a_question_is_about_is_pointed_at():
    chat = proved(CHATML, focus="Look here: {sentence}\n")
    with_focus = decoded(chat, chat.teacher(PASSAGE, QUESTION, 1))
    assert "Look here: It is 260 metres long.\n" in with_focus
    assert "Look here" not in decoded(chat, chat.teacher(PASSAGE, QUESTION))


def test_braces_in_passage_and_question_are_left_alone():
    braced = Passage("p", "d", "{title}", "A set {1, 2} and {question}.", 0, 28, 9, ((0, 28),))
    chat = proved(CHATML, teacher="{title}: {passage} {focus}{question}")
    text = decoded(chat, chat.teacher(braced, "What is {passage}?", 0))
    assert "{title}: A set {1, 2} and {question}." in text
    assert "What is {passage}?" in text


@pytest.mark.parametrize("template, system", GOOD.values(), ids=GOOD)
def test_examples_come_before_the_request_and_one_instruction_with_them(template, system):
    """Without a system role the first example says what is wanted."""
    chat = proved(template, system)
    shots = [("The lamp is red.", "Which colour has the lamp?"), ("It hums.", "What does it do?")]
    text = decoded(chat, chat.few_shot("Ask something.", shots, "The pier is old."))
    turns = [*(part for shot in shots for part in shot), "The pier is old."]
    assert [text.count(turn) for turn in ("Ask something.", *turns)] == [1] * (1 + len(turns))
    assert [text.index(turn) for turn in turns] == sorted(text.index(turn) for turn in turns)
    student = decoded(chat, chat.student("The pier is old."))
    assert text.endswith(student.split("The pier is old.")[1])
    is_alone = system or "Ask something.\n\nThe lamp is red." in text
    assert is_alone and (not system or SYSTEM not in text)


def test_stop_ids_begin_with_the_templates_own_end_of_turn():
    tokenizer = tokenizer_with(LLAMA_3, end="<|eot_id|>")
    chat = prove(tokenizer, PromptConfig(system=SYSTEM), [7, 8])
    eot, eos = tokenizer.convert_tokens_to_ids("<|eot_id|>"), tokenizer.eos_token_id
    assert eot != eos
    assert chat.stop_ids == (eot, eos, 7, 8)


def test_a_special_token_without_a_role_ends_a_turn_too():
    tokenizer = tokenizer_with(LLAMA_3, end="<|eot_id|>")
    eot = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    tokenizer.extra_special_tokens = []  # known as special to the backend alone
    assert tokenizer.added_tokens_decoder[eot].special
    assert prove(tokenizer, PromptConfig(system=SYSTEM), None).stop_ids[0] == eot


@pytest.mark.parametrize("eos_ids, more", [(None, ()), (9, (9,)), ([9, 10], (9, 10))])
def test_the_models_own_ends_stop_an_answer_too(eos_ids, more):
    chat = proved(CHATML, eos_ids=eos_ids)
    assert chat.stop_ids == (chat.tokenizer.eos_token_id, *more)


def test_a_stop_id_is_named_once():
    end = tiny_tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert proved(CHATML, eos_ids=[end]).stop_ids == (end,)


def test_a_template_without_any_end_is_refused():
    tokenizer = tokenizer_with("{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}")
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="names a token that ends an answer"):
        prove(tokenizer, PromptConfig(system=""), None)


def test_text_of_an_answer_is_without_its_end():
    chat = proved(CHATML)
    assert chat.text([*chat.ids(" 260 metres"), chat.stop_ids[0]]) == "260 metres"


@pytest.mark.parametrize(
    "sequences, shared",
    [
        ([], 0),
        ([[1, 2, 3]], 2),
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2, 3], [1, 2, 3]], 2),
        ([[1, 2], [1, 2, 3, 4]], 1),
        ([[1], [1, 2]], 0),
        ([[1, 2, 3], [4, 2, 3]], 0),
        ([(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 9, 9)], 2),
    ],
)
def test_a_common_prefix_leaves_each_a_token_of_its_own(sequences, shared):
    assert common_prefix(sequences) == shared


DATED = CHATML.replace(
    "{% for message in messages %}",
    "Today is {{ strftime_now('%d %B %Y') }}.\n{% for message in messages %}",
    1,
)


def test_a_template_that_writes_the_date_writes_that_of_the_run():
    """Today's would change prompts, and so the teacher's cache, at midnight."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = DATED
    texts = []
    for date in ("2026-01-01", "2026-01-01", "2031-12-24"):
        chat = prove(tokenizer, PromptConfig(date=date), None)
        texts.append(tokenizer.decode(chat.student("What?")))
    assert "Today is 01 January 2026." in texts[0] == texts[1]
    assert "Today is 24 December 2031." in texts[2]


def test_a_date_in_a_computed_format_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = DATED.replace("'%d %B %Y'", "'%d' ~ ' %Y'")
    with pytest.raises(ValueError, match=r"^the chat template writes today's date in a format"):
        prove(tokenizer, PromptConfig(), None)


def test_a_blank_before_the_bracket_changes_nothing():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = DATED.replace("strftime_now(", "strftime_now (")
    chat = prove(tokenizer, PromptConfig(date="2026-01-01"), None)
    assert "Today is 01 January 2026." in tokenizer.decode(chat.student("What?"))


def test_a_saved_tokenizer_writes_the_date_of_the_run(tmp_path):
    """Export saves it: the adapter is served with the prompts that it was trained on."""
    from transformers import AutoTokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = DATED
    chat = prove(tokenizer, PromptConfig(system="", date="2026-01-01"), None)
    chat.tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    message = [{"role": "user", "content": "What?"}]
    found = saved.apply_chat_template(message, add_generation_prompt=True, return_dict=True)
    assert found["input_ids"] == chat.student("What?")


@pytest.mark.parametrize("date", ["", "today", "2026-13-01"])
def test_what_is_no_date_is_refused(date):
    with pytest.raises(ValueError, match=r"prompts\.date must be a date such as 2026-01-31"):
        PromptConfig(date=date)


def test_the_token_that_ends_an_answer_stands_in_no_text_though_it_is_not_special():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|done|>"])  # as words are added, not as special tokens are
    done = len(tokenizer) - 1
    chat = prove(tokenizer, PromptConfig(), [tokenizer.eos_token_id, done])
    words = chat.text_ids("oyster shells.")
    assert done in chat.stop_ids
    assert chat.text([*words, done]) == chat.text(words) == "oyster shells."
    assert "<|done|>" in chat.text([*words, done, *words]), "elsewhere it is what was said"
