"""Test which examples are trained on, what is learned from them, and what decides the adapter."""

import random
from dataclasses import replace
from itertools import accumulate

import pytest
from support import tiny_config, tiny_model, tiny_records, write_records
from tiny_training import SETTINGS, adapter, prepared, trained

from pdtrain.config import from_dict
from pdtrain.distillation.examples import Example
from pdtrain.models.adapters import learned_passages
from pdtrain.models.base import window
from pdtrain.records import rng_for
from pdtrain.storage import read_json
from pdtrain.training import train, training_set

EXAMPLES = [Example(str(i), f"p{i // 10}", (1,), (1,), (2,)) for i in range(40)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


# --- The choice -------------------------------------------------------------------------------


@pytest.mark.parametrize("replay, num_old", [(0.0, 0), (0.5, 5), (1.0, 10), (1.25, 12), (9.0, 30)])
def test_replay_counts_old_answers_for_each_new_one(replay, num_old):
    chosen = training_set.selected(EXAMPLES, {"p0", "p1", "p3"}, replay, seed=0)
    assert [e for e in chosen if e.passage_id == "p2"] == EXAMPLES[20:30]
    assert len(chosen) == 10 + num_old
    assert [int(e.answer_id) for e in chosen] == sorted({int(e.answer_id) for e in chosen})


def test_the_draw_is_that_of_the_seed():
    draws = [training_set.selected(EXAMPLES, {"p0", "p1", "p3"}, 1.0, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_all_are_chosen_where_none_is_new():
    assert training_set.selected(EXAMPLES, {f"p{i}" for i in range(4)}, 0.0, seed=0) == EXAMPLES


@pytest.mark.parametrize("replay", [0.0, 0.3, 1.0, 5.0])
def test_the_choice_is_that_of_plain_lists(replay):
    found = [
        Example(str(i), f"p{i % 5}", (1,), (1,), (2,), f"p{i % 7}" if i % 3 else "")
        for i in range(60)
    ]
    known = {"p0", "p1", "p2", "p6"}
    new = [not known.issuperset(filter(None, (e.passage_id, e.other_passage_id))) for e in found]
    others = [i for i in range(60) if not new[i]]
    taken = min(len(others), round(replay * sum(new)))
    again = set(rng_for(9, "replay").sample(others, taken))
    wanted = [e for i, e in enumerate(found) if new[i] or i in again]
    assert training_set.selected(found, known, replay, seed=9) == wanted


@pytest.mark.parametrize("budget", [1, 2, 30, 77, 150])
def test_the_budget_is_that_of_plain_lists(budget):
    drawn = random.Random(1)
    found = [Example(str(i), "p", (1,), (1,), (2,) * drawn.randrange(1, 9)) for i in range(40)]
    order = list(range(40))
    rng_for(3, "answer tokens").shuffle(order)
    order = [i for i in order if len(found[i].answer) <= budget]
    ends = accumulate(len(found[i].answer) for i in order)
    taken = {i for i, end in zip(order, ends, strict=True) if end <= budget}
    wanted = [example for i, example in enumerate(found) if i in taken]
    assert training_set.within(found, budget, seed=3) == wanted


@pytest.mark.parametrize("replay", [-0.1, float("nan"), float("inf")])
def test_a_replay_that_is_no_amount_is_refused(replay):
    with pytest.raises(ValueError, match=r"train.replay must be >= 0"):
        from_dict({"train": {"replay": replay}})


def test_a_budget_takes_whole_answers_up_to_it_and_a_larger_one_holds_a_smaller():
    lengths = [3, 1, 4, 1, 5, 9, 2, 6]
    found = [Example(str(i), "p", (), (), (0,) * n) for i, n in enumerate(lengths)]

    def taken(tokens):
        chosen = training_set.within(found, tokens, seed=0)
        assert [int(e.answer_id) for e in chosen] == sorted(int(e.answer_id) for e in chosen)
        return {e.answer_id for e in chosen}, sum(len(e.answer) for e in chosen)

    smaller, larger = taken(12), taken(20)
    assert 12 - max(lengths) < smaller[1] <= 12
    assert smaller[0] < larger[0] and larger[1] <= 20
    assert taken(sum(lengths))[0] == taken(0)[0] == {e.answer_id for e in found}
    with pytest.raises(ValueError, match="less than any answer"):
        training_set.within([found[5]], 8, seed=0)
    for seed in range(9):  # an answer that is too long comes first with some of them
        assert {len(e.answer) for e in training_set.within(found, 2, seed)} in ({1}, {2})


def test_raw_text_needs_passages_alone(model, tmp_path):
    config = tiny_config(tmp_path, model, train=SETTINGS | {"objective": "raw_text"})
    write_records(config, tiny_records()[0])
    train.run(config)
    assert adapter(config)


def test_windows_of_raw_text_fit_the_model(model, tmp_path):
    objective = {"objective": "raw_text"}
    config = tiny_config(tmp_path, model, train=SETTINGS | objective)
    most = window(config.model)
    config = tiny_config(
        tmp_path, model, train=SETTINGS | objective, raw_text={"window_tokens": most + 1}
    )
    write_records(config, tiny_records()[0])
    with pytest.raises(ValueError, match=rf"window_tokens={most + 1} is more than the model reads"):
        train.run(config)


# --- What is learned ---------------------------------------------------------------------------


def ids(*numbers):
    found = tiny_records()[0]
    return [found[number].id for number in numbers]


def test_only_a_passage_that_is_taken_whole_is_learned(model, tmp_path):
    config = trained(tmp_path, model, train={"answer_tokens": 30})
    taken = read_json(config.run.adapter / "manifest.json")["num_answers"]
    whole = learned_passages.read(config.run.adapter).passages
    assert 4 * len(whole) <= taken < 12 and whole < set(ids(0, 1, 2))


def test_a_passage_that_is_read_as_the_second_is_learned_too(model, tmp_path):
    config = prepared(tmp_path, model)
    one, other = ids(0, 1)
    example = Example("a", one, (1,), (1,), (2,), other)
    assert training_set.passages_learned(config, [example], None, None).passages == {one, other}


# --- What decides the adapter -----------------------------------------------------------------


def test_objective_and_labels_decide_the_adapter(model, tmp_path):
    config = prepared(tmp_path, model)
    others = [
        replace(config, train=replace(config.train, objective="sft")),
        replace(config, train=replace(config.train, objective="raw_text")),
        replace(config, loss=replace(config.loss, labels=0.5)),
    ]
    assert len({train.inputs_hash(one, None) for one in (config, *others)}) == 4


def test_how_a_step_is_divided_and_saved_decides_nothing(model, tmp_path):
    config = prepared(tmp_path, model)
    settings = {"answers_per_micro_batch": 1, "save_every_steps": 7, "gradient_checkpointing": True}
    other = replace(config, train=replace(config.train, **settings))
    assert train.inputs_hash(other, None) == train.inputs_hash(config, None)


def test_knobs_that_a_run_has_no_use_for_do_not_decide_its_adapter(model, tmp_path):
    config = prepared(tmp_path, model)
    idle = [
        replace(config, raw_text=replace(config.raw_text, window_tokens=99)),
        replace(config, retain=replace(config.retain, per_step=99)),
        replace(config, train=replace(config.train, replay=9.0)),
    ]
    assert {train.knobs_hash(one) for one in idle} == {train.knobs_hash(config)}
