"""The benchmark's baselines compute what we compute: only then are their times to be compared."""

import importlib.util
from dataclasses import replace

import pytest
import torch
from house import ROOT
from support import randomise_adapter, tiny_config, tiny_model, tiny_records

from pdtrain.distillation import packing
from pdtrain.distillation.examples import Example, from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.micro_batches import Costs, Limits, micro_batches
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.training.step import train_step


def load(name):
    # benchmarks are not importable by name
    path = ROOT / "benchmarks" / "baselines" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Official = load("official").Official
NUM_STEPS = 3


@pytest.fixture(scope="module", params=["token", "answer"])
def config(request, tmp_path_factory):
    """The whole vocabulary, and gradients that are clipped: their norm here is above 0.1."""
    folder = tmp_path_factory.mktemp("baseline")
    return tiny_config(
        folder / "run",
        tiny_model(folder / "model"),
        loss={"top_k": 0, "temperature": 2.0, "average": request.param},
        train={"answers_per_step": 6, "answers_per_micro_batch": 3, "max_grad_norm": 0.1},
    )


@pytest.fixture(scope="module")
def examples(config):
    return from_answers(*tiny_records(), prove(load_tokenizer(config.model), config.prompts, None))


def model(config):
    found = add_adapter(load_model(config.model), config.adapter, 1)
    randomise_adapter(found)
    return found


def official(config, **options):
    return Official(model(config), config.loss, config.train, NUM_STEPS, **options)


def engine(config):
    return PlainEngine(Twin(model(config), TopKLoss(config.loss)), config.train, NUM_STEPS)


def our_step(engine, config, step):
    limits = Limits(config.train.answers_per_micro_batch, 10**6)
    cuts = micro_batches(step, Costs(teacher=2.0, student=4.0, row=6.0), limits)
    device = torch.device("cpu")
    return train_step(
        engine,
        [packing.twin_batch(c.examples, config.loss, device, with_teacher=True) for c in cuts],
    )


def gradients(official, step):
    """Of one step that is not taken, with the loss first."""
    loss = official.backward(step)
    found = {n: w.grad.clone() for n, w in official.model.named_parameters() if w.requires_grad}
    official.optimizer.zero_grad()
    return loss, found


def our_gradients(engine, config, step):
    batch = packing.twin_batch(step, config.loss, torch.device("cpu"), with_teacher=True)
    loss = engine(batch)[0] / batch.total_weight
    loss.backward()
    return float(loss.detach()), {
        name.removeprefix("model."): weight.grad for name, weight in engine.weights.items()
    }


def assert_close(found, truth, tolerance):
    assert found.keys() == truth.keys()
    most = max(float(value.abs().max()) for value in truth.values())
    assert most > 1e-3  # a comparison of zeros would pass
    for name, value in truth.items():
        error = (found[name].double() - value.double()).abs().max()
        assert error <= tolerance * most, f"{name} is off by {error / most:.1e} of the largest"


def test_the_official_recipe_has_our_loss_and_gradient(config, examples):
    loss, found = gradients(official(config), examples)
    our_loss, ours = our_gradients(engine(config), config, examples)
    assert loss > 0.1
    assert our_loss == pytest.approx(loss, rel=1e-5)
    assert_close(ours, found, 1e-5)


def test_the_official_recipe_is_right_in_float64(config, examples):
    """Against one answer after the other, without padding, by the formula of the paper."""
    exact = model(config).double()
    total, weight = 0.0, 0
    for e in examples:
        with torch.no_grad(), exact.disable_adapter():
            teacher = exact(torch.tensor([[*e.teacher_prompt, *e.answer]])).logits[0]
        student = exact(torch.tensor([[*e.student_prompt, *e.answer]])).logits[0]
        length = len(e.answer)
        p = (teacher[-length - 1 : -1] / 2).softmax(-1)
        q = (student[-length - 1 : -1] / 2).softmax(-1)
        kl = (p * (p.log() - q.log())).sum(-1)
        by_token = config.loss.average == "token"
        total = total + (kl.sum() if by_token else kl.mean())
        weight += length if by_token else 1
    (total / weight).backward()
    truth = {n: w.grad for n, w in exact.named_parameters() if w.requires_grad}
    loss, found = gradients(official(config), examples)
    assert loss == pytest.approx(float(total.detach()) / weight, rel=1e-5)
    assert_close(found, truth, 1e-5)


def test_padding_does_not_matter(config, examples):
    longer = replace(examples[0], student_prompt=examples[0].student_prompt * 4)
    some = [*examples[1:4], longer]
    loss, found = gradients(official(config, batch=4), some)
    for batch, pad_id in ((1, 0), (4, 7), (3, 0)):
        other_loss, other = gradients(official(config, batch=batch, pad_id=pad_id), some)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert_close(other, found, 1e-5)


def test_steps_go_the_same_way(config, examples):
    """Clipping, optimizer and schedule too: after a step the losses would differ without them."""
    theirs, ours = official(config), engine(config)
    losses = []
    for first in range(NUM_STEPS):
        step = examples[3 * first : 3 * first + 6]
        loss, norm = theirs.step(step)
        stats = our_step(ours, config, step)
        assert norm > config.train.max_grad_norm
        assert stats.loss == pytest.approx(loss, rel=1e-5)
        assert stats.grad_norm == pytest.approx(norm, rel=1e-4)
        losses.append(loss)
    assert len(set(losses)) == NUM_STEPS
    with torch.no_grad():
        for (name, weight), mine in zip(
            theirs.model.named_parameters(), ours.twin.model.parameters(), strict=True
        ):
            if weight.requires_grad:
                torch.testing.assert_close(mine, weight, rtol=0, atol=1e-4, msg=name)


def test_tokens_are_counted_with_their_padding(config):
    def example(teacher, student, answer):
        return Example("", "", (1,) * teacher, (1,) * student, (1,) * answer)

    some = [example(10, 3, 2), example(20, 2, 4), example(5, 5, 1)]
    assert official(config, batch=2).num_tokens(some) == (2 * 24 + 6, 2 * 6 + 6)


def test_another_loss_is_refused(config):
    loss = replace(config.loss, divergence="jsd")
    with pytest.raises(ValueError, match="forward_kl, got jsd"):
        Official(model(config), loss, config.train, NUM_STEPS)
