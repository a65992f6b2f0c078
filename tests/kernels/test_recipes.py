"""Run the recipes of kernels/recipes, and the module that they are built on."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from house import ROOT
from kernel_support import make_rows, relative_error

from pdkernels import TopK, TopKKLLoss, teacher_topk, topk_kl

RECIPES = ROOT / "kernels" / "recipes"


def recipe(name: str):
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch():
    teacher, student, head = make_rows(10, 8, 50, apart=0.3)
    labels = torch.randint(50, (2, 5), generator=torch.Generator().manual_seed(0))
    labels[0, :2] = -100
    return teacher.view(2, 5, 8), student.view(2, 5, 8), head, labels


@pytest.mark.parametrize("options", [{}, {"label_weight": 0.25}, {"softcap": 20.0}])
@pytest.mark.parametrize("shift", [True, False])
def test_the_module_is_the_function_over_the_positions_that_count(options, shift):
    teacher, student, head, labels = batch()
    rows, targets = student.flatten(0, 1), labels.flatten()
    if shift:
        targets = torch.cat([labels[:, 1:], torch.full((2, 1), -100)], 1).flatten()
    given = {"softcap": options["softcap"]} if "softcap" in options else {}
    topk = teacher_topk(teacher.flatten(0, 1), head, 7, **given)
    wanted = topk_kl(
        rows, head, topk, labels=targets, reduction="mean", **{"label_weight": 0.0} | options
    )
    for given_teacher in (teacher, topk):
        loss = TopKKLLoss(7, shift_labels=shift, **options)(student, head, given_teacher, labels)
        torch.testing.assert_close(loss, wanted)
    alone = TopKKLLoss(7, reduction="none")(student, head, topk)
    torch.testing.assert_close(alone, topk_kl(rows, head, topk))


def test_the_module_does_not_read_masked_positions_of_either_side():
    teacher, student, head, labels = batch()
    wanted = TopKKLLoss(7)(student, head, teacher, labels)
    teacher[0, 0] = student[0, 0] = teacher[:, 4] = student[:, 4] = torch.nan
    assert torch.equal(TopKKLLoss(7)(student, head, teacher, labels), wanted)
    labels[:] = -100
    assert TopKKLLoss(7, label_weight=0.5)(student, head, teacher, labels) == 0


def test_a_teacher_may_have_a_head_of_its_own():
    _, student, head, labels = batch()
    wide, wide_head = torch.randn(2, 5, 12), torch.randn(50, 12)
    loss = TopKKLLoss(50)(student, head, wide, labels, wide_head)
    log_p = (wide @ wide_head.T).log_softmax(-1)[:, :-1]
    log_q = (student @ head.T).log_softmax(-1)[:, :-1]
    each = (log_p.exp() * (log_p - log_q)).sum(-1)
    torch.testing.assert_close(loss, each[labels[:, 1:] != -100].mean())


def test_the_plain_loop_learns_online_and_from_its_file(tmp_path, monkeypatch):
    module = recipe("torch_loop")
    torch.manual_seed(0)
    head, body = torch.randn(60, 16) / 4, torch.nn.Linear(8, 16)
    inputs, hidden = torch.randn(2, 5, 8), torch.randn(2, 5, 16) * 3
    labels = torch.randint(60, (2, 5))
    path = tmp_path / "teacher.safetensors"
    module.cache(path, hidden, head, "a tokenizer")
    state = {name: value.clone() for name, value in body.state_dict().items()}
    online = module.train(body, head, lambda: [(inputs, hidden, labels)], 8)
    body.load_state_dict(state)
    cached = module.train(body, head, lambda: [(inputs, module.read_topk(path)[0], labels)], 8)
    assert online[-1] < 0.9 * online[0]
    torch.testing.assert_close(torch.tensor(cached), torch.tensor(online), rtol=1e-5, atol=1e-6)


def tiny_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_the_hugging_face_trainer_takes_a_sum_and_models_of_peft(tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import TrainingArguments

    module = recipe("hugging_face_trainer")
    student, teacher = tiny_llama(), tiny_llama()
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    with pytest.raises(ValueError, match=r'expected TopKKLLoss\(reduction="sum"\)'):
        module.DistillationTrainer(student, arguments, teacher=teacher, loss=TopKKLLoss(64))
    ids = torch.randint(64, (2, 6))
    labels = ids.masked_fill(torch.arange(6) < 2, -100)
    found = []
    adapted = get_peft_model(tiny_llama(), LoraConfig(target_modules=["q_proj"]))
    adapted.get_base_model().load_state_dict(student.state_dict(), strict=False)
    for model in (student, adapted):
        loss = TopKKLLoss(64, reduction="sum")
        trainer = module.DistillationTrainer(model, arguments, teacher=teacher, loss=loss)
        for count in (None, 8):  # the positions that count, by either name
            inputs = {"input_ids": ids, "labels": labels}
            found.append(trainer.compute_loss(model, inputs, num_items_in_batch=count).item())
    assert found[0] == pytest.approx(found[1]) and found[0] > 0
    assert len(found) == 4


def test_the_hugging_face_trainer_distils(tmp_path):
    from transformers import TrainingArguments

    module = recipe("hugging_face_trainer")
    student, teacher = tiny_llama(), tiny_llama()
    student.get_output_embeddings().requires_grad_(False)
    data = []
    for _ in range(8):
        ids = torch.randint(64, (6,))
        data.append({"input_ids": ids, "labels": ids.masked_fill(torch.arange(6) < 2, -100)})
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=2,
        max_steps=6, learning_rate=1e-2, report_to=[], use_cpu=True, logging_steps=1,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    loss = TopKKLLoss(64, reduction="sum")
    trainer = module.DistillationTrainer(
        student, arguments, train_dataset=data, teacher=teacher, loss=loss
    )

    def kl() -> float:
        ids = torch.stack([row["input_ids"] for row in data])
        labels = torch.stack([row["labels"] for row in data])[:, 1:]
        with torch.no_grad():
            log_p, log_q = (m(ids).logits.log_softmax(-1)[:, :-1] for m in (teacher, student))
        return float((log_p.exp() * (log_p - log_q)).sum(-1)[labels != -100].mean())

    before = kl()
    first = trainer.compute_loss(
        student, {k: torch.stack([row[k] for row in data]) for k in data[0]}, False, 32
    )
    assert abs(float(first) - before) < 1e-4, "32 positions count, and k is all words"
    trainer.train()
    assert kl() < 0.9 * before


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("items", [None, 17])
def test_trls_trainer_gets_the_loss_that_it_had(beta, items):
    pytest.importorskip("trl")
    from trl.trainer import distillation_trainer

    module = recipe("trl_distillation")
    teacher, student, head, _ = batch()
    mask = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0]])
    given = {"student_logit_scale": 0.5, "teacher_logit_scale": 0.5, "temperature": 1.3}
    results = []
    for one in (distillation_trainer._chunked_divergence_loss, module.divergence_loss):
        rows = student.clone().requires_grad_()
        frozen = head.clone()
        loss, entropy, count = one(rows, teacher, frozen, frozen, mask, beta, items, **given)
        (gradient,) = torch.autograd.grad(loss, rows)
        results.append((loss.detach(), gradient, count))
    assert relative_error(results[1][0], results[0][0]) < 1e-4
    assert relative_error(results[1][1], results[0][1]) < 1e-4
    assert results[0][2] == results[1][2] == 7 and entropy.isnan()


def test_trls_trainer_is_given_the_loss(monkeypatch):
    pytest.importorskip("trl")
    from trl.trainer import distillation_trainer

    original = distillation_trainer._chunked_divergence_loss
    monkeypatch.setattr(distillation_trainer, "_chunked_divergence_loss", original)
    module = recipe("trl_distillation")
    module.use_in_trl()
    assert distillation_trainer._chunked_divergence_loss is module.divergence_loss


def test_every_recipe_is_run_here():
    names = {path.stem for path in RECIPES.glob("*.py")}
    assert names == {"hugging_face_trainer", "trl_distillation", "torch_loop"}
    assert Path(__file__).read_text().count("recipe(") >= len(names) and sys.version_info >= (3, 10)
    assert isinstance(TopK.one_hot(torch.tensor([1])), TopK)
