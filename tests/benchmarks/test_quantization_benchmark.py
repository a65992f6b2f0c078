"""Test the benchmark of quantized bases at toy size."""

import pytest
import quantization
import torch
from support import tiny_config, tiny_model, tiny_records, write_records


def test_the_divergence_is_that_of_torch():
    one, two = (torch.randn(3, 50, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    wanted = torch.nn.functional.kl_div(two, one, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(quantization.divergence(one, two), wanted)
    assert (quantization.divergence(one, two) > 0).all()
    assert (quantization.divergence(one, one) == 0).all()


def test_it_writes_a_line_for_each_kind(tmp_path):
    pytest.importorskip("bitsandbytes", reason="pip install -e '.[quantized]'")
    sizes = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 128}
    config = tiny_config(tmp_path / "run", tiny_model(tmp_path / "model", **sizes))
    write_records(config, *tiny_records())
    head, *_, line = quantization.kl_table(config, ["nf4"], 6)
    assert head.startswith("6 answers, ")
    name, mean, median, most, same = (cell.strip() for cell in line.strip("|").split("|"))
    assert name == "nf4" and float(median) > 0 and 0 < float(mean) < float(most)
    assert same.endswith("%")
