"""How far an adapter is from its base: against plain transformers in float64."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from architectures_table import case, write_model
from support import randomise_adapter, tiny_config, tiny_model
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from pdtrain.config import AdapterConfig
from pdtrain.evaluation import forgetting
from pdtrain.evaluation.scores import forgetting_scores
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove

TEXTS = ["The pier is long and old.", "A lamp turns.", "Cheese is made from milk, salt and time."]
ADAPTER = AdapterConfig(rank=4, alpha=8)


@pytest.fixture(scope="module", params=["llama", "gemma2", "granite"])
def made(request, tmp_path_factory):
    """Make a student whose head is plain, has a soft cap, or has a scale."""
    if request.param == "llama":
        folder = tiny_model(tmp_path_factory.mktemp("model"))
    else:
        one = case(request.param)
        sharper = {"logits_scaling": 0.5} if request.param == "granite" else {}
        one = replace(one, changes=one.changes | sharper)  # flat distributions would hide errors
        folder = write_model(one, tmp_path_factory.mktemp("model"))
    config = tiny_config(folder, folder)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    model = add_adapter(load_model(config.model), ADAPTER, seed=0)
    precise = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    precise = add_adapter(precise, ADAPTER, seed=0)
    randomise_adapter(precise)
    return SimpleNamespace(student=HuggingFaceBackend(model, chat), precise=precise.double())


def wanted(made, read, predicted):
    """By hand: two whole forwards, log-softmax of all logits, in float64."""
    ids, rows = torch.tensor([[*read, *predicted]]), slice(len(read) - 1, -1)
    with torch.no_grad():
        own = made.precise(input_ids=ids).logits[0, rows].log_softmax(-1)
        with made.precise.disable_adapter():
            base = made.precise(input_ids=ids).logits[0, rows].log_softmax(-1)
    targets = torch.tensor(predicted)
    return {
        "num_tokens": len(predicted),
        "kl_to_base": float(F.kl_div(own, base, log_target=True, reduction="sum")) / len(predicted),
        "base_log_likelihood": -float(F.nll_loss(base, targets)),
        "adapter_log_likelihood": -float(F.nll_loss(own, targets)),
    }


@pytest.mark.parametrize("kind", ["texts", "answers"])
def test_divergence_and_likelihoods_are_those_of_plain_transformers(made, kind):
    randomise_adapter(made.student.model)
    pairs = getattr(forgetting, kind)(made.student, TEXTS)
    found = forgetting.compare(made.student.model, pairs)
    for line, pair in zip(found, pairs, strict=True):
        assert line == pytest.approx(wanted(made, *pair), abs=1e-5)
        assert line["kl_to_base"] > 0.01
        assert abs(line["base_log_likelihood"] - line["adapter_log_likelihood"]) > 0.01


def test_a_fresh_adapter_has_forgotten_nothing(made):
    with torch.no_grad():
        for name, weight in made.student.model.named_parameters():
            if "lora_B" in name:
                weight.zero_()
    pairs = forgetting.texts(made.student, TEXTS)
    for line in forgetting.compare(made.student.model, pairs):
        assert line["kl_to_base"] == pytest.approx(0, abs=1e-9)
        assert line["base_log_likelihood"] == line["adapter_log_likelihood"]


def test_answers_are_the_bases_own_whatever_the_adapter_says(made):
    randomise_adapter(made.student.model)
    pairs = forgetting.answers(made.student, TEXTS)
    prompts = [made.student.chat.student(text) for text in TEXTS]
    assert [prompt for prompt, _ in pairs] == prompts
    with made.student.without_adapter():
        base = made.student.sample(prompts, forgetting.GREEDY, seed=1)
    own = made.student.sample(prompts, forgetting.GREEDY, seed=1)
    assert [tuple(answer) for _, answer in pairs] == [c.token_ids for c in base]
    assert [c.token_ids for c in own] != [c.token_ids for c in base]


def test_every_token_of_a_text_but_the_first_is_predicted(made):
    for (read, predicted), text in zip(forgetting.texts(made.student, TEXTS), TEXTS, strict=True):
        assert len(read) == 1
        assert [*read, *predicted] == made.student.chat.tokenizer(text)["input_ids"]


def test_a_summary_weighs_tokens_and_not_texts():
    lines = [
        {
            "num_tokens": n,
            "kl_to_base": kl,
            "base_log_likelihood": -1.0,
            "adapter_log_likelihood": -2.0,
        }
        for n, kl in ((10, 0.5), (30, 0.1))
    ]
    found = forgetting_scores(lines, 200, seed=0)
    assert found["kl_to_base"].value == pytest.approx((10 * 0.5 + 30 * 0.1) / 40)
    assert found["kl_to_base"].n == 2
    assert (found["kl_to_base"].low, found["kl_to_base"].high) == pytest.approx((0.1, 0.5))
    e = 2.718281828459045
    assert found["base_perplexity"].value == pytest.approx(e)
    assert found["adapter_perplexity"].high == pytest.approx(e**2)


def test_the_interval_of_a_perplexity_is_in_order():
    lines = [
        {"num_tokens": 9, "kl_to_base": 0.1, "base_log_likelihood": x, "adapter_log_likelihood": x}
        for x in (-1.0, -2.0, -3.0, -4.0)
    ]
    score = forgetting_scores(lines, 500, seed=0)["base_perplexity"]
    assert score.low < score.value < score.high


def test_the_distance_is_the_same_however_many_tokens_are_held_at_a_time(made, monkeypatch):
    randomise_adapter(made.student.model)
    pairs = forgetting.texts(made.student, TEXTS)
    whole = forgetting.compare(made.student.model, pairs)
    monkeypatch.setattr(forgetting, "ROWS", 2)
    for one, other in zip(whole, forgetting.compare(made.student.model, pairs), strict=True):
        assert one == pytest.approx(other, rel=1e-6)
