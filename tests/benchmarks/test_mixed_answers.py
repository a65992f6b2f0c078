"""benchmarks/mixed_answers.py: tokens of the base that reads, and of the base that does not."""

import importlib

import pytest
from house import ROOT
from support import tiny_config, tiny_model

from pdtrain.config import SamplingConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.records import Passage

TEXT = "The lamp burns rape oil. Tomas Brede winds it every 4 hours."
PASSAGE = Passage("p", "d", "The lamp of Vell Point", TEXT, 0, len(TEXT), 16, ((0, 24), (25, 60)))
QUESTIONS = ["What does the lamp burn?", "Who winds it?", "How often is it wound?"]
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=8)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    config = tiny_config(folder, folder, model={"name": str(tiny_model(folder / "model"))})
    return HuggingFaceBackend.of_base(config.model, config.prompts)


@pytest.fixture
def mixed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("mixed_answers")


def said(mixed, backend, share, sampling=GREEDY, seed=0):
    mixing = mixed.MixedBackend.of(backend, share)
    prompts = [mixing.chat.teacher(PASSAGE, question) for question in QUESTIONS]
    return [one.token_ids for one in mixing.sample(prompts, sampling, seed)]


def test_without_a_share_it_is_the_base_that_reads(mixed, backend):
    prompts = [backend.chat.teacher(PASSAGE, question) for question in QUESTIONS]
    reads = [one.token_ids for one in backend.sample(prompts, GREEDY, 0)]
    assert said(mixed, backend, 0.0) == reads


def test_with_all_of_it_it_is_the_base_that_does_not(mixed, backend):
    prompts = [backend.chat.student(question) for question in QUESTIONS]
    plain = [one.token_ids for one in backend.sample(prompts, GREEDY, 0)]
    assert said(mixed, backend, 1.0) == plain
    assert said(mixed, backend, 0.0) != plain


def test_each_token_of_a_mixture_is_what_one_of_the_two_says_next(mixed, backend):
    found = said(mixed, backend, 0.5)
    kinds = set()
    for question, ids in zip(QUESTIONS, found, strict=True):
        for end, token in enumerate(ids):
            nexts = [
                backend.sample([[*prompt, *ids[:end]]], GREEDY, 0)[0].token_ids[0]
                for prompt in (
                    backend.chat.teacher(PASSAGE, question),
                    backend.chat.student(question),
                )
            ]
            assert token in nexts
            kinds.add(tuple(one == token for one in nexts))
    assert {(True, False), (False, True)} <= kinds


def test_a_seed_decides_a_sample(mixed, backend):
    drawn = SamplingConfig(temperature=1.0, max_new_tokens=8)
    assert said(mixed, backend, 0.5, drawn) == said(mixed, backend, 0.5, drawn)
    assert said(mixed, backend, 0.5, drawn) != said(mixed, backend, 0.5, drawn, seed=1)
