"""Test that a quantized base is the base of its dequantized weights, as teacher and as student."""

import importlib.metadata
import warnings
from types import SimpleNamespace

import pytest
import torch
from support import (
    assert_no_worse_than_eager,
    randomise_adapter,
    tiny_config,
    tiny_model,
    tiny_records,
)
from transformers import AutoModelForCausalLM

from pdtrain.config import AdapterConfig, LossConfig, ModelConfig
from pdtrain.distillation import packing
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.models import quantization
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import fingerprint, load_model, load_tokenizer, skeleton
from pdtrain.models.chat.chat_template import prove
from pdtrain.schema import SamplingConfig

CPU = torch.device("cpu")
SIZES = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 128}
# QLoRA (Dettmers et al., arXiv 2305.14314), appendix E: the 16 values of NormalFloat4
NF4 = """-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453 -0.28444138169288635
    -0.18477343022823334 -0.09105003625154495 0.0 0.07958029955625534 0.16093020141124725
    0.24611230194568634 0.33791524171829224 0.44070982933044434 0.5626170039176941
    0.7229568362236023 1.0"""


def needs(kind):
    """Skip where the package that quantizes so is not installed."""
    package = quantization.KINDS[kind].package
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install -e '.[quantized]'")


@pytest.fixture(params=sorted(quantization.KINDS))
def kind(request):
    needs(request.param)
    return request.param


def whole(weight, kind):
    """Return a quantized weight as fp64, by its definition, element by element."""
    if kind != "nf4":  # integers or floats of 8 bits, and a scale for each row
        return weight.qdata.double() * weight.scale.double()
    state = weight.quant_state
    inner = state.state2
    steps = [inner.code[code] for code in state.absmax.tolist()]
    scales = [
        float(step * inner.absmax[index // inner.blocksize] + state.offset)
        for index, step in enumerate(steps)
    ]
    levels = [float(level) for level in NF4.split()]
    packed = weight.data.view(torch.uint8).flatten().tolist()
    codes = [code for byte in packed for code in (byte >> 4, byte & 15)]
    values = [levels[code] * scales[index // state.blocksize] for index, code in enumerate(codes)]
    return torch.tensor(values, dtype=torch.float64).view(state.shape)


def layers_of(model):
    """Yield name and layer of all that is quantized, as the plain model calls it."""
    for name, part in model.named_modules():
        weight = getattr(part, "weight", None)
        is_packed = type(weight).__name__ == "Params4bit"
        if is_packed or (weight is not None and type(weight.data) is not torch.Tensor):
            yield name.replace(".base_layer", ""), part


def dequantized(folder, base, kind, dtype):
    """Return plain transformers' model of the files with a quantized base's weights, made whole."""
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    found = dict(layers_of(base))
    assert len(found) == 2 * 7  # attention and MLP of two layers
    for name, part in found.items():
        plain.get_submodule(name).weight.data = whole(part.weight, kind).to(dtype)
    return plain


def build(folder, kind, architecture="llama", dtype=torch.float32, **model):
    """Return a twin on a quantized base, and examples; and how to build it on the same, whole."""
    tiny_model(folder, architecture, **SIZES)
    config = tiny_config(folder / "run", folder, model={"quantization": kind, **model})
    plain = tiny_config(folder / "run", folder, model=model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    base = load_model(config.model)

    def twin(on):
        adapted = add_adapter(on, AdapterConfig(rank=4, alpha=12), seed=1)
        randomise_adapter(adapted)
        return Twin(adapted, TopKLoss(LossConfig()))

    def twin_on_whole(dtype):
        made = load_model(plain.model)
        made.load_state_dict(dequantized(folder, base, kind, torch.float64).state_dict())
        made = twin(made)
        # the weights once more, for load_state_dict has rounded them to fp32
        if dtype == torch.float64:
            made.double()
            for name, part in layers_of(base):
                layer = made.model.get_base_model().get_submodule(name)
                layer.get_base_layer().weight.data = whole(part.weight, kind)
        return made

    examples = from_answers(*tiny_records(), chat)
    return SimpleNamespace(
        config=config, base=base, twin=twin, twin_on_whole=twin_on_whole, examples=examples
    )


def stepped(twin, batch, *, checkpointing=False):
    """Return the hidden rows of both sides, the loss and the adapter's gradients."""
    twin.checkpointing = checkpointing
    with torch.no_grad():
        rows = twin.hidden_rows(batch.teacher, batch.student)
    loss, _ = twin(batch)
    loss.backward()
    gradients = [p.grad for p in twin.parameters() if p.requires_grad]
    return [*rows, loss.detach(), *gradients]


@pytest.mark.parametrize("batching", ["packed", "padded"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_twin_is_that_of_the_dequantized_base(kind, batching, checkpointing, tmp_path):
    """Rows, loss and gradients, against the same weights in fp64, made whole by hand."""
    made = build(tmp_path, kind, batching=batching)
    batch = packing.twin_batch(made.examples, LossConfig(), CPU, with_teacher=True)
    eager, truth = (
        stepped(made.twin_on_whole(dtype), batch) for dtype in (torch.float32, torch.float64)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
        found = stepped(made.twin(made.base), batch, checkpointing=checkpointing)
    assert len(found) == 3 + 2 * 14
    for one, plain, true in zip(found, eager, truth, strict=True):
        assert_no_worse_than_eager(one, plain, true, slack=1e-5)
    assert min(true.abs().max() for true in truth) > 1e-3  # there is something to compare


def test_gradient_is_the_same_after_the_teacher_has_read_one_row(kind, tmp_path):
    """A pass without gradients must not change the weights, nor the kernel of a later pass."""
    made = build(tmp_path, kind)
    twin = made.twin(made.base)
    one_row = torch.randn(1, 1, 64)

    def gradient():
        asked = one_row.clone().requires_grad_()
        hidden = twin.decoder(inputs_embeds=asked, use_cache=False).last_hidden_state
        (given,) = torch.autograd.grad(hidden.pow(3).sum(), asked)
        return given

    before = gradient()
    with torch.no_grad():
        twin.decoder(inputs_embeds=one_row, use_cache=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
        after = gradient()
    assert torch.equal(before, after)
    wanted = made.twin_on_whole(torch.float32)
    asked = one_row.clone().requires_grad_()
    hidden = wanted.decoder(inputs_embeds=asked, use_cache=False).last_hidden_state
    (plain,) = torch.autograd.grad(hidden.pow(3).sum(), asked)
    torch.testing.assert_close(after, plain, atol=1e-4, rtol=1e-4)


def test_nothing_whole_is_kept_for_backward(kind, tmp_path):
    made = build(tmp_path, kind)
    twin = made.twin(made.base)
    batch = packing.twin_batch(made.examples, LossConfig(), CPU, with_teacher=False)
    shapes = set()

    def pack(tensor):
        shapes.add(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        twin.hidden_rows(None, batch.student)
    assert shapes and not shapes & {(64, 64), (32, 64), (128, 64), (64, 128)}
    assert not shapes & {(64, 32)}


def test_head_embedding_and_norms_stay_whole(kind, tmp_path):
    base = build(tmp_path, kind).base
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    names = {f"{name}.weight" for name, _ in layers_of(base)}
    held, expected = dict(base.named_parameters()), dict(plain.named_parameters())
    assert held.keys() == expected.keys() and len(expected.keys() - names) == 2 + 2 * 2 + 1
    for name in expected.keys() - names:
        assert torch.equal(held[name], expected[name])
    assert not any(part.requires_grad for part in held.values())


def test_planned_bytes_are_those_that_are_held(kind, tmp_path):
    made = build(tmp_path, kind)
    weights = [part.weight for _, part in layers_of(made.base)]
    if kind == "nf4":
        found = sum(
            w.nbytes + w.quant_state.absmax.nbytes + w.quant_state.state2.absmax.nbytes
            for w in weights
        )
    else:
        found = sum(w.qdata.nbytes + w.scale.nbytes for w in weights)
    layers = quantization.quantizable(skeleton(made.config.model)).values()
    quantized = sum(part.weight.numel() for part in layers)
    planned = quantization.stored_bytes(made.config.model, quantized, quantized, 4)
    if kind == "nf4":  # each weight may end in the middle of a block
        assert 0 <= found - planned < 4 * len(weights)
    else:  # the rows of a tiny model are shorter, and have more scales
        assert found == quantized + 4 * sum(part.out_features for part in layers)
        assert planned == quantized + quantized // 256


@pytest.mark.parametrize("architecture", ["qwen2", "gpt_oss", "mixtral"])
def test_only_linear_layers_are_quantized(architecture, tmp_path):
    tiny_model(tmp_path, architecture)
    found = quantization.quantizable(skeleton(ModelConfig(name=str(tmp_path))))
    assert found and not any("router" in name or "gate." in name for name in found)
    assert "lm_head" not in found


def test_generation_takes_the_dequantized_bases_tokens(kind, tmp_path):
    made = build(tmp_path, kind)
    plain = dequantized(tmp_path, made.base, kind, torch.float32)
    backend = HuggingFaceBackend.of_base(made.config.model, made.config.prompts)
    prompt = backend.chat.student("What is asked?")
    (found,) = backend.sample([prompt], SamplingConfig(temperature=0, max_new_tokens=12), seed=0)
    ids = torch.tensor([prompt])
    wanted = plain.generate(ids, max_new_tokens=12, do_sample=False)[0, len(prompt) :].tolist()
    assert list(found.token_ids) == wanted


def test_hash_changes_with_the_quantization_alone(tmp_path):
    tiny_model(tmp_path)
    plain, four, eight = (
        fingerprint(ModelConfig(name=str(tmp_path), quantization=q))
        for q in ("none", "nf4", "int8")
    )
    assert "quantization" not in plain  # runs that were made before stay as they are
    assert four == plain | {"quantization": "nf4"} != eight


def test_missing_package_and_other_devices_are_refused(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    config = ModelConfig(quantization="nf4")
    quantization.refuse(ModelConfig(), torch.device("mps"))
    with monkeypatch.context() as patched:
        patched.setattr(importlib.metadata, "version", missing)
        with pytest.raises(ValueError, match=r"needs the package bitsandbytes.*\.\[quantized"):
            quantization.refuse(config, CPU)
    needs("nf4")
    with pytest.raises(ValueError, match="CUDA GPUs and CPUs"):
        quantization.refuse(config, torch.device("mps"))


def test_files_that_are_quantized_already_are_refused(tmp_path):
    needs("nf4")
    made = build(tmp_path, "nf4")
    made.base.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="are quantized already"):
        load_model(made.config.model)
