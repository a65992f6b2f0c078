"""Test an outside user's first steps by the snippets that once went wrong, with the right values.

Those that other files test with more cases are not repeated: labels of -100, rows of weight 0,
teachers made by hand, warnings of slow paths (test_edges.py), shards (test_shards.py), compilers
and transforms (test_compose.py), the interpreter's cases (test_triton.py).
"""

import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from house import ROOT
from kernel_support import loss_and_gradient, relative_error, truth
from topk_kl_variants import variants
from torch.nn import functional

from pdkernels import TopK, teacher_topk, topk_kl
from pdkernels.fused import eager

KERNELS = ROOT / "kernels"
VOCAB, HIDDEN, ROWS, K = 1000, 16, 5, 8


@pytest.fixture
def problem():
    noise = torch.Generator().manual_seed(0)
    head = torch.randn(VOCAB, HIDDEN, generator=noise) / 4
    teacher = torch.randn(ROWS, HIDDEN, generator=noise) * 4
    student = teacher + 0.3 * torch.randn(ROWS, HIDDEN, generator=noise)
    return teacher, student, head, teacher_topk(teacher, head, K)


def test_the_usual_call_has_the_true_value_and_gradient(problem):
    teacher, student, head, topk = problem
    loss64, gradient64 = truth(teacher, student, head, K)
    loss, gradient = loss_and_gradient(student, head, topk)
    assert relative_error(loss, loss64) < 1e-5 and relative_error(gradient, gradient64) < 1e-5


def test_labels_of_a_fine_tuning_batch_are_its_cross_entropy(problem):
    """-100 is no word: it must neither be a number nor stop the batch."""
    _, student, head, _ = problem
    labels = torch.tensor([-100, 3, 999, -100, 0])
    wanted = functional.cross_entropy(student.double() @ head.double().T, labels)
    found = topk_kl(student, head, TopK.one_hot(labels), reduction="mean")
    assert abs(float(found) - float(wanted)) < 1e-5 * float(wanted)


def test_a_nan_row_of_weight_zero_leaves_the_sum_alone(problem):
    _, student, head, topk = problem
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    wanted = topk_kl(student, head, topk)[weight > 0].sum()
    student[2] = torch.nan
    found = topk_kl(student, head, topk, row_weight=weight).sum()
    torch.testing.assert_close(found, wanted)


def test_one_row_of_a_teacher_is_a_teacher_of_one_row(problem):
    _, student, head, topk = problem
    torch.testing.assert_close(
        topk_kl(student[:1], head, topk[0]), topk_kl(student, head, topk)[:1]
    )


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda t: {"log_p_NK": t.log_p_NK.bfloat16()}, "half precision has too few digits"),
        (lambda t: {"log_p_tail_N": t.log_p_tail_N - math.inf}, r"sum to 0\.\d+ with the tail"),
        (lambda t: {"ids_NK": t.ids_NK.bool()}, "ids_NK must be int64 or int32, got torch.bool"),
        (lambda t: {"log_p_NK": t.log_p_NK + 1}, "with the tail, not to 1"),
    ],
    ids=["half", "no_tail", "bool_ids", "shifted"],
)
def test_a_hand_made_teacher_that_is_none_is_not_silent(wrong, message, problem):
    topk = problem[3]
    assert float(topk.log_p_tail_N.exp().max()) > 0.01
    with pytest.raises(ValueError, match=message):
        replace(topk, **wrong(topk))


def test_probabilities_belong_to_the_temperature_that_they_were_taken_at(problem):
    """Those of temperature 1 called 2 still sum to 1, so only their maker can tell."""
    teacher, student, head, _ = problem
    log_p, ids = (teacher @ head.T / 2).log_softmax(-1).topk(K)
    loss64, _ = truth(teacher, student, head, K, 2.0)
    assert (
        relative_error(topk_kl(student, head, TopK.from_logprobs(ids, log_p, 2.0)), loss64) < 1e-5
    )
    log_p, ids = (teacher @ head.T).log_softmax(-1).topk(K)
    mislabelled = topk_kl(student, head, TopK.from_logprobs(ids, log_p, 2.0))
    assert relative_error(mislabelled, loss64) > 0.1
    with pytest.raises(ValueError, match="needs parts of one k and one temperature"):
        TopK.cat([TopK.from_logprobs(ids, log_p), teacher_topk(teacher, head, K, 2.0)])


STAND_IN = """
from types import SimpleNamespace

import torch
from torch.nn import functional as F


class Model:  # hidden states, a head, and logits of all positions but the last
    def __init__(self, hidden):
        self.hidden, self.lm_head = hidden, SimpleNamespace(weight=words)

    def base_model(self, **inputs):
        return SimpleNamespace(last_hidden_state=self.hidden[None])

    def __call__(self, **inputs):
        return SimpleNamespace(logits=self.hidden[:-1] @ words.T)


torch.manual_seed(0)
words, hidden = torch.randn(64, 16) / 4, torch.randn(5, 16) * 4
rows = (hidden + 0.3 * torch.randn(5, 16)).requires_grad_()
model, teacher_model, inputs, targets = Model(rows), Model(hidden), {}, [-100, 7, 63, -100]
"""


def test_the_readmes_lines_replace_the_lines_that_they_say():
    """With 64 words k = 64 is all of them, so that both must have the same loss and gradient."""
    readme = (KERNELS / "README.md").read_text(encoding="utf-8")
    before, after, by_row = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[:3]
    found = "print(float(loss), *torch.autograd.grad(loss, rows)[0].flatten().tolist())\n"
    lines = [
        STAND_IN, "labels, teacher = torch.tensor(targets), teacher_model\n", before, found,
        "labels = torch.tensor([[-100, *targets]])\n", after, found,
        "teacher, student, num_tokens = hidden, rows, 5\n", by_row,
        "print(float(rows.grad.norm()))\n",
    ]  # fmt: skip
    command = [sys.executable, "-c", "".join(lines)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT / "tests")
    assert run.returncode == 0, run.stderr[-2000:]
    eager, ours, norm = (
        torch.tensor([float(number) for number in line.split()]) for line in run.stdout.splitlines()
    )
    assert relative_error(ours[0], eager[0]) < 1e-5
    assert relative_error(ours[1:], eager[1:]) < 1e-4, "eager fp32 has so much of it wrong"
    assert norm > 1e-3


@pytest.mark.parametrize("call", ["teacher", "student"])
def test_the_rows_device_is_the_current_one_during_a_call(call, problem, monkeypatch):
    """One guard around each operation: kernels are launched on the current GPU."""
    teacher, student, head, topk = problem
    guarded, guard = [], torch.cuda.device_of
    monkeypatch.setattr(
        eager.torch.cuda, "device_of", lambda rows: guarded.append(rows.shape) or guard(rows)
    )
    if call == "teacher":
        teacher_topk(teacher, head, K)
    else:
        topk_kl(student, head, topk)
    assert guarded == [(ROWS, HIDDEN)]


def test_the_benchmark_compares_like_with_like():
    """Every baseline is there with either library's products, and TRL's line says what it is."""
    found = variants(64, [], with_compile=False, device="cpu", like_for_like=True)
    names = {variant.name for variant in found}
    for baseline in ("eager, full KL", "eager, top-k and tail"):
        assert {baseline, f"{baseline}, oneDNN's products"} <= names
    of_trl = [name for name in names if "TRL" in name]
    assert all("its PyTorch fallback" in name for name in of_trl)
