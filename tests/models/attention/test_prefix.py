"""A prefix that stands once, for all branches: the same numbers as prefix + branch for each."""

import pytest
import torch
from support import tiny_model
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from pdtrain.models import architectures
from pdtrain.models.attention import prefix

PLAIN = [
    pytest.param("llama", {}, id="llama_with_grouped_queries"),
    pytest.param("llama", {"num_key_value_heads": 4}, id="llama_with_a_key_head_each"),
    pytest.param("llama", {"num_key_value_heads": 1}, id="llama_with_one_key_head"),
    pytest.param("qwen2", {}, id="qwen2"),
    pytest.param("qwen3", {}, id="qwen3"),
    pytest.param("mistral", {"sliding_window": None}, id="mistral_without_a_window"),
    pytest.param("gemma", {}, id="gemma"),
    pytest.param("olmo2", {}, id="olmo2"),
    pytest.param("smollm3", {"no_rope_layers": [1, 0]}, id="smollm3_with_a_layer_without_rope"),
    pytest.param("phi3", {}, id="phi3"),
]
OTHERWISE = [
    pytest.param("mistral", {"sliding_window": 8}, id="mistral_with_a_window"),
    pytest.param(
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        id="qwen2_with_a_window_in_one_layer",
    ),
    pytest.param("gemma2", {}, id="gemma2_with_soft_caps"),
    pytest.param("gpt_neox", {}, id="an_architecture_that_nobody_checked"),
]
LENGTHS = (5, 1, 9)


def load(folder, architecture, changes, attention=None):
    tiny_model(folder, architecture, **changes)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    ).eval()


def ids(*shape, seed=0):
    return torch.randint(4, 300, shape, generator=torch.Generator().manual_seed(seed))


def padded(branches, *, left):
    longest = max(map(len, branches))
    pads = [(longest - len(b), 0) if left else (0, longest - len(b)) for b in branches]
    tokens_BL = torch.stack([F.pad(b, pad) for b, pad in zip(branches, pads, strict=True)])
    ones = [torch.ones_like(b) for b in branches]
    mask_BL = torch.stack([F.pad(b, pad) for b, pad in zip(ones, pads, strict=True)])
    return tokens_BL, mask_BL


@pytest.mark.parametrize("left", [False, True], ids=["padded_right", "padded_left"])
@pytest.mark.parametrize("architecture, changes", PLAIN)
@torch.no_grad()
def test_branches_behind_a_prefix_are_those_that_read_it(architecture, changes, left, tmp_path):
    plain = load(tmp_path, architecture, changes, attention="sdpa")
    shared = ids(13, seed=1)
    branches = [ids(n, seed=n) for n in LENGTHS]
    wanted = [
        plain.get_decoder()(torch.cat([shared, b])[None]).last_hidden_state[0, 13:]
        for b in branches
    ]
    model = prefix.prepare(load(tmp_path, architecture, changes))
    decoder = model.get_decoder()
    assert prefix.is_prepared(decoder)
    tokens_BL, mask_BL = padded(branches, left=left)
    keys = prefix.read(decoder, shared)
    with prefix.in_view(keys):
        found_BLD = decoder(
            tokens_BL,
            attention_mask=mask_BL,
            position_ids=13 + (mask_BL.cumsum(1) - 1).clamp(min=0),
        ).last_hidden_state
    for row, mask, rows_wanted in zip(found_BLD, mask_BL, wanted, strict=True):
        torch.testing.assert_close(row[mask.bool()], rows_wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_decoding_token_by_token_behind_a_prefix(tmp_path):
    """Keys of the branch come from a cache, those of the prefix do not."""
    model = prefix.prepare(load(tmp_path, "llama", {}))
    decoder = model.get_decoder()
    shared, branch_BL = ids(11, seed=1), ids(3, 6, seed=2)
    wanted_BLD = decoder(torch.cat([shared.expand(3, -1), branch_BL], 1)).last_hidden_state[:, 11:]
    keys, cache = prefix.read(decoder, shared), DynamicCache(config=model.config)
    for position in range(6):
        with prefix.in_view(keys):
            step = decoder(
                branch_BL[:, position : position + 1],
                attention_mask=torch.ones(3, position + 1),
                position_ids=torch.full((3, 1), 11 + position),
                **{prefix.cache_argument(decoder): cache},
            ).last_hidden_state
        torch.testing.assert_close(step[:, 0], wanted_BLD[:, position], atol=1e-5, rtol=1e-5)


class DecoderOfNow(torch.nn.Module):
    def forward(self, input_ids, cache=None, use_cache=None):
        cache.update(torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4), 0)


class DecoderBefore(torch.nn.Module):
    def forward(self, input_ids, past_key_values=None, use_cache=None):
        past_key_values.update(torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4), 0)


@pytest.mark.parametrize("kind", [DecoderOfNow, DecoderBefore])
def test_the_cache_is_given_under_the_name_that_the_decoder_knows(tmp_path, kind):
    decoder = kind()
    decoder.config = load(tmp_path, "llama", {}).config
    keys = prefix.read(decoder, ids(3, seed=1))  # a TypeError, under another name
    assert keys[0][0].shape == (1, 1, 3, 4)


def test_reading_a_prefix_warns_of_nothing(tmp_path, recwarn):
    prefix.read(load(tmp_path, "llama", {}).get_decoder(), ids(3, seed=1))
    assert not [str(warning.message) for warning in recwarn]


def test_gradients_pass_through_the_prefix(tmp_path, monkeypatch):
    """Each branch's gradient with respect to the prefix's embeddings adds up.

    In float64 throughout: an element near 0 is a sum of parts a thousand times its size, which fp32
    cannot hold. transformers' own norm would go through fp32.
    """
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm_in_own_dtype)
    model = prefix.prepare(load(tmp_path, "llama", {}).double())
    decoder, embed = model.get_decoder(), model.get_input_embeddings()
    shared, branch_BL = ids(7, seed=1), ids(2, 4, seed=2)
    weight = embed.weight

    def gradient(hidden_BLD):
        return torch.autograd.grad((hidden_BLD**3).sum(), weight)[0]

    whole_BLD = decoder(torch.cat([shared.expand(2, -1), branch_BL], 1)).last_hidden_state[:, 7:]
    wanted = gradient(whole_BLD)
    with prefix.in_view(prefix.read(decoder, shared)):
        found_BLD = decoder(branch_BL, position_ids=7 + torch.arange(4)[None]).last_hidden_state
    torch.testing.assert_close(gradient(found_BLD), wanted, atol=1e-9, rtol=1e-9)


def norm_in_own_dtype(self, hidden):
    return F.rms_norm(hidden, hidden.shape[-1:], self.weight, self.variance_epsilon)


@torch.no_grad()
def test_without_a_prefix_in_view_nothing_has_changed(tmp_path):
    plain = load(tmp_path, "llama", {}, attention="sdpa")
    prepared = prefix.prepare(load(tmp_path, "llama", {}))
    tokens = ids(3, 8)
    before = prepared(tokens).logits
    assert torch.equal(before, plain(tokens).logits)
    with prefix.in_view(prefix.read(prepared.get_decoder(), ids(5))):
        pass
    with pytest.raises(KeyError, match="stop"), prefix.in_view([]):
        raise KeyError("stop")
    assert torch.equal(prepared(tokens).logits, before)


@torch.no_grad()
def test_a_long_prefix_with_extreme_scores_stays_finite(tmp_path):
    model = prefix.prepare(load(tmp_path, "llama", {"initializer_range": 1.0}))
    decoder = model.get_decoder()
    shared, branch_BL = ids(200, seed=1), ids(2, 3, seed=2)
    with prefix.in_view(prefix.read(decoder, shared)):
        found = decoder(branch_BL, position_ids=200 + torch.arange(3)[None]).last_hidden_state
    assert found.isfinite().all()


@pytest.mark.parametrize("architecture, changes", OTHERWISE)
def test_a_model_that_does_more_is_not_prepared(architecture, changes, tmp_path):
    before = load(tmp_path, architecture, changes)
    tokens = ids(1, 30)
    with torch.no_grad():
        wanted = before(tokens).logits
        model = prefix.prepare(before)
        assert not prefix.is_prepared(model.get_decoder())
        assert torch.equal(model(tokens).logits, wanted)


@pytest.mark.parametrize("architecture", sorted(architectures.SUPPORTED))
def test_every_architecture_that_is_named_exists(architecture):
    assert AutoConfig.for_model(architecture).model_type == architecture
