"""What questions, answers and evaluation are planned to cost, against sums by hand."""

from dataclasses import replace

import pytest
from house import ROOT

from pdtrain.cli import main
from pdtrain.config import load
from pdtrain.evaluation.systems import answering_systems
from pdtrain.models.base import skeleton
from pdtrain.models.shape import shape_of
from pdtrain.planning import data_stages

SHAPES = ROOT / "tests" / "shapes"


@pytest.fixture(scope="module")
def planned():
    model = f"model.name={SHAPES / 'llama-3.1-8b'}"
    config = load(ROOT / "configs" / "llama-8b-one-node.yaml", [model])
    return config, shape_of(skeleton(config.model), config.adapter.target_modules)


def with_data(config, **changes):
    return replace(config, plan=replace(config.plan, data=replace(config.plan.data, **changes)))


def with_plan(config, **changes):
    return replace(config, plan=replace(config.plan, **changes))


def test_requests_and_tokens_are_sums_over_passages(planned):
    config, _ = planned
    config = with_data(config, attempts_per_question=2, attempts_per_answer=3, held_out=10)
    config = with_plan(config, passages=7, answers_per_passage=5, question_tokens=30)
    config = with_plan(config, answer_tokens=20)
    questions, answers, evaluate = data_stages.demands(config)
    passage = config.corpus.max_passage_tokens
    assert questions.requests == 7 * 5 * 2
    assert questions.tokens_in == 70 * 320 and questions.tokens_new == 70 * 80
    assert questions.tokens_out == 70 * 24
    assert answers.requests == 7 * 5 * 3
    assert answers.tokens_in == 105 * (passage + 30)
    assert answers.tokens_new == 7 * passage + 105 * 30, "a passage is read once for its questions"
    assert answers.tokens_out == 105 * 20
    systems = answering_systems(config.evaluate)
    assert evaluate.requests == 10 * len(systems)
    read = sum(0 if s.context == "none" else s.num_passages for s in systems)
    assert evaluate.tokens_in == evaluate.tokens_new == 10 * (30 * len(systems) + passage * read)


def test_several_answers_to_a_question_take_fewer_questions(planned):
    config, _ = planned
    twice = replace(config, answers=replace(config.answers, per_question=2))
    assert data_stages.demands(twice)[0].requests == data_stages.demands(config)[0].requests / 2


def test_raw_text_asks_nothing_but_the_held_out_questions(planned):
    config, _ = planned
    raw = replace(config, train=replace(config.train, objective="raw_text"))
    assert [demand.stage for demand in data_stages.demands(raw)] == ["evaluate"]


def test_reading_takes_two_operations_a_weight_and_token(planned):
    """With nothing written and next to no attention, by hand."""
    config, shape = planned
    config = with_plan(config, gpu_tflops=100.0, compute_reached=0.5)
    demand = data_stages.Demand("x", 1, 1e6, 1e6, 0, 0)
    wanted = 2 * shape.sizes.active * 1e6 / 50e12 / 3600
    found = data_stages.cost_of(config, shape, demand)
    assert found.gpu_hours == pytest.approx(wanted, rel=1e-9) == found.gpu_hours_unshared


def test_writing_reads_the_weights_once_for_a_batch_and_keys_for_each(planned):
    config, shape = planned
    config = with_data(config, batch=10, memory_tb_per_second=1.0, memory_reached=0.5)
    config = replace(config, generation=replace(config.generation, backend="vllm"))
    demand = data_stages.Demand("x", 1, 0, 0, 5_000, 600)
    keys = 2 * 8 * 128 * 32 * 2 * 600  # of K and V: heads, size, layers, bytes, tokens
    wanted = 5_000 / 10 * (2 * shape.sizes.total + 10 * keys) / 0.5e12 / 3600
    assert data_stages.cost_of(config, shape, demand).gpu_hours == pytest.approx(wanted, rel=1e-9)
    wide = with_data(config, batch=100_000)  # where the products are what takes time
    products = 2 * shape.sizes.active + 2 * shape.sizes.head + 4 * 32 * 128 * 32 * 600
    wanted = 5_000 * products / (989e12 * 0.4) / 3600
    with_no_keys = with_data(wide, memory_tb_per_second=1e9)
    found = data_stages.cost_of(with_no_keys, shape, demand).gpu_hours
    assert found == pytest.approx(wanted, rel=1e-9)


def test_sharing_beginnings_and_larger_batches_never_cost_more(planned):
    config, shape = planned
    vllm = replace(config, generation=replace(config.generation, backend="vllm"))
    for demand in data_stages.demands(config):
        cost = data_stages.cost_of(vllm, shape, demand)
        assert cost.gpu_hours <= cost.gpu_hours_unshared
        ours = data_stages.cost_of(config, shape, demand)
        assert ours.gpu_hours >= cost.gpu_hours, "transformers decodes at most 128 at a time"


def test_a_servers_prices_are_per_million(planned):
    config, shape = planned
    config = with_data(config, price_in=2.0, price_in_again=0.5, price_out=8.0)
    demand = data_stages.Demand("x", 1, 3e6, 1e6, 2e6, 0)
    assert data_stages.cost_of(config, shape, demand).server_price == 1 * 2 + 2 * 0.5 + 2 * 8


def test_the_plan_prints_them(capsys):
    command = ["plan", str(ROOT / "configs" / "llama-8b-one-node.yaml")]
    command += [f"model.name={SHAPES / 'llama-3.1-8b'}", "plan.data.price_in=1"]
    assert main([*command, "plan.data.price_out=2"]) == 0
    said = capsys.readouterr().out
    for text in (
        "questions ",
        "answers ",
        "evaluate ",
        "GPU-hours",
        "of it new",
        "behind a server",
    ):
        assert text in said
    assert main([*command, "plan.data.batch=0"]) == 1
    assert "plan.data.batch must be > 0, got 0" in capsys.readouterr().err
