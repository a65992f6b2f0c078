"""What an adapter does to text and questions that have nothing to do with its documents.

Base and adapter read the same tokens; of every token the divergence of their next-token
distributions is taken over the whole vocabulary, KL(base ‖ adapter). 0 is nothing changed.

L tokens of one text · D hidden size · V vocabulary: suffixes name dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pdtrain.config import SamplingConfig
from pdtrain.evaluation.metrics import summarise
from pdtrain.generation.huggingface import Generator
from pdtrain.models.lora import adapter_off
from pdtrain.records import Score, seed_for

GREEDY = SamplingConfig(temperature=0, max_new_tokens=48)  # the base's answers
Pair = tuple[list[int], list[int]]  # what is only read, and what is predicted


def texts(generator: Generator, found: Sequence[str]) -> list[Pair]:
    """A text's first token is only read; it is the tokenizer's own beginning where it adds one."""
    ids = [generator.chat.tokenizer(text)["input_ids"] for text in found]
    return [(text[:1], text[1:]) for text in ids]


def answers(generator: Generator, questions: Sequence[str]) -> list[Pair]:
    """Closed-book prompts with the base's own greedy answers."""
    prompts = [generator.chat.student(question) for question in questions]
    with adapter_off(generator.model):
        done = generator(prompts, GREEDY, seed=0)
    return [(p, list(c.token_ids)) for p, c in zip(prompts, done, strict=True)]


@torch.inference_mode()
def compare(model: Any, pairs: Sequence[Pair]) -> list[dict[str, float]]:
    """Of every pair, means over its predicted tokens, in nats."""
    return [_compare(model, *pair) for pair in pairs]


def _compare(model: Any, read: list[int], predicted: list[int]) -> dict[str, float]:
    ids_1L = torch.tensor([[*read, *predicted]], device=model.device)
    rows = slice(len(read) - 1, -1)  # whose next token is predicted

    def log_p() -> torch.Tensor:
        hidden_1LD = model.get_decoder()(input_ids=ids_1L, use_cache=False).last_hidden_state
        logits_LV = model.get_output_embeddings()(hidden_1LD[0, rows])
        return logits_LV.double().log_softmax(-1)

    own_LV = log_p()
    with adapter_off(model):
        base_LV = log_p()
    kl_LV = base_LV.exp() * (base_LV - own_LV)
    kl_L = torch.where(base_LV == -torch.inf, 0, kl_LV).sum(-1)  # a word that cannot happen
    targets_L1 = torch.tensor(predicted, device=model.device)[:, None]
    return {
        "num_tokens": len(predicted),
        "kl_to_base": kl_L.mean().item(),
        "base_log_likelihood": base_LV.gather(-1, targets_L1).mean().item(),
        "adapter_log_likelihood": own_LV.gather(-1, targets_L1).mean().item(),
    }


def summary(lines: Sequence[dict[str, Any]], num_samples: int, seed: int) -> dict[str, Score]:
    """Means over all tokens, with intervals over texts: the divergence, and both perplexities."""
    weights = [line["num_tokens"] for line in lines]

    def mean(metric: str) -> Score:
        values = [line[metric] for line in lines]
        return summarise(values, num_samples, seed_for(seed, metric), weights)

    def perplexity(metric: str) -> Score:
        found = mean(metric)
        return Score(math.exp(-found.value), math.exp(-found.high), math.exp(-found.low), found.n)

    return {
        "kl_to_base": mean("kl_to_base"),
        "base_perplexity": perplexity("base_log_likelihood"),
        "adapter_perplexity": perplexity("adapter_log_likelihood"),
    }
