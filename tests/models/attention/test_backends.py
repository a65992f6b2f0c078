"""Every attention backend gives the numbers of attention branch by branch, in float64."""

import warnings

import pytest
import torch
from support import assert_no_worse_than_eager

from pdtrain.models.attention import backends, choice
from pdtrain.models.attention.packed import Group

CPU = torch.device("cpu")
SEVERAL = (Group(4, (2,)), Group(0, (3, 6)), Group(11, (5, 5)))
LAYOUTS = [
    pytest.param((Group(0, (7,)),), id="one_sequence"),
    pytest.param((Group(9, (1, 5, 3)),), id="a_prefix_and_branches"),
    pytest.param(SEVERAL, id="several_groups"),
    pytest.param(choice.PROOF, id="the_proof"),
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


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["packed", "sdpa", "flash"])
def test_value_and_gradients_are_those_of_branches_alone(name, layout, heads, window, flash_attn):
    given, upstream = inputs(layout, heads)
    wide = [x.double() for x in given]
    truth = with_gradients(branch_by_branch, wide, upstream.double(), window, layout)
    eager = with_gradients(branch_by_branch, given, upstream, window, layout)
    found = with_gradients(backends.BACKENDS[name], given, upstream, window, layout)
    for mine, plain, exact in zip(found, eager, truth, strict=True):
        assert_no_worse_than_eager(mine, plain, exact, SLACK)


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize(  # torch traces each shape anew, for seconds: few of them
    "layout, heads, window", [(SEVERAL, (6, 2), 4), (choice.PROOF, (6, 2), None)]
)
def test_the_block_mask_of_flex_attention_shows_each_token_what_it_may_see(layout, heads, window):
    """On CPUs FlexAttention has no backward: the value alone."""
    given, _ = inputs(layout, heads)
    truth = branch_by_branch(*(x.double() for x in given), 0.3, window, layout)
    eager = branch_by_branch(*given, 0.3, window, layout)
    with torch.no_grad():
        found = backends.flex(*given, 0.3, window, layout)
    assert_no_worse_than_eager(found, eager, truth, SLACK)


@pytest.mark.slow  # the compiler takes half a minute
@pytest.mark.filterwarnings("error:.*_compile flag")
def test_compiled_flex_attention_warns_of_nothing_and_compiles_few_times(monkeypatch):
    """As on a GPU, compiled: each layout has other sizes, and one kernel serves them."""
    monkeypatch.setattr(backends, "_is_compiled", lambda device: True)
    torch._dynamo.reset()
    layouts = [(Group(150 + 9 * n, (20 + n, 7)), Group(40, (3,))) for n in range(8)]
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for layout in layouts:
        given, _ = inputs(layout, (6, 2))
        truth = branch_by_branch(*(x.double() for x in given), 0.3, None, layout)
        eager = branch_by_branch(*given, 0.3, None, layout)
        with torch.no_grad():
            found = backends.flex(*given, 0.3, None, layout)
        assert_no_worse_than_eager(found, eager, truth, SLACK)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before <= 6


def test_block_masks_are_compiled_without_the_argument_that_warns(monkeypatch):
    monkeypatch.setattr(backends, "_is_compiled", lambda device: True)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    backends._function.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = backends._block_mask((Group(3, (4, 5)),), None, CPU)
    backends._function.cache_clear()
    assert mask.shape[-2:] == (12, 12)
