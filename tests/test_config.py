"""Test what overrides what in a config, and that errors suggest what may be meant."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from pdtrain.config import RunConfig, dump, from_dict, load, load_run
from pdtrain.keys import KNOWN_ELSEWHERE, all_keys


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "configs" / "my.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_an_empty_file_is_the_defaults(write):
    path = write("")
    defaults = RunConfig(name="my", out_dir="runs/my", source=str(path))
    assert load(path) == load(write("{}")) == defaults, "but for the name of the file"


def test_the_command_line_beats_the_file_and_the_file_the_defaults(write):
    path = write("train: {epochs: 7, warmup_ratio: 0.2}\nseed: 3\n")
    config = load(path, ["train.epochs=9", "loss.temperature=2"])
    defaults = RunConfig()
    assert config.train.epochs == 9
    assert config.train.warmup_ratio == 0.2
    assert (config.seed, config.loss.temperature) == (3, 2.0)
    assert config.train.learning_rate == defaults.train.learning_rate
    assert config.adapter == defaults.adapter


def test_nested_keys_of_the_file_leave_their_neighbours_alone(write):
    sampling = load(write("questions: {sampling: {top_k: 5}}")).questions.sampling
    default = RunConfig().questions.sampling
    assert sampling == dataclasses.replace(default, top_k=5)


@pytest.mark.parametrize(
    "override, key, value",
    [
        ("train.learning_rate=1e-3", "train.learning_rate", 1e-3),
        ("train.learning_rate=3", "train.learning_rate", 3.0),
        ("teacher.cache=false", "teacher.cache", False),
        ("evaluate.questions=", "evaluate.questions", ""),
        ("prompts.system=", "prompts.system", ""),
        ("prompts.system='Be brief, please: x=1'", "prompts.system", "Be brief, please: x=1"),
        ("name=2024", "name", "2024"),
        ("model.revision=null", "model.revision", None),
    ],
)
def test_overrides_have_the_type_of_their_key(write, override, key, value):
    found = load(write("evaluate: {questions: q.jsonl}"), [override])
    for name in key.split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


def test_the_run_folder_has_the_runs_name(write):
    assert load(write("name: tides")).out_dir == "runs/tides"
    assert load(write("name: tides"), ["name=storms"]).folder == Path("runs/storms")
    assert load(write("name: tides\nout_dir: elsewhere")).out_dir == "elsewhere"


UNKNOWN = [
    ("train: {epoch: 3}", "unknown key train.epoch; did you mean train.epochs?"),
    ("num_train_epochs: 3", "unknown key num_train_epochs; did you mean train.epochs?"),
    ("train: {num_train_epochs: 3}", "unknown key train.num_train_epochs; did you mean train.epo"),
    ("epochs: 3", "unknown key epochs; did you mean train.epochs?"),
    ("loss: {learning_rate: 1}", "unknown key loss.learning_rate; did you mean train.learning_ra"),
    ("lora_rank: 3", "unknown key lora_rank; did you mean adapter.rank?"),
    ("tran: {epochs: 3}", "unknown key tran; did you mean train?"),
    ("adapter: {zzzzqqq: 1}", "unknown key adapter.zzzzqqq; known: adapter.rank, adapter.alpha"),
    ("questions: {sampling: {temprature: 1}}", "did you mean questions.sampling.temperature?"),
    ("adapter: {r2d2: 1}", "unknown key adapter.r2d2; "),
    ("zzzzqqq: 1", "unknown key zzzzqqq; known: "),
]


@pytest.mark.parametrize("text, message", UNKNOWN)
def test_a_key_that_is_not_ours_is_answered_with_ours(write, text, message):
    path = write(text)
    with pytest.raises(ValueError) as error:
        load(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_misspelt_override_is_answered_too(write):
    with pytest.raises(ValueError, match=r"unknown key train\.epoch; did you mean train\.epochs\?"):
        load(write(""), ["train.epoch=3"])


def test_names_from_elsewhere_lead_to_keys_that_exist():
    assert set(KNOWN_ELSEWHERE.values()) <= set(all_keys())


WRONG = [
    ("train: {epochs: many}", r"train\.epochs: .*many"),
    ("train: {epochs: 2.5}", r"train\.epochs: .*2\.5"),
    ("teacher: {cache: perhaps}", r"teacher\.cache: .*perhaps"),
    ("loss: {divergence: kl}", r"loss\.divergence: .*kl"),
    ("train: 3", r"train must be a mapping of epochs, learning_rate"),
    ("train: [epochs]", r"train must be a mapping of epochs"),
    ("model: {name: {a: 1}}", r"model\.name"),
]


@pytest.mark.parametrize("text, message", WRONG)
def test_a_value_of_another_type_names_its_key(write, text, message):
    with pytest.raises(ValueError, match=message):
        load(write(text))


IMPOSSIBLE = [
    ("train.epochs=0", r"train\.epochs must be > 0, got 0"),
    ("train.learning_rate=-1", r"train\.learning_rate must be > 0: -1\.0"),
    ("train.learning_rate=1e999", r"train\.learning_rate must be a finite number, got inf"),
    ("train.weight_decay=.nan", r"train\.weight_decay must be >= 0, got nan"),
    ("plan.gpu_hour_price=.nan", r"plan\.gpu_hour_price must be .*, got nan"),
    ("loss.row_filter=-.inf", r"loss\.row_filter must be a finite number, got -inf"),
    ("train.epochs=99999999999999999999", r"train\.epochs must be at most 9223372036854775807"),
    ("train.weight_decay=-0.1", r"train\.weight_decay must be >= 0, got -0\.1"),
    ("train.adam_beta2=1.5", r"train\.adam_beta2 must be in \[0, 1\), got 1\.5"),
    ("train.evaluate_questions=-1", r"train\.evaluate_questions must be >= 0, got -1"),
    ("train.evaluate_every_epochs=-1", r"train\.evaluate_every_epochs must be >= 0, got -1"),
    ("seed=-1", r"seed must be >= 0, got -1"),
    ("out_dir=", r"out_dir is empty, and a run would be strewn over the working folder"),
    ("out_dir=~nobody-of-this-name/x", r"out_dir begins with ~nobody-of-this-name, and no such"),
    ("model.name=~nobody-of-this-name", r"model\.name begins with ~nobody-of-this-name"),
    ("train.epochs=???", r"train\.epochs is \?\?\?: put a value in its place"),
    ("name=???", r"name is \?\?\?: put a value in its place"),
    ("train.warmup_ratio=1", r"train\.warmup_ratio: \[0, 1\), got 1\.0"),
    ("train.max_grad_norm=0", r"train\.max_grad_norm must be > 0"),
    ("adapter.rank=0", r"adapter\.rank must be > 0, got 0"),
    ("adapter.dropout=1", r"adapter\.dropout must be in \[0, 1\), got 1\.0"),
    ("adapter.target_modules='q_proj, lm_head'", r"must leave lm_head and embed_tokens alone"),
    ("loss.temperature=0", r"loss\.temperature must be > 0, got 0\.0"),
    ("loss.beta=1", r"loss\.beta must be in \(0, 1\), got 1\.0"),
    ("loss.labels=1", r"loss\.labels must be in \[0, 1\), got 1\.0; train\.objective=sft is all"),
    ("loss.labels=-0.1", r"loss\.labels must be in \[0, 1\)"),
    ("loss.top_k=-1", r"loss\.top_k must be >= 0"),
    ("corpus.max_passage_tokens=8", r"corpus\.max_passage_tokens must be at least 16, got 8"),
    ("answers.per_question=0", r"answers\.per_question must be > 0, got 0"),
    ("answers.sampling.temperature=-1", r"temperature must be >= 0, got -1\.0"),
    ("answers.sampling.top_p=0", r"top_p must be in \(0, 1\], got 0\.0"),
    ("answers.sampling.max_new_tokens=0", r"max_new_tokens must be > 0, got 0"),
    ("questions.per_sentence=-1", r"must be >= 0"),
    ("questions.near_duplicate=0", r"near_duplicate must be in \(0, 1\], .*, got 0"),
    ("questions.near_duplicate=1.5", r"near_duplicate must be in \(0, 1\]"),
    ("questions.per_pair=-1", r"per_pair.* must be >= 0"),
    ("answers.checks=-1", r"answers\.checks must be >= 0"),
    ("evaluate.batch_size=0", r"evaluate\.batch_size must be > 0, got 0"),
    ("evaluate.bootstrap_samples=0", r"evaluate\.bootstrap_samples must be > 0, got 0"),
    ("prompts.teacher='{passage}'", r"prompts\.teacher must contain \{question\}"),
    ("prompts.teacher='{passage} {question} {question}'", r"must contain \{question\} once"),
    ("evaluate.limit=-1", r"evaluate\.limit must be >= 0"),
    ("train.log_every_steps=0", r"train\.log_every_steps must be > 0"),
    ("prompts.teacher='{question}'", r"prompts\.teacher must contain \{passage\}"),
    ("prompts.teacher='{passage} {question} {x}'", r"prompts\.teacher may hold .* [Ff]ound 'x'"),
    ("prompts.focus='{passage}'", r"prompts\.focus \{sentence\}"),
]


@pytest.mark.parametrize("override, message", IMPOSSIBLE)
def test_impossible_values_are_refused(write, override, message):
    with pytest.raises(ValueError, match=message):
        load(write(""), [override])


ENDLESS = ["train.max_grad_norm", "generation.server.patience_seconds"]
ENDLESS += ["plan.network_gb_per_second"]


@pytest.mark.parametrize("knob", ENDLESS)
def test_what_limits_may_be_endless(write, knob):
    load(write(""), [f"{knob}=.inf"])


def test_a_value_that_is_still_to_be_given_is_no_default(write):
    with pytest.raises(ValueError, match=r"my\.yaml: model\.name is \?\?\?"):
        load(write("model: {name: ???}".replace("???", '"???"')))


TOGETHER = [
    (
        ["train.objective=sft", "loss.temperature=2"],
        r"objective=sft is cross-entropy, which needs .* got forward_kl, 2\.0, bucket",
    ),
    (["raw_text.overlap=300"], r"raw_text\.overlap must be at least 1, .*=256; got 300"),
    (["loss.top_k=0"], r"loss\.top_k=0 .* set teacher\.cache=false"),
    (["loss.top_k=65536"], r"loss\.top_k=65536 is more than .* 65535; lower it, or set teacher"),
    (["loss.labels=0.5", "rollout.share=0.5"], r"set loss\.labels=0, or rollout\.share=0"),
    (["loss.labels=0.5", "loss.temperature=2"], r"labels=0\.5 is in part cross-entropy, which nee"),
    (["loss.labels=0.5", "loss.tail=renormalise"], r"got forward_kl, 1\.0, renormalise"),
    (["loss.labels=0.5", "train.objective=sft"], r"no teacher to mix .* set loss\.labels=0"),
    (["loss.row_filter=0.1", "loss.tail=renormalise"], r"row_filter needs loss\.tail=bucket"),
    (["train.answers_per_group=17"], r"answers_per_group=17 must be 0 .*answers_per_step=16"),
]


@pytest.mark.parametrize("overrides, message", TOGETHER)
def test_impossible_combinations_are_refused_and_each_part_alone_is_not(write, overrides, message):
    with pytest.raises(ValueError, match=message):
        load(write(""), overrides)
    load(write(""), ["loss.top_k=0", "teacher.cache=false"])
    load(write(""), ["loss.tail=renormalise"])
    load(write(""), ["loss.labels=0.5"])
    load(write(""), ["train.answers_per_group=17", "train.answers_per_step=17"])


def test_inputs_named_in_a_file_are_beside_it(write):
    path = write("corpus: {documents: docs}\nevaluate: {questions: ../q.jsonl}\n")
    config = load(path)
    assert config.corpus.documents == str(path.parent / "docs")
    assert config.evaluate.questions == str(path.parent / "../q.jsonl")


def test_inputs_named_on_the_command_line_are_where_it_stands(write):
    path = write("corpus: {documents: docs}")
    assert load(path, ["corpus.documents=docs"]).corpus.documents == "docs"


def test_the_adapter_to_start_from_is_an_input_like_the_others(write, tmp_path, monkeypatch):
    path = write("train: {start: ../first}")
    assert load(path).train.start == str(path.parent / ".." / "first")
    assert load(path, ["train.start=second"]).train.start == "second"
    assert load(path, ["train.start="]).train.start == ""
    monkeypatch.chdir(tmp_path)
    dump(from_dict({"train": {"start": "first"}}), tmp_path / "config.yaml")
    assert load_run(tmp_path).train.start == str(tmp_path / "first")


def test_absolute_inputs_stay(write, tmp_path):
    path = write(f"corpus: {{documents: {tmp_path / 'docs'}}}")
    assert load(path).corpus.documents == str(tmp_path / "docs")


def test_a_tilde_in_the_run_folder_is_the_home_folder(write, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(write("out_dir: ~/runs/tides"))
    assert config.folder == tmp_path / "runs/tides"


def test_a_tilde_is_the_home_folder(write, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(write("corpus: {documents: ~/docs}")).corpus.documents == str(tmp_path / "docs")


@pytest.mark.parametrize("name", ["embedded", "owner/model"])
def test_a_models_name_is_no_path(write, name):
    assert load(write(f"model: {{name: {name}}}")).model.name == name


def test_a_model_beside_the_file_is_found(write):
    path = write("model: {name: ./tiny}")
    assert load(path).model.name == str((path.parent / "tiny").resolve())


def test_what_was_dumped_is_loaded(tmp_path):
    config = from_dict(
        {
            "name": "tides",
            "out_dir": str(tmp_path),
            "prompts": {
                "system": "Line one.\nLine two: “quoted”, {braces}, #hash",
                "ask": r"Price: \${amount}, or \\\${amount}",  # a literal ${ as OmegaConf has it
            },
            "corpus": {"documents": str(tmp_path / "texts")},
            "model": {"revision": "main"},
            "train": {"learning_rate": 3e-5},
            "questions": {"sampling": {"top_p": 0.5}},
        }
    )
    assert config.prompts.ask == r"Price: ${amount}, or \${amount}"
    dump(config, tmp_path / "config.yaml")
    assert load_run(tmp_path) == config
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    assert load_run(moved) == dataclasses.replace(config, out_dir=str(moved))
    moved.rename(tmp_path)
    assert load(tmp_path / "config.yaml") == config


def test_a_dump_names_its_inputs_wherever_it_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dump(from_dict({"corpus": {"documents": "texts"}}), tmp_path / "config.yaml")
    assert load_run(tmp_path).corpus.documents == str(tmp_path / "texts")
    assert load_run(tmp_path).evaluate.questions == ""


def test_the_dump_holds_every_key(tmp_path):
    dump(RunConfig(), tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    for key in all_keys():
        found = yaml.safe_load(text)
        for part in key.split("."):
            found = found[part]


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().train.epochs = 3


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not a run folder: it has no config\.yaml"):
        load_run(tmp_path)


def test_a_file_that_is_not_there_says_where_to_look(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.yaml is not a file; "):
        load(tmp_path / "absent.yaml")


def test_a_near_miss_of_a_bundled_config_is_suggested(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"did you mean configs/quickstart\.yaml\?"):
        load("configs/quikstart.yaml")


@pytest.mark.parametrize("text", ["- train\n- loss\n", "[]"])
def test_a_file_that_is_no_mapping_is_refused(write, text):
    with pytest.raises(ValueError, match=r"my\.yaml must be a mapping such as"):
        load(write(text))


@pytest.mark.parametrize(
    "text",
    [
        "The pier of Osk is old. Anna Gray built it.\nIt is long.",
        "Anna Gray built it in 1883, and in 1884 she built another one: the pier of Osk",
        "Anna Gray built it in 1883, and in 1884 she built another one: {the pier: of Osk}",
    ],
)
def test_a_document_in_the_place_of_a_config_is_not_quoted(write, text):
    with pytest.raises(ValueError, match=r"my\.yaml") as error:
        load(write(text))
    assert "Anna" not in str(error.value) and "Osk" not in str(error.value)


@pytest.mark.parametrize("text", ["train: {epochs: 3", "\ttrain: 3", "a: b: c"])
def test_broken_yaml_is_named(write, text):
    with pytest.raises(ValueError, match=r"my\.yaml is not valid YAML"):
        load(write(text))


def test_a_word_that_is_no_override_is_refused(write):
    with pytest.raises(ValueError, match=r"'epochs' is not an override; expected key=value"):
        load(write(""), ["epochs"])


def test_a_section_that_is_a_list_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("corpus: [a]\n")
    with pytest.raises(ValueError, match="corpus must be a mapping of documents"):
        load(path, [])


def test_a_package_that_is_missing_is_not_called_broken_yaml(tmp_path, monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'yaml'")

    path = tmp_path / "c.yaml"
    path.write_text("name: x\n")
    for function in ("load", "from_dotlist"):
        with monkeypatch.context() as patched:
            patched.setattr(f"omegaconf.OmegaConf.{function}", missing)
            with pytest.raises(ModuleNotFoundError, match="yaml"):
                load(path, ["name=y"])


def test_an_override_that_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: x\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        load(path, ["train.epochs=[1"])


@pytest.mark.parametrize(
    "override, key, wanted",
    [
        ("name=0123", "name", "0123"),
        ("name=1e3", "name", "1e3"),
        ("notes=a=", "notes", "a="),
        ("notes=", "notes", ""),
        ("notes='a b'", "notes", "a b"),
        ('notes="a\\nb"', "notes", "a\nb"),
        ("notes=it's 5: yes # no", "notes", "it's 5: yes # no"),
        ("corpus.documents=docs #1", "corpus.documents", "docs #1"),
        ("corpus.documents=2024", "corpus.documents", "2024"),
        ("corpus.documents=[a, b]", "corpus.documents", ["a", "b"]),
        ("corpus.text={title}: {body}", "corpus.text", "{title}: {body}"),
        ("model.revision=null", "model.revision", None),
        ("train.epochs=3", "train.epochs", 3),
        (
            "generation.server.url=http://h/v1?token=",
            "generation.server.url",
            "http://h/v1?token=",
        ),
    ],
)
def test_a_text_on_the_command_line_is_what_was_typed(write, override, key, wanted):
    found = load(write(""), [override])
    for name in key.split("."):
        found = getattr(found, name)
    assert found == wanted


def test_norwegian_is_a_language_and_not_false(write):
    assert load(write("corpus: {languages: [en, no]}")).corpus.languages == ["en", "no"]
    assert load(write(""), ["corpus.languages=[no]"]).corpus.languages == ["no"]


def test_an_override_that_is_no_yaml_is_named_without_its_value(write):
    with pytest.raises(
        ValueError, match=r"value of corpus\.exclude is not valid YAML.*quotes"
    ) as e:
        load(write(""), ["notes=x", "corpus.exclude=[*.secret]"])
    assert "secret" not in str(e.value)
    found = load(write(""), ['corpus.exclude=["*.bak"]'])
    assert found.corpus.exclude == ["*.bak"]


def test_a_config_that_cannot_be_read_is_not_called_bad_yaml(tmp_path, monkeypatch):
    path, folder = tmp_path / "osk.yaml", tmp_path / "gone"
    path.write_text("name: osk\n")
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ValueError, match=r"osk.yaml cannot be read \(No such file.*was deleted"):
        load("../osk.yaml")
