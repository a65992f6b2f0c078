"""Test that what a model does around its head is found, and refused where nothing explains it."""

import pytest
import torch
from support import tiny_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from pdtrain.models import head
from pdtrain.models.head import HeadRule

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}

LATENT = {
    "dim_model_base": 8,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
}


def tiny(architecture, **changes):
    config = AutoConfig.for_model(architecture, **(SIZES | changes))
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    "architecture, changes, rule",
    [
        pytest.param("llama", {}, HeadRule(), id="plain"),
        pytest.param("gemma2", {}, HeadRule(softcap=30.0), id="soft_cap"),
        pytest.param("granite", {"logits_scaling": 4.0}, HeadRule(after=0.25), id="divided"),
        pytest.param("cohere", {"logit_scale": 0.0625}, HeadRule(after=0.0625), id="multiplied"),
        pytest.param("minicpm3", LATENT, HeadRule(before=0.25), id="before_the_head"),
        pytest.param("phi", {}, HeadRule(), id="bias"),
    ],
)
def test_the_rule_is_found_and_gives_the_models_own_logits(architecture, changes, rule):
    model = tiny(architecture, **changes)
    found = head.find(model)
    assert found.before == pytest.approx(rule.before, rel=1e-6)
    assert found.after == pytest.approx(rule.after, rel=1e-6)
    assert (found.softcap or 0) == pytest.approx(rule.softcap or 0, rel=1e-6)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=ids).last_hidden_state
        mine = found.logits(model.get_output_embeddings(), hidden)
        wanted = model(input_ids=ids).logits
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)


def changed(change):
    """Return a tiny Llama whose forward does something to its logits, under no known name."""
    model = tiny("llama")
    before = model.forward

    def forward(*args, **options):
        output = before(*args, **options)
        output.logits = change(output.logits)
        return output

    model.forward = forward
    return model


@pytest.mark.parametrize(
    "change, rule",
    [
        pytest.param(lambda x: x * 0.125, HeadRule(after=0.125), id="scale"),
        pytest.param(
            lambda x: 20 * torch.tanh(0.5 * x / 20), HeadRule(after=0.5, softcap=20.0), id="both"
        ),
    ],
)
def test_a_scale_or_a_soft_cap_of_no_name_is_found(change, rule):
    found = head.find(changed(change))
    assert (found.before, found.after) == (1.0, pytest.approx(rule.after, rel=1e-5))
    assert (found.softcap or 0) == pytest.approx(rule.softcap or 0, rel=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        pytest.param(lambda x: x + 1.0, "no scale and soft cap explain", id="shift"),
        pytest.param(lambda x: x.square() * x.sign(), "no scale and soft cap", id="square"),
        pytest.param(lambda x: -x, "must be above 0", id="negative"),
        pytest.param(lambda x: x[..., :300], r"shape \(3, 300\), expected once and", id="cut"),
        pytest.param(lambda x: x.clamp(-30, 30), "no scale and soft cap", id="hard_cap"),
    ],
)
def test_what_nothing_explains_is_refused_with_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        head.find(changed(change))


def test_a_head_that_is_not_a_matrix_is_refused():
    model = tiny("llama")
    model.lm_head = nn.Sequential(nn.Linear(32, 320))
    with pytest.raises(ValueError, match="a Sequential as head"):
        head.find(model)
    with pytest.raises(ValueError, match="the head of DoryForCausalLM is a DoryLMHead"):
        head.find(tiny("dory"))


def test_a_norm_between_decoder_and_head_is_refused():
    model = tiny("llama")
    plain = model.forward

    def forward(**options):
        norm = model.lm_head.register_forward_pre_hook(lambda _, given: (given[0].relu(),))
        try:
            return plain(**options)
        finally:
            norm.remove()

    model.forward = forward
    with pytest.raises(ValueError, match="does more than scale its hidden rows"):
        head.find(model)


def test_an_encoder_decoder_is_refused():
    settings = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = AutoConfig.for_model("t5", vocab_size=320, **settings)
    with pytest.raises(ValueError, match="is an encoder-decoder"):
        head.find(AutoModelForSeq2SeqLM.from_config(config))


def test_a_probe_leaves_the_model_as_it_was(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path)).eval()
    state = torch.get_rng_state()
    head.find(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any("forward" in vars(part) for part in model.modules())
