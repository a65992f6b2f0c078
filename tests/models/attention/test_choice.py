"""Which attention backend is chosen, and that a kernel is tried before it is trusted."""

from importlib.util import find_spec

import pytest
import torch

from pdtrain.models.attention import backends, choice, packed
from pdtrain.models.attention.choice import Heads

CPU = torch.device("cpu")


def heads_of(dtype=torch.float32):
    return Heads(query=6, keys=2, size=16, dtype=dtype)


def test_on_a_cpu_auto_is_packed_and_a_name_is_taken_at_its_word():
    assert choice.choose("auto", CPU, heads_of()) is packed.attention
    assert choice.choose("sdpa", CPU, heads_of()) is backends.sdpa


@pytest.mark.parametrize("name", ["flex", "flash"])
def test_a_backend_that_needs_a_gpu_is_refused_without_one(name):
    with pytest.raises(ValueError, match=rf"engine\.attention={name} cannot be used: it needs a G"):
        choice.choose(name, CPU, heads_of())


def with_window(module, size):
    """Let the stand-in for flash-attn attend in a window of this size, whatever it is asked."""
    whole = module.flash_attn_varlen_func
    module.flash_attn_varlen_func = lambda *a, **o: whole(*a, **(o | {"window_size": size}))


def test_the_proof_tells_a_wrong_kernel_from_a_right_one(flash_attn):
    assert choice.disagreement(backends.flash, CPU, heads_of()) < 1e-5
    with_window(flash_attn, (3, 0))
    assert choice.disagreement(backends.flash, CPU, heads_of()) > choice.TOLERANCE[torch.bfloat16]


def test_the_proof_of_a_model_with_a_window_tells_a_kernel_that_ignores_it(flash_attn):
    windowed = Heads(query=6, keys=2, size=16, dtype=torch.float32, window=4096)
    assert choice.disagreement(backends.flash, CPU, windowed) < 1e-5
    with_window(flash_attn, (-1, -1))
    assert choice.disagreement(backends.flash, CPU, heads_of()) < 1e-5
    assert choice.disagreement(backends.flash, CPU, windowed) > choice.TOLERANCE[torch.bfloat16]


class Gpu:
    """Stands for a device that is a GPU where no tensor is made on it."""

    type = "cuda"


def test_what_does_not_work_on_one_rank_is_used_on_none():
    for others, chosen in (
        (["", ""], backends.flash),
        (["no such GPU", ""], backends.flex),
        (["no such GPU", "no compiler"], packed.attention),
    ):
        answers = iter(others)
        found = choice.choose(
            "auto", Gpu, heads_of(), lambda own, a=answers: [own, next(a)], lambda *_: None
        )
        assert found is chosen


@pytest.mark.parametrize(
    "reasons, chosen",
    [
        ({}, backends.flash),
        ({"flash": "not installed"}, backends.flex),
        ({"flash": "not installed", "flex": "off by 0.5"}, packed.attention),
    ],
)
def test_auto_takes_the_first_that_works_and_says_why_not_the_others(reasons, chosen, capsys):
    def examine(name, *_):
        return reasons.get(name)

    assert choice.choose("auto", Gpu, heads_of(), examine=examine) is chosen
    said = capsys.readouterr().err
    assert all(reason in said for reason in reasons.values())
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=f"engine.attention={name} cannot be used: {reason}"):
            choice.choose(name, Gpu, heads_of(), examine=examine)


def test_a_kernel_that_fails_or_is_wrong_is_not_trusted():
    def fails(*_):
        raise RuntimeError("no such instruction\nand more")

    def is_wrong(*given):
        return 1.5 * packed.attention(*given)

    def is_not_a_number(*given):
        return torch.nan * packed.attention(*given)

    def fails_silently(*_):
        raise RuntimeError

    assert choice.failure(packed.attention, CPU, heads_of()) is None
    assert "(RuntimeError: no such instruction)" in choice.failure(fails, CPU, heads_of())
    assert "off by 5.0e-01 of the largest" in choice.failure(is_wrong, CPU, heads_of())
    assert "off by nan" in choice.failure(is_not_a_number, CPU, heads_of())
    assert "(RuntimeError: )" in choice.failure(fails_silently, CPU, heads_of())


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_flash_attention_must_be_installed():
    reason = choice.obstacle("flash", Gpu, heads_of(torch.bfloat16))
    assert "flash-attn is not installed" in reason


def test_flash_attention_computes_in_half_precision(flash_attn):
    assert "bf16 and fp16 only" in choice.obstacle("flash", Gpu, heads_of())


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["packed", "sdpa", "flex", "flash"])
def test_on_a_gpu_every_backend_gives_the_numbers_of_packed(name, dtype, window):
    heads = Heads(query=8, keys=2, size=64, dtype=dtype, window=window)
    device = torch.device("cuda")
    if name == "flash" and (dtype == torch.float32 or find_spec("flash_attn") is None):
        pytest.skip("flash-attn is not installed, or does not compute in fp32")
    assert choice.disagreement(backends.BACKENDS[name], device, heads) < choice.TOLERANCE[dtype]
