"""TF32 for the adapter's products: where it is on, what it changes, and by how much."""

import pytest
import torch
from support import tiny_config, tiny_model
from torch import nn

from pdtrain.config import AdapterConfig, from_dict
from pdtrain.models.adapters import lora_precision
from pdtrain.models.adapters.lora import add_adapter, tuners_of
from pdtrain.models.adapters.lora_precision import tf32, use_tf32, uses_tf32
from pdtrain.models.base import load_model

GPU, CPU = torch.device("cuda", 1), torch.device("cpu")


def rounded(x, bits):
    """Round fp32 numbers to so many bits of fraction, to the nearest, ties to even."""
    mantissa, exponent = torch.frexp(x.double())
    return torch.ldexp((mantissa * 2 ** (bits + 1)).round(), exponent - bits - 1)


def linear_of(x, weight, grad, bits):
    """Return a linear layer's value and both gradients, with factors rounded to so many bits."""
    x, weight, grad = (rounded(one, bits) for one in (x, weight, grad))
    return x @ weight.mT, grad @ weight, grad.mT @ x


@pytest.mark.parametrize("size_in, size_out", [(1024, 16), (16, 1024), (3072, 16)])
def test_tf32_is_within_its_bound_of_float64(size_in, size_out):
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(200, size_in, generator=noise)
    weight = torch.randn(size_out, size_in, generator=noise) / size_in**0.5
    grad = torch.randn(200, size_out, generator=noise)
    truth = x.double() @ weight.double().mT, grad.double() @ weight.double()
    truth = (*truth, grad.double().mT @ x.double())
    factors = (
        (x.norm(dim=1)[:, None], weight.norm(dim=1)),
        (grad.norm(dim=1)[:, None], weight.norm(dim=0)),
        (grad.norm(dim=0)[:, None], x.norm(dim=0)),
    )
    off = {}
    for name, bits in (("tf32", 10), ("bf16", 7)):
        found = linear_of(x, weight, grad, bits)
        off[name] = [
            float(((one - wanted).abs() / (left * right)).max())
            for one, wanted, (left, right) in zip(found, truth, factors, strict=True)
        ]
    print(f"largest errors of value, gradient of x and of the weight: {off}")
    assert max(off["tf32"]) < 2**-10
    assert all(bf16 > 3 * tf for bf16, tf in zip(off["bf16"], off["tf32"], strict=True))


def test_the_layer_gives_value_and_gradients_of_a_plain_one():
    noise = torch.Generator().manual_seed(1)
    plain, own = nn.Linear(24, 8, bias=False), nn.Linear(24, 8, bias=False)
    own.load_state_dict(plain.state_dict())
    own.forward = lambda x: lora_precision._linear(own, x)
    for shape in ((5, 24), (2, 5, 24)):
        x = torch.randn(shape, generator=noise)
        grad = torch.randn((*shape[:-1], 8), generator=noise)
        found = []
        for module in (plain, own):
            module.zero_grad()
            given = x.clone().requires_grad_()
            value = module(given)
            value.backward(grad)
            found.append((value, given.grad, module.weight.grad))
        for wanted, one in zip(*found, strict=True):
            torch.testing.assert_close(one, wanted, rtol=1e-6, atol=1e-6)


def test_the_switch_is_on_in_the_products_alone(monkeypatch):
    seen, plain = [], torch.nn.functional.linear

    def linear(*given):
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return plain(*given)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    before = torch.backends.cuda.matmul.fp32_precision
    module = nn.Linear(4, 2, bias=False)
    lora_precision._linear(module, torch.ones(3, 4)).sum().backward()
    module(torch.ones(3, 4))
    assert seen == ["tf32", before] and before != "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == before
    with pytest.raises(RuntimeError), tf32():
        raise RuntimeError
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_all_products_of_an_adapter_take_part_and_no_others(tmp_path):
    config = tiny_config(tmp_path, tiny_model(tmp_path / "model"))
    model = add_adapter(load_model(config.model), AdapterConfig(rank=4), seed=1)
    tuners = tuners_of(model)
    assert use_tf32(tuners) == 2 * len(tuners) > 0
    changed = {name for name, part in model.named_modules() if "forward" in vars(part)}
    assert changed and all("lora_A" in name or "lora_B" in name for name in changed)
    half = add_adapter(load_model(config.model).bfloat16(), AdapterConfig(rank=4), 1, in_fp32=False)
    assert use_tf32(tuners_of(half)) == 0  # these products are bf16 already


@pytest.mark.parametrize(
    "asked, device, dtype, wanted",
    [
        ("auto", GPU, torch.bfloat16, True),
        ("auto", GPU, torch.float16, True),
        ("auto", GPU, torch.float32, False),
        ("tf32", GPU, torch.float32, True),
        ("ieee", GPU, torch.bfloat16, False),
        ("auto", CPU, torch.bfloat16, False),
        ("tf32", CPU, torch.bfloat16, False),
    ],
)
def test_auto_is_tf32_beside_a_16_bit_base_on_a_gpu(asked, device, dtype, wanted):
    assert uses_tf32(asked, device, dtype) == wanted


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="fp32_precision"):
        from_dict({"adapter": {"fp32_precision": "bf16"}})


@pytest.mark.gpu
def test_on_a_gpu_the_error_is_that_of_tf32():
    noise = torch.Generator().manual_seed(0)
    x, weight = torch.randn(512, 4096, generator=noise), torch.randn(16, 4096, generator=noise)
    truth = x.double() @ weight.double().mT
    module = nn.Linear(4096, 16, bias=False, device="cuda")
    module.weight.data.copy_(weight)
    found = lora_precision._linear(module, x.cuda()).double().cpu()
    scale = x.norm(dim=1)[:, None] * weight.norm(dim=1)
    assert ((found - truth).abs() / scale).max() < 2**-10
