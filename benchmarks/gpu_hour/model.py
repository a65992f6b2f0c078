"""Random-weight models of real shapes, made on the device, and answers of real lengths for them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from pdtrain.distillation.examples import Example
from pdtrain.models.attention import prefix

LOGIT_STD = 5.0  # of a trained model's next-token logits, about
COMMON = {
    "max_position_embeddings": 8192,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
SHAPES = {
    "1B": LlamaConfig(  # Llama 3.2 1B's
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=128_256,
        tie_word_embeddings=True,
        **COMMON,
    ),
    "8B": LlamaConfig(  # Llama 3.1 8B's
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=128_256,
        tie_word_embeddings=False,
        **COMMON,
    ),
    "toy": LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=400,
        tie_word_embeddings=True,
        initializer_range=0.2,  # the usual 0.02 would let so narrow a model ignore its passage
        **COMMON,
    ),
}


@dataclass(frozen=True)
class Lengths:
    """Numbers of tokens: of real passages of 160 to 220 words, and questions about them.

    passage: read once for all questions of a passage, the teacher's system text included.
    system: what all of the student's prompts begin with.
    question: what is left of either prompt, from and to.
    answer: from and to.
    """

    passage: int = 272
    system: int = 24
    question: tuple[int, int] = (30, 70)
    answer: tuple[int, int] = (10, 40)


USUAL_LENGTHS = Lengths()
TOY_LENGTHS = Lengths(passage=20, system=4, question=(3, 6), answer=(2, 5))


def save_config(shape: str, folder: Path) -> Path:
    """Write the config.json from which pdtrain reads a model's sizes; there are no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    SHAPES[shape].save_pretrained(folder)
    return folder


@torch.no_grad()
def build(shape: str, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Return a frozen model with random weights, made on the device; nothing is loaded.

    Its head is scaled so that next-token logits spread as a trained model's do: an untrained
    model's are nearly equal, which is an unusual case for the search of the top-k.
    """
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(SHAPES[shape], dtype=dtype)
    std = SHAPES[shape].initializer_range * SHAPES[shape].hidden_size ** 0.5
    model.get_output_embeddings().weight.mul_(LOGIT_STD / std)
    return prefix.prepare(model.eval().requires_grad_(False))


def examples(shape: str, num_passages: int, per_passage: int, lengths: Lengths) -> list[Example]:
    """Return answers of random tokens, passage by passage; always the same ones."""
    draw, vocab = random.Random(0), SHAPES[shape].vocab_size
    tokens = lambda count: tuple(draw.choices(range(vocab), k=count))  # noqa: E731
    system, found = tokens(lengths.system), []
    for number in range(num_passages):
        passage = tokens(lengths.passage)
        for turn in range(per_passage):
            question = tokens(draw.randint(*lengths.question))
            found.append(
                Example(
                    answer_id=f"{number:03}-{turn:03}",
                    passage_id=f"{number:03}",
                    teacher_prompt=passage + question,
                    student_prompt=system + question,
                    answer=tokens(draw.randint(*lengths.answer)),
                )
            )
    return found
