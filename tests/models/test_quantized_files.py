"""Test that files which hold a quantized model become a whole base, and which weights that has."""

import json

import pytest
import torch
from architectures_table import build, case, check_step, write_model
from safetensors.torch import load_file, save_file

from pdtrain.config import ModelConfig
from pdtrain.models import quantization
from pdtrain.models.base import is_spread_later, load_model

# the 4-bit floats E2M1 of the OCP Microscaling Formats (MX) Specification v1.0, by their code
LEVELS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
E2M1 = LEVELS + [-level for level in LEVELS]
BLOCK = 32  # elements that share a power of two


def as_mxfp4(folder, seed=0):
    """Hold the experts of a written gpt-oss in MXFP4, as its makers do, and return their values.

    On disk a matrix is transposed, and its last dimension is cut into blocks of 32 elements: two
    codes a byte, the lower half first, and for each block an exponent with a bias of 127.
    """
    path = folder / "model.safetensors"
    tensors, wanted = load_file(path), {}
    draw = torch.Generator().manual_seed(seed)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        codes = torch.randint(16, (experts, outer, inner // BLOCK, BLOCK), generator=draw)
        exponents = torch.randint(123, 126, (experts, outer, inner // BLOCK), generator=draw)
        tensors[f"{name}_blocks"] = (codes[..., 0::2] + 16 * codes[..., 1::2]).to(torch.uint8)
        tensors[f"{name}_scales"] = exponents.to(torch.uint8)
        values = torch.tensor(E2M1, dtype=torch.float64)[codes]
        values = values * 2.0 ** (exponents - 127).double()[..., None]
        wanted[name] = values.flatten(-2).transpose(1, 2)
    save_file(tensors, path, metadata={"format": "pt"})
    in_config(folder, quant_method="mxfp4", modules_to_not_convert=["lm_head"])
    return wanted


def in_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))


def test_experts_in_mxfp4_are_made_whole_and_train(tmp_path):
    write_model(case("gpt_oss"), tmp_path)
    wanted = as_mxfp4(tmp_path)
    made = build(case("gpt_oss"), tmp_path)
    base = made.twin.model.get_base_model()
    assert len(wanted) == 2 * 2  # layers, matrices
    for name, values in wanted.items():
        found = base.get_parameter(name)
        assert found.dtype == torch.float32
        assert torch.equal(found.double(), values), name
    assert not hasattr(base.config, "quantization_config")  # merged weights are whole, too
    check_step(made)
    assert is_spread_later(made.config.model)


def test_weights_in_fp8_are_made_whole(tmp_path):
    """A matrix of 8-bit floats, with a factor for each block of 16 by 16."""
    size = 16
    write_model(case("llama"), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors, wanted = load_file(path), {}
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        weight = tensors[name]
        rows, columns = (length // size for length in weight.shape)
        factors = torch.linspace(0.5, 2.0, rows * columns).view(rows, columns)
        tensors[name] = (weight * 8).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = factors
        of_each = factors.repeat_interleave(size, 0).repeat_interleave(size, 1)
        wanted[name] = tensors[name].double() * of_each.double()
    save_file(tensors, path, metadata={"format": "pt"})
    in_config(tmp_path, quant_method="fp8", weight_block_size=[size, size])
    base = load_model(ModelConfig(name=str(tmp_path), device="cpu"))
    assert len(wanted) == 2 * 7
    for name, values in wanted.items():
        torch.testing.assert_close(base.get_parameter(name).double(), values, rtol=1e-6, atol=0)


def test_other_files_are_left_as_they_are(tmp_path):
    write_model(case("llama"), tmp_path)
    config = ModelConfig(name=str(tmp_path), device="cpu")
    assert not is_spread_later(config)
    assert is_spread_later(ModelConfig(name=str(tmp_path), device="cpu", quantization="nf4"))


@pytest.mark.parametrize("method, makes_whole", [("mxfp4", True), ("fp8", True), ("gptq", False)])
def test_what_is_made_whole(method, makes_whole):
    settings = type("Settings", (), {"quantization_config": {"quant_method": method}})
    found = quantization.made_whole(settings)
    assert bool(found) == makes_whole
    if makes_whole:
        assert found["quantization_config"].dequantize
