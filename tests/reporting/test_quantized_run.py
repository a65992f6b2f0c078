"""Test training on a quantized base to its end: the cached teacher, the adapter, the export."""

import importlib.metadata

import pytest
import torch
from peft import PeftModel
from support import tiny_model
from tiny_training import logged, prepared, trained
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

from pdtrain.models import quantization
from pdtrain.models.adapters.adapter import load_trained
from pdtrain.models.adapters.lora import adapter_off
from pdtrain.reporting.exporting import export
from pdtrain.training import train

KINDS = sorted(quantization.KINDS)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture(params=KINDS)
def kind(request):
    package = quantization.KINDS[request.param].package
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install -e '.[quantized]'")
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 128}
    return tiny_model(tmp_path_factory.mktemp("model"), **sizes)


def as_people_load_it(kind):
    """Return transformers' settings for such a base, written without this project's code."""
    if kind == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
            llm_int8_skip_modules=["lm_head"],
        )
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    made = Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()
    return TorchAoConfig(made, modules_to_not_convert=["lm_head"])


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


def test_a_cached_teacher_on_it_teaches_as_the_one_online(kind, folder, tmp_path):
    model = {"quantization": kind}
    online, cached = (
        trained(tmp_path / str(cache), folder, model=model, teacher={"cache": cache})
        for cache in (False, True)
    )
    assert cached.run.teacher_folder.exists() and not online.run.teacher_folder.exists()
    for name in ("train/loss", "distillation/teacher_mass"):
        assert logged(cached, name) == pytest.approx(logged(online, name), abs=1e-6)


def test_the_cache_of_the_whole_base_is_not_taken_for_it(kind, folder, tmp_path):
    whole = trained(tmp_path, folder, teacher={"cache": True})
    before = logged(whole)
    config = prepared(tmp_path, folder, model={"quantization": kind}, teacher={"cache": True})
    train.run(config)
    assert len([*config.run.teacher_folder.iterdir()]) == 2
    assert abs(logged(config)[0] - before[0]) > 1e-5


def test_the_export_does_the_same_on_a_base_that_is_quantized_alike(kind, folder, tmp_path):
    """Loaded by transformers and PEFT alone, beside the base's own logits."""
    config = trained(tmp_path, folder, model={"quantization": kind})
    export.write(config)
    mine, _ = load_trained(config)
    base = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=as_people_load_it(kind), dtype=torch.float32, device_map="cpu"
    ).eval()
    for module in base.modules():  # on some CPUs bitsandbytes would multiply in bf16 by itself
        if hasattr(module, quantization.AVX512):
            setattr(module, quantization.AVX512, False)
    without = logits(base)
    with adapter_off(mine):
        torch.testing.assert_close(logits(mine), without, rtol=1e-4, atol=1e-4)
    found = logits(PeftModel.from_pretrained(base, str(config.run.export)).eval())
    torch.testing.assert_close(found, logits(mine), rtol=1e-4, atol=1e-4)
    assert (found - without).abs().max() > 1e-3, "the adapter has no effect"
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    on_whole = logits(PeftModel.from_pretrained(whole, str(config.run.export)).eval())
    assert torch.isfinite(on_whole).all() and (on_whole - found).abs().max() > 1e-3
    card = (config.run.export / "README.md").read_text()
    assert quantization.KINDS[kind].text in card.replace("\n", " ")
