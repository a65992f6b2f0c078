"""Build tiny random models of many architectures, and check what must hold for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from architecture_cases import CASES, LEFT_OUT, SIZES, Case, case
from peft import PeftModel
from support import (
    assert_no_worse_than_eager,
    randomise_adapter,
    tiny_config,
    tiny_records,
    tiny_tokenizer,
)
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from pdtrain.config import AdapterConfig, LossConfig, SamplingConfig
from pdtrain.distillation import packing
from pdtrain.distillation.examples import Example, from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.architectures import decoder_of, let_read_text, served_class
from pdtrain.models.base import load_model, load_tokenizer, skeleton
from pdtrain.models.chat.chat_template import prove
from pdtrain.models.shape import adapter_parameters, shape_of

__all__ = ["CASES", "CHECKS", "Case", "build", "case", "examine", "write_model"]

CPU = torch.device("cpu")
RANK, ALPHA = 4, 12
GREEDY = 20


def write_model(one: Case, folder: Path, seed: int = 0) -> Path:
    """Write the tiny model and the tokenizer of the tests."""
    tokenizer = tiny_tokenizer()
    words = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    settings = {k: v for k, v in (SIZES | words | one.changes).items() if v is not LEFT_OUT}
    if one.wraps:
        outer = {k: words[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = AutoConfig.for_model(
            one.model_type, text_config=settings, **outer, **one.more, initializer_range=0.2
        )
        build: Callable[..., Any] = getattr(transformers, one.wraps)._from_config
    else:
        config = AutoConfig.for_model(one.model_type, **settings)
        build = AutoModelForCausalLM.from_config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(config, dtype=torch.float32)
        for name, weight in model.named_parameters():
            if "sinks" in name or weight.dim() < 2:  # what starts at zero or one would hide errors
                weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build(
    one: Case, folder: Path, adapter: dict[str, Any] | None = None, **model: Any
) -> SimpleNamespace:
    """Return config, examples, and a twin whose adapter is random, of the tiny model in a folder.

    Args:
        adapter: further knobs of the section `adapter`.
        model: further knobs of the section `model`.
    """
    config = tiny_config(folder, folder, model=model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    adapted = add_adapter(
        load_model(config.model), AdapterConfig(rank=RANK, alpha=ALPHA, **(adapter or {})), seed=1
    )
    randomise_adapter(adapted)
    twin = Twin(adapted, TopKLoss(LossConfig(top_k=0)))
    examples = from_answers(*tiny_records(2, 3), chat)
    return SimpleNamespace(
        case=one, folder=folder, config=config, chat=chat, twin=twin, examples=examples
    )


def batch_of(examples: list[Example]) -> Any:
    return packing.twin_batch(examples, LossConfig(), CPU, with_teacher=True)


def plain_model(made: Any, *, with_adapter: bool, dtype: torch.dtype = torch.float32) -> Any:
    """Load the model in plain transformers, and add the adapter to its weights by hand."""
    settings = AutoConfig.from_pretrained(made.folder)
    auto = served_class(settings) or AutoModelForCausalLM
    model = let_read_text(auto.from_pretrained(made.folder, dtype=dtype)).eval()
    if made.case.has_experts:
        model.set_experts_implementation("eager")  # the fused products know no fp64
    if with_adapter:
        for name, module in made.twin.model.get_base_model().named_modules():
            if hasattr(module, "lora_A"):
                a_RI, b_OR = (m["default"].weight for m in (module.lora_A, module.lora_B))
                change = (b_OR.detach().double() @ a_RI.detach().double()) * ALPHA / RANK
                change = change.T if getattr(module, "fan_in_fan_out", False) else change
                part = model.get_submodule(name)
                # another parameter: the old one may be shared with layers whose adapter differs
                part.weight = nn.Parameter(part.weight.data + change.to(dtype))
    return model


@torch.no_grad()
def plain_rows(model: Any, examples: list[Example], prompt: Callable[[Example], Any]) -> Tensor:
    """Return the last hidden states before each answer token, from one forward of each answer."""
    found = []
    for e in packing.in_order(examples):
        ids = torch.tensor([[*prompt(e), *e.answer[:-1]]])
        hidden_1LD = decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state
        found.append(hidden_1LD[0, len(prompt(e)) - 1 :])
    return torch.cat(found)


def check_rows(made: Any) -> None:
    """Compare both sides' hidden rows with plain transformers, and all logits with the model's."""
    batch = batch_of(made.examples)
    with torch.no_grad():
        found = made.twin.hidden_rows(batch.teacher, batch.student)
    wanted = {}
    for dtype in (torch.float32, torch.float64):
        base, adapted = (plain_model(made, with_adapter=on, dtype=dtype) for on in (False, True))
        wanted[dtype] = (
            plain_rows(base, made.examples, lambda e: e.teacher_prompt),
            plain_rows(adapted, made.examples, lambda e: e.student_prompt),
        )
    for rows_ND, eager_ND, truth_ND in zip(found, *wanted.values(), strict=True):
        assert_no_worse_than_eager(rows_ND, eager_ND, truth_ND, slack=1e-5)
    unread_ND = plain_rows(base, made.examples, lambda e: e.student_prompt)
    assert all((truth_ND - unread_ND).abs().max() > 1e-2 for truth_ND in wanted[torch.float64])


def naive_loss(made: Any) -> Tensor:
    """Return the sum of the rows' KL by the whole model, one answer and one side at a time."""
    total = torch.zeros((), dtype=torch.float32)
    model = made.twin.model
    for e in packing.in_order(made.examples):
        logits = []
        for prompt in (e.teacher_prompt, e.student_prompt):
            ids = torch.tensor([[*prompt, *e.answer[:-1]]])
            if prompt is e.teacher_prompt:
                with torch.no_grad(), model.disable_adapter():
                    found = model(input_ids=ids, use_cache=False).logits
            else:
                found = model(input_ids=ids, use_cache=False).logits
            logits.append(found[0, len(prompt) - 1 :].log_softmax(-1))
        total = total + (logits[0].exp() * (logits[0] - logits[1])).sum()
    return total


def check_loss(made: Any) -> None:
    """Compare the loss and all adapter gradients with the naive loop of two passes."""
    weights = {n: p for n, p in made.twin.named_parameters() if p.requires_grad}
    wanted_loss = naive_loss(made)
    wanted = torch.autograd.grad(wanted_loss, list(weights.values()), allow_unused=True)
    loss, _ = made.twin(batch_of(made.examples))
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    assert abs(float(loss - wanted_loss)) <= 1e-4 * (1 + abs(float(wanted_loss)))
    largest = max(float(g.abs().max()) for g in wanted if g is not None)
    for name, mine, theirs in zip(weights, found, wanted, strict=True):
        if any(part in name for part in made.case.untouched):
            continue
        assert mine is not None and theirs is not None, f"no gradient reaches {name}"
        assert theirs.any(), f"the gradient of {name} is zero"
        off = float((mine - theirs).abs().max())
        assert off <= 1e-4 * (float(theirs.abs().max()) + 0.1 * largest), f"{name} is off by {off}"


@torch.no_grad()
def check_cached(made: Any) -> None:
    """Take the teacher's top-k alone, as the cache does: the loss is the one online, to the bit."""
    batch = batch_of(made.examples)
    topk = made.twin.as_topk(made.twin(replace(batch, student=None)))
    online, cached = made.twin(batch), made.twin(replace(batch, topk=topk, teacher=None))
    assert all(torch.equal(a, b) for a, b in zip(online, cached, strict=True))


@torch.no_grad()
def check_no_leak(made: Any) -> None:
    """Change one answer's tokens: the rows of the others stay as they are, to the last bit.

    With experts to rounding alone: an expert multiplies all tokens that were sent to it at once,
    and how a product of another size is summed may differ.
    """
    batch = batch_of(made.examples)
    (_, lengths) = batch.student.layout[0]
    shared = batch.student.layout[0].prefix
    own = slice(shared + lengths[0], shared + sum(lengths[:2]))
    ids = batch.student.ids.clone()
    ids[own] = ids[own].flip(0) % 290 + 5
    before, after = (
        made.twin.hidden_rows(None, replace(batch.student, ids=x))[0]
        for x in (batch.student.ids, ids)
    )
    changed = (batch.student.rows >= own.start) & (batch.student.rows < own.stop)
    if made.case.has_experts:
        torch.testing.assert_close(before[~changed], after[~changed], rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(before[~changed], after[~changed])
    assert not torch.isclose(before[changed], after[changed]).all(1).any()


def check_step(made: Any) -> None:
    """Take a training step with checkpointing: the loss is as without, and the adapter moves."""
    batch = batch_of(made.examples)
    with torch.no_grad():
        wanted, _ = made.twin(batch)
    made.twin.checkpointing = True
    engine = PlainEngine(made.twin, made.config.train, 4)
    before = engine.adapter_state()
    loss, _ = engine(batch)
    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-5, atol=1e-5)
    engine.backward(loss / batch.total_weight, last=True)
    norm, _ = engine.step()
    assert 0 < norm < float("inf")
    after = engine.adapter_state()
    unmoved = [n for n in before if torch.equal(before[n], after[n])]
    assert not [n for n in unmoved if not any(part in n for part in made.case.untouched)]


@torch.no_grad()
def check_reloads(made: Any, folder: Path) -> None:
    """Load the saved adapter onto the class that people serve: the same logits, and an effect."""
    made.twin.model.save_pretrained(folder)
    base = plain_model(made, with_adapter=False)
    ids = torch.tensor([list(made.examples[0].student_prompt)])
    without = base(input_ids=ids).logits
    loaded = PeftModel.from_pretrained(base, str(folder)).eval()
    found, wanted = loaded(input_ids=ids).logits, made.twin.model(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found - without).abs().max() > 1e-2, "the adapter has no effect"


@torch.no_grad()
def check_generation(made: Any) -> None:
    """Compare greedy tokens of a batch with transformers' `generate` of each prompt alone."""
    backend = HuggingFaceBackend(made.twin.model, made.chat)
    prompts = [list(e.student_prompt) for e in made.examples[:4]]
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=GREEDY)
    found = backend.sample(prompts, sampling, seed=0)
    for prompt, completion in zip(prompts, found, strict=True):
        out = made.twin.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=GREEDY,
            do_sample=False,
            eos_token_id=list(backend.chat.stop_ids),
        )
        assert list(completion.token_ids) == out[0, len(prompt) :].tolist()


@torch.no_grad()
def check_likelihoods(made: Any) -> None:
    """Compare log-likelihoods of a batch with the model's own logits of each answer alone."""
    backend = HuggingFaceBackend(made.twin.model, made.chat)
    chosen = made.examples[:4]
    found = backend.log_likelihoods(
        [list(e.student_prompt) for e in chosen], [list(e.answer) for e in chosen]
    )
    for e, mine in zip(chosen, found, strict=True):
        ids = torch.tensor([[*e.student_prompt, *e.answer]])
        log_p = made.twin.model(input_ids=ids).logits[0].log_softmax(-1)
        rows = log_p[len(e.student_prompt) - 1 : -1]
        wanted = rows.gather(-1, torch.tensor(e.answer)[:, None]).mean()
        assert abs(mine - float(wanted)) < 1e-4


def check_plan(made: Any) -> None:
    """Compare what is planned by config.json alone with the model and its adapter."""
    found = shape_of(skeleton(made.config.model), made.config.adapter.target_modules)
    weights = list(made.twin.named_parameters())
    frozen = sum(p.numel() for _, p in weights if not p.requires_grad)
    own = sum(p.numel() for _, p in weights if p.requires_grad)
    assert found.sizes.total == frozen
    assert adapter_parameters(RANK, list(found.adapted)) == own
    in_layers = sum(
        p.numel() for layer in made.twin.layers for p in layer.parameters() if not p.requires_grad
    )
    assert (found.sizes.active < in_layers) == made.case.has_experts
    assert found.matmuls == found.sizes.active


CHECKS: dict[str, Callable[..., None]] = {
    "plan": check_plan,
    "rows": check_rows,
    "loss": check_loss,
    "cached": check_cached,
    "no leak": check_no_leak,
    "generate": check_generation,
    "likelihoods": check_likelihoods,
    "export": check_reloads,
    "train": check_step,
}


def examine(one: Case, folder: Path) -> SimpleNamespace:
    """Run every check of an architecture."""
    write_model(one, folder / "model")
    made = build(one, folder / "model")
    assert made.twin.is_packed == (one.batching == "packed")
    for name, check in CHECKS.items():
        try:
            check(made, *([folder / "adapter"] if name == "export" else []))
        except BaseException as error:
            error.add_note(f"in the check {name!r} of {one.name}")
            raise
    return made
