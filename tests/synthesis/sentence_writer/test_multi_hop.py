"""Questions about two things: which go together, what is asked, who reads what, and their reuse."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from fake_backend import FakeBackend
from support import tiny_config, tiny_tokenizer, write_records

from pdtrain.config import LossConfig, QuestionConfig, RunConfig
from pdtrain.distillation import examples, packing
from pdtrain.models.chat.chat_template import joined, prove
from pdtrain.records import Answer, Passage, Question, content_id
from pdtrain.storage import read_shards
from pdtrain.synthesis import answers, questions
from pdtrain.synthesis.filters import needs_both
from pdtrain.synthesis.question_kinds import fault
from pdtrain.synthesis.sentence_writer.multi_hop import (
    TEMPLATE_TOKENS,
    asked_of_names,
    asked_of_pairs,
    passage_pairs,
    requests,
    sentence_pairs,
)
from pdtrain.synthesis.sentence_writer.question_examples import PAIR_EXAMPLES
from pdtrain.synthesis.sentence_writer.question_templates import ENTITIES
from pdtrain.synthesis.sentence_writer.writer import Writer
from pdtrain.synthesis.text import sentences_of
from pdtrain.training import training_set

OFF = dict.fromkeys(QuestionConfig().counts(), 0)


def passage_of(title, *sentences):
    spans, text = [], ""
    for sentence in sentences:
        text += " " if text else ""
        spans.append((len(text), len(text) + len(sentence)))
        text += sentence
    name = content_id(title, text)
    return Passage(name, f"{title}.txt", title, text, 0, len(text), 9, tuple(spans))


MILL = passage_of(
    "The Blue Mill",
    "The Blue Mill stands by the river.",
    "Rain was heavy in spring.",
    "The Blue Mill grinds rye and oats.",
    "In 1801 the baker Anna Gray paid for it.",
    "Every autumn old Anna Gray sang there.",
)
FAIR = passage_of(
    "The winter fair",
    "The winter fair sells honey cakes.",
    "A prize of 90 coins went to Anna Gray.",
)
CLOCK = passage_of("The tower clock", "The tower clock is late.", "Its keeper Paul Reed wound it.")
TRAIN = passage_of("The Silver Train", "The Silver Train brought Anna Gray home with Paul Reed.")
CORPUS = [MILL, FAIR, CLOCK, TRAIN]


def config_of(folder, **counts):
    return tiny_config(folder, "none", questions=OFF | {"per_sentence": 1} | counts)


# --- Pairs of sentences -----------------------------------------------------------------------


def test_sentences_that_share_the_subject_or_a_name_go_together_once():
    assert sentence_pairs(MILL) == [(0, 2), (3, 4)]
    assert sentence_pairs(FAIR) == []


def test_a_phrase_that_the_other_sentence_has_too_is_not_asked_for():
    found = list(asked_of_pairs(MILL, 1))
    assert [pair.index for pair in found] == [2, 4]  # the second sentence of each pair
    many = list(asked_of_pairs(MILL, 9))
    assert len(many) == 18 and {pair.index for pair in many} == {0, 2, 3, 4}
    sentences = sentences_of(MILL)
    for pair in many:
        assert pair.phrase in sentences[pair.index]
        (other,) = {pair.first, pair.second} - {sentences[pair.index]}
        assert pair.phrase not in other and pair.phrase not in ("Blue Mill", "Anna Gray")
    assert list(asked_of_pairs(MILL, 0)) == []


BOTH = ("Anna Gray built the mill.", "Anna Gray sang in May.")


@pytest.mark.parametrize(
    "question, both",
    [
        ("When did the woman who built it sing, as she sang?", True),
        ("When did Anna Gray sang?", False),
        ("Who built what?", False),
        ("Who is Anna Gray of the mill?", False),  # the title has the mill
        ("", False),
    ],
)
def test_a_question_needs_both_sentences_or_is_about_one_alone(question, both):
    assert needs_both(question, *BOTH, "The mill") == both


def test_the_examples_need_both_and_do_not_give_themselves_away():
    for shown, phrase, question in PAIR_EXAMPLES.shots:
        first, second = shown.split("\n")
        assert needs_both(question, first, second, "")
        made = passage_of("Notes", first, second)
        asked = Question("q", made.id, question, "multi", 1, phrase)
        assert fault(asked, made, set()) == ""


# --- Pairs of passages ------------------------------------------------------------------------


def titles(pairs):
    return [(pair.first.title, pair.other.title) for pair in pairs]


def test_each_name_goes_from_passage_to_passage_in_order(tmp_path):
    pairs = passage_pairs(CORPUS, config_of(tmp_path, per_entity=1))
    assert [pair.names for pair in pairs] == [("Anna Gray",), ("Anna Gray",), ("Paul Reed",)]
    wanted = [(MILL, FAIR), (FAIR, TRAIN), (CLOCK, TRAIN)]
    assert titles(pairs) == [(a.title, b.title) for a, b in wanted]
    assert not any(pair.is_compared for pair in pairs)
    many = [passage_of(f"Page {i}", f"Here {i} stood Anna Gray.") for i in range(40)]
    assert len(passage_pairs(many, config_of(tmp_path, per_entity=1))) == 39


def test_a_passage_is_compared_with_the_next_that_shares_a_name_or_the_next(tmp_path):
    pairs = passage_pairs(CORPUS, config_of(tmp_path, per_passage_comparisons=2))
    wanted = [(MILL, FAIR), (FAIR, TRAIN), (CLOCK, TRAIN)]
    assert titles(pairs) == [(a.title, b.title) for a, b in wanted]
    assert all(pair.is_compared and not pair.names for pair in pairs)
    texts = [q.text for q in requests(pairs[0], config_of(tmp_path, per_passage_comparisons=2))]
    assert texts == [
        "Compare the Blue Mill and the winter fair.",
        "What do the Blue Mill and the winter fair have in common?",
    ]
    alone = [replace(MILL, id="x"), FAIR, passage_of("Rye", "Rye is grass.")]
    assert len(passage_pairs(alone, config_of(tmp_path, per_passage_comparisons=1))) == 2
    same = [MILL, replace(MILL, id="x")]
    assert passage_pairs(same, config_of(tmp_path, per_passage_comparisons=1)) == []


def test_without_the_knobs_there_are_no_pairs(tmp_path):
    assert passage_pairs(CORPUS, config_of(tmp_path)) == []


def test_what_a_name_is_asked_about_is_a_phrase_of_the_first_passage(tmp_path):
    pair = passage_pairs(CORPUS, config_of(tmp_path, per_entity=1))[0]
    found = list(asked_of_names(pair))
    assert found and {name for name, _ in found} == {"Anna Gray"}
    for _, sentences in found:
        assert sentences_of(MILL)[sentences.index] == sentences.first
        assert sentences.second == sentences_of(FAIR)[1]
        assert sentences.phrase in sentences.first and "Anna" not in sentences.phrase


def test_an_edit_of_either_passage_makes_another_unit_and_of_a_third_none(tmp_path):
    config = config_of(tmp_path, per_entity=1, per_passage_comparisons=1)
    before = [pair.id for pair in passage_pairs(CORPUS, config)]
    edited = passage_of(CLOCK.title, "The tower clock is fast.", "Its keeper Paul Reed wound it.")
    after = [pair.id for pair in passage_pairs([MILL, FAIR, edited, TRAIN], config)]
    assert after[:2] == before[:2] and after[2] != before[2]


# --- What teacher and student read ------------------------------------------------------------


def test_a_question_about_one_passage_is_written_as_before():
    question = Question("q", "p", "Who?", "fact", 0, "Anna")
    assert set(question.to_json()) == {"id", "passage_id", "text", "kind", "sentence", "phrase"}
    assert Question.from_json(question.to_json()) == question
    other = replace(question, other_passage_id="o")
    assert other.to_json()["other_passage_id"] == "o"
    assert Question.from_json(other.to_json()) == other


def test_a_joined_passage_begins_as_the_first_and_keeps_its_sentences():
    both = joined([MILL, FAIR])
    assert both.text == f"{MILL.text}\n\n{FAIR.text}" and both.title == MILL.title
    assert sentences_of(both) == sentences_of(MILL) + sentences_of(FAIR)
    assert len({both.id, joined([FAIR, MILL]).id, MILL.id}) == 3


def test_the_teacher_of_two_passages_reads_both_and_the_student_none():
    tokenizer = tiny_tokenizer()
    chat = prove(tokenizer, RunConfig().prompts, None)
    asked = [
        Question("q0", MILL.id, "Who is Anna Gray?", "fact", 3),
        Question("q1", MILL.id, "Who is Anna Gray?", "cross", -1, "", FAIR.id),
    ]
    given = [Answer(f"a{q.id}", q.id, MILL.id, "-", (7, 8), True) for q in asked]
    alone, cross = examples.from_answers([MILL, FAIR], asked, given, chat)
    teacher = tokenizer.decode(cross.teacher_prompt)
    assert MILL.text in teacher and FAIR.text in teacher
    assert FAIR.text not in tokenizer.decode(alone.teacher_prompt)
    student = tokenizer.decode(cross.student_prompt)
    assert "Who is Anna Gray?" in student
    assert not any(s in student for s in (*sentences_of(MILL), *sentences_of(FAIR)))
    assert cross.student_prompt == alone.student_prompt
    # packed, the first passage is read once for both
    side = packing.twin_batch([alone, cross], LossConfig(), torch.device("cpu"), with_teacher=True)
    shared = tokenizer.decode(side.teacher.ids[: side.teacher.layout[0][0]].tolist())
    assert len(side.teacher.layout) == 1 and MILL.text[:-1] in shared
    with pytest.raises(ValueError, match="of other passages or questions"):
        examples.from_answers([MILL], asked, given, chat)


def test_what_an_old_and_a_new_passage_say_together_is_new():
    old = examples.Example("a0", MILL.id, (1,), (1,), (2,))
    both = replace(old, answer_id="a1", other_passage_id=FAIR.id)
    assert training_set.selected([old, both], {MILL.id}, 0, 0) == [both]
    assert training_set.selected([old, both], {MILL.id, FAIR.id}, 0, 0) == [old, both]


# --- The stages -------------------------------------------------------------------------------


def writer_of(folder, *texts, **counts):
    backend = FakeBackend.in_turn(*texts)
    return Writer(config_of(folder, **{"per_sentence": 0} | counts), set(), Counter(), backend)


def test_pairs_of_sentences_are_shown_together_and_what_needs_one_alone_is_dropped(tmp_path):
    writer = writer_of(
        tmp_path,
        "What does the Blue Mill by the river grind with its rye?",
        "When did Anna Gray sing?",
        per_pair=1,
    )
    (found,) = writer.about_passage(MILL)
    assert writer.dropped == {"about one sentence alone": 1}
    assert found.kind == "multi" and found.sentence == 2 and found.phrase in MILL.text
    first, _, third, *_ = sentences_of(MILL)
    assert f"{first}\n{third}\nAnswer: {found.phrase}" in writer.backend.asked[0]


def test_a_name_in_two_passages_is_asked_about_with_a_sentence_of_each(tmp_path):
    text = "How much did the baker who won a prize of 90 coins pay, and when?"
    writer = writer_of(tmp_path, text, per_entity=1)
    pair = passage_pairs(CORPUS, writer.config)[0]
    worded, request = writer.about_pair(pair)
    assert worded.text == f"About Anna Gray: {text}" and worded.sentence == 3 and worded.phrase
    assert request.text in [template.format("Anna Gray") for template in ENTITIES]
    assert request.sentence == -1 and not request.phrase
    for question in (worded, request):
        assert (question.passage_id, question.other_passage_id) == (MILL.id, FAIR.id)
        assert question.kind == "cross"
    (shown,) = writer.backend.asked
    assert f"{sentences_of(MILL)[3]}\n{sentences_of(FAIR)[1]}\nAnswer: " in shown


def run_stages(folder, passages):
    """Questions and answers of every unit, and the texts that the teacher was shown for them."""
    counts = OFF | {"per_passage": 1, "per_entity": 1}
    config = tiny_config(folder, "none", questions=counts, answers={"grounded": False, "checks": 0})
    write_records(config, passages)
    backend = FakeBackend(lambda prompt, rng: f"It is number {rng.random()}.")
    questions.ask(config, backend)
    num_asked = len(backend.asked)
    answers.collect(config, backend)
    made = [list(read_shards(config.folder / name)) for name in ("questions", "answers")]
    return made, backend.asked[:num_asked], backend.asked[num_asked:]


def test_an_edited_passage_costs_its_own_units_alone(tmp_path):
    (asked, given), _, _ = run_stages(tmp_path, CORPUS)
    assert {row["kind"] for row in asked} == {"recital", "cross"}
    assert {row["question_id"] for row in given} <= {row["id"] for row in asked}
    edited = passage_of(CLOCK.title, "The tower clock is fast.", "Its keeper Paul Reed wound it.")
    corpus = [MILL, FAIR, edited, TRAIN]
    (again, answered), shown_to_asker, shown_to_teacher = run_stages(tmp_path, corpus)
    # the passage alone needs no model to be asked about; with the other one it is asked once
    assert shown_to_asker and all("keeper Paul Reed" in text for text in shown_to_asker)
    assert shown_to_teacher and all(edited.text in text for text in shown_to_teacher)
    kept = [row for row in asked if CLOCK.id not in row.values()]
    assert [row for row in again if edited.id not in row.values()] == kept
    kept = [row for row in given if CLOCK.id not in row.values()]
    assert [row for row in answered if edited.id not in row.values()] == kept
    fresh, _, _ = run_stages(tmp_path / "fresh", corpus)
    assert fresh == [again, answered]


def test_what_connects_nothing_is_no_shared_name(tmp_path):
    days = [
        passage_of("The diary", "When it rained on Monday I left early."),
        passage_of("The log", "After dinner on Monday I went home."),
    ]
    assert passage_pairs(days, tiny_config(tmp_path, "none")) == []


def test_passages_that_are_too_long_together_are_left_apart(tmp_path):
    config = tiny_config(tmp_path, "none")
    assert passage_pairs([MILL, FAIR], config)
    most = MILL.num_tokens + FAIR.num_tokens
    for tokens, num_pairs in ((2 * most, 1), (2 * most - 2, 0)):
        train = replace(config.train, tokens_per_micro_batch=tokens)
        assert len(passage_pairs([MILL, FAIR], replace(config, train=train))) == num_pairs


def test_passages_that_the_window_does_not_hold_together_are_left_apart(tmp_path):
    config = tiny_config(tmp_path, "none", answers={"sampling": {"max_new_tokens": 9}})
    prompts = config.prompts
    texts = len(prompts.system + prompts.teacher + prompts.focus)
    once_more = max(  # the sentence that is asked about, by its share of the passage
        math.ceil(max(b - a for a, b in one.sentences) / len(one.text) * one.num_tokens)
        for one in (MILL, FAIR)
    )
    room = MILL.num_tokens + FAIR.num_tokens + once_more + texts + TEMPLATE_TOKENS + 9
    for window, num_pairs in ((room, 1), (room - 1, 0), (None, 1)):
        assert len(passage_pairs([MILL, FAIR], config, window)) == num_pairs


def test_a_document_that_only_its_file_name_names_is_not_compared(tmp_path):
    config = tiny_config(tmp_path, "none", questions={"per_passage_comparisons": 1})
    named = passage_of("report_08", "rain was heavy in spring.")
    assert [p.is_compared for p in passage_pairs([MILL, FAIR], config)] == [True]
    assert passage_pairs([MILL, named], config) == []
