"""benchmarks/knowledge.py on a tiny model: every method on the same data, once, in one table."""

import argparse
import importlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import yaml
from house import ROOT
from run_folders import ANSWERING, write_predictions, write_stage
from run_folders import METRICS as SCORES
from support import DATA, tiny_model

from pdtrain.config import load
from pdtrain.evaluation.grading.metrics import METRICS, grade
from pdtrain.storage import to_line
from pdtrain.synthesis.sentence_writer import question_examples

METHODS = ("raw_text", "sft", "distillation", "labels", "held", "labels_held", "labels_reading")
HELD_OUT = [
    {"document": "harbour", "question": "How long is the pier?", "answers": ["260 metres"]},
    {"document": "lighthouse", "question": "Who built it?", "answers": ["Ina Marrow"]},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("knowledge")
    lines = "".join(json.dumps(question) + "\n" for question in HELD_OUT)
    (folder / "questions.jsonl").write_text(lines)
    config = {
        "model": {"name": str(tiny_model(folder / "model")), "device": "cpu"},
        "corpus": {"documents": str(DATA)},
        "questions": {
            "per_sentence": 0,
            "per_sentence_reverse": 0,
            "per_passage": 2,
            "per_name": 0,
            "per_passage_summaries": 0,
            "per_passage_lists": 0,
            "per_pair": 0,
            "per_entity": 0,
        },
        "answers": {"grounded": False, "checks": 0, "sampling": {"max_new_tokens": 12}},
        "adapter": {"rank": 2, "alpha": 4},
        "retain": {"weight": 2, "per_topic": 1, "per_step": 2, "sampling": {"max_new_tokens": 4}},
        "train": {"epochs": 2, "answers_per_step": 4, "answers_per_micro_batch": 4},
        "evaluate": {"questions": "questions.jsonl", "max_new_tokens": 4},
    }
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    return folder, run(folder)


def run(folder, *more):
    command = [sys.executable, str(ROOT / "benchmarks" / "knowledge.py"), str(folder / "my.yaml")]
    command += ["--seeds", "0", "1", "--out", str(folder / "out"), *more]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.slow
def test_every_method_has_its_row_and_the_page_is_written(made):
    folder, result = made
    page = (folder / "out" / "knowledge.md").read_text()
    assert page in result.stdout
    for label in ("base, closed book", "base, open book", "base + BM25", "prompt distillation"):
        assert re.search(rf"^\| {re.escape(label)}", page, re.MULTILINE), label
    also = ("prompt distillation + BM25", "prompt distillation with labels")
    for label in ("SFT on the same answers", "raw-text training", *also):
        assert re.search(rf"^\| {re.escape(label)} +\|", page, re.MULTILINE), label
    assert "2 held-out questions, 2 seeds" in page
    picture = ElementTree.parse(folder / "out" / "knowledge.svg")
    dots = picture.findall(".//{http://www.w3.org/2000/svg}circle")
    of_adapter = [system for system in ANSWERING if system.startswith("adapter")]
    num_bases = len(ANSWERING) - len(of_adapter)
    assert len(dots) == 2 * (num_bases + len(of_adapter) * len(METHODS))
    for way in ("prompt distillation", "prompt distillation with labels"):
        assert f"KL to the base, {way}, held to its base / {way}: " in page
        assert re.search(rf"^\| {way}, held to its base − {way} +\|", page, re.MULTILINE)


@pytest.mark.slow
def test_methods_of_a_seed_share_their_data_and_seeds_do_not(made):
    folder, _ = made

    def manifests(name):
        paths = [folder / "out" / f"seed-{s}" / m / name for s in (0, 1) for m in METHODS]
        return [json.loads((path / "manifest.json").read_text())["output"] for path in paths]

    for name in ("passages", "questions"):
        assert len(set(manifests(name))) == 1, "nothing in them is sampled here"
    answers = manifests("answers")
    n = len(METHODS)
    assert len(set(answers[:n])) == len(set(answers[n:])) == 1 and answers[0] != answers[n]
    kept = manifests("retain")
    for own in (kept[:n], kept[n:]):
        assert len(set(own[:-1])) == 1 and own[-1] not in own[:-1], "the last one has more to read"
    assert len(set(manifests("adapter"))) == 2 * n
    for method in METHODS:
        config = yaml.safe_load((folder / "out" / "seed-0" / method / "config.yaml").read_text())
        assert config["loss"]["labels"] == (0.5 if method.startswith("labels") else 0.0)
        is_held = method.endswith(("held", "reading"))
        assert config["retain"]["weight"] == (2.0 if is_held else 0.0)
        assert config["retain"]["reading"] == (0.5 if method == "labels_reading" else 0.0)


@pytest.mark.slow
def test_raw_text_gets_about_as_many_tokens_as_the_answers(made):
    folder, _ = made
    tokens = {}
    for method in ("raw_text", "distillation"):
        path = folder / "out" / "seed-0" / method / "metrics" / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        tokens[method] = sum(row["train/answer_tokens"] for row in rows)
    assert tokens["raw_text"] == pytest.approx(tokens["distillation"], rel=0.5)


def test_raw_texts_epochs_follow_from_those_that_are_set_for_it(tmp_path, monkeypatch):
    """Two epochs of thirty answers of ten tokens are as many as six of two windows of fifty."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    knowledge = importlib.import_module("knowledge")
    calls = {}
    keep = lambda _, name, given: calls.update({name: given})  # noqa: E731
    monkeypatch.setattr(knowledge.Bench, "stage", keep)
    monkeypatch.setattr(knowledge, "copy", lambda *_: None)
    tokens = {"raw_text": [50] * 2, "distill": [10] * 30}
    monkeypatch.setattr(knowledge, "_tokens", lambda config: tokens[config.train.objective])
    more = [["raw_text", "train.epochs=2", "train.learning_rate=0.5"]]
    options = {"config": str(ROOT / "configs/quickstart.yaml"), "overrides": [], "set": more}
    options |= {"out": tmp_path, "methods": ["raw_text"], "data_seed": None}
    knowledge.Bench(argparse.Namespace(**options)).run("raw_text", 0)
    train = load(calls["train"][0], calls["train"][1:]).train
    assert (train.objective, train.epochs, train.learning_rate) == ("raw_text", 6, 0.5)
    assert train.answers_per_step == 2, "eight answers of ten tokens, about"


def test_one_method_alone_practises_reading(tmp_path, monkeypatch):
    """Its samples are made apart from those that the other methods are held with."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    knowledge = importlib.import_module("knowledge")
    calls = []
    monkeypatch.setattr(knowledge.Bench, "stage", lambda _, *call: calls.append(call))
    more = [["labels_reading", "retain.reading=0.25"]]
    options = {"config": str(ROOT / "configs/quickstart.yaml"), "set": more}
    options |= {"overrides": ["retain.weight=0.25"]}
    methods = ["labels", "labels_held", "labels_reading"]
    options |= {"out": tmp_path, "methods": methods, "data_seed": None}
    bench = knowledge.Bench(argparse.Namespace(**options))
    for method in methods:
        bench.run(method, 0)
    shares = {}
    for name, given in calls:
        config = load(given[0], given[1:])
        shares[config.folder.name, name] = (config.retain.weight, config.retain.reading)
    made = {folder: of for (folder, stage), of in shares.items() if stage == "retain"}
    assert made == {"data": (0.25, 0), "data-reading": (0.25, 0.25)}
    trained = {folder: of for (folder, stage), of in shares.items() if stage == "train"}
    assert trained == {"labels": (0, 0), "labels_held": (0.25, 0), "labels_reading": (0.25, 0.25)}


def test_other_ways_to_teach_are_made_on_request_and_differ_in_that_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    knowledge = importlib.import_module("knowledge")
    assert sorted(knowledge.USUAL) == sorted(METHODS)
    given = {}
    keep = lambda bench, folder, arguments: given.update({folder.name: arguments})  # noqa: E731
    monkeypatch.setattr(knowledge.Bench, "trained", keep)
    monkeypatch.setattr(knowledge.Bench, "stage", lambda *_: None)
    made = []
    keep_made = lambda config, *share: made.append((config.folder.name, *share))  # noqa: E731
    monkeypatch.setattr(knowledge.mixed_answers, "collect", keep_made)
    monkeypatch.setattr(knowledge.focal_answers, "collect", keep_made)
    methods = ["distillation", *knowledge.ON_REQUEST]
    options = {"config": str(ROOT / "configs/quickstart.yaml"), "overrides": [], "set": []}
    options |= {"out": tmp_path, "methods": methods, "data_seed": None}
    bench = knowledge.Bench(argparse.Namespace(**options))
    configs = {}
    for method in methods:
        bench.run(method, 0)
        configs[method] = load(given[method][0], given[method][1:])
    first = configs["distillation"]
    assert configs["reverse_kl"].loss == replace(first.loss, divergence="reverse_kl")
    assert configs["jsd"].loss == replace(first.loss, divergence="jsd")
    assert configs["on_policy"].rollout == replace(first.rollout, share=0.5)
    assert made == [("data-mixed", knowledge.MIXED_SHARE)] * 2 + [("data-focal",)] * 2
    for method in knowledge.OF_SAMPLES:
        own = configs.pop(method)
        assert own.answers == replace(first.answers, quote=False, spans=False)
        objective = "sft" if method.endswith("_sft") else "distill"
        assert own.train == replace(first.train, objective=objective)
    assert all(c.train == first.train and c.retain.weight == 0 for c in configs.values())
    assert all(c.answers == first.answers for c in configs.values())
    assert all(c.loss.labels == 0 for c in configs.values())


def test_a_judges_grades_are_a_column_where_all_answers_have_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module("knowledge_table")
    for system in ANSWERING:
        lines = [dict.fromkeys(SCORES, i) | {"id": str(i)} for i in range(4)]
        grades = [{"id": str(i), "judged": [True, False, None, True][i]} for i in range(4)]
        for name, written in ((f"{system}.jsonl", lines), (f"{system}.judged.jsonl", grades)):
            path = tmp_path / "scores" / name
            path.parent.mkdir(exist_ok=True)
            header = {"inputs": "x", "of": "x"}
            path.write_text(to_line(header) + "".join(map(to_line, written)))
    found = table.score_table(table.entries_of({"labels": [tmp_path]}))
    head, _, *rows = [[c.strip() for c in line.split("|")] for line in found.splitlines()]
    place = head.index("judged")
    assert len(rows) == len(ANSWERING) and all(row[place].startswith("0.667 [") for row in rows)
    place = head.index("unjudged")
    assert all(row[place].startswith("0.250 [") for row in rows)
    header = to_line({"inputs": "x", "of": "answers of an adapter before"})
    path.write_text(header + "".join(map(to_line, grades)))  # of the last system
    assert "judged" not in table.score_table(table.entries_of({"labels": [tmp_path]}))
    path.unlink()
    assert "judged" not in table.score_table(table.entries_of({"labels": [tmp_path]}))


def test_how_the_systems_answer_is_a_table_of_its_own(tmp_path, monkeypatch):
    """Three questions with an answer and one without; the adapter says the same to all of them."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module("knowledge_table")
    said = {
        "base_closed_book": ["I am not sure at all.", "No.", "Maybe.", "That is not known."],
        "base_rag": ["the tall lamp", "the red lamp", "oil", "The text does not say."],
        "adapter_closed_book": ["The tall lamp burns rape oil."] * 4,
        "adapter_rag": ["The tall lamp burns rape oil."] * 4,
    }
    golds = [["lamp"], ["red lamp"], ["oil"], []]
    for system, texts in said.items():
        lines = [
            {"id": str(i), "question": "?", "document": "d", "answers": gold, "prediction": text}
            | {"finished": i > 0, "answer_tokens": 5, **grade(text, gold)}
            | {"gold_log_likelihood": -1.0 if gold else None}
            for i, (text, gold) in enumerate(zip(texts, golds, strict=True))
        ]
        write_predictions(tmp_path, system, lines)
    answer = {"passage_id": "p", "question_id": "q", "token_ids": [1], "finished": True}
    write_stage(tmp_path / "answers", [answer | {"id": "a", "text": said["adapter_rag"][0]}])
    entries = table.entries_of({"labels": [tmp_path]})
    names = [metric.name for metric in METRICS.values() if metric.describes == "manner"]
    head, _, *rows = [
        [c.strip() for c in line.split("|")][1:-1]
        for line in table._table_of(entries, names).splitlines()
    ]
    found = {
        row[0]: dict(zip(head, (cell.split(" ")[0] for cell in row), strict=True)) for row in rows
    }
    of_adapter = found["prompt distillation with labels + BM25"]
    assert head == ["", *names]
    assert of_adapter["gain"] == "-0.333" and of_adapter["invented"] == "1.000"
    assert of_adapter["recited"] == "0.500", "to two questions it holds a gold answer"
    assert of_adapter["repeated"] == "1.000" and of_adapter["finished"] == "0.750"
    of_base = found["base + BM25"]
    assert of_base["gain"] == "" and of_base["invented"] == "0.000"
    assert of_base["recited"] == of_base["repeated"] == "0.000"
    differences = table._differences(entries)
    for one in ("prompt distillation with labels + BM25", "prompt distillation with labels"):
        assert re.search(rf"^\| {re.escape(one)} − base \+ BM25 +\|", differences, re.MULTILINE)


@pytest.mark.slow
def test_a_second_time_nothing_is_made_again(made):
    folder, _ = made
    again = run(folder)
    assert "to do" not in again.stderr and "train: up to date" in again.stderr
    assert again.stdout.count("prompt distillation") > 3


@pytest.mark.slow
def test_plans_are_compared_at_equal_budgets(made, monkeypatch, capsys):
    folder, _ = made
    # a random model writes no question between tags
    asked = ["Who dug the harbour?", "How old is the lamp?", "What burns there?", "Why stone?"]
    monkeypatch.setattr(question_examples, "questions_between_tags", lambda _: asked)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    command = [str(folder / "my.yaml"), "--seeds", "0", "1", "--out", str(folder / "out")]
    command += [
        "--budgets",
        "20",
        "40",
        "--set",
        "blind",
        "questions.blind=4",
        "questions.blind_a_call=5",
    ]
    monkeypatch.setattr(sys, "argv", ["knowledge.py", *command])
    importlib.import_module("knowledge").main()
    page = (folder / "out" / "planning.md").read_text()
    assert page in capsys.readouterr().out
    rows = re.findall(r"^\| (planned by coverage|blind) +\| (\d+) +\| ([\d ]+)\|", page, re.M)
    assert [row[:2] for row in rows] == [
        (plan, budget) for plan in ("planned by coverage", "blind") for budget in ("20", "40")
    ]
    for _, budget, tokens in rows:
        assert all(int(budget) - 12 <= int(n) <= int(budget) for n in tokens.split())
    picture = ElementTree.parse(folder / "out" / "planning.svg")
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}polyline")) == 2 * 2


@pytest.mark.parametrize(
    "more, reason",
    [
        (("--budgets", "20", "--set", "sft", "train.epochs=1"), "only --set blind is taken"),
        (("--set", "blind", "questions.blind=4"), "--set blind needs --budgets"),
        (("--set", "sft", "answers.checks=0"), "all methods have the same data"),
        (("--set", "labels", "prompts.system=Hi."), "all methods have the same data"),
        (("--set", "labels_held", "retain.per_topic=2"), "all methods have the same data"),
        (("--set", "labels_held", "retain.reading=0.5"), "all methods have the same data"),
        (("--set", "labels_reading", "retain.per_topic=2"), "all methods have the same data"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, monkeypatch, capsys, more, reason):
    (tmp_path / "q.jsonl").write_text('{"question": "Who?", "answers": ["Ina"]}\n')
    (tmp_path / "my.yaml").write_text("evaluate: {questions: q.jsonl}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["knowledge.py", "my.yaml", *more])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("knowledge").main()
    assert ended.value.code == 2 and reason in capsys.readouterr().err
