"""The model card of an exported adapter."""

import json
import re
import shlex

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from run_folders import ANSWERING, METRICS

from pdtrain.config import RunConfig, from_dict
from pdtrain.evaluation.scores import table_text
from pdtrain.models.chat.thinking import Thinking
from pdtrain.records import Score
from pdtrain.reporting.exporting import model_card
from pdtrain.reporting.exporting.model_card import TrainingManifests

MANIFESTS = TrainingManifests({"num_answers": 34, "num_steps": 12})
ROUND = {"num_answers": 5, "num_steps": 7}
SCORES = {system: dict.fromkeys(METRICS, Score(0.5, 0.25, 0.75, 4)) for system in ANSWERING}


def config_of(**values: object) -> RunConfig:
    return from_dict({"name": "harbour", "model": {"name": "org/base"}} | values)


def card_of(
    config: RunConfig,
    rank: int = 4,
    base: str = "org/base",
    scores: dict | None = None,
    manifests: TrainingManifests = MANIFESTS,
    thinking: Thinking | None = None,
) -> str:
    adapter = {"base_model_name_or_path": base, "r": rank, "lora_alpha": 8, "lora_dropout": 0.0}
    return model_card.render(config, adapter, scores, manifests, thinking)


def header_of(card: str) -> dict:
    return yaml.safe_load(card.split("\n---\n")[0])


def body_of(card: str) -> list[Token]:
    """Return what a viewer makes of the card below its header."""
    return MarkdownIt("commonmark", {"html": True}).parse(card.split("\n---\n", 1)[1])


def training_of(card: str) -> dict[str, str]:
    """Return the table about training."""
    part = card.split("## Training")[1].split("##")[0]
    lines = [line.strip("| ").split(" | ") for line in part.split("\n") if line.startswith("| ")]
    return dict(line for line in lines if len(line) == 2)


def test_the_header_names_the_library_and_the_base():
    header = header_of(card_of(config_of()))
    assert header["library_name"] == "peft" and header["base_model"] == "org/base"
    assert "license" not in header


def test_an_adapter_of_the_embedded_model_has_its_licence_and_name_on_the_hub():
    card = card_of(config_of(model={"name": "embedded"}))
    header = header_of(card)
    assert header["license"] == "apache-2.0"
    assert header["base_model"] == model_card.EMBEDDED_HUB_NAME
    assert "dequantized" in card


def test_a_base_in_a_folder_is_named_without_the_path(tmp_path):
    card = card_of(config_of(model={"name": str(tmp_path)}), base=str(tmp_path))
    assert header_of(card)["base_model"] == tmp_path.name
    assert "a folder of the machine that trained" in card


HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "folder, name",
    [
        (f"hub/models--Acme--Tiny-Chat/snapshots/{HASH}", "Acme/Tiny-Chat"),
        (f"Acme/Tiny-Chat/{HASH}", "Tiny-Chat"),
        (f"Tiny-Chat/snapshots/{HASH}", "Tiny-Chat"),
        ("mine/Tiny-Chat", "Tiny-Chat"),
    ],
)
def test_a_base_is_never_named_by_the_hash_of_a_snapshot(folder, name, tmp_path):
    path = tmp_path / folder
    path.mkdir(parents=True)
    card = card_of(config_of(model={"name": str(path)}), base=str(path))
    assert header_of(card)["base_model"] == name
    assert HASH not in card.replace(str(path), "")
    is_cached = "models--" in folder
    assert ("vllm serve Acme/Tiny-Chat " in card) is is_cached


SWITCH = Thinking({"enable_thinking": False}, "", {}, "", "</think>", "", "the template's switch")
OPENER = Thinking({}, "<think></think>", {}, "", "</think>", "", "an empty thought")


def test_the_card_says_what_keeps_the_base_from_thinking_where_it_is_served():
    plain = card_of(config_of())
    assert "thought" not in plain and "chat-template" not in plain
    card = card_of(config_of(), thinking=SWITCH)
    assert "without a thought\n(the template's switch)" in card
    assert '`{"enable_thinking": false}` as\n`chat_template_kwargs`' in card
    passed = shlex.split(next(line for line in card.split("\n") if line.startswith("vllm serve")))
    place = passed.index("--default-chat-template-kwargs")
    assert json.loads(passed[place + 1]) == {"enable_thinking": False}
    assert "--chat-template" not in passed


def test_an_empty_thought_is_served_by_the_exported_template():
    card = card_of(config_of(), thinking=OPENER)
    passed = shlex.split(next(line for line in card.split("\n") if line.startswith("vllm serve")))
    assert passed[passed.index("--chat-template") + 1] == "chat_template.jinja"
    assert "--default-chat-template-kwargs" not in passed
    assert "needs this folder's `chat_template.jinja` instead" in card


def test_the_card_tells_of_thoughts_that_were_cut_off():
    trained = training_of(card_of(config_of(model={"name": "org/base", "thinking": "on"})))
    assert "up to 1024 tokens" in trained["thoughts"] and "cut off" in trained["thoughts"]
    assert "thoughts" not in training_of(card_of(config_of()))


def test_the_scores_are_those_of_the_evaluation():
    assert table_text(SCORES) in card_of(config_of(), scores=SCORES)
    assert "Not evaluated" in card_of(config_of())


def test_the_table_tells_how_it_was_trained():
    training = training_of(card_of(config_of(train={"epochs": 7}, seed=3)))
    assert training["answers"] == "34" and training["optimizer steps"] == "12"
    assert training["epochs"] == "7" and training["seed"] == "3"
    assert training["LoRA"].startswith("rank 4, alpha 8")
    assert "on top of" not in training and "rounds after it" not in training


@pytest.mark.parametrize(
    ("objective", "loss"),
    [("distill", "forward kl, "), ("sft", "cross-entropy"), ("raw_text", "cross-entropy")],
)
def test_the_loss_is_that_of_the_objective(objective, loss):
    training = training_of(card_of(config_of(train={"objective": objective})))
    assert training["loss"].startswith(loss)
    assert ("windows" in training) == (objective == "raw_text")


def test_rounds_and_an_earlier_adapter_are_told():
    config = config_of(rounds={"most": 3})
    none = training_of(card_of(config))
    assert none["rounds after it"] == "none is in this adapter"
    manifests = TrainingManifests(MANIFESTS.first, [ROUND, ROUND], is_continued=True)
    two = training_of(card_of(config, manifests=manifests))
    assert two["answers"] == "34" and "on top of" in two
    assert two["rounds after it"].startswith("round 2, the best")
    assert "10 answers, 14 optimizer steps" in two["rounds after it"]


@pytest.mark.parametrize(
    ("rank", "allowed"), [(1, 1), (16, 16), (17, 32), (96, 128), (512, 512), (513, None)]
)
def test_vllm_gets_the_smallest_rank_that_admits_the_adapter(rank, allowed):
    assert model_card.vllm_rank(rank) == allowed
    found = re.search(r"--max-lora-rank (\d+)", card_of(config_of(), rank=rank))
    assert found is None if allowed is None else int(found[1]) == allowed


@pytest.mark.parametrize("system", ["", "Answer briefly.", 'Say "so"\nand\tstop. {{ x }}'])
def test_the_code_has_the_system_prompt(system):
    card = card_of(config_of(prompts={"system": system}))
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    compile(code, "card", "exec")
    assert code.count('"role": "system"') == bool(system)
    assert json.dumps(system) in code or not system


HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "x\n```\n# heading\n<b>",
    "--- a | `b` | *c*\n\n---\nlicense: mit",
    "{{ config }} $(touch x); `id`",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_becomes_markup_or_another_command(text):
    where = {"out_dir": "runs/harbour"}  # or the name would be a folder's, and refused
    config = config_of(name=text, model={"name": text}, prompts={"system": text}, **where)
    calm = card_of(config_of())
    card = card_of(config, base=text)
    assert header_of(card) == header_of(calm) | {"base_model": text}
    assert [token.type for token in body_of(card)] == [token.type for token in body_of(calm)]
    inline = {child.type for token in body_of(card) for child in token.children or ()}
    assert inline <= {"text", "text_special", "softbreak", "code_inline"}
    (command,) = re.findall(r"```bash\n(.*?)\n```\n", card, re.DOTALL)
    line = " ".join(text.split())
    words = ["vllm", "serve", line, "--enable-lora", "--max-lora-rank", "8", "--lora-modules"]
    assert shlex.split(command) == [*words, f"{line}=."]
