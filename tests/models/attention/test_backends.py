"""Every way to attend gives the numbers of attention branch by branch, in float64."""

import sys
from types import ModuleType

import pytest
import torch
from support import assert_no_worse_than_eager

from pdtrain.models.attention import backends, packed
from pdtrain.models.attention.backends import Heads
from pdtrain.models.attention.packed import Group

CPU = torch.device("cpu")
SEVERAL = (Group(4, (2,)), Group(0, (3, 6)), Group(11, (5, 5)))
LAYOUTS = [
    pytest.param((Group(0, (7,)),), id="one_sequence"),
    pytest.param((Group(9, (1, 5, 3)),), id="a_prefix_and_branches"),
    pytest.param(SEVERAL, id="several_groups"),
    pytest.param(backends.PROOF, id="the_proof"),
]
HEADS = [pytest.param((4, 4), id="mha"), pytest.param((6, 2), id="gqa")]
WINDOWS = [None, 4]
SLACK = 1e-5


def inputs(layout, heads, dtype=torch.float32, device=CPU):
    tokens = sum(group.prefix + sum(group.branches) for group in layout)
    noise = torch.Generator().manual_seed(0)
    sizes = (heads[0], heads[1], heads[1])
    made = [torch.randn(1, n, tokens, 16, generator=noise) for n in sizes]
    upstream = torch.randn(1, tokens, heads[0], 16, generator=noise)
    return [x.to(device, dtype) for x in made], upstream.to(device, dtype)


def branch_by_branch(query, key, value, scale, window, layout):
    """Prefix + branch as a sequence of its own, scores by scores; the definition."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    out, start = [], 0
    for prefix, lengths in layout:
        shared = list(range(start, start + prefix))
        start += prefix
        parts = [shared] if prefix else []
        for length in lengths:
            parts.append(shared + list(range(start, start + length)))
            start += length
        for number, part in enumerate(parts):
            scores = scale * query[0][:, part] @ key[0][:, part].mT
            distance = torch.arange(len(part))[:, None] - torch.arange(len(part))
            hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
            found = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value[0][:, part]
            own = 0 if prefix and number == 0 else prefix
            out.append(found[:, own:])
    return torch.cat(out, 1).transpose(0, 1)[None]


def with_gradients(way, given, upstream, window, layout):
    given = [x.detach().requires_grad_() for x in given]
    out = way(*given, 0.3, window, layout)
    return [out.detach(), *torch.autograd.grad(out, given, upstream)]


def varlen(q, k, v, of_q, of_k, longest_q, longest_k, **options):
    """What flash-attn documents of flash_attn_varlen_func: causal, aligned at the last tokens."""
    softmax_scale, window_size = options["softmax_scale"], options["window_size"]
    assert options["causal"] and options["deterministic"]
    assert q.is_contiguous() and of_q.dtype == of_k.dtype == torch.int32
    repeats, out = q.shape[1] // k.shape[1], []
    pairs = zip(of_q.tolist(), of_q[1:].tolist(), of_k.tolist(), of_k[1:].tolist(), strict=False)
    for a, b, c, d in pairs:
        assert b - a <= longest_q and d - c <= longest_k
        mine, keys, values = (x.transpose(0, 1) for x in (q[a:b], k[c:d], v[c:d]))
        keys, values = (x.repeat_interleave(repeats, 0) for x in (keys, values))
        distance = torch.arange(d - c - (b - a), d - c)[:, None] - torch.arange(d - c)
        left, right = window_size
        hidden = distance < 0
        if left >= 0:
            hidden = hidden | (distance > left)
        assert right in (-1, 0)
        scores = (softmax_scale * mine @ keys.mT).masked_fill(hidden, -torch.inf)
        out.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(out)


@pytest.fixture
def flash_attn(monkeypatch):
    module = ModuleType("flash_attn")
    module.flash_attn_varlen_func = varlen
    monkeypatch.setitem(sys.modules, "flash_attn", module)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["packed", "sdpa", "flash"])
def test_value_and_gradients_are_those_of_branches_alone(name, layout, heads, window, flash_attn):
    given, upstream = inputs(layout, heads)
    wide = [x.double() for x in given]
    truth = with_gradients(branch_by_branch, wide, upstream.double(), window, layout)
    eager = with_gradients(branch_by_branch, given, upstream, window, layout)
    found = with_gradients(backends.WAYS[name], given, upstream, window, layout)
    for mine, plain, exact in zip(found, eager, truth, strict=True):
        assert_no_worse_than_eager(mine, plain, exact, SLACK)


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize(  # torch traces each shape anew, for seconds: few of them
    "layout, heads, window", [(SEVERAL, (6, 2), 4), (backends.PROOF, (6, 2), None)]
)
def test_the_block_mask_of_flex_attention_shows_each_token_what_it_may_see(layout, heads, window):
    """On CPUs FlexAttention has no backward: the value alone."""
    given, _ = inputs(layout, heads)
    truth = branch_by_branch(*(x.double() for x in given), 0.3, window, layout)
    eager = branch_by_branch(*given, 0.3, window, layout)
    with torch.no_grad():
        found = backends.flex(*given, 0.3, window, layout)
    assert_no_worse_than_eager(found, eager, truth, SLACK)


def heads_of(dtype=torch.float32):
    return Heads(query=6, keys=2, size=16, dtype=dtype)


def test_on_a_cpu_auto_is_packed_and_says_so(capsys):
    assert backends.choose("auto", CPU, heads_of()) is packed.attention
    assert "attention: packed (auto)" in capsys.readouterr().err
    assert backends.choose("sdpa", CPU, heads_of()) is backends.sdpa
    assert "attention: sdpa\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["flex", "flash"])
def test_a_way_that_needs_a_gpu_is_refused_without_one(name):
    with pytest.raises(ValueError, match=rf"engine\.attention={name} cannot be used: it needs a G"):
        backends.choose(name, CPU, heads_of())


def test_the_proof_tells_a_wrong_kernel_from_a_right_one(flash_attn, monkeypatch):
    assert backends.disagreement(backends.flash, CPU, heads_of()) < 1e-5
    sys.modules["flash_attn"].flash_attn_varlen_func = lambda *a, **o: varlen(
        *a, **(o | {"window_size": (3, 0)})
    )
    assert (
        backends.disagreement(backends.flash, CPU, heads_of()) > backends.TOLERANCE[torch.bfloat16]
    )


def test_the_proof_of_a_model_with_a_window_tells_a_kernel_that_ignores_it(flash_attn):
    windowed = Heads(query=6, keys=2, size=16, dtype=torch.float32, window=4096)
    assert backends.disagreement(backends.flash, CPU, windowed) < 1e-5
    sys.modules["flash_attn"].flash_attn_varlen_func = lambda *a, **o: varlen(
        *a, **(o | {"window_size": (-1, -1)})
    )
    assert backends.disagreement(backends.flash, CPU, heads_of()) < 1e-5
    assert backends.disagreement(backends.flash, CPU, windowed) > backends.TOLERANCE[torch.bfloat16]


def test_what_does_not_work_on_one_rank_is_used_on_none(monkeypatch, capsys):
    monkeypatch.setattr(backends, "obstacle", lambda *_: None)
    for others, chosen in (
        (["", ""], backends.flash),
        (["no such GPU", ""], backends.flex),
        (["no such GPU", "no compiler"], packed.attention),
    ):
        answers = iter(others)
        found = backends.choose("auto", Gpu, heads_of(), lambda own, a=answers: [own, next(a)])
        assert found is chosen
    said = capsys.readouterr().err
    assert "not flash: no such GPU" in said and "not flex: no compiler" in said


class Gpu:
    """Stands for a device that is a GPU where no tensor is made on it."""

    type = "cuda"


def test_auto_takes_the_first_way_that_works_and_says_why_not_the_others(monkeypatch, capsys):
    found = {"flash": 0.0, "flex": 0.0}

    def disagreement(way, device, heads):
        name = {v: k for k, v in backends.WAYS.items()}[way]
        if found[name] is None:
            raise RuntimeError("no such instruction\nand more")
        return found[name]

    monkeypatch.setattr(backends, "disagreement", disagreement)
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    half = heads_of(torch.bfloat16)
    assert backends.choose("auto", Gpu, half) is backends.flash
    assert backends.choose("auto", Gpu, heads_of()) is backends.flex
    assert "not flash: flash-attn computes in bf16 and fp16 only" in capsys.readouterr().err
    found["flash"] = None
    assert backends.choose("auto", Gpu, half) is backends.flex
    assert (
        "not flash: it failed here (RuntimeError: no such instruction)" in capsys.readouterr().err
    )
    found["flex"] = 0.5
    assert backends.choose("auto", Gpu, half) is packed.attention
    said = capsys.readouterr().err
    assert "not flex: its numbers are off by 5.0e-01" in said and "attention: packed (auto)" in said
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"engine.attention=flash cannot be used: the package fl"):
        backends.choose("flash", Gpu, half)


@pytest.mark.gpu
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["packed", "sdpa", "flex", "flash"])
def test_on_a_gpu_every_way_gives_the_numbers_of_packed(name, dtype, window):
    heads = Heads(query=8, keys=2, size=64, dtype=dtype, window=window)
    device = torch.device("cuda")
    if name == "flash" and (dtype == torch.float32 or backends.find_spec("flash_attn") is None):
        pytest.skip("flash-attn is not installed, or does not compute in fp32")
    assert backends.disagreement(backends.WAYS[name], device, heads) < backends.TOLERANCE[dtype]
