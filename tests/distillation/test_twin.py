"""Test that both sides of a twin have the hidden rows that plain transformers give."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from architectures_table import CASES
from support import (
    assert_no_worse_than_eager,
    randomise_adapter,
    tiny_config,
    tiny_model,
    tiny_records,
)
from transformers import AutoModelForCausalLM

from pdtrain.config import AdapterConfig, LossConfig
from pdtrain.distillation import packing
from pdtrain.distillation.examples import Example, from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.models import architectures
from pdtrain.models.adapters.lora import adapter_off, add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove

CPU = torch.device("cpu")
RANK, ALPHA = 4, 12
WINDOW = 24  # shorter than the prompts, so that branches look past their prefix's beginning
WINDOW_IN_ONE_LAYER = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
}
ARCHITECTURES = [
    pytest.param("llama", {}, id="llama"),
    pytest.param("llama", {"num_key_value_heads": 1}, id="llama_with_one_key_head"),
    pytest.param("llama", {"num_key_value_heads": 4}, id="llama_with_a_key_head_each"),
    pytest.param("llama", {"tie_word_embeddings": True}, id="tied_head"),
    pytest.param("qwen2", {}, id="qwen2_with_biases"),
    pytest.param(
        "qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        id="qwen2_with_a_window_in_one_layer",
    ),
    pytest.param("qwen3", {}, id="qwen3_with_query_norms"),
    pytest.param("mistral", {"sliding_window": None}, id="mistral"),
    pytest.param("mistral", {"sliding_window": WINDOW}, id="mistral_with_a_sliding_window"),
    pytest.param("gemma", {}, id="gemma_with_scaled_embeddings"),
    pytest.param(
        "gemma3_text",
        {
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 8,
        },
        id="gemma3_with_windows_and_two_rotary_bases",
    ),
    pytest.param("phi3", {}, id="phi3_with_fused_projections"),
    pytest.param("phi3", {"sliding_window": WINDOW}, id="phi3_with_a_sliding_window"),
    pytest.param("olmo2", {}, id="olmo2"),
    pytest.param("smollm3", {"no_rope_layers": [1, 0]}, id="smollm3_with_a_layer_without_rope"),
    pytest.param("starcoder2", {"sliding_window": WINDOW}, id="starcoder2"),
    pytest.param("olmo3", WINDOW_IN_ONE_LAYER, id="olmo3"),
    pytest.param("exaone4", WINDOW_IN_ONE_LAYER, id="exaone4"),
    pytest.param("ministral", {"sliding_window": WINDOW}, id="ministral"),
    *(
        pytest.param(name, {}, id=name)
        for name in (
            "apertus arcee ernie4_5 glm4 helium hunyuan_v1_dense ministral3 nemotron olmo seed_oss "
            "stablelm"
        ).split()
    ),
]


def build(folder, architecture="llama", loss=None, **changes):
    """Return a twin on a tiny model, and examples for it."""
    tiny_model(folder, architecture, **changes)
    config = tiny_config(folder, folder)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    adapter = AdapterConfig(rank=RANK, alpha=ALPHA)
    model = add_adapter(load_model(config.model), adapter, seed=1)
    twin = Twin(model, TopKLoss(loss or LossConfig()))
    return SimpleNamespace(folder=folder, twin=twin, examples=from_answers(*tiny_records(), chat))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return build(tmp_path_factory.mktemp("llama"))


def batch_of(examples, **loss):
    return packing.twin_batch(examples, LossConfig(**loss), CPU, with_teacher=True)


def plain_model(made, *, with_adapter, dtype=torch.float32):
    """Load the model in plain transformers, and add the adapter to its weights by hand."""
    model = AutoModelForCausalLM.from_pretrained(made.folder, dtype=dtype).eval()
    if with_adapter:
        for name, module in made.twin.model.get_base_model().named_modules():
            if hasattr(module, "lora_A"):
                a_RI, b_OR = (m["default"].weight for m in (module.lora_A, module.lora_B))
                model.get_submodule(name).weight.data += (
                    b_OR.detach() @ a_RI.detach() * ALPHA / RANK
                )
    return model


@torch.no_grad()
def plain_rows(model, examples, prompt):
    """Return the last hidden states before each answer token, from one forward of each answer."""
    found = []
    for e in sorted(examples, key=lambda e: (e.passage_id, e.answer_id)):
        ids = torch.tensor([[*prompt(e), *e.answer]])
        hidden_1LD = model.get_decoder()(ids).last_hidden_state
        found.append(hidden_1LD[0, len(prompt(e)) - 1 : -1])
    return torch.cat(found)


@pytest.mark.parametrize("architecture, changes", ARCHITECTURES)
def test_hidden_rows_are_those_of_plain_transformers(architecture, changes, tmp_path):
    made = build(tmp_path, architecture, **changes)
    randomise_adapter(made.twin.model)
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
        assert (rows_ND - eager_ND).norm() <= 1e-5 * eager_ND.norm()
    # the comparison means something: the adapter and the passage both change the rows
    unread_ND = plain_rows(base, made.examples, lambda e: e.student_prompt)
    assert all((truth_ND - unread_ND).abs().max() > 0.1 for truth_ND in wanted[torch.float64])


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias"])
def test_an_attention_that_does_more_is_refused(name):
    architectures.refuse_unknown({name: None, "sliding_window": 8})
    with pytest.raises(ValueError, match=f"asks its attention for {name}"):
        architectures.refuse_unknown({name: 1.0})


def test_every_architecture_that_is_named_is_tested():
    elsewhere = {case.model_type for case in CASES if case.batching == "packed" and not case.wraps}
    assert {case.values[0] for case in ARCHITECTURES} | elsewhere == architectures.SUPPORTED


def test_branches_cannot_see_one_another(llama):
    """This holds to the last bit: not even the order of sums changes."""
    group = [e for e in llama.examples if e.passage_id == llama.examples[0].passage_id]
    side = packing.teacher_side(group, CPU)
    ((shared, lengths),) = side.layout
    changed = [side.ids.clone() for _ in range(2)]
    own = slice(shared + lengths[0], shared + sum(lengths[:2]))
    changed[0][own] = changed[0][own].flip(0) % 290 + 5
    changed[1][0] += 1
    with torch.no_grad():
        before_ND, branch_ND, prefix_ND = (
            llama.twin.hidden_rows(replace(side, ids=ids), None)[0] for ids in (side.ids, *changed)
        )
    of_branch = (side.rows >= own.start) & (side.rows < own.stop)
    assert torch.equal(before_ND[~of_branch], branch_ND[~of_branch])
    assert not torch.isclose(before_ND[of_branch], branch_ND[of_branch]).all(1).any()
    assert not torch.isclose(before_ND, prefix_ND).all(1).any()


def test_kl_is_zero_when_a_fresh_student_reads_what_the_teacher_reads(llama):
    batch = batch_of(llama.examples)
    same = packing.twin_batch(
        [
            Example(e.answer_id, e.passage_id, e.teacher_prompt, e.teacher_prompt, e.answer)
            for e in llama.examples
        ],
        LossConfig(),
        CPU,
        with_teacher=True,
    )
    with torch.no_grad():
        fresh, _ = llama.twin(same)
        apart, _ = llama.twin(batch)
    assert 0 <= float(fresh) / len(same.targets) < 1e-9
    assert float(apart) / len(batch.targets) > 1e-2


def test_a_fresh_adapter_changes_nothing(llama):
    side = batch_of(llama.examples).student
    with torch.no_grad():
        fresh_ND = rows_of(llama.twin, side)
        with adapter_off(llama.twin.model):
            base_ND = rows_of(llama.twin, side)
    assert torch.equal(fresh_ND, base_ND)


def rows_of(twin, side):
    return twin.hidden_rows(None, side)[0]


def test_the_adapter_is_off_inside_and_restored_whatever_happens(tmp_path):
    made = build(tmp_path)
    randomise_adapter(made.twin.model)
    side = batch_of(made.examples).student
    asks_for_gradients = [p.requires_grad for p in made.twin.parameters()]
    with torch.no_grad():
        on_ND = rows_of(made.twin, side)
        with pytest.raises(RuntimeError, match="stop"), adapter_off(made.twin.model):
            off_ND = rows_of(made.twin, side)
            with adapter_off(made.twin.model):
                pass
            assert torch.equal(rows_of(made.twin, side), off_ND), "still off after a nested one"
            assert [p.requires_grad for p in made.twin.parameters()] == asks_for_gradients
            raise RuntimeError("stop")
        assert torch.equal(rows_of(made.twin, side), on_ND)
    assert not torch.allclose(on_ND, off_ND, atol=1e-2)


def test_gradients_reach_the_adapter_alone(tmp_path):
    made = build(tmp_path)
    randomise_adapter(made.twin.model)
    loss, _ = made.twin(batch_of(made.examples))
    loss.backward()
    adapter = {n for n, _ in made.twin.named_parameters() if "lora_" in n}
    assert {n for n, p in made.twin.named_parameters() if p.requires_grad} == adapter
    assert {n for n, p in made.twin.named_parameters() if p.grad is not None} == adapter
    # seven linear layers in each of two blocks, two matrices each
    assert len(adapter) == 28
    assert all(bool(p.grad.any()) for n, p in made.twin.named_parameters() if n in adapter)


def test_dropout_and_its_mode_are_the_students_alone(tmp_path):
    config = tiny_config(tmp_path, tiny_model(tmp_path))
    adapter = AdapterConfig(rank=RANK, alpha=ALPHA, dropout=0.5)
    model = add_adapter(load_model(config.model), adapter, seed=1)
    randomise_adapter(model)
    twin = Twin(model, TopKLoss(LossConfig()))
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    batch = batch_of(from_answers(*tiny_records(), chat))
    first, again = (twin.hidden_rows(batch.teacher, batch.student) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], again[1])
    assert not any(module.training for module in model.modules())


def test_adapter_weights_are_fp32_on_a_bf16_base(tmp_path):
    config = tiny_config(tmp_path, tiny_model(tmp_path), model={"dtype": "bfloat16"})
    model = add_adapter(load_model(config.model), AdapterConfig(rank=2), seed=0)
    dtypes = {"lora_" in n: p.dtype for n, p in model.named_parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


def test_the_same_seed_makes_the_same_adapter_and_leaves_the_generator_alone(tmp_path):
    config = tiny_config(tmp_path, tiny_model(tmp_path))
    state = torch.get_rng_state()
    first, again, other = (
        [
            p
            for n, p in add_adapter(
                load_model(config.model), AdapterConfig(rank=2), seed=seed
            ).named_parameters()
            if "lora_A" in n
        ]
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_answers_weigh_alike_or_tokens_do(llama):
    examples = llama.examples[4:9]

    def loss_of(chosen, average):
        batch = batch_of(chosen, average=average)
        with torch.no_grad():
            return float(llama.twin(batch)[0]) / batch.total_weight

    one_by_one = [loss_of([e], "token") for e in examples]
    lengths = [len(e.answer) for e in examples]
    mean_of_means = sum(one_by_one) / len(examples)
    mean_over_tokens = sum(m * n for m, n in zip(one_by_one, lengths, strict=True)) / sum(lengths)
    assert loss_of(examples, "answer") == pytest.approx(mean_of_means, rel=1e-5)
    assert loss_of(examples, "token") == pytest.approx(mean_over_tokens, rel=1e-5)
    assert abs(mean_of_means - mean_over_tokens) > 1e-3


def test_the_mass_is_the_teachers_probability_inside_the_top_k(tmp_path):
    made = build(tmp_path, loss=LossConfig(top_k=5))
    batch = batch_of(made.examples)
    base = plain_model(made, with_adapter=False)
    hidden_ND = plain_rows(base, made.examples, lambda e: e.teacher_prompt)
    p_NV = base.get_output_embeddings()(hidden_ND).detach().softmax(-1)
    with torch.no_grad():
        _, mass = made.twin(batch)
    assert float(mass) == pytest.approx(float(p_NV.topk(5).values.sum()), rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_computing_activations_again_changes_nothing(dropout, tmp_path):
    """With dropout the second pass must drop the same units."""
    config = tiny_config(tmp_path, tiny_model(tmp_path))
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    batch = batch_of(from_answers(*tiny_records(), chat))
    found = []
    for checkpointing in (False, True):
        adapter = AdapterConfig(rank=RANK, alpha=ALPHA, dropout=dropout)
        model = add_adapter(load_model(config.model), adapter, seed=1)
        randomise_adapter(model)
        twin = Twin(model, TopKLoss(LossConfig()), checkpointing=checkpointing)
        torch.manual_seed(5)
        loss, _ = twin(batch)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in twin.parameters() if p.requires_grad)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_teacher_alone_is_the_teacher_of_the_pair(llama):
    batch = batch_of(llama.examples)
    with torch.no_grad():
        topk = llama.twin.as_topk(llama.twin(replace(batch, student=None)))
        online = llama.twin(batch)
        cached = llama.twin(replace(batch, topk=topk, teacher=None))
    assert all(torch.equal(a, b) for a, b in zip(online, cached, strict=True))


def test_no_layer_keeps_its_pair(llama):
    batch = batch_of(llama.examples)
    llama.twin(batch)
    with pytest.raises(AttributeError):
        llama.twin(replace(batch, topk="not a teacher"))
    parts = [*llama.twin.layers, llama.twin.head]
    assert not any("forward" in vars(part) for part in parts)


def test_a_prompt_beyond_what_a_stretched_rotary_embedding_was_trained_on_is_refused(tmp_path):
    """Beyond it the angles of a short student would follow the long teacher beside it."""
    half = [1.0] * 4
    stretched = {"rope_type": "longrope", "short_factor": half, "long_factor": [4.0] * 4}
    rope = stretched | {"rope_theta": 10_000.0}
    made = build(tmp_path, "phi3", rope_parameters=rope, original_max_position_embeddings=48)
    batch = batch_of(made.examples)
    with pytest.raises(ValueError, match=r"have \d+ tokens, but beyond 48 this model's rotary"):
        made.twin(batch)


@pytest.mark.parametrize(
    "architecture, changes, message",
    [
        pytest.param("gpt_neox", {}, "'gpt_neox' is not among those", id="unknown"),
        pytest.param(
            "lfm2",
            {"layer_types": ["conv", "full_attention"]},
            "layers of type conv, which cannot branch",
            id="recurrent",
        ),
        pytest.param(
            "gemma3_text",
            {"attn_logit_softcapping": 50.0},
            "caps attention scores",
            id="capped_scores",
        ),
    ],
)
def test_layers_that_do_something_else_are_padded_and_never_packed(
    architecture, changes, message, tmp_path
):
    assert not build(tmp_path, architecture, **changes).twin.is_packed
    config = tiny_config(tmp_path, tmp_path, model={"batching": "packed"})
    with pytest.raises(ValueError, match=f"model.batching=packed cannot be used: .*{message}"):
        load_model(config.model)


def test_padded_rows_are_packed_ones(tmp_path):
    """Values and gradients agree to rounding, for each side with and without the other."""
    tiny_model(tmp_path)
    chat, found = None, {}
    for batching in ("packed", "padded"):
        config = tiny_config(tmp_path, tmp_path, model={"batching": batching})
        chat = chat or prove(load_tokenizer(config.model), config.prompts, None)
        model = add_adapter(load_model(config.model), AdapterConfig(rank=RANK, alpha=ALPHA), seed=1)
        randomise_adapter(model)
        twin = Twin(model, TopKLoss(LossConfig()))
        assert twin.is_packed == (batching == "packed")
        batch = batch_of(from_answers(*tiny_records(), chat))
        loss, _ = twin(batch)
        weights = [p for p in twin.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            rows = twin.hidden_rows(batch.teacher, batch.student)
            alone = twin.hidden_rows(None, batch.student)
        found[batching] = [*rows, *alone, loss.detach(), *gradients]
    for packed_x, padded_x in zip(*found.values(), strict=True):
        assert (packed_x - padded_x).norm() <= 2e-5 * packed_x.norm()
