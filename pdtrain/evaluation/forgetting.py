"""Measure what an adapter does to text that has nothing to do with its documents.

Base and adapter read the same tokens. Their distance at a token is KL(base ‖ adapter) between their
next-token distributions over the whole vocabulary: 0 where the adapter changed nothing.

L tokens of one text · R of them at a time · D hidden size · V vocabulary: suffixes name dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pdtrain.config import SamplingConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models import head
from pdtrain.models.adapters.lora import adapter_off
from pdtrain.models.architectures import decoder_of

GREEDY = SamplingConfig(temperature=0, max_new_tokens=48)  # for the base's answers
ROWS = 256  # tokens whose distributions are held at a time
Pair = tuple[list[int], list[int]]  # token ids that are only read, and token ids that are predicted


def texts(student: HuggingFaceBackend, found: Sequence[str]) -> list[Pair]:
    """Return the token ids of each text; all are predicted but the first.

    The first is the tokenizer's beginning-of-text token where it adds one.
    """
    ids = [student.chat.text_ids(text, add_special_tokens=True) for text in found]
    return [(text[:1], text[1:]) for text in ids]


def answers(student: HuggingFaceBackend, questions: Sequence[str]) -> list[Pair]:
    """Return each question's closed-book prompt, and the base's own greedy answer to predict."""
    prompts = [student.chat.student(question) for question in questions]
    with student.without_adapter():
        done = student.sample(prompts, GREEDY, seed=0)
    return [(p, list(c.token_ids)) for p, c in zip(prompts, done, strict=True)]


@torch.inference_mode()
def compare(model: Any, pairs: Sequence[Pair]) -> list[dict[str, float]]:
    """Return, for each pair, means over its predicted tokens, in nats per token."""
    rule = head.find(model.get_base_model())  # a scale or a soft cap changes the distributions
    return [_compare(model, rule, *pair) for pair in pairs]


def _compare(
    model: Any, rule: head.HeadRule, read: list[int], predicted: list[int]
) -> dict[str, float]:
    ids_1L = torch.tensor([[*read, *predicted]], device=model.device)
    places = slice(len(read) - 1, -1)  # those whose next token is predicted

    def hidden() -> torch.Tensor:
        return decoder_of(model)(input_ids=ids_1L, use_cache=False).last_hidden_state[0, places]

    def log_p(hidden_RD: torch.Tensor) -> torch.Tensor:
        return rule.logits(model.get_output_embeddings(), hidden_RD).double().log_softmax(-1)

    own_LD = hidden()
    with adapter_off(model):
        base_LD = hidden()
    targets_L1 = torch.tensor(predicted, device=model.device)[:, None]
    found = list[torch.Tensor]()
    for rows in zip(*(one.split(ROWS) for one in (own_LD, base_LD, targets_L1)), strict=True):
        own_RD, base_RD, targets_R1 = rows
        own_RV = log_p(own_RD)
        with adapter_off(model):  # which may have a part in the output layer
            base_RV = log_p(base_RD)
        kl_RV = base_RV.exp() * (base_RV - own_RV)
        kl_R = torch.where(base_RV == -torch.inf, 0, kl_RV).sum(-1)  # 0 · (−inf − …) counts as 0
        likely = [one.gather(-1, targets_R1)[:, 0] for one in (base_RV, own_RV)]
        found.append(torch.stack([kl_R, *likely]))
    kl, base, own = torch.cat(found, dim=1).mean(1).tolist()
    return {
        "num_tokens": len(predicted),
        "kl_to_base": kl,
        "base_log_likelihood": base,
        "adapter_log_likelihood": own,
    }
