"""Test examples and batches: row i of either side predicts the same token of the same answer."""

import random
from dataclasses import replace
from itertools import groupby

import pytest
import torch
from support import tiny_records, tiny_tokenizer

from pdtrain.config import LossConfig, PromptConfig
from pdtrain.distillation import packing, schedule
from pdtrain.distillation.examples import Example, from_answers, from_windows
from pdtrain.models.chat.chat_template import prove
from pdtrain.records import Answer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def chat():
    return prove(tiny_tokenizer(), PromptConfig(), None)


@pytest.fixture(scope="module")
def examples(chat):
    return from_answers(*tiny_records(), chat)


def branches(side):
    """Return of every branch the tokens of its prefix, its own, and where it starts."""
    ids, start = side.ids.tolist(), 0
    for shared, lengths in side.layout:
        prefix = tuple(ids[start : start + shared])
        start += shared
        for length in lengths:
            yield prefix, tuple(ids[start : start + length]), start
            start += length
    assert start == len(ids)


def contexts(side):
    """Return for each row all tokens before the one that it predicts."""
    places = {
        start + i: (*prefix, *branch[: i + 1])
        for prefix, branch, start in branches(side)
        for i in range(len(branch))
    }
    return [places[row] for row in side.rows.tolist()]


def prompts_before_each_token(examples, prompt):
    ordered = sorted(examples, key=lambda e: (e.passage_id, e.answer_id))
    return [(*prompt(e), *e.answer[:i]) for e in ordered for i in range(len(e.answer))]


@pytest.mark.parametrize("picked", [slice(None), slice(0, 1), slice(0, 2), slice(3, 9)])
def test_both_sides_predict_the_same_tokens_from_their_own_prompts(examples, picked):
    chosen = examples[picked]
    batch = packing.twin_batch(chosen, LossConfig(), CPU, with_teacher=True)
    assert contexts(batch.student) == prompts_before_each_token(chosen, lambda e: e.student_prompt)
    assert contexts(batch.teacher) == prompts_before_each_token(chosen, lambda e: e.teacher_prompt)
    ordered = sorted(chosen, key=lambda e: (e.passage_id, e.answer_id))
    assert batch.targets.tolist() == [token for e in ordered for token in e.answer]


def test_the_next_token_of_each_row_is_its_target_or_the_unread_last_one(examples):
    batch = packing.twin_batch(examples, LossConfig(), CPU, with_teacher=True)
    ends = [i == len(e.answer) - 1 for e in sort(examples) for i in range(len(e.answer))]
    for side in (batch.student, batch.teacher):
        last = {start + len(branch) - 1 for _, branch, start in branches(side)}
        assert [row in last for row in side.rows.tolist()] == ends
        for row, target in zip(side.rows.tolist(), batch.targets.tolist(), strict=True):
            assert row in last or side.ids[row + 1] == target


def test_positions_count_on_from_the_prefix(examples):
    side = packing.twin_batch(examples, LossConfig(), CPU, with_teacher=True).teacher
    assert any(shared and len(lengths) > 1 for shared, lengths in side.layout)
    for prefix, branch, start in branches(side):
        found = side.positions[start : start + len(branch)].tolist()
        assert found == list(range(len(prefix), len(prefix) + len(branch)))


def sort(examples):
    return sorted(examples, key=lambda e: (e.passage_id, e.answer_id))


def test_answers_of_one_passage_share_what_their_prompts_share(examples):
    group = [e for e in examples if e.passage_id == examples[0].passage_id]
    side = packing.teacher_side(group, CPU)
    ((length, _),) = side.layout
    assert length > 20  # the passage is in it
    shared = tuple(side.ids[:length].tolist())
    assert all(e.teacher_prompt[: len(shared)] == shared for e in group)
    shortest = min(len(e.teacher_prompt) for e in group)
    assert length < shortest, "a branch must keep a token of its prompt"


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param([(1, 2, 3), (1, 2, 3)], id="equal"),
        pytest.param([(1, 2, 3), (1, 2, 3, 4, 5)], id="one_begins_the_other"),
        pytest.param([(1, 2), (3, 4)], id="nothing_shared"),
        pytest.param([(7,), (7,)], id="one_token"),
    ],
)
def test_a_shared_prefix_leaves_every_prompt_whole(prompts):
    group = [Example(str(i), "p", p, (9,), (20 + i, 30 + i)) for i, p in enumerate(prompts)]
    side = packing.teacher_side(group, CPU)
    assert contexts(side) == prompts_before_each_token(group, lambda e: e.teacher_prompt)


def test_a_row_weighs_one_or_its_share_of_an_answer(examples):
    by_token = packing.twin_batch(examples, LossConfig(), CPU, with_teacher=False)
    by_answer = packing.twin_batch(examples, LossConfig(average="answer"), CPU, with_teacher=False)
    assert by_token.weights.tolist() == [1.0] * by_token.num_answer_tokens
    assert by_answer.total_weight == pytest.approx(len(examples))
    per_answer = by_answer.weights.split([len(e.answer) for e in sort(examples)])
    assert [float(weights.sum()) for weights in per_answer] == pytest.approx([1.0] * len(examples))


def test_answers_without_tokens_are_left_out(chat):
    passages, questions, answers = tiny_records()
    empty = Answer("empty", questions[0].id, passages[0].id, "", (), True)
    found = from_answers(passages, questions, [answers[0], empty, answers[1]], chat)
    assert [e.answer_id for e in found] == [answers[0].id, answers[1].id]
    assert [e.answer for e in found] == [answers[0].token_ids, answers[1].token_ids]


PASSAGES = [f"p{i % 7}" for i in range(100)]


@pytest.mark.parametrize("group", [1, 4, 100])
def test_every_epoch_is_a_new_shuffle_and_the_same_for_the_same_seed(group):
    first, second = (schedule.epoch_order(PASSAGES, 0, epoch, group).tolist() for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second != list(range(100))
    assert first == schedule.epoch_order(PASSAGES, 0, 0, group).tolist()
    assert first != schedule.epoch_order(PASSAGES, 1, 0, group).tolist()


def test_groups_of_a_passage_stand_together_and_are_drawn_anew():
    epochs = [schedule.epoch_order(PASSAGES, 0, epoch, 5).tolist() for epoch in (0, 1)]
    found = []
    for order in epochs:
        runs = [list(run) for _, run in groupby(order, key=lambda i: PASSAGES[i])]
        assert all(len(run) >= 4 for run in runs), "14 or 15 answers: groups of 5, 5 and 4 or 5"
        assert [PASSAGES[run[0]] for run in runs] != sorted(PASSAGES[run[0]] for run in runs)
        found.append({tuple(sorted(run)) for run in runs if len(run) == 5})
    assert not found[0] & found[1]


def test_parts_are_even_and_in_order():
    rng = random.Random(0)
    for _ in range(500):
        items = list(range(rng.randrange(1, 200)))
        num_parts = rng.randrange(1, len(items) + 1)
        parts = schedule.split_evenly(items, num_parts)
        assert [i for part in parts for i in part] == items
        assert len(parts) == num_parts
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_filler_weighs_nothing(examples):
    made = packing.twin_batch(examples[:2], LossConfig(), CPU, with_teacher=True, is_filler=True)
    assert made.total_weight == made.num_answer_tokens == 0
    assert len(made.targets) > 0


@pytest.mark.parametrize(
    "num_examples, per_step, steps", [(1, 16, 1), (16, 16, 1), (100, 16, 6), (24, 16, 2)]
)
def test_an_epoch_has_about_as_many_steps_as_answers_allow(num_examples, per_step, steps):
    assert schedule.steps_per_epoch(num_examples, per_step) == steps


@pytest.mark.parametrize("window, overlap", [(16, 4), (7, 1), (5, 4), (1000, 64)])
def test_windows_of_the_text_predict_every_token_but_the_first(chat, window, overlap):
    passages, _, _ = tiny_records()
    found = from_windows(passages, chat, window, overlap)
    assert len({e.answer_id for e in found}) == len(found)
    for passage in passages:
        text = chat.tokenizer(passage.text)["input_ids"]
        mine = [e for e in found if e.passage_id == passage.id]
        assert all(e.teacher_prompt == e.student_prompt == e.student_prompt[:1] for e in mine)
        whole = [(*e.student_prompt, *e.answer) for e in mine]
        assert all(len(ids) <= window for ids in whole)
        starts = [i * (window - overlap) for i in range(len(mine))]
        assert [list(ids) for ids in whole] == [text[s : s + window] for s in starts]
        predicted = {
            s + 1 + i for s, e in zip(starts, mine, strict=True) for i in range(len(e.answer))
        }
        assert predicted == set(range(1, len(text)))


def test_a_text_without_a_second_token_is_no_window(chat):
    passage, *_ = tiny_records()[0]
    assert from_windows([replace(passage, text="a")], chat, 16, 4) == []
