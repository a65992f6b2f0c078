"""Test the Triton implementation: in the interpreter, compiled ahead of time, and on a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from kernel_support import DIVERGENCES, loss_and_gradient, make_rows, relative_error, truth

from pdkernels import teacher_topk

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")


def test_numbers_in_the_interpreter():
    """This needs a process of its own, because the interpreter cannot be left again."""
    cases = Path(__file__).parents[1] / "support" / "kernel_interpreter_cases.py"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(cases)]
    package = Path(find_spec("pdkernels").origin).parents[1]
    path = os.pathsep.join([str(package), str(cases.parent)])
    run = subprocess.run(
        command,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout and "skipped" not in run.stdout


def test_the_roofline_prints_its_tables(capsys):
    from pdkernels import roofline

    assert roofline.main() == 0
    printed = capsys.readouterr().out
    assert printed.count("| teacher |") == printed.count("| student |") == len(roofline.SHAPES)
    first = next(
        line for line in printed.splitlines() if "| 8192 | 128256 | 64 | student |" in line
    )
    floor = 4 * 4096 * 128_256 * 8192 / 740e12 * 1e3  # of the products alone
    milliseconds = float(first.split("|")[8].split(", ")[-1].removesuffix(" ms "))
    assert floor < milliseconds < 1.5 * floor


def kernels_of(target: str):
    from pdkernels.compile_report import builds

    return builds(target)


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_compiles_within_the_limits(target):
    """Only bf16 and fp32 at k = 64; `python -m pdkernels.compile_report` compiles all of them."""
    from pdkernels.compile_report import compile_build, complaints

    few = [b for b in kernels_of(target) if "1024" not in b.name and "fp16" not in b.name]
    assert len(few) == 16
    for build in few:
        use = compile_build(build, target)
        assert use.registers > 0
        assert complaints(build, target, use) == [], build.name


def test_a_tile_that_is_too_large_is_noticed():
    """The limits can fail: a 256 x 256 fp32 accumulator does not fit into registers."""
    from dataclasses import replace

    from pdkernels.compile_report import compile_build, complaints

    (build,) = (b for b in kernels_of("sm_80") if b.name == "rows_times_words bf16")
    large = replace(build, constants=build.constants | {"BLOCK_M": 256, "BLOCK_N": 256})
    found = complaints(large, "sm_80", compile_build(large, "sm_80"))
    assert any("spills" in complaint for complaint in found)


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_narrow_loads_are_noticed(target):
    """Without the hint on the number of words the words are loaded two bytes at a time."""
    from dataclasses import replace

    from pdkernels.compile_report import compile_build, complaints

    (build,) = (b for b in kernels_of(target) if b.name == "add_exp_times_words bf16")
    use = compile_build(build, target)
    assert use.async_bytes and set(use.async_bytes + use.load_bytes) == {16}
    unhinted = tuple(name for name in build.multiples if name != "num_words")
    without = compile_build(replace(build, multiples=unhinted), target)
    found = complaints(build, target, without)
    assert any("less than 16 bytes, 2 at least" in complaint for complaint in found)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_everything_compiles_within_the_limits(target):
    from pdkernels.compile_report import compile_build, complaints

    for build in kernels_of(target):
        assert complaints(build, target, compile_build(build, target)) == [], build.name


def test_refuses_a_cpu():
    teacher, _, head = make_rows(3, 8, 100)
    with pytest.raises(ValueError, match=r"needs a GPU, or TRITON_INTERPRET=1, but .* on cpu"):
        teacher_topk(teacher, head, 20, impl="triton")


@pytest.mark.gpu
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("library", [True, False])
def test_on_a_gpu(divergence, dtype, library, monkeypatch):
    """The truth is float64 on the CPU, and the yardstick the chunked implementation's error."""
    monkeypatch.setattr("pdkernels.triton.passes.LIBRARY_PRODUCTS", library)
    sides = make_rows(129, 512, 50_257, apart=0.1)
    teacher, student, head = (x.to(dtype).cuda() for x in sides)
    loss64, gradient64 = truth(teacher.cpu(), student.cpu(), head.cpu(), 64, divergence=divergence)
    errors = {}
    for impl in ("chunked", "triton"):
        topk = teacher_topk(teacher, head, 64, impl=impl)
        loss, gradient = loss_and_gradient(student, head, topk, divergence=divergence, impl=impl)
        assert not loss.isnan().any()
        errors[impl] = (
            relative_error(loss.cpu(), loss64),
            relative_error(gradient.cpu(), gradient64),
        )
    assert errors["triton"][0] <= 2 * errors["chunked"][0] + 1e-5
    assert errors["triton"][1] <= 2 * errors["chunked"][1] + 1e-5


@pytest.mark.gpu
def test_on_a_gpu_memory_and_repetition():
    """Nothing has the size N V: 2048 x 128256 logits would take 1 GB in fp32."""
    teacher, student, head = (x.bfloat16().cuda() for x in make_rows(2048, 1024, 128_256))
    topk = teacher_topk(teacher, head, 64, impl="triton")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss, gradient = loss_and_gradient(student, head, topk, impl="triton")
    assert torch.cuda.max_memory_allocated() - before < 2**28
    again, again_gradient = loss_and_gradient(student, head, topk, impl="triton")
    assert torch.equal(loss, again) and torch.equal(gradient, again_gradient)
