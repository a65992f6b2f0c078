"""Sampling and scoring in batches: greedy is transformers' own, and the cut changes nothing."""

import random
from dataclasses import replace

import pytest
import torch
from support import randomise_adapter, tiny_config, tiny_model
from transformers import AutoModelForCausalLM

from pdtrain.config import SamplingConfig
from pdtrain.generation.backend import open_backend
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model

GREEDY = SamplingConfig(temperature=0, max_new_tokens=12)
SAMPLED = SamplingConfig(temperature=0.9, top_k=20, top_p=0.9, max_new_tokens=12)
MODELS = [
    pytest.param("llama", {}, id="llama"),
    pytest.param("mistral", {"sliding_window": 8}, id="mistral_with_a_sliding_window"),
]


def made(folder, architecture="llama", **changes):
    config = tiny_config(folder, tiny_model(folder, architecture, **changes))
    return open_backend(config, batch_size=32)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
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


def with_stops(backend, *more):
    """Tokens that a random model does say end an answer, so that rows stop at different times."""
    return replace(backend, chat=replace(backend.chat, stop_ids=more))


@pytest.mark.parametrize("architecture, changes", MODELS)
def test_greedy_is_transformers_own_token_by_token(architecture, changes, tmp_path):
    backend = made(tmp_path, architecture, **changes)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    found = backend.sample(prompts(), GREEDY, seed=0)
    stop = found[0].token_ids[4]  # said by some prompt after five tokens at most
    backend = with_stops(backend, stop)
    found = backend.sample(prompts(), GREEDY, seed=0)
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
def test_the_batch_size_changes_nothing(backend, sampling, batch_size):
    backend = with_stops(backend, *range(4, 40))
    whole = backend.sample(prompts(), sampling, seed=5)
    cut = replace(backend, batch_size=batch_size).sample(prompts(), sampling, seed=5)
    assert cut == whole
    assert len({len(completion.token_ids) for completion in whole}) > 2


def test_a_shared_prefix_is_read_once_and_changes_nothing(backend):
    """A batch of one shares nothing."""
    alike = [prompt for prompt in prompts(20) if prompt[:9] == prompts(20)[1][:9]]
    alone = replace(backend, batch_size=1)
    for sampling in (GREEDY, SAMPLED):
        found, num_read = counted(backend, alike, sampling)
        wanted, num_read_alone = counted(alone, alike, sampling)
        assert found == wanted
        assert num_read < 0.5 * num_read_alone, "the prompts were meant to share a prefix"


def counted(backend, prompts, sampling):
    """Completions, and how many tokens the decoder read for them."""
    sizes = []

    def count(module, args, kwargs):
        sizes.append(kwargs["input_ids"].numel())

    hook = backend.model.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    try:
        return backend.sample(prompts, sampling, seed=5), sum(sizes)
    finally:
        hook.remove()


def test_the_same_seed_says_the_same_and_another_something_else(backend):
    first, again, other = (backend.sample(prompts(), SAMPLED, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_equal_prompts_get_samples_of_their_own(backend):
    same = [prompts()[0]] * 8
    assert len({c.token_ids for c in backend.sample(same, SAMPLED, seed=0)}) > 4
    assert len({c.token_ids for c in backend.sample(same, GREEDY, seed=0)}) == 1


def test_sampling_leaves_the_global_generator_alone(backend):
    state = torch.get_rng_state()
    backend.sample(prompts(), SAMPLED, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_answer_ends_with_the_first_stop_token(backend):
    said = with_stops(backend, 10**6).sample(prompts(), SAMPLED, seed=0)[0].token_ids
    completion = with_stops(backend, said[3]).sample(prompts(), SAMPLED, seed=0)[0]
    assert completion.token_ids == said[: said.index(said[3]) + 1] and completion.finished
    always = with_stops(backend, *range(320))
    for completion in always.sample(prompts(), SAMPLED, seed=0):
        assert len(completion.token_ids) == 1 and completion.finished


def test_further_stop_tokens_of_one_call_end_an_answer_beside_the_chats_own(backend):
    said = with_stops(backend, 10**6).sample(prompts(), SAMPLED, seed=0)[0].token_ids
    different = list(dict.fromkeys(said))
    further, own = different[1], different[-1]
    backend = with_stops(backend, own)
    found = backend.sample(prompts(), SAMPLED, seed=0, stop_ids=[further])[0]
    assert found.token_ids == said[: said.index(further) + 1] and found.finished
    found = backend.sample(prompts(), SAMPLED, seed=0)[0]
    assert found.token_ids == said[: said.index(own) + 1] and found.finished


def test_an_answer_that_was_cut_is_not_finished(backend):
    never = with_stops(backend, 10**6)
    for completion in never.sample(prompts(), SAMPLED, seed=0):
        assert len(completion.token_ids) == SAMPLED.max_new_tokens and not completion.finished


def test_the_text_is_that_of_the_tokens(backend):
    for completion in backend.sample(prompts(), SAMPLED, seed=0):
        assert completion.text == backend.chat.text(completion.token_ids)


def test_every_prompt_is_reported_once(backend):
    reported = []
    backend = replace(backend, batch_size=4)
    backend.sample(prompts(), GREEDY, seed=0, on_done=reported.append)
    assert sum(reported) == len(prompts()) and max(reported) <= 4
    reported.clear()
    backend.log_likelihoods(prompts(), prompts(seed=1), on_done=reported.append)
    assert sum(reported) == len(prompts())


def test_nothing_to_say_is_nothing_said(backend):
    assert backend.sample([], GREEDY, seed=0) == []
    assert backend.log_likelihoods([], []) == []


@pytest.mark.parametrize("batch_size", [1, 5, 32])
@pytest.mark.parametrize("architecture, changes", MODELS)
@torch.no_grad()
def test_likelihoods_are_those_of_a_plain_forward(architecture, changes, batch_size, tmp_path):
    backend = replace(made(tmp_path, architecture, **changes), batch_size=batch_size)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    continuations = prompts(seed=1)
    found = backend.log_likelihoods(prompts(), continuations)
    for prompt, continuation, likelihood in zip(prompts(), continuations, found, strict=True):
        log_p_LV = plain(torch.tensor([[*prompt, *continuation]])).logits[0].log_softmax(-1)
        rows = log_p_LV[len(prompt) - 1 : -1]
        wanted = rows.gather(-1, torch.tensor(continuation)[:, None]).mean()
        assert likelihood == pytest.approx(float(wanted), abs=1e-5)


def test_a_student_answers_with_its_adapter_and_without_it_as_the_base(tmp_path):
    config = tiny_config(tmp_path / "run", tiny_model(tmp_path / "model"))
    base = open_backend(config)
    model = add_adapter(load_model(config.model), config.adapter, seed=0)
    randomise_adapter(model)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    student = HuggingFaceBackend.of_student(config, tmp_path / "adapter")
    own = student.sample(prompts(), GREEDY, seed=0)
    assert own == HuggingFaceBackend(model, base.chat).sample(prompts(), GREEDY, seed=0)
    with student.without_adapter():
        as_base = student.sample(prompts(), GREEDY, seed=0)
    assert as_base == base.sample(prompts(), GREEDY, seed=0) != own
    assert student.sample(prompts(), GREEDY, seed=0) == own


def test_a_backend_says_what_it_can(backend):
    assert backend.can_score and backend.window == 2048


def test_a_prompt_that_does_not_fit_is_refused_not_truncated(tmp_path):
    backend = made(tmp_path, max_position_embeddings=40)
    sampling = replace(GREEDY, max_new_tokens=10)
    backend.sample([[5] * 30], sampling, seed=0)
    with pytest.raises(ValueError, match=r"prompt of 31 tokens with 10 to come .* window of 40"):
        backend.sample([[5] * 3, [5] * 31], sampling, seed=0)
    with pytest.raises(ValueError, match="does not fit the model's window of 40"):
        backend.log_likelihoods([[5] * 31], [[6] * 10])


def test_an_empty_prompt_is_refused(backend):
    with pytest.raises(ValueError, match="without any token"):
        backend.sample([[5], []], GREEDY, seed=0)
