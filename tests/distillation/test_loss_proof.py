"""Check that the Triton loss is proved before it is used, and given up where it is wrong."""

import os
import re
import subprocess
import sys

import pytest
import torch

from pdtrain.config import LossConfig
from pdtrain.distillation import loss_proof
from pdtrain.distillation.loss_proof import Problem, choose_impl

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PROBLEM = Problem(16, 300, torch.float32, LossConfig(top_k=8))


class Finding:
    """Compare nothing: return this result, or raise it, and count the comparisons."""

    def __init__(self, result=(0.0, 0.0)):
        self.result, self.count = result, 0

    def __call__(self, device, problem):
        self.count += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def choose(asked, device, compare, gathered=lambda reason: [reason]):
    return choose_impl(asked, device, PROBLEM, gathered, compare)


def test_a_cpu_takes_chunked_and_proves_nothing():
    compare = Finding()
    assert choose("auto", CPU, compare) == "chunked" and not compare.count


def test_chunked_is_never_questioned():
    compare = Finding()
    assert choose("chunked", GPU, compare) == "chunked" and not compare.count


@pytest.mark.parametrize("asked", ["auto", "triton"])
def test_kernels_with_the_right_numbers_are_taken(asked):
    compare = Finding((1e-6, 1e-6))
    assert choose(asked, GPU, compare) == "triton" and compare.count == 1


WRONG = [
    pytest.param((1.0, 0.0), "1.0e[+]00 of the largest loss", id="value"),
    pytest.param((0.0, 0.5), "5.0e-01 of the largest gradient", id="gradient"),
    pytest.param((float("nan"), 0.0), "nan of the largest loss", id="not_a_number"),
    pytest.param(RuntimeError("no C compiler\nmore"), "RuntimeError: no C compiler", id="compiler"),
    pytest.param(ImportError("triton"), "ImportError: triton", id="package"),
]


@pytest.mark.parametrize("result, reason", WRONG)
def test_kernels_that_fail_are_given_up_loudly(result, reason, caplog, capsys):
    assert choose("auto", GPU, Finding(result)) == "chunked"
    said = capsys.readouterr().err + caplog.text
    assert re.search(reason, said) and "loss.impl=chunked" in said


@pytest.mark.parametrize("result, reason", WRONG)
def test_kernels_that_were_asked_for_by_name_are_refused_when_they_fail(result, reason):
    with pytest.raises(ValueError, match=f"loss.impl=triton cannot be used: .*{reason}"):
        choose("triton", GPU, Finding(result))


def test_an_error_that_stays_with_the_process_ends_it_with_what_to_do(monkeypatch):
    """CUDA reports an illegal address again at every later call, so that chunked would fail too."""

    def poisoned(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", poisoned)
    asked = []
    with pytest.raises(ValueError, match=r"illegal memory .* again with loss\.impl=chunked"):
        choose("auto", GPU, poisoned, asked.append)
    assert not asked, "other ranks are asked by the GPU, which is lost"


def test_an_error_that_passes_is_fallen_back_from(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones(*size))
    assert choose("auto", GPU, Finding(RuntimeError("no C compiler"))) == "chunked"


def test_all_ranks_give_up_where_one_must():
    other = lambda own: [own, "they failed on the other rank"]  # noqa: E731
    assert choose("auto", GPU, Finding(), other) == "chunked"


def test_the_comparison_itself_sees_a_difference():
    """Without a GPU the kernels run in Triton's interpreter, which lasts for its process."""
    code = """
import torch
from pdkernels.triton import passes as topk_kl_triton
from pdkernels.triton import plan
from pdtrain.config import LossConfig
from pdtrain.distillation import loss_proof
from pdtrain.models.head import HeadRule
loss_proof.ROWS, loss_proof.WORDS = 5, 171
# small slabs: a few hundred words make many of them
plan.ROWS, plan.CHUNK, plan.CACHE_BYTES, plan.EXP_BYTES = 4, 32, 1536, 2048
topk_kl_triton.CAPACITY, topk_kl_triton.MAX_K = 64, 32
problem = loss_proof.Problem(24, 1000, torch.float32, LossConfig(top_k=20))
cpu = torch.device("cpu")
assert max(loss_proof.disagreement(cpu, problem)) < 1e-5
assert loss_proof.obstacle(cpu, problem) is None
assert loss_proof.choose_impl("triton", cpu, problem) == "triton"
rule = HeadRule(before=0.5, after=1.5, softcap=4.0)
capped = loss_proof.Problem(24, 1000, torch.float32, LossConfig(top_k=20), rule, True)
assert max(loss_proof.disagreement(cpu, capped)) < 1e-5
given = []
def note(*args, **more):
    given.append({name: more.get(name) for name in ("softcap", "logit_scale", "bias")})
    return real_topk_kl(*args, **more)
real_topk_kl, loss_proof.topk_kl = loss_proof.topk_kl, note
loss_proof.disagreement(cpu, capped)
assert all(one["softcap"] == 4.0 and one["logit_scale"] == 1.5 for one in given), given
assert all(one["bias"].shape == (171,) for one in given)
loss_proof.topk_kl = real_topk_kl
real = topk_kl_triton.sum_of_words
topk_kl_triton.sum_of_words = lambda *args: 1.01 * real(*args)
value, gradient = loss_proof.disagreement(cpu, problem)
assert value < 1e-5 and gradient > 1e-3, (value, gradient)
assert "of the largest gradient" in loss_proof.obstacle(cpu, problem)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_are_proved_on_this_gpu(dtype):
    assert loss_proof.obstacle(GPU, Problem(512, 50_257, dtype, LossConfig())) is None
