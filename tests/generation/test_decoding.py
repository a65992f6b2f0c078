"""Test that a batch is continued in a way that the decoder is right with, which is found out."""

import pytest
import torch
from architectures_table import build, case, write_model
from support import tiny_config, tiny_model
from transformers import AutoModelForCausalLM

from pdtrain.config import SamplingConfig
from pdtrain.generation import decoding
from pdtrain.generation.decoding import WAYS
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove

PROMPTS = [list(range(5, 5 + length)) for length in (9, 4, 9, 6)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return a backend whose model takes its own attention, and the config."""
    folder = tmp_path_factory.mktemp("llama")
    config = tiny_config(folder, tiny_model(folder), model={"batching": "padded"})
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    return HuggingFaceBackend(load_model(config.model), chat)


def greedy(backend):
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=12)
    return [list(c.token_ids) for c in backend.sample(PROMPTS, sampling, seed=0)]


def test_attention_is_padded_on_the_left_and_keeps_its_mask(plain):
    assert decoding.find(plain.model.get_decoder()) == WAYS[0]


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2], WAYS[3]], ids=["padded", "alike", "uncached"])
def test_every_right_way_says_what_generate_says(plain, way):
    backend = HuggingFaceBackend(plain.model, plain.chat)
    vars(backend)["_decoding"] = way
    for prompt, found in zip(PROMPTS, greedy(backend), strict=True):
        wanted = plain.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=list(plain.chat.stop_ids),
        )
        assert found == wanted[0, len(prompt) :].tolist()


def test_a_state_space_model_takes_no_mask_beside_its_cache(tmp_path):
    write_model(case("mamba"), tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert decoding.find(model.get_decoder()) == WAYS[1]


class Broken(torch.nn.Module):
    """Be a decoder that is wrong about padding, or about everything that is cached."""

    def __init__(self, inner, broken):
        super().__init__()
        self.inner, self.broken, self.config = inner, broken, inner.config

    def get_input_embeddings(self):
        return self.inner.get_input_embeddings()

    def forward(self, input_ids, attention_mask=None, position_ids=None, cache=None, **options):
        options |= {"attention_mask": attention_mask, "position_ids": position_ids}
        output = self.inner(input_ids=input_ids, cache=cache, **options)
        is_padded = attention_mask is not None and not attention_mask.all()
        if (self.broken == "padding" and is_padded) or (self.broken == "cache" and cache):
            output.last_hidden_state = output.last_hidden_state + 1
        if self.broken == "raises" and cache is not None:
            raise KeyError("a cache of another kind")
        return output


@pytest.mark.parametrize(
    "broken, way", [("padding", WAYS[2]), ("cache", WAYS[3]), ("raises", WAYS[3])]
)
def test_what_a_decoder_does_wrong_is_left_out(plain, broken, way):
    assert decoding.find(Broken(plain.model.get_decoder(), broken)) == way


def test_a_batch_of_a_hybrid_loses_rows_with_their_states(tmp_path):
    """Rows of a layer that holds both keys and states are dropped from both."""
    write_model(case("falcon_h1"), tmp_path)
    made = build(case("falcon_h1"), tmp_path)
    decoder = made.twin.model.get_decoder()
    rows = decoding.Rows(decoder, PROMPTS[:3:2], WAYS[0])
    with torch.no_grad():
        rows.last_hidden()
    rows.go_on([7, 8], [1])
    for layer in rows.cache.layers:
        assert all(len(state) == 1 for state in layer.recurrent_states.values())
        assert all(len(state) == 1 for state in layer.conv_states.values())
