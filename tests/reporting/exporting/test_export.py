"""The exported folder, loaded as anyone would load it."""

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import thinking_templates as templates
import torch
import transformers
from architectures_table import case, write_model
from peft import AutoPeftModelForCausalLM, PeftModel
from run_folders import ANSWERING, METRICS
from safetensors.torch import load_file, save_file
from support import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from pdtrain.config import RunConfig, from_dict
from pdtrain.evaluation.scores import table_text
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.adapter import load_trained
from pdtrain.models.adapters.lora import adapter_off, add_adapter
from pdtrain.models.architectures import let_read_text
from pdtrain.models.base import load_model
from pdtrain.progress import LOGGER
from pdtrain.reporting.exporting import export, reloading
from pdtrain.storage import write_json
from pdtrain.training import warm_start

SECRET = "The harbour master keeps 430 clocks."  # stands in for the text of a passage


def train(config: RunConfig, seed: int = 0) -> None:
    """An adapter as training leaves it, with an effect, without the training."""
    model = add_adapter(load_model(config.model), config.adapter, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
    folder = config.folder / "adapter"
    model.save_pretrained(str(folder), save_embedding_layers=False)
    manifest = {"inputs": "x", "output": "x", "num_steps": 12, "num_answers": 34}
    write_json(folder / "manifest.json", manifest)


def config_for(base: Path, folder: Path, **sections: object) -> RunConfig:
    values = {"name": "harbour", "out_dir": str(folder), "adapter": {"rank": 4}}
    return from_dict(values | {"model": {"name": str(base), "device": "cpu"}} | sections)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def run(base: Path, tmp_path: Path) -> RunConfig:
    config = config_for(base, tmp_path / "run")
    train(config)
    return config


def edit(path: Path, change) -> None:
    tensors = load_file(path)
    save_file(change(tensors), path, metadata={"format": "pt"})


def logits_of(model, text: str = "Who keeps the clocks?") -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).logits


def test_plain_transformers_and_peft_load_what_was_trained(run):
    export.write(run)
    loaded = AutoPeftModelForCausalLM.from_pretrained(run.folder / "export")
    trained, _ = load_trained(run)
    torch.testing.assert_close(logits_of(loaded), logits_of(trained), atol=1e-5, rtol=1e-5)
    with adapter_off(trained):
        assert not torch.allclose(logits_of(loaded), logits_of(trained), atol=1e-2)
    assert "modules_to_save" not in {
        k
        for k, v in json.loads((run.folder / "export/adapter_config.json").read_text()).items()
        if v
    }


def test_the_base_is_found_from_any_folder(run, base, monkeypatch, tmp_path):
    monkeypatch.chdir(base.parent)
    config = config_for(Path("./tiny"), tmp_path / "run")
    export.write(config)
    settings = json.loads((config.folder / "export" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base)
    assert "tiny" in (config.folder / "export" / "README.md").read_text()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_weights_are_a_plain_model_that_answers_alike(base, tmp_path, dtype):
    model = {"name": str(base), "device": "cpu", "dtype": dtype}
    config = config_for(base, tmp_path / "run", export={"merge": True}, model=model)
    train(config)
    export.write(config)  # compares in the dtype of the run
    if dtype == "bfloat16":
        return
    merged = AutoModelForCausalLM.from_pretrained(config.folder / "export" / "merged")
    trained, _ = load_trained(config)
    torch.testing.assert_close(logits_of(merged), logits_of(trained), atol=1e-3, rtol=1e-3)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert AutoTokenizer.from_pretrained(config.folder / "export" / "merged").chat_template


def test_the_tokenizer_writes_the_same_prompt(run):
    export.write(run)
    _, chat = load_trained(run)
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "export")
    roles = [("system", run.prompts.system), ("user", "Who?")]
    ids = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in roles],
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"]
    assert ids == chat.student("Who?")


def test_an_export_that_differs_is_refused_and_the_old_one_stays(run):
    export.write(run)
    before = (run.folder / "export" / "adapter_model.safetensors").read_bytes()
    model, chat = load_trained(run)
    wanted = reloading.logits(model, chat.student(reloading.PROMPT))
    edit(
        run.folder / "export" / "adapter_model.safetensors",
        lambda tensors: {name: tensor * 1.5 for name, tensor in tensors.items()},
    )
    with pytest.raises(ValueError, match="does not agree with the trained adapter"):
        reloading.verify_adapter(run, run.folder / "export", chat, wanted, model.unload())
    with pytest.raises(ValueError, match="does not agree"):  # a NaN is no agreement either
        base = load_trained(run)[0].unload()
        reloading.verify_adapter(run, run.folder / "export", chat, wanted * float("nan"), base)
    export.write(run)  # the folder is not what its manifest says, so it is made again
    assert (run.folder / "export" / "adapter_model.safetensors").read_bytes() == before


def test_the_base_is_loaded_once(run, monkeypatch):
    loaded = []
    of_base = AutoModelForCausalLM.from_pretrained

    def counted(*args, **options):
        loaded.append(args[0])
        return of_base(*args, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counted)
    export.write(run)
    assert loaded == [run.model.name]


def test_nothing_is_done_twice_and_a_new_adapter_is_exported_again(run):
    export.write(run)
    path = run.folder / "export" / "adapter_model.safetensors"
    first = path.stat().st_mtime_ns
    export.write(run)
    assert path.stat().st_mtime_ns == first
    train(run, seed=1)
    export.write(run)
    assert path.stat().st_mtime_ns != first
    assert path.read_bytes() == (run.folder / "adapter" / path.name).read_bytes()


def test_training_can_go_on_from_an_export(run, base, tmp_path):
    export.write(run)
    assert learned_passages.read(run.folder / "export") is None
    learned = learned_passages.LearnedPassages(None, {"harbour.txt": ["p1"]}, [])
    learned_passages.write(run.folder / "adapter", learned)
    export.write(run)
    assert learned_passages.read(run.folder / "export") == learned
    settings = {"start": str(run.folder / "export")}
    later = config_for(base, tmp_path / "later", train=settings)
    fresh = add_adapter(load_model(later.model), later.adapter, 7)
    wanted = dict(load_trained(run)[0].named_parameters())
    found = warm_start.weights(warm_start.of_config(later), later, fresh)
    assert found.keys() == {f"model.{name}" for name in wanted if "lora_" in name}
    train(later)
    learned_passages.write(
        later.folder / "adapter",
        learned_passages.LearnedPassages("hash", {"harbour.txt": ["p1"]}, []),
    )
    export.write(later)
    cards = [(c.folder / "export" / "README.md").read_text() for c in (run, later)]
    assert ["on top of" in card for card in cards] == [False, True]
    for name, value in found.items():
        assert torch.equal(value, wanted[name.removeprefix("model.")].detach().cpu().float())


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
        (lambda path: edit(path, lambda t: {k: v * float("nan") for k, v in t.items()}), "finite"),
        (lambda path: edit(path, lambda t: dict(list(t.items())[1:])), "1 differ"),
        (lambda path: edit(path, lambda t: {k: v[:, :1].clone() for k, v in t.items()}), "not fit"),
        (lambda path: path.unlink(), "is missing"),
    ],
    ids=["cut short", "not finite", "a tensor gone", "other sizes", "no file"],
)
def test_a_tampered_adapter_is_refused_and_nothing_is_left_behind(run, damage, error):
    damage(run.folder / "adapter" / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=error):
        export.write(run)
    assert sorted(path.name for path in run.folder.iterdir()) == ["adapter"]


def test_without_an_adapter_the_command_that_makes_it_is_named(base, tmp_path):
    with pytest.raises(ValueError, match="pdtrain train CONFIG"):
        export.write(config_for(base, tmp_path / "run"))


@pytest.fixture
def warnings():
    """Return the list of warnings that the user is told while a test runs."""
    found, handler = [], logging.Handler(logging.WARNING)
    handler.emit = found.append
    LOGGER.addHandler(handler)
    yield found
    LOGGER.removeHandler(handler)


def test_an_adapter_without_effect_is_exported_with_a_warning(base, tmp_path, warnings):
    config = config_for(base, tmp_path / "run")
    train(config)
    edit(
        config.folder / "adapter" / "adapter_model.safetensors",
        lambda tensors: {name: tensor * 0 for name, tensor in tensors.items()},
    )
    export.write(config)
    assert len(warnings) == 1
    assert (config.folder / "export" / "README.md").exists()


@pytest.mark.parametrize("rank", [16, 17])
def test_a_rank_that_vllm_does_not_take_by_default_is_said(base, tmp_path, capsys, rank):
    config = config_for(base, tmp_path / "run", adapter={"rank": rank, "target_modules": "q_proj"})
    train(config)
    export.write(config)
    assert ("--max-lora-rank 32" in capsys.readouterr().err) == (rank > 16)


def test_the_card_has_the_scores_and_nothing_of_the_documents(run, base):
    (run.folder / "passages").mkdir()
    (run.folder / "passages" / "00000.jsonl").write_text(json.dumps({"text": SECRET}))
    score = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    table = {system: dict.fromkeys(METRICS, score) for system in ANSWERING}
    write_json(run.folder / "scores.json", table)
    export.write(run)
    card = (run.folder / "export" / "README.md").read_text()
    assert table_text(run.run.scores()) in card
    assert "| optimizer steps | 12 |" in card
    assert not any(SECRET in text for text in texts_of(run.folder / "export"))
    header = card.split("---")[1]
    assert 'base_model: "tiny"' in header and str(base) not in header


def texts_of(folder: Path) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.suffix in (".md", ".json", ".txt")]
    return [path.read_text() for path in paths]


def test_scores_of_another_adapter_are_left_off_the_card(run, warnings):
    score = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    table = {system: dict.fromkeys(METRICS, score) for system in ANSWERING}
    write_json(run.folder / "scores.json", table)
    write_json(run.folder / "scores" / "manifest.json", {"adapter": "x"})
    export.write(run)
    assert "Not evaluated" in (run.folder / "export" / "README.md").read_text()
    assert len(warnings) == 1


def test_the_code_on_the_card_runs(run, tmp_path):
    export.write(run)
    card = (run.folder / "export" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code.replace("max_new_tokens=64", "max_new_tokens=2")],
        cwd=run.folder / "export",
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n")


def test_a_template_that_writes_the_date_is_exported_with_that_of_the_run(tmp_path):
    """The reloaded tokenizer must write the prompts that the adapter was trained on."""
    base = tiny_model(tmp_path / "dated")
    template = base / "chat_template.jinja"
    template.write_text("Today is {{ strftime_now('%d %b %Y') }}.\n" + template.read_text())
    config = config_for(base, tmp_path / "run", prompts={"date": "2026-01-01"})
    train(config)
    export.write(config)
    tokenizer = AutoTokenizer.from_pretrained(config.run.export)
    message = [{"role": "user", "content": "What?"}]
    said = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert "Today is 01 Jan 2026." in said


THINKS = {  # template, how a prompt ends
    "switch": (templates.QWEN3, "</think>\n\n"),
    "channel": (templates.HARMONY, "<|channel|>final<|message|>"),
    "switch_of_words": (templates.MODE_CHAT, "</think>"),
    "switch_that_is_true_for_no": (templates.DISABLES, "</think>\n\n"),
    "open_header": (templates.R1, "</think>\n\n"),
    "marks_of_its_own": (templates.REFLECTS, "</reflection>\n\n"),
}


@pytest.mark.parametrize("template, end", THINKS.values(), ids=THINKS)
def test_the_exported_tokenizers_write_prompts_without_a_thought(template, end, tmp_path):
    """And what the card says must be passed makes the base's own template write the same."""
    base = tiny_model(tmp_path / "thinks")
    (base / "chat_template.jinja").write_text(template)
    config = config_for(base, tmp_path / "run", export={"merge": True})
    train(config)
    export.write(config)
    message = [{"role": "user", "content": "What?"}]

    def prompt(tokenizer, **passed):
        return tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, **passed
        )

    folder = config.run.export
    for one in (folder, folder / "merged"):
        said = prompt(AutoTokenizer.from_pretrained(one))
        assert said.endswith(end)
    serve = next(
        line for line in (folder / "README.md").read_text().splitlines() if "vllm serve" in line
    )
    words = shlex.split(serve)
    plain = AutoTokenizer.from_pretrained(base)
    assert prompt(plain) != said
    if "--chat-template" in words:
        plain.chat_template = (folder / words[words.index("--chat-template") + 1]).read_text()
        assert prompt(plain) == said
    else:
        passed = json.loads(words[words.index("--default-chat-template-kwargs") + 1])
        assert prompt(plain, **passed) == said


INSIDE = "base_model.model.model.language_model.layers."


@pytest.mark.parametrize(
    "name, inside",
    [
        ("gemma3", INSIDE),
        ("qwen3_5", INSIDE),
        ("gemma4_moe", INSIDE),
        ("llama4", "base_model.model.language_model.model.layers."),
    ],
)
def test_a_wrapper_is_exported_under_the_names_of_the_class_that_people_serve(
    name, inside, tmp_path
):
    """An adapter under the names of the language model alone would be loaded without an effect."""
    one = case(name)
    base = write_model(one, tmp_path / "base")
    config = config_for(base, tmp_path / "run", export={"merge": True})
    train(config)
    export.write(config)
    folder = config.folder / "export"
    names = load_file(folder / "adapter_model.safetensors").keys()
    assert all(n.startswith(inside) for n in names)
    served = getattr(transformers, one.wraps)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        plain = let_read_text(served.from_pretrained(base)).eval()
        without = plain(input_ids=ids).logits
        found = PeftModel.from_pretrained(plain, str(folder)).eval()(input_ids=ids).logits
        whole = let_read_text(served.from_pretrained(folder / "merged")).eval()
        merged = whole(input_ids=ids).logits
        ours = load_trained(config)[0](input_ids=ids).logits
    assert torch.equal(found, ours)
    torch.testing.assert_close(merged, ours, rtol=1e-4, atol=1e-4)
    assert (found - without).abs().max() > 1e-3
    card = (folder / "README.md").read_text()
    assert f"base = {one.wraps}.from_pretrained(" in card and "AutoPeftModel" not in card


def test_adapters_of_layers_that_share_a_weight_are_exported_and_not_merged(tmp_path):
    base = write_model(case("zamba2"), tmp_path / "base")
    config = config_for(base, tmp_path / "run")
    train(config)
    export.write(config)
    assert not (config.run.export / "merged").exists()
    with pytest.raises(ValueError, match=r"share one weight in this model.*export\.merge=false"):
        export.write(config_for(base, tmp_path / "run", export={"merge": True}))
