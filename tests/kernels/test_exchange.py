"""Test the file format against the package safetensors, and the readers of others' columns."""

from types import SimpleNamespace

import pytest
import torch
from kernel_support import make_rows, relative_error, truth
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pdkernels import TopK, teacher_topk, topk_kl
from pdkernels.exchange import (
    from_axolotl,
    from_prompt_logprobs,
    from_sparse,
    read_topk,
    write_topk,
)

SPLITS = torch.tensor([0, 2, 2, 6])


def problem():
    teacher, student, head = make_rows(6, 8, 300)
    return teacher, student, head, teacher_topk(teacher, head, 20, 1.0)


def test_a_file_says_what_it_holds_and_any_reader_reads_it(tmp_path):
    *_, topk = problem()
    topk, path = topk[:5].pad(6), tmp_path / "teacher.safetensors"
    about = {"tokenizer": "byte-level, sha256 0123", "record_ids": '["a", "b", "c"]'}
    write_topk(path, topk, num_words=300, row_splits=SPLITS, metadata=about)
    again, splits, metadata = read_topk(path)
    for found, wanted in zip(again.tensors(), topk.tensors(), strict=True):
        assert torch.equal(found, wanted.to(found))
    assert again.temperature == 1.0 and torch.equal(splits, SPLITS)
    assert metadata.items() >= about.items() and metadata["num_words"] == "300"
    assert metadata["temperature"] == "1.0" and "natural" in metadata["log_p"]
    others = load_file(path)
    assert torch.equal(others["ids"], again.ids_NK) and torch.equal(others["log_p"], again.log_p_NK)
    with safe_open(path, "pt") as file:
        assert file.metadata() == metadata


def test_a_file_of_the_package_safetensors_is_read(tmp_path):
    *_, topk = problem()
    path = tmp_path / "other.safetensors"
    write_topk(path, topk, num_words=300)
    _, _, metadata = read_topk(path)
    save_file(load_file(path), tmp_path / "again.safetensors", metadata)
    again, splits, _ = read_topk(tmp_path / "again.safetensors")
    assert splits is None and torch.equal(again.log_p_tail_N, topk.log_p_tail_N)


def test_no_rows_make_a_file(tmp_path):
    *_, topk = problem()
    write_topk(tmp_path / "none.safetensors", topk[:0], num_words=300)
    assert len(read_topk(tmp_path / "none.safetensors")[0]) == 0


def test_files_that_do_not_fit_are_refused(tmp_path):
    *_, topk = problem()
    path = tmp_path / "teacher.safetensors"
    with pytest.raises(ValueError, match="outside a vocabulary of 20 words"):
        write_topk(path, topk, num_words=20)
    with pytest.raises(ValueError, match="row_splits must rise from 0 to the number of rows, 6"):
        write_topk(path, topk, num_words=300, row_splits=torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="metadata may not set temperature"):
        write_topk(path, topk, num_words=300, metadata={"temperature": "2"})
    write_topk(path, topk, num_words=300)
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cut short"):
            read_topk(path)
    save_file({"ids": topk.ids_NK}, path)
    with pytest.raises(ValueError, match="has format and version"):
        read_topk(path)


def log_p_of(rows, head, temperature=1.0):
    return (rows.double() @ head.double().T / temperature).log_softmax(-1)


def test_an_axolotl_batch_gives_its_loss():
    """The columns are made as axolotl makes them: of token t at position t, normalised over k."""
    hidden, student, head = (x.double() for x in make_rows(10, 8, 300, apart=0.3))
    hidden, student, temperature, k = hidden.view(2, 5, 8), student.view(2, 5, 8), 1.5, 7
    values, ids = log_p_of(hidden, head, temperature)[:, :-1].topk(k)
    first = torch.full((2, 1, k), -torch.inf, dtype=torch.float64), torch.arange(k).expand(2, 1, k)
    logprobs = torch.cat([first[0], values.log_softmax(-1)], 1)
    ids = torch.cat([first[1], ids], 1)
    mask = torch.ones(2, 5, k, dtype=torch.int64)
    mask[:, 0] = 0  # nothing predicts the first token
    mask[1, 3:] = 0  # padding
    topk = from_axolotl(ids, logprobs.float(), mask, temperature)
    loss = topk_kl(student.flatten(0, 1), head, topk, tail="renormalise").view(2, 5)
    for sequence in range(2):
        for place in range(5):
            predicted = place + 1
            if predicted > 4 or not mask[sequence, predicted, 0]:
                assert loss[sequence, place] == 0
                continue
            log_q = log_p_of(student[sequence, place], head, temperature)
            log_q = log_q[ids[sequence, predicted]].log_softmax(-1)
            log_p = logprobs[sequence, predicted]
            wanted = float((log_p.exp() * (log_p - log_q)).sum())
            assert abs(float(loss[sequence, place]) - wanted) < 1e-6 * max(1, wanted)


def test_sparse_columns_keep_their_tail():
    teacher, student, head, _ = problem()
    values, ids = log_p_of(teacher, head).float().topk(20)
    mask = torch.tensor([[1, 1, 0], [1, 0, 1]])
    topk = from_sparse(ids.view(2, 3, 20).int(), values.view(2, 3, 20), mask)
    loss64, _ = truth(teacher, student, head, 20)
    assert relative_error(topk_kl(student, head, topk), loss64 * mask.flatten()) < 1e-5


@pytest.mark.parametrize("wrapped", [False, True])
def test_vllms_prompt_logprobs(wrapped):
    """vLLM adds the prompt's own token, here the unlikeliest, to the likeliest k."""
    teacher, student, head, _ = problem()
    log_p, k = log_p_of(teacher, head), 20
    prompt_logprobs: list = [None]
    for row in log_p[:-1]:
        values, ids = row.topk(k)
        numbers = dict(zip(ids.tolist(), values.tolist(), strict=True))
        numbers[int(row.argmin())] = float(row.min())
        if wrapped:
            numbers = {i: SimpleNamespace(logprob=v, rank=1) for i, v in numbers.items()}
        prompt_logprobs.append(numbers)
    topk = from_prompt_logprobs(prompt_logprobs, k)
    loss64, _ = truth(teacher, student, head, k)
    loss64[-1] = 0
    assert len(topk) == 6 and relative_error(topk_kl(student, head, topk), loss64) < 1e-5
    few = from_prompt_logprobs([None, {7: -0.5, 3: -1.0}], 4)
    assert sorted(few.ids_NK[0].tolist()) == [0, 1, 3, 7]
    assert (few.log_p_NK[0] == -torch.inf).sum() == 2 and isinstance(few, TopK)
