"""Test the loss against a plain one: full-vocabulary KL in float64 from all logits."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support import randomise_adapter, tiny_config, tiny_model, tiny_records
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from pdkernels import TopK
from pdtrain.config import AdapterConfig, LossConfig
from pdtrain.distillation import packing
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss, labels_as_teacher, with_labels
from pdtrain.distillation.twin import Twin
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove

CPU = torch.device("cpu")
ADAPTER = AdapterConfig(rank=4, alpha=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a twin whose adapter is not zero, and the logits of both sides in float64."""
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    config = tiny_config(folder, folder)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    examples = from_answers(*tiny_records(), chat)
    model = add_adapter(load_model(config.model), ADAPTER, seed=0)
    randomise_adapter(model)
    precise = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    precise = add_adapter(precise.requires_grad_(False), ADAPTER, seed=0)
    randomise_adapter(precise)
    precise.double()
    with precise.disable_adapter(), torch.no_grad():
        teacher_NV = logits(precise, examples, lambda e: e.teacher_prompt)
    for name, weight in precise.named_parameters():
        weight.requires_grad_("lora_" in name)  # PEFT's own switch leaves it to the caller
    student_NV = logits(precise, examples, lambda e: e.student_prompt)
    return SimpleNamespace(
        model=model, precise=precise, examples=examples, teacher=teacher_NV, student=student_NV
    )


def logits(model, examples, prompt):
    """Return the logits (N, V) before each answer token, from a plain forward of each answer."""
    found = []
    for e in sorted(examples, key=lambda e: (e.passage_id, e.answer_id)):
        ids = torch.tensor([[*prompt(e), *e.answer]])
        found.append(model(input_ids=ids).logits[0, len(prompt(e)) - 1 : -1])
    return torch.cat(found)


def full_kl(made, temperature):
    """Return KL(teacher || student) of each row over the whole vocabulary, in float64."""
    log_p_NV = F.log_softmax(made.teacher / temperature, -1)
    log_q_NV = F.log_softmax(made.student / temperature, -1)
    return (log_p_NV.exp() * (log_p_NV - log_q_NV)).sum(-1)


def mean_loss(made, config, examples=None, micro_batch=100):
    """Return the loss as training adds it up, and its gradients."""
    twin = Twin(made.model, TopKLoss(config))
    examples = examples or made.examples
    cuts = [examples[i : i + micro_batch] for i in range(0, len(examples), micro_batch)]
    batches = [packing.twin_batch(cut, config, CPU, with_teacher=True) for cut in cuts]
    total_weight = sum(batch.total_weight for batch in batches)
    made.model.zero_grad()
    loss = 0.0
    for batch in batches:
        loss_sum, _ = twin(batch)
        (loss_sum / total_weight).backward()
        loss += float(loss_sum.detach()) / total_weight
    return loss, {n: p.grad.clone() for n, p in made.model.named_parameters() if p.requires_grad}


def reference_gradients(made, loss):
    weights = {n: p for n, p in made.precise.named_parameters() if "lora_" in n}
    grads = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
    return dict(zip(weights, grads, strict=True))


def assert_same_gradients(found, wanted, atol=1e-5):
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        scale = float(wanted[name].abs().max())
        assert scale > 1e-4, f"{name} would agree with anything"
        error = float((gradient.double() - wanted[name].double()).abs().max())
        assert error <= atol * max(1.0, scale), f"{name} is off by {error:.1e} of {scale:.1e}"


@pytest.mark.parametrize("temperature, micro_batch", [(1.0, 1), (1.0, 100), (2.0, 5)])
def test_loss_and_gradients_are_those_of_the_full_kl(made, temperature, micro_batch):
    config = LossConfig(top_k=0, temperature=temperature)
    wanted = full_kl(made, temperature).mean()
    loss, gradients = mean_loss(made, config, micro_batch=micro_batch)
    assert loss == pytest.approx(float(wanted.detach()), abs=1e-5)
    assert loss > 0.1
    assert_same_gradients(gradients, reference_gradients(made, wanted))


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param({"top_k": 7}, id="bucket"),
        pytest.param({"top_k": 7, "average": "answer"}, id="answers_weigh_alike"),
        pytest.param({"top_k": 7, "tail": "renormalise"}, id="renormalise"),
        pytest.param({"top_k": 7, "divergence": "reverse_kl"}, id="reverse"),
        pytest.param({"top_k": 7, "divergence": "jsd", "beta": 0.3}, id="jsd"),
    ],
)
def test_loss_and_gradients_do_not_depend_on_the_cut(made, loss):
    whole, whole_gradients = mean_loss(made, LossConfig(**loss))
    for micro_batch in (2, 5):
        cut, cut_gradients = mean_loss(made, LossConfig(**loss), micro_batch=micro_batch)
        assert cut == pytest.approx(whole, abs=1e-5)
        assert_same_gradients(cut_gradients, whole_gradients)


def test_the_order_of_the_answers_changes_nothing(made):
    loss, gradients = mean_loss(made, LossConfig())
    turned, turned_gradients = mean_loss(made, LossConfig(), made.examples[::-1], micro_batch=4)
    assert turned == pytest.approx(loss, abs=1e-5)
    assert_same_gradients(turned_gradients, gradients)


def test_fewer_buckets_see_less_of_the_divergence(made):
    full = float(full_kl(made, 1.0).mean().detach())
    seen = [mean_loss(made, LossConfig(top_k=k))[0] for k in (1, 4, 32, 128, 0)]
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.9 * full
    assert seen[-1] == pytest.approx(full, abs=1e-5)


def test_gradients_with_buckets_are_those_of_the_bucket_kl(made):
    k = 7
    log_p_NV, log_q_NV = (F.log_softmax(x, -1) for x in (made.teacher, made.student))
    ids_NK = log_p_NV.topk(k).indices
    p_NK, q_NK = log_p_NV.exp().gather(-1, ids_NK), log_q_NV.exp().gather(-1, ids_NK)
    p_NB = torch.cat([p_NK, 1 - p_NK.sum(-1, keepdim=True)], -1)
    q_NB = torch.cat([q_NK, 1 - q_NK.sum(-1, keepdim=True)], -1)
    wanted = (p_NB * (p_NB.log() - q_NB.log())).sum(-1).mean()
    loss, gradients = mean_loss(made, LossConfig(top_k=k))
    assert loss == pytest.approx(float(wanted.detach()), abs=1e-5)
    assert_same_gradients(gradients, reference_gradients(made, wanted))


def test_the_symmetric_and_reversed_divergences_are_what_they_say(made):
    log_p_NV, log_q_NV = (F.log_softmax(x.detach(), -1) for x in (made.teacher, made.student))
    p_NV, q_NV = log_p_NV.exp(), log_q_NV.exp()
    reverse = (q_NV * (log_q_NV - log_p_NV)).sum(-1).mean()
    m_NV = 0.3 * p_NV + 0.7 * q_NV
    jsd = 0.3 * (p_NV * (log_p_NV - m_NV.log())) + 0.7 * (q_NV * (log_q_NV - m_NV.log()))
    found_reverse, _ = mean_loss(made, LossConfig(top_k=0, divergence="reverse_kl"))
    found_jsd, _ = mean_loss(made, LossConfig(top_k=0, divergence="jsd", beta=0.3))
    assert found_reverse == pytest.approx(float(reverse), abs=1e-5)
    assert found_jsd == pytest.approx(float(jsd.sum(-1).mean()), abs=1e-5)


def test_more_than_the_vocabulary_is_the_vocabulary(made):
    assert mean_loss(made, LossConfig(top_k=10**6))[0] == mean_loss(made, LossConfig(top_k=0))[0]


def test_answers_in_the_teachers_place_give_their_cross_entropy(made):
    twin, config = Twin(made.model, TopKLoss(LossConfig())), LossConfig()
    batch = packing.twin_batch(made.examples, config, CPU, with_teacher=False)
    wanted = F.cross_entropy(made.student, batch.targets)
    made.model.zero_grad()
    loss_sum, mass = twin(replace(batch, topk=labels_as_teacher(batch.targets)))
    (loss_sum / batch.total_weight).backward()
    assert float(loss_sum.detach()) / batch.total_weight == pytest.approx(
        float(wanted.detach()), abs=1e-5
    )
    assert float(mass) == batch.num_answer_tokens
    found = {n: p.grad.clone() for n, p in made.model.named_parameters() if p.requires_grad}
    assert_same_gradients(found, reference_gradients(made, wanted))


@pytest.mark.parametrize("labels", [0.25, 0.9])
def test_labels_are_that_share_of_cross_entropy_beside_the_kl(made, labels):
    """The reference is float64 over the whole vocabulary; the two differ by an entropy."""
    config = LossConfig(top_k=0, labels=labels)
    targets_N = packing.twin_batch(made.examples, config, CPU, with_teacher=False).targets
    log_p_NV = F.log_softmax(made.teacher, -1)
    log_q_NV = F.log_softmax(made.student, -1)
    mix_NV = (1 - labels) * log_p_NV.exp() + labels * F.one_hot(targets_N, log_p_NV.shape[1])
    wanted = (mix_NV * (mix_NV.log() - log_q_NV)).sum(-1).mean()
    loss, gradients = mean_loss(made, config)
    assert loss == pytest.approx(float(wanted.detach()), abs=1e-5)
    apart = (1 - labels) * full_kl(made, 1.0).mean()
    apart = apart + labels * F.nll_loss(log_q_NV, targets_N)
    assert_same_gradients(gradients, reference_gradients(made, apart))


@pytest.mark.parametrize("kinds", ["checked", "checked, not", "not", "unsaid, not, checked"])
def test_labels_with_a_tail_are_the_kl_of_the_mixed_buckets(made, kinds):
    """The reference takes buckets one by one in float64, with targets in the top-k and outside.

    Rows of answers that are not checked have no label, and those of answers that say that the
    documents do not say it have a share of their own.
    """
    k = made.teacher.shape[1] // 2
    config = LossConfig(top_k=k, labels=0.5, labels_unsaid=0.9)
    share_of = {"checked": 0.5, "not": 0.0, "unsaid": 0.9}
    in_turn = kinds.split(", ")
    kind_of = [in_turn[i % len(in_turn)] for i in range(len(made.examples))]
    examples = [
        replace(e, is_checked=kind == "checked", is_unsaid=kind == "unsaid")
        for kind, e in zip(kind_of, packing.in_order(made.examples), strict=True)
    ]
    batch = packing.twin_batch(examples, config, CPU, with_teacher=False)
    shares = [share_of[kind] for kind, e in zip(kind_of, examples, strict=True) for _ in e.answer]
    found = [0.0] * len(shares) if batch.label_shares is None else batch.label_shares.tolist()
    assert found == pytest.approx(shares)
    assert (batch.label_shares is None) is (kinds == "not")
    p_NV, log_q_NV = made.teacher.softmax(-1), F.log_softmax(made.student, -1)
    losses, num_out = [], 0
    rows = zip(p_NV, log_q_NV, batch.targets.tolist(), shares, strict=True)
    for p_V, log_q_V, target, labels in rows:
        kept = p_V.topk(k).indices.tolist()  # most probable first
        if target not in kept:
            num_out += 1
        if target not in kept and labels:
            kept = [*kept[:-1], target]
            p_V = p_V.clone()
            rest = 1 - p_V[kept[:-1]].sum()
            p_V[target] = 0.0
        else:
            rest = 1 - p_V[kept].sum()
        mix = (1 - labels) * p_V[kept] + labels * torch.tensor([float(i == target) for i in kept])
        tail, tail_q = (1 - labels) * rest, torch.log1p(-log_q_V[kept].exp().sum())
        losses.append((mix * (mix.log() - log_q_V[kept])).sum() + tail * (tail.log() - tail_q))
    assert 0 < num_out < len(losses), "the examples need targets of both sorts"
    wanted = torch.stack(losses).mean()
    loss, gradients = mean_loss(made, config, examples)
    assert loss == pytest.approx(float(wanted.detach()), abs=1e-5)
    assert_same_gradients(gradients, reference_gradients(made, wanted))


def test_labels_alone_are_the_cross_entropy(made):
    """The reference is float64, value and gradient; what the teacher thinks is not heard."""
    config = LossConfig(top_k=7, labels=0.5, labels_unsaid=1.0)
    examples = [replace(e, is_unsaid=True) for e in made.examples]
    targets_N = packing.twin_batch(examples, config, CPU, with_teacher=False).targets
    wanted = F.cross_entropy(made.student, targets_N)
    loss, gradients = mean_loss(made, config, examples)
    assert loss == pytest.approx(float(wanted.detach()), abs=1e-5)
    assert_same_gradients(gradients, reference_gradients(made, wanted))


@pytest.mark.parametrize(
    "loss, wanted",
    [
        (LossConfig(), [0.0, 0.0, 0.0]),
        (LossConfig(labels_unsaid=1.0), [0.0, 0.0, 0.0]),
        (LossConfig(labels=0.25), [0.25, 0.0, 0.0]),
        (LossConfig(labels=0.25, labels_for="all"), [0.25] * 3),
        (LossConfig(labels=0.25, labels_unsaid=1.0), [0.25, 0.0, 1.0]),
        (LossConfig(labels=0.25, labels_unsaid=0.0), [0.25, 0.0, 0.0]),
    ],
)
def test_what_the_documents_do_not_say_has_a_share_of_its_own_beside_labels(made, loss, wanted):
    """Without labels the student learns from the teacher alone, this too."""
    checked, other, unsaid = (replace(made.examples[0], is_checked=c) for c in (True, False, False))
    found = [checked, other, replace(unsaid, is_unsaid=True)]
    assert [packing.label_share(e, loss) for e in found] == wanted


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"loss.labels_unsaid must be in \[0, 1\], got 1.5"):
        LossConfig(labels_unsaid=1.5)


def test_the_fewer_labels_the_nearer_is_the_teacher_alone(made):
    plain, gradients = mean_loss(made, LossConfig(top_k=0))
    with_share, others = mean_loss(made, LossConfig(top_k=0, labels=1e-7))
    assert with_share == pytest.approx(plain, abs=1e-4)
    assert_same_gradients(others, gradients, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("kind", ["kept", "least kept", "out of the top-k", "of no mass"])
def test_a_mixed_row_holds_its_share_and_all_the_mass(kind, dtype):
    p_V = torch.tensor(
        [0.4, 0.3, 0.2, 0.1, 0.0] if kind == "of no mass" else [0.4, 0.3, 0.15, 0.1, 0.05]
    )
    target = {"kept": 0, "least kept": 2, "out of the top-k": 3, "of no mass": 4}[kind]
    log_p_V = p_V.double().log()
    topk = TopK(
        log_p_V[:3][None],
        torch.tensor([[0, 1, 2]], dtype=dtype),
        torch.zeros(1),
        p_V[3:].double().sum().log()[None],
        1.0,
    )
    found = with_labels(topk, torch.tensor([target]), torch.tensor([0.25]))
    mass = {int(i): float(p) for i, p in zip(found.ids_NK[0], found.log_p_NK[0].exp(), strict=True)}
    kept = [0, 1, 2] if "kept" in kind else [0, 1]
    assert found.ids_NK.dtype == dtype
    wanted = {i: 0.75 * float(p_V[i]) for i in kept}
    wanted[target] = wanted.get(target, 0.0) + 0.25
    assert mass == pytest.approx(wanted, abs=1e-12)
    tail = float(found.log_p_tail_N.exp())
    assert tail + sum(mass.values()) == pytest.approx(float(p_V.sum()), abs=1e-7)
    assert len(set(found.ids_NK[0].tolist())) == 3
    assert topk.ids_NK.tolist() == [[0, 1, 2]], "the teacher's own top-k is a cache's to keep"


def test_a_mixed_row_may_hold_tokens_that_cannot_happen():
    log_p_NK = torch.tensor([[0.0, -torch.inf, -torch.inf]] * 2)
    nothing_N = torch.full((2,), -torch.inf)
    topk = TopK(log_p_NK, torch.tensor([[4, 5, 6]] * 2), torch.zeros(2), nothing_N, 1.0)
    found = with_labels(topk, torch.tensor([6, 9]), torch.tensor([0.25, 0.25]))
    assert found.ids_NK.tolist() == [[4, 5, 6], [4, 9, 6]]
    assert found.log_p_NK.exp().tolist() == [[0.75, 0.0, 0.25], [0.75, 0.25, 0.0]]
    assert found.log_p_tail_N.tolist() == nothing_N.tolist()


def test_what_holds_to_the_base_has_no_labels(made):
    bare, config = LossConfig(top_k=7), LossConfig(top_k=7, labels=0.5)
    plain, batch = (
        packing.twin_batch(made.examples, loss, CPU, with_teacher=True) for loss in (bare, config)
    )
    held = replace(batch, is_regularization=True)
    losses = [float(Twin(made.model, TopKLoss(config))(one)[0].detach()) for one in (plain, held)]
    assert losses[0] == losses[1]
    assert float(Twin(made.model, TopKLoss(config))(batch)[0].detach()) != losses[0]
