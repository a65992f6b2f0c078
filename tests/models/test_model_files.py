"""A model that cannot be loaded is refused with what to do, and a folder's name is a name."""

import json
import os
import shutil

import pytest
import torch
from support import tiny_model

from pdtrain.config import AdapterConfig, ModelConfig, RunConfig
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import fingerprint, load_model, load_tokenizer, resolve, skeleton
from pdtrain.models.model_files import HOMES, name_of
from pdtrain.planning.checks.run_checks import model_files

HASH = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "Owl-1B")


def config(name):
    return ModelConfig(name=str(name), device="cpu")


def test_a_folder_of_an_adapter_is_no_model_even_beside_one(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/another/base"}')
    for parts in ("whole", "adapter alone"):
        with pytest.raises(ValueError, match=r"an adapter.*train\.start.*merged weights alone"):
            resolve(config(folder))
        if parts == "whole":
            (folder / "config.json").unlink()


def test_a_folder_above_a_model_leads_to_the_model(folder, tmp_path):
    cached = tmp_path / "hub" / "models--Birds--Owl-1B"
    shutil.copytree(folder, cached / "snapshots" / HASH)
    for above in (cached, cached / "snapshots", tmp_path):
        with pytest.raises(
            ValueError, match=r"without config\.json; did you mean /.*(1B|/[0-9a-f]+)"
        ):
            resolve(config(above))


def test_gguf_is_named(tmp_path):
    (tmp_path / "owl-q4.gguf").write_bytes(b"GGUF")
    for name in (tmp_path, tmp_path / "owl-q4.gguf"):
        with pytest.raises(
            ValueError, match=r"format GGUF.*name the model that they were made from"
        ):
            resolve(config(name))


def shortened(path, size):
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "weights cut off": (
        lambda folder: shortened(folder / "model.safetensors", 2000),
        "damaged, or was not fetched to its end",
    ),
    "no weights in the file": (
        lambda folder: shortened(folder / "model.safetensors", 0),
        "damaged, or was not fetched to its end",
    ),
    "a note of git": (
        lambda folder: (folder / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        ),
        "fetch it by `git lfs pull`",
    ),
    "tokenizer cut off": (
        lambda folder: shortened(folder / "tokenizer.json", 500),
        "damaged, or was not fetched to its end",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "is missing"),
    "unknown architecture": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "owl_9"}'),
        "model type `owl_9`",
    ),
    "no architecture": (
        lambda folder: (folder / "config.json").write_text("{}"),
        "should have a `model_type`",
    ),
}


@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES)
def test_files_that_cannot_be_loaded_are_said_with_the_model(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match="(?i)" + message) as error:
        load_tokenizer(config(folder))
        load_model(config(folder))
    assert "Owl-1B" in str(error.value)
    assert error.traceback[-1].path.name == "tokenizer.py", "a sentence of ours, not of a library"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_an_error_of_the_machine(folder):
    (folder / "tokenizer.json").chmod(0)
    with pytest.raises(PermissionError):
        load_tokenizer(config(folder))


def test_several_templates_without_a_default_are_refused(folder):
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    for name, fits in (("rag", False), ("default", True)):
        settings["chat_template"] = [{"name": name, "template": template}]
        path.write_text(json.dumps(settings))
        if fits:
            assert load_tokenizer(config(folder)).chat_template
            continue
        with pytest.raises(ValueError, match=r"templates \(rag\) and none is called default"):
            load_tokenizer(config(folder))


def test_a_template_beside_the_processor_alone_is_found(folder):
    template = load_tokenizer(config(folder)).chat_template
    path, beside = folder / "chat_template.jinja", folder / "chat_template.json"
    text = path.read_text()
    beside.write_text('{"chat_template": "not read where the tokenizer has one"}')
    assert load_tokenizer(config(folder)).chat_template == template
    path.unlink()
    for kept in (text, [{"name": "default", "template": text}, {"name": "rag", "template": "?"}]):
        before = fingerprint(config(folder))
        beside.write_text(json.dumps({"chat_template": kept}))
        assert load_tokenizer(config(folder)).get_chat_template() == template
        assert fingerprint(config(folder)) != before
    for damaged in ("{", "{}", '{"chat_template": [1]}'):
        beside.write_text(damaged)
        with pytest.raises(ValueError, match=r"Owl-1B.*chat_template\.json holds no chat template"):
            load_tokenizer(config(folder))
    beside.unlink()
    with pytest.raises(ValueError, match="has no chat template"):
        load_tokenizer(config(folder))


def test_pickled_weights_are_not_loaded(original, folder):
    (folder / "model.safetensors").unlink()
    torch.save(load_model(config(original)).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickled \(\*\.bin\).*save them as \*\.safetensors"):
        load_model(config(folder))
    found = list(model_files(RunConfig(model=config(folder))))
    assert [one.status for one in found] == ["FAIL"] and "pickled" in found[0].text


@pytest.mark.parametrize(
    "path, name",
    [
        ("/models/Owl-1B", "Owl-1B"),
        ("/models/Owl 1B (copy)", "Owl-1B-copy"),
        ("/runs/owls/checkpoint-500", "owls-checkpoint-500"),
        ("/runs/owls/final", "owls"),
        ("/runs/owls/export/merged", "owls"),
        ("/models/Owl-1B/main", "Owl-1B"),
        ("/models/owl-2/transformers/owl-2-1b-it/3", "owl-2-1b-it"),
        ("/cache/modelscope/models/Birds/Owl2___5-1B", "Owl2.5-1B"),
        (f"/cache/models--Birds--Owl/snapshots/{HASH}", "Birds/Owl"),
        (f"/data/{HASH}", "unknown"),
        ("/data/model", "model"),
        (f"/{HOMES[0]}/anna/merged", "merged"),
        (f"/{HOMES[1]}/anna/checkpoint-7", "checkpoint-7"),
        ("/模型/猫头鹰 2B", "2B"),
        ("/模型/猫头鹰", "unknown"),
        ("Birds/Owl-1B", "Owl-1B"),
    ],
)
def test_a_model_is_called_by_what_says_something(path, name, tmp_path):
    assert name_of(type(tmp_path)(path)) == name


@pytest.mark.parametrize(
    "names, message",
    [
        (
            "q_proj,v_projj",
            r"has no 'v_projj'; it has down_proj, .*q_proj.*; separate .* by commas",
        ),
        ("q_proj v_proj", r"has no 'q_proj v_proj'"),
        ("query,value", r"has no 'query'"),
        (".*_proj", r"has no '\.\*_proj'"),
        ("self_attn", r"target_modules='self_attn': .*names of linear layers"),
    ],
)
def test_a_name_that_no_layer_has_is_refused(original, names, message):
    with pytest.raises(ValueError, match=message):
        add_adapter(skeleton(config(original)), AdapterConfig(target_modules=names), 0)


def test_names_of_layers_are_taken_with_blanks_and_in_full(original):
    for names in ("q_proj, v_proj,", "layers.0.self_attn.q_proj", "all-linear"):
        add_adapter(load_model(config(original)), AdapterConfig(target_modules=names), 0)
