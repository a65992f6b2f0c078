"""Test the helpers: one that checks nothing would let other tests pass."""

import time

import pytest
import torch
import torch.distributed as dist
from support import assert_no_worse_than_eager, run_ranks, tiny_model, tiny_tokenizer


def _sum_of_ranks(rank, folder):
    total = torch.tensor(rank + 1)
    dist.all_reduce(total)
    (folder / str(rank)).write_text(str(total.item()))


def _second_rank_fails(rank):
    if rank == 1:
        raise RuntimeError("rank 1 is unwell")


def _waits_for_nobody(rank):
    if rank == 0:
        dist.barrier()
    else:
        time.sleep(600)


def test_ranks_meet_and_share_a_sum(tmp_path):
    run_ranks(_sum_of_ranks, 2, tmp_path, tmp_path)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["3", "3"]


def test_one_failing_rank_fails_the_test(tmp_path):
    with pytest.raises(Exception, match="rank 1 is unwell"):
        run_ranks(_second_rank_fails, 2, tmp_path)


@pytest.mark.slow
def test_hanging_ranks_are_ended(tmp_path):
    with pytest.raises(AssertionError, match="did not finish in 15 s"):
        run_ranks(_waits_for_nobody, 2, tmp_path, timeout_seconds=15)


def test_worse_than_eager_is_caught():
    truth = torch.zeros(3, dtype=torch.float64)
    assert_no_worse_than_eager(truth + 0.1, truth - 0.1, truth, slack=0.0)
    with pytest.raises(AssertionError, match="fused is off by"):
        assert_no_worse_than_eager(truth + 0.2, truth - 0.1, truth, slack=0.05)


def test_tokenizer_is_lossless_and_speaks_chatml():
    tokenizer = tiny_tokenizer()
    text = "Ünïcode, twice:  two blanks\nand 9 seconds"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer("<|im_end|>")["input_ids"] == [tokenizer.eos_token_id]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_tiny_model_loads_repeats_and_discriminates(tmp_path, architecture):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    paths = [tiny_model(tmp_path / name, architecture) for name in ("one", "two")]
    one, two = (AutoModelForCausalLM.from_pretrained(path) for path in paths)
    tokenizer = AutoTokenizer.from_pretrained(paths[0])
    ids = tokenizer("The lighthouse of Vell Point", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = one(ids).logits[0]
        assert torch.equal(logits, two(ids).logits[0])
    assert logits.shape[-1] == len(tokenizer)
    assert logits.std() > 0.5, "a nearly uniform model would hide mistakes"
