"""Rows for the top-k KL benchmarks: from the embedded model on real text, or random.

N rows · D hidden size · V vocabulary: suffixes name dimensions.
"""

# ruff: noqa: N815 - fields carry shape suffixes, as arguments do

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Teacher and student rows that predict the same tokens, and their common head."""

    teacher_ND: Tensor
    student_ND: Tensor
    head_VD: Tensor
    source: str


def random_rows(
    num_rows: int, hidden: int, vocab: int, *, logit_std: float = 5.0, apart: float = 0.1
) -> Rows:
    """Normal logits of the given standard deviation; the student `apart` of that away."""
    generator = torch.Generator().manual_seed(0)
    teacher_ND = torch.randn(num_rows, hidden, generator=generator) * logit_std
    noise_ND = torch.randn(num_rows, hidden, generator=generator) * logit_std
    head_VD = torch.randn(vocab, hidden, generator=generator) / hidden**0.5
    source = f"random, logits of standard deviation {logit_std:g}, student {apart:g} of it away"
    return Rows(teacher_ND, teacher_ND + apart * noise_ND, head_VD, source)


def embedded_rows(num_rows: int, passages: Path, *, trained: float = 0.0) -> Rows:
    """Second halves of passages: the teacher has read the first half, the student has not.

    Args:
        passages: a JSONL file with a field "passage" a line.
        trained: 0 for the untrained student, towards 1 for one nearer to the teacher: its rows
            are moved that share of the way, a stand-in for a partly trained adapter.
    """
    from pdtrain.config import ModelConfig
    from pdtrain.models.base import load_model, load_tokenizer

    config = ModelConfig(name="embedded")
    model, tokenizer = load_model(config), load_tokenizer(config)
    decoder, head_VD = model.get_decoder(), model.get_output_embeddings().weight.detach().clone()
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    lines = passages.read_text(encoding="utf-8").splitlines()
    with torch.no_grad():
        for line in lines:
            ids = tokenizer(json.loads(line)["passage"], return_tensors="pt")["input_ids"]
            half = ids.shape[1] // 2
            sides[0].append(decoder(ids).last_hidden_state[0, half + 1 :])
            sides[1].append(decoder(ids[:, half:]).last_hidden_state[0, 1:])
            if sum(len(rows) for rows in sides[0]) >= num_rows:
                break
    teacher_ND, student_ND = (torch.cat(side)[:num_rows].float() for side in sides)
    if len(teacher_ND) < num_rows:
        raise ValueError(f"{passages} gives {len(teacher_ND)} rows, but {num_rows} were asked for")
    student_ND = student_ND.lerp(teacher_ND, trained)
    return Rows(
        teacher_ND, student_ND, head_VD.float(), f"embedded model, student {trained:g} trained"
    )


def rows_of_run(num_rows: int, folder: Path, *, trained: bool) -> Rows:
    """Answer rows of a finished run: its teacher with the passage, its student without.

    Args:
        folder: a run folder, such as runs/quickstart.
        trained: the student has the run's adapter on; otherwise it is the base.
    """
    from pdtrain.config import load_run
    from pdtrain.distillation import packing
    from pdtrain.distillation.examples import from_answers
    from pdtrain.distillation.losses import TopKLoss
    from pdtrain.distillation.twin import Twin
    from pdtrain.models.adapters.adapter import load_trained
    from pdtrain.models.adapters.lora import adapter_off
    from pdtrain.records import Answer, Passage, Question
    from pdtrain.storage import read_shards

    config = load_run(folder)
    model, chat = load_trained(config)
    kinds = (("passages", Passage), ("questions", Question), ("answers", Answer))
    records = [[kind.from_json(row) for row in read_shards(folder / name)] for name, kind in kinds]
    examples = from_answers(*records, chat)
    twin = Twin(model, TopKLoss(config.loss))
    head_VD = twin.head.weight.detach().clone()
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    with torch.no_grad(), nullcontext() if trained else adapter_off(model):
        for example in examples:
            teacher = packing.teacher_side([example], model.device)
            student = packing.student_side([example], model.device)
            for side, found_ND in zip(sides, twin.hidden_rows(teacher, student), strict=True):
                side.append(found_ND)
            if sum(len(part) for part in sides[0]) >= num_rows:
                break
    teacher_ND, student_ND = (torch.cat(side)[:num_rows].float() for side in sides)
    if len(teacher_ND) < num_rows:
        raise ValueError(f"{folder} gives {len(teacher_ND)} rows, but {num_rows} were asked for")
    source = f"answers of a run, {'its trained adapter' if trained else 'untrained student'}"
    return Rows(teacher_ND, student_ND, head_VD.float(), source)
