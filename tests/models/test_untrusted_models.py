"""Models and adapters from someone else: their code is not run, and their templates do not rule."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support import tiny_config, tiny_model

from pdtrain.config import ModelConfig, PromptConfig
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove

SPOIL = "from pathlib import Path\nPath({!r}).write_text('run')\nclass Theirs:\n    pass\n"
AUTO = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoModel"), "evil.Theirs")


@pytest.fixture
def theirs(tmp_path):
    """Return a model folder with a module that leaves a mark where it is imported, and the mark."""
    folder, mark = tiny_model(tmp_path / "model"), tmp_path / "mark"
    (folder / "evil.py").write_text(SPOIL.format(str(mark)))
    return folder, mark


def changed(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("kind", ["llama", "a_kind_of_theirs"])
def test_code_that_a_config_names_is_not_run(theirs, kind):
    folder, mark = theirs
    changed(folder / "config.json", auto_map=AUTO, model_type=kind)
    try:
        load_model(ModelConfig(name=str(folder), device="cpu"))
    except ValueError as error:
        assert kind != "llama" and "asks for code of its author to be run" in str(error)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["TheirTokenizer", "PreTrainedTokenizerFast"])
def test_code_that_a_tokenizer_names_is_not_run(theirs, name):
    folder, mark = theirs
    auto = {"AutoTokenizer": ["evil.Theirs", "evil.Theirs"]}
    changed(folder / "tokenizer_config.json", auto_map=auto, tokenizer_class=name)
    try:
        load_tokenizer(ModelConfig(name=str(folder), device="cpu"))
    except ValueError as error:
        assert "asks for code of its author to be run" in str(error)
    assert not mark.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
        "{% include '/etc/passwd' %}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('a message\x1b[2J of theirs') }}",
        "{{ undefined.attribute }}",
        "{{ 1 / 0 }}",
        "{% for x in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_chat_template_reaches_nothing_and_its_failure_is_said_in_words(theirs, template):
    folder, mark = theirs
    (folder / "chat_template.jinja").write_text(template.replace("MARK", str(mark)))
    tokenizer = load_tokenizer(ModelConfig(name=str(folder), device="cpu"))
    for system in ("", "Answer briefly."):
        with pytest.raises(ValueError, match="the chat template") as found:
            prove(tokenizer, PromptConfig(system=system), None)
        assert "root:" not in str(found.value) and "\x1b" not in str(found.value)
    assert not mark.exists()


@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_an_adapter_brings_no_tokenizer_template_or_code(theirs, tmp_path, place):
    """What lies beside an adapter's weights is not read: the base has its own."""
    from pdtrain.models.adapters.adapter import load_adapter
    from pdtrain.models.adapters.lora import add_adapter
    from pdtrain.models.base import load_model as load

    folder, mark = theirs
    config = tiny_config(tmp_path / "run", folder)
    model = add_adapter(load(config.model), replace(config.adapter, rank=4), 0)
    adapter = tmp_path / "adapter"
    model.save_pretrained(str(adapter))
    wanted = load_adapter(config, adapter)[1].student("What is it?")
    (adapter / "evil.py").write_text(SPOIL.format(str(mark)))
    (adapter / "chat_template.jinja").write_text("{{ 'theirs' }}")
    (adapter / place).write_text(json.dumps({"auto_map": AUTO, "chat_template": "theirs"}))
    assert load_adapter(config, adapter)[1].student("What is it?") == wanted
    assert not mark.exists()
