"""Sampling and scoring in batches: greedy is transformers' own, and the cut changes nothing."""

import random
from dataclasses import replace

import pytest
import torch
from support import tiny_config, tiny_model
from transformers import AutoModelForCausalLM

from pdtrain.config import SamplingConfig
from pdtrain.generation import huggingface
from pdtrain.generation.huggingface import Generator, choose, pad
from pdtrain.models.attention import prefix
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat_template import prove

GREEDY = SamplingConfig(temperature=0, max_new_tokens=12)
SAMPLED = SamplingConfig(temperature=0.9, top_k=20, top_p=0.9, max_new_tokens=12)
MODELS = [
    pytest.param("llama", {}, id="llama"),
    pytest.param("mistral", {"sliding_window": 8}, id="mistral_with_a_sliding_window"),
]


def made(folder, architecture="llama", **changes):
    config = tiny_config(folder, tiny_model(folder, architecture, **changes))
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    return Generator(load_model(config.model), chat, batch_size=32)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return made(tmp_path_factory.mktemp("model"))


def prompts(num=10, seed=0):
    """Two passages' worth of prompts that begin alike, and some that do not; many lengths."""
    rng = random.Random(seed)
    openings = [[rng.randrange(4, 300) for _ in range(60)] for _ in range(2)]
    found = []
    for turn in range(num):
        tail = [rng.randrange(4, 300) for _ in range(rng.randrange(1, 9))]
        found.append((openings[turn % 2] if turn % 7 else [310]) + tail)
    return [*found, found[1], found[2][:-1] or found[2]]


def with_stops(generator, *more):
    """Tokens that a random model does say end an answer, so that rows stop at different times."""
    return replace(generator, chat=replace(generator.chat, stop_ids=more))


@pytest.mark.parametrize("architecture, changes", MODELS)
def test_greedy_is_transformers_own_token_by_token(architecture, changes, tmp_path):
    generator = made(tmp_path, architecture, **changes)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    found = generator(prompts(), GREEDY, seed=0)
    stop = found[0].token_ids[4]  # said by some prompt after five tokens at most
    generator = with_stops(generator, stop)
    found = generator(prompts(), GREEDY, seed=0)
    for prompt, completion in zip(prompts(), found, strict=True):
        wanted = plain.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=stop,
            pad_token_id=0,
        )[0, len(prompt) :]
        assert list(completion.token_ids) == wanted.tolist()
        assert completion.finished == (wanted[-1] == stop)
    assert {c.finished for c in found} == {True, False}


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_the_batch_size_changes_nothing(generator, sampling, batch_size):
    generator = with_stops(generator, *range(4, 40))
    whole = generator(prompts(), sampling, seed=5)
    cut = replace(generator, batch_size=batch_size)(prompts(), sampling, seed=5)
    assert cut == whole
    assert len({len(completion.token_ids) for completion in whole}) > 2


def test_sharing_the_prefix_changes_nothing(generator, monkeypatch):
    asked = []
    real = prefix.read
    monkeypatch.setattr(prefix, "read", lambda *args: asked.append(1) or real(*args))
    monkeypatch.setattr(huggingface, "TOKENS_WORTH_A_BATCH", 16)  # these prompts are short
    shared = [generator(prompts(), sampling, seed=5) for sampling in (GREEDY, SAMPLED)]
    assert asked, "the prompts were meant to share a prefix"
    monkeypatch.setattr(prefix, "is_prepared", lambda decoder: False)
    assert [generator(prompts(), sampling, seed=5) for sampling in (GREEDY, SAMPLED)] == shared


def test_the_same_seed_says_the_same_and_another_something_else(generator):
    first, again, other = (generator(prompts(), SAMPLED, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_equal_prompts_get_samples_of_their_own(generator):
    same = [prompts()[0]] * 8
    assert len({c.token_ids for c in generator(same, SAMPLED, seed=0)}) > 4
    assert len({c.token_ids for c in generator(same, GREEDY, seed=0)}) == 1


def test_sampling_leaves_the_global_generator_alone(generator):
    state = torch.get_rng_state()
    generator(prompts(), SAMPLED, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_answer_ends_with_the_first_stop_token(generator):
    said = with_stops(generator, 10**6)(prompts(), SAMPLED, seed=0)[0].token_ids
    completion = with_stops(generator, said[3])(prompts(), SAMPLED, seed=0)[0]
    assert completion.token_ids == said[: said.index(said[3]) + 1] and completion.finished
    always = with_stops(generator, *range(320))
    for completion in always(prompts(), SAMPLED, seed=0):
        assert len(completion.token_ids) == 1 and completion.finished


def test_an_answer_that_was_cut_is_not_finished(generator):
    never = with_stops(generator, 10**6)
    for completion in never(prompts(), SAMPLED, seed=0):
        assert len(completion.token_ids) == SAMPLED.max_new_tokens and not completion.finished


def test_the_text_is_that_of_the_tokens(generator):
    for completion in generator(prompts(), SAMPLED, seed=0):
        assert completion.text == generator.chat.text(completion.token_ids)


def test_every_prompt_is_reported_once(generator):
    reported = []
    generator = replace(generator, batch_size=4)
    generator(prompts(), GREEDY, seed=0, on_done=reported.append)
    assert sum(reported) == len(prompts()) and max(reported) <= 4
    reported.clear()
    generator.log_likelihoods(prompts(), prompts(seed=1), on_done=reported.append)
    assert sum(reported) == len(prompts())


def test_nothing_to_say_is_nothing_said(generator):
    assert generator([], GREEDY, seed=0) == []
    assert generator.log_likelihoods([], []) == []


@pytest.mark.parametrize("batch_size", [1, 5, 32])
@pytest.mark.parametrize("architecture, changes", MODELS)
@torch.no_grad()
def test_likelihoods_are_those_of_a_plain_forward(architecture, changes, batch_size, tmp_path):
    generator = replace(made(tmp_path, architecture, **changes), batch_size=batch_size)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    continuations = prompts(seed=1)
    found = generator.log_likelihoods(prompts(), continuations)
    for prompt, continuation, likelihood in zip(prompts(), continuations, found, strict=True):
        log_p_LV = plain(torch.tensor([[*prompt, *continuation]])).logits[0].log_softmax(-1)
        rows = log_p_LV[len(prompt) - 1 : -1]
        wanted = rows.gather(-1, torch.tensor(continuation)[:, None]).mean()
        assert likelihood == pytest.approx(float(wanted), abs=1e-5)


def test_a_prompt_that_does_not_fit_is_refused_not_truncated(tmp_path):
    generator = made(tmp_path, max_position_embeddings=40)
    sampling = replace(GREEDY, max_new_tokens=10)
    generator([[5] * 30], sampling, seed=0)
    with pytest.raises(ValueError, match=r"prompt of 31 tokens with 10 to come .* window of 40"):
        generator([[5] * 3, [5] * 31], sampling, seed=0)
    with pytest.raises(ValueError, match="does not fit the model's window of 40"):
        generator.log_likelihoods([[5] * 31], [[6] * 10])


def test_an_empty_prompt_is_refused(generator):
    with pytest.raises(ValueError, match="without any token"):
        generator([[5], []], GREEDY, seed=0)


def draws(logits, sampling, num=400):
    logits_BV = torch.tensor([logits] * num)
    noise = [torch.Generator().manual_seed(seed) for seed in range(num)]
    return choose(logits_BV, sampling, noise)


def test_top_k_and_top_p_leave_out_the_rest():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert set(draws(logits, SamplingConfig(top_k=2))) == {0, 1}
    assert set(draws(logits, SamplingConfig(top_k=0))) == {0, 1, 2, 3}
    assert set(draws(logits, SamplingConfig(top_k=0, top_p=0.75))) == {0, 1}
    assert set(draws(logits, SamplingConfig(top_k=0, top_p=0.81))) == {0, 1, 2}
    assert set(draws(logits, SamplingConfig(top_k=0, top_p=0.01))) == {0}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_are_distributed_as_the_tempered_softmax(temperature):
    logits = [1.0, 0.0, -1.0, 0.5]
    wanted = (torch.tensor(logits) / temperature).softmax(-1)
    counts = torch.bincount(
        torch.tensor(draws(logits, SamplingConfig(temperature=temperature, top_k=0), num=2000)),
        minlength=4,
    )
    assert (counts / 2000 - wanted).abs().max() < 0.04  # above 3.5 standard deviations


def test_padding_is_on_the_side_asked_for():
    ids, mask = pad([[5], [6, 7, 8]], left=True)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]] and mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    ids, mask = pad([[5], [6, 7, 8]], left=False)
    assert ids.tolist() == [[5, 0, 0], [6, 7, 8]] and mask.tolist() == [[1, 0, 0], [1, 1, 1]]
