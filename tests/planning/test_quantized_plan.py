"""Test what the plan says about a quantized base, and what is refused before a run."""

import importlib.metadata
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from house import ROOT
from support import tiny_config, tiny_model

from pdtrain.config import load
from pdtrain.models import quantization
from pdtrain.models.base import skeleton
from pdtrain.models.shape import shape_of
from pdtrain.planning import estimate, fit, memory_model, plan
from pdtrain.planning.checks import run_checks
from pdtrain.planning.memory_model import GIB
from pdtrain.planning.proposals import refusal

LLAMA_70B = ROOT / "tests" / "shapes" / "llama-3.3-70b"
STAGE_3 = ("engine.zero_stage=3", "train.gradient_checkpointing=true")


def config_of(kind, *more):
    return load(
        ROOT / "configs" / "llama-70b-two-nodes.yaml",
        [f"model.name={LLAMA_70B}", f"model.quantization={kind}", *more],
    )


@pytest.fixture(scope="module")
def shape():
    config = config_of("none")
    return shape_of(skeleton(config.model), config.adapter.target_modules)


def test_70b_in_4_bits_trains_on_one_80_gb_gpu_and_not_otherwise(shape, capsys):
    assert plan.report(config_of("none"), 1, 1, shape) == 1
    capsys.readouterr()
    assert plan.report(config_of("nf4"), 1, 1, shape) == 0
    assert "39.5 GB in nf4, 0.56 bytes a parameter" in capsys.readouterr().out


def test_bytes_of_the_base_by_hand(shape):
    embedding_and_head = 2 * 128256 * 8192
    norms = (2 * 80 + 1) * 8192
    rest = shape.sizes.total - embedding_and_head - norms
    assert shape.sizes.quantizable == rest
    assert shape.sizes.layer_quantizable == rest // 80
    whole = 2 * (embedding_and_head + norms)
    found = memory_model.base_bytes(config_of("nf4"), shape.sizes)
    assert found == pytest.approx(whole + rest * (0.5 + 1 / 64 + 4 / 64 / 256), abs=2)
    assert memory_model.base_bytes(config_of("none"), shape.sizes) == 2 * shape.sizes.total


def test_ranks_gather_little_more_than_a_quarter_of_the_bytes(shape):
    """Four-bit layers are a quarter; embedding and head, which stay whole, are the rest."""
    whole, packed = (
        estimate.estimate_of(config_of(kind, *STAGE_3), shape) for kind in ("none", "nf4")
    )
    ratio = packed.traffic.base_per_micro_step / whole.traffic.base_per_micro_step
    assert 0.25 < ratio < 0.30
    ahead = whole.memory.gathered_ahead
    assert packed.memory.gathered_ahead == pytest.approx(ahead / 4, rel=0.01)
    assert packed.startup.load_seconds == whole.startup.load_seconds / 2  # compared with no file


def test_a_base_that_each_rank_holds_whole_at_first_must_fit_whole(shape, capsys):
    """Four GPUs of 32 GiB hold a part of 10 GiB each, but the whole base of 36.8 GiB first."""
    config = config_of("nf4", *STAGE_3, "plan.gpu_memory_gib=32")
    assert plan.report(config, 1, 4, shape) == 1
    out = capsys.readouterr().out
    whole = (memory_model.base_bytes(config, shape.sizes) / GIB) + config.plan.reserve_gib
    assert float(line_of(out, "together")[0]) < 32 < whole
    assert line_of(out, "while each rank holds the whole base") == [f"{whole:.2f}"]
    assert "because model.quantization=nf4 quantizes it while it is read" in out
    assert "; model.quantization=none is spread as it is read." in out
    assert plan.report(config_of("nf4", *STAGE_3), 1, 4, shape) == 0
    assert "holds the whole base" in capsys.readouterr().out  # there it is the peak, and fits


def test_a_base_that_is_spread_while_it_is_read_needs_no_room_for_the_whole(shape, capsys):
    made = estimate.estimate_of(config_of("none", *STAGE_3), shape)
    assert made.loading_bytes == 0 and made.startup.whole_bases == 0
    assert made.peak_bytes < memory_model.base_bytes(config_of("none"), shape.sizes)


@pytest.mark.parametrize("method", ["mxfp4", "fp8"])
def test_files_that_are_made_whole_count_whole_on_each_gpu_and_in_its_host(method, tmp_path):
    settings = json.loads((LLAMA_70B / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": method}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = config_of("none", *STAGE_3, f"model.name={tmp_path}", "plan.nodes=1")
    shape = shape_of(skeleton(config.model), config.adapter.target_modules)
    made, base = estimate.estimate_of(config, shape), 2 * shape.sizes.total
    assert made.loading_bytes == base + made.memory.reserve == made.peak_bytes
    assert made.memory.total < base
    assert made.startup.whole_bases == 8 * base
    # compared with no file, and so read once
    assert made.startup.load_seconds == base / (config.plan.disk_gb_per_second * 1e9)
    assert not made.fits
    assert any("take the unquantized model" in line for line in refusal(config, shape, made))


def line_of(text, start):
    """Return a line's words without its beginning."""
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(start)]
    return line.removeprefix(start).split()


def test_the_plan_says_what_is_gathered_and_why_nothing_is(shape, capsys):
    """Eight GPUs hold a 4-bit base whole by `auto`; spread over them, they gather its packed bytes.

    By hand: 2P - H of what lies packed, for each of two micro-batches; the head and the last layer
    are kept over the turn.
    """
    gathered = "of the base, gathered by each GPU"
    config = config_of("nf4")
    assert plan.report(config, 1, 8, shape) == 0
    whole = capsys.readouterr().out
    assert line_of(whole, gathered) == ["0.00"]
    said = line_of(whole, "at ZeRO stage 1 each GPU holds the whole base and gathers none;")
    spread = config_of("nf4", *STAGE_3)
    assert plan.report(spread, 1, 8, shape) == 0
    packed = capsys.readouterr().out
    assert line_of(packed, gathered) == [said[-1]]
    head = 128256 * 8192 * 2
    layers = memory_model.base_bytes(spread, shape.sizes) - 2 * head
    layers -= quantization.scale_bytes(spread.model, shape.sizes.quantizable)
    by_hand = 2 * (2 * layers - layers / 80 + head + head) / 1e9  # embedding and head once each
    assert float(said[-1]) == pytest.approx(by_hand, rel=0.01)
    unpacked = float(line_of(packed, "packed in nf4; without quantization it would be")[0])
    assert 0.25 < float(said[-1]) / unpacked < 0.30
    assert plan.report(config, 1, 1, shape) == 0
    assert "each GPU holds the whole base" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_8_bits_on_several_ranks_are_refused(kind, shape, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "refuse", lambda *_: None)
    with pytest.raises(ValueError, match=r"neither send nor spread torchao's tensors"):
        estimate.estimate_of(config_of(kind, *STAGE_3), shape)
    tiny_model(tmp_path)
    config = tiny_config(tmp_path, tmp_path, model={"quantization": kind})
    world = estimate.world_of(config_of(kind))
    assert world.num_ranks > 1
    with pytest.raises(ValueError, match=r"set model\.quantization=nf4 for several ranks"):
        fit.refuse(config, ["train"], world)
    fit.refuse(config, ["questions"], world)


def test_a_missing_package_is_refused_before_any_stage(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    tiny_model(tmp_path)
    config = tiny_config(tmp_path, tmp_path, model={"quantization": "nf4"})
    metadata = SimpleNamespace(
        version=missing, PackageNotFoundError=importlib.metadata.PackageNotFoundError
    )
    monkeypatch.setattr(quantization, "importlib", SimpleNamespace(metadata=metadata))
    with pytest.raises(ValueError, match="needs the package bitsandbytes"):
        fit.refuse(config, ["questions"], estimate.world_of(config))


def test_doctor_counts_the_quantized_bytes(tmp_path):
    pytest.importorskip("bitsandbytes", reason="pip install -e '.[quantized]'")
    tiny_model(tmp_path)
    config = tiny_config(tmp_path, tmp_path, model={"quantization": "nf4"})
    texts = [finding.text for finding in run_checks.base_model(config)]
    assert any("M parameters in nf4 =" in text for text in texts)


def test_merged_weights_of_a_quantized_base_are_refused(tmp_path):
    tiny_model(tmp_path)
    with pytest.raises(ValueError, match=r"set export\.merge=false"):
        tiny_config(tmp_path, tmp_path, model={"quantization": "nf4"}, export={"merge": True})


def test_a_config_without_quantization_is_planned_by_all_its_bytes(shape):
    sizes = replace(shape.sizes, quantizable=0, layer_quantizable=0)
    config = config_of("none", *STAGE_3)
    bare = estimate.estimate_of(config, replace(shape, sizes=sizes))
    assert estimate.estimate_of(config, shape) == bare
