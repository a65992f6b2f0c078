"""The exam: which passage a question is about, what is asked again, and what is written."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from run_folders import ANSWERING, FORGETTING, METRICS, UNRELATED
from safetensors.torch import load_file, save_file
from support import tiny_config, tiny_lesson, tiny_model, write_lesson

from pdtrain.evaluation import evaluate
from pdtrain.evaluation.evaluate import gold_passage, joined
from pdtrain.evaluation.retrieval import BM25
from pdtrain.evaluation.systems import SYSTEMS
from pdtrain.models import learnt_passages
from pdtrain.records import Passage, TestQuestion
from pdtrain.storage import read_json, read_jsonl
from pdtrain.synthesis.held_out import read_questions
from pdtrain.training import train


def passage(document, text, title="Untitled"):
    return Passage(f"{document}-{text}", document, title, text, 0, len(text), 9, ((0, len(text)),))


PASSAGES = [
    passage("harbour.txt", "The pier is 260 metres long.", "The harbour"),
    passage("harbour.txt", "The ferry leaves at seven.", "The harbour"),
    passage("sub/lamp.md", "The lamp turns in nine seconds. The pier is far.", "The lamp"),
    passage("rows.jsonl:7", "A barometer holds cider. The pier is 260 metres away.", "Barometer"),
    passage("more.parquet:x.jsonl:8", "The pier is made of 260 beams.", "Beams"),
]


def gold(document, question, *answers):
    found = gold_passage(TestQuestion("id", document, question, answers), BM25(PASSAGES))
    return PASSAGES.index(found)


@pytest.mark.parametrize(
    "document", ["harbour.txt", "harbour", "HARBOUR", "The harbour", "the Harbour"]
)
def test_a_document_is_known_by_id_stem_and_title(document):
    assert gold(document, "When does it leave?", "seven") == 1
    assert gold(document, "How long is it?", "260 metres") == 0


@pytest.mark.parametrize("document", ["sub/lamp.md", "lamp", "The lamp"])
def test_a_document_in_a_folder_is_known_too(document):
    assert gold(document, "What about the pier?", "absent") == 2


@pytest.mark.parametrize(
    "document, place", [("7", 3), ("rows", 3), ("x.jsonl:8", 4), ("more", 4), ("beams", 4)]
)
def test_a_row_of_a_file_is_known_by_its_id(document, place):
    assert gold(document, "How long is the pier of Osk in metres?", "absent") == place


def test_the_passage_that_holds_an_answer_beats_the_one_that_sounds_like_it():
    assert gold("harbour", "Is the pier 260 metres long, and the boat?", "absent", "at SEVEN") == 1


def test_where_several_hold_the_answer_the_best_match_wins():
    assert gold("", "How long is the pier of the harbour?", "260 metres") == 0
    assert gold("", "Which barometer is 260 metres from the pier?", "260 metres") == 3


def test_a_question_without_document_or_answer_in_sight_gets_the_best_match():
    assert gold("", "What turns with the lamp?", "absent") == 2
    assert gold("nowhere", "What holds cider?", "absent") == 3


def test_joined_passages_hold_all_texts_in_order():
    together = joined(PASSAGES[:2])
    assert together.text == "The pier is 260 metres long.\n\nThe ferry leaves at seven."
    assert together.title == "The harbour"


# --- The stage --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


QUESTIONS = [
    {"document": "0", "question": "How long is the pier?", "answers": ["260 metres", "260"]},
    {"document": "1", "question": "Who keeps the bird?", "answers": ["Ruben Aldis"]},
    {"question": "What is it?", "answers": ["a cheese"]},
]


@pytest.fixture
def config(model, tmp_path):
    """A trained run that has not been scored."""
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    settings = {"questions": str(path), "max_new_tokens": 4, "bootstrap_samples": 50}
    made = tiny_config(
        tmp_path / "run",
        model,
        evaluate=settings,
        train={"epochs": 1, "evaluate_every_epochs": 0},
    )
    write_lesson(made, *tiny_lesson())
    train.run(made)
    return made


def changed(config, model, **sections):
    sections = {
        "evaluate": {
            "questions": config.evaluate.questions,
            "max_new_tokens": 4,
            "bootstrap_samples": 50,
        },
        "train": {"epochs": 1, "evaluate_every_epochs": 0},
    } | sections
    return tiny_config(config.folder, model, **sections)


def stamps(config):
    paths = (config.folder / "scores").glob("*.jsonl")
    return {path.stem: path.stat().st_mtime_ns for path in paths}


def test_scores_have_the_documented_shape(config):
    evaluate.score(config)
    table = read_json(config.folder / "scores.json")
    assert list(table) == [*ANSWERING, *UNRELATED]
    sizes = dict.fromkeys(ANSWERING, 3) | {"unrelated_text": 8, "unrelated_questions": 24}
    for system, scores in table.items():
        assert set(scores) == (set(METRICS) if system in ANSWERING else set(FORGETTING))
        for score in scores.values():
            assert set(score) == {"value", "low", "high", "n"}
            assert score["low"] <= score["value"] <= score["high"] and score["n"] == sizes[system]


def test_every_prediction_is_written_with_its_grades(config):
    evaluate.score(config)
    table = read_json(config.folder / "scores.json")
    for system in ANSWERING:
        header, *lines = read_jsonl(config.folder / "scores" / f"{system}.jsonl")
        assert header["system"] == system
        assert [line["question"] for line in lines] == [q["question"] for q in QUESTIONS]
        for metric in METRICS:
            mean = sum(line[metric] for line in lines) / 3
            assert table[system][metric]["value"] == pytest.approx(mean)


def test_a_second_time_nothing_is_asked(config, capsys):
    evaluate.score(config)
    before = stamps(config)
    evaluate.score(config)
    assert stamps(config) == before
    assert "evaluate: up to date" in capsys.readouterr().err


def test_rows_without_the_adapter_survive_another_training(config, model):
    evaluate.score(config)
    before = stamps(config)
    other = changed(
        config, model, train={"epochs": 1, "evaluate_every_epochs": 0, "learning_rate": 0.1}
    )
    train.run(other)
    evaluate.score(other)
    redone = {system for system, stamp in stamps(config).items() if stamp != before[system]}
    assert redone == {"adapter_closed_book", "adapter_rag", *UNRELATED}


def test_more_bootstrap_samples_ask_nothing_again(config, model):
    evaluate.score(config)
    before = stamps(config)
    settings = {"questions": config.evaluate.questions, "max_new_tokens": 4}
    evaluate.score(changed(config, model, evaluate=settings | {"bootstrap_samples": 60}))
    assert stamps(config) == before


def test_one_more_question_asks_all_again(config):
    evaluate.score(config)
    before = stamps(config)
    with open(config.evaluate.questions, "a", encoding="utf-8") as file:
        file.write('{"question": "Where?", "answers": ["Osk"]}\n')
    evaluate.score(config)
    kept = {system for system, stamp in stamps(config).items() if stamp == before[system]}
    assert kept == set(UNRELATED)
    assert read_json(config.folder / "scores.json")["base_rag"]["token_f1"]["n"] == 4


def test_a_kill_between_rows_costs_none_of_them(config, monkeypatch):
    real, written = evaluate.write_atomically, []

    def killed(path, text):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.stem)
        real(path, text)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluate, "write_atomically", killed)
        evaluate.score(config)
    before = stamps(config)
    assert len(before) == 2
    evaluate.score(config)
    assert before.items() < stamps(config).items()


def test_closed_book_prompts_hold_no_passage_and_the_others_the_right_one(config, monkeypatch):
    asked = []
    real = evaluate.Generator.__call__

    def listening(self, prompts, *args, **options):
        asked.append([self.chat.tokenizer.decode(prompt) for prompt in prompts])
        return real(self, prompts, *args, **options)

    monkeypatch.setattr(evaluate.Generator, "__call__", listening)
    evaluate.score(config)
    texts = [passage.text for passage in tiny_lesson()[0]]
    for system, prompts in zip(("unrelated_questions", *ANSWERING), asked, strict=True):
        held = [[text in prompt for text in texts] for prompt in prompts]
        wanted = 1 if SYSTEMS[system].context != "none" else 0
        assert [sum(flags) for flags in held] == [wanted] * len(prompts), system
        if SYSTEMS[system].context == "gold":
            assert held[0][0] and held[1][1]


def test_the_adapter_is_on_in_its_own_rows_alone(config):
    evaluate.score(config)
    before = read_json(config.folder / "scores.json")
    path = config.folder / "adapter" / "adapter_model.safetensors"
    noise = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(w.shape, generator=noise) * 0.2 for n, w in load_file(path).items()}
    save_file(weights, path)
    evaluate.score(config)
    after = read_json(config.folder / "scores.json")
    for system in ANSWERING:
        old, new = (table[system]["gold_log_likelihood"]["value"] for table in (before, after))
        assert (abs(new - old) > 0.01) == SYSTEMS[system].with_adapter, system
    for system in UNRELATED:
        old, new = (table[system]["kl_to_base"]["value"] for table in (before, after))
        assert new > 0.01 and abs(new - old) > 0.01, system
        old, new = (table[system]["base_perplexity"]["value"] for table in (before, after))
        assert new == pytest.approx(old, rel=1e-6), system


def test_forgetting_is_measured_on_ones_own_texts(config, model, tmp_path):
    path = tmp_path / "unrelated.jsonl"
    path.write_text('{"text": "The pier and the lamp."}\n')
    settings = {"questions": config.evaluate.questions, "max_new_tokens": 4}
    evaluate.score(changed(config, model, evaluate=settings | {"unrelated": str(path)}))
    table = read_json(config.folder / "scores.json")
    assert table["unrelated_text"]["kl_to_base"]["n"] == 1
    assert "unrelated_questions" not in table


def test_dense_retrieval_has_rows_of_its_own_and_leaves_the_others(
    config, model, tmp_path, monkeypatch
):
    """A retriever that always finds the last passage stands for the model."""
    evaluate.score(config)
    before = stamps(config)
    monkeypatch.setattr(evaluate.retrieval, "fingerprint", lambda name: [name])
    monkeypatch.setattr(
        evaluate.retrieval, "Dense", lambda passages, name: lambda question, k: passages[-k:]
    )
    asked = []
    real = evaluate.Generator.__call__

    def listening(self, prompts, *args, **options):
        asked.append([self.chat.tokenizer.decode(prompt) for prompt in prompts])
        return real(self, prompts, *args, **options)

    monkeypatch.setattr(evaluate.Generator, "__call__", listening)
    settings = {"questions": config.evaluate.questions, "max_new_tokens": 4, "dense": "x"}
    evaluate.score(changed(config, model, evaluate=settings | {"bootstrap_samples": 50}))
    after = stamps(config)
    assert after.keys() - before.keys() == {"base_dense_rag", "adapter_dense_rag"}
    assert before.items() < after.items()
    text = tiny_lesson()[0][-1].text
    assert len(asked) == 2 and all(text in prompt for prompts in asked for prompt in prompts)
    table = read_json(config.folder / "scores.json")
    assert table["adapter_dense_rag"]["token_f1"]["n"] == 3


def test_a_judge_grades_every_answer_once_and_unclear_grades_are_wrong(
    config, model, monkeypatch, capsys
):
    judged = []

    def verdicts(self, lines):
        judged.extend((line["id"], line["prediction"]) for line in lines)
        return [[True, False, None][len(line["question"]) % 3] for line in lines]

    monkeypatch.setattr(evaluate.judge.Judge, "__call__", verdicts)
    settings = {
        "questions": config.evaluate.questions,
        "max_new_tokens": 4,
        "bootstrap_samples": 50,
        "judge": {"url": "http://localhost/v1", "model": "grader"},
    }
    evaluate.score(config)
    before = stamps(config)
    other = changed(config, model, evaluate=settings)
    evaluate.score(other)
    after = stamps(config)
    assert before.items() < after.items(), "no answer was asked for again"
    assert len(judged) == len(set(judged)) > 0
    lengths = [len(question["question"]) % 3 for question in QUESTIONS]
    table = read_json(config.folder / "scores.json")
    for system in ANSWERING:
        assert table[system]["judged"]["value"] == pytest.approx(lengths.count(0) / 3)
        assert table[system]["judged"]["n"] == 3
    for system in ANSWERING:
        graded = [line["judged"] for line in config.run.predictions(system)]
        assert graded == [length == 0 for length in lengths]
    said = capsys.readouterr().err
    unclear = lengths.count(2) * len(ANSWERING)
    assert f"evaluate: {unclear} of the judge's grades were unclear and count as wrong" in said
    evaluate.score(other)
    assert stamps(config) == after
    settings["judge"]["model"] = "another"
    count = len(judged)
    evaluate.score(changed(config, model, evaluate=settings))
    assert len(judged) == 2 * count


@pytest.fixture
def gone_on(config, model, tmp_path):
    """The same run after another training, from an adapter that had not learnt document 1."""
    begun = shutil.copytree(config.folder / "adapter", tmp_path / "begun")
    record = learnt_passages.read(begun)
    known = {name: ids for name, ids in record.documents.items() if name != "1.txt"}
    learnt_passages.write(begun, replace(record, documents=known))
    settings = {"epochs": 1, "evaluate_every_epochs": 0, "start": str(begun)}
    other = changed(config, model, train=settings)
    train.run(other)
    return other


def test_questions_about_new_and_old_documents_are_scored_apart(gone_on, capsys):
    evaluate.score(gone_on)
    whole, apart = (
        read_json(gone_on.folder / name) for name in ("scores.json", "scores_by_age.json")
    )
    questions = read_questions(gone_on.evaluate.questions)
    among = evaluate.questions_by_age(
        gone_on, questions, learnt_passages.read(gone_on.folder / "adapter")
    )
    assert list(apart) == list(among) == ["new", "old"]
    assert questions[0].id in among["old"] and questions[1].id in among["new"]
    for system in ANSWERING:
        _, *lines = read_jsonl(gone_on.folder / "scores" / f"{system}.jsonl")
        for metric in METRICS:
            total = 0.0
            for age, ids in among.items():
                score = apart[age][system][metric]
                own = [line[metric] for line in lines if line["id"] in ids]
                assert score["n"] == len(own) > 0
                assert score["value"] == pytest.approx(sum(own) / len(own))
                assert score["low"] <= score["value"] <= score["high"]
                total += score["value"] * score["n"]
            assert total / len(questions) == pytest.approx(whole[system][metric]["value"])
    values = [apart[age]["adapter_closed_book"]["gold_in_answer"] for age in among]
    said = [
        f"{age} documents {v['value']:.3f} ({v['n']} questions)"
        for age, v in zip(among, values, strict=True)
    ]
    wanted = f"evaluate: gold_in_answer of adapter_closed_book, {', '.join(said)}"
    assert wanted in capsys.readouterr().err


def test_a_document_of_which_nothing_was_learnt_is_new(gone_on):
    questions = read_questions(gone_on.evaluate.questions)
    record = learnt_passages.read(gone_on.folder / "adapter")
    assert record.new == [tiny_lesson()[0][1].id]
    rest = {name: ids for name, ids in record.documents.items() if name != "0.txt"}
    among = evaluate.questions_by_age(gone_on, questions, replace(record, documents=rest))
    assert {questions[0].id, questions[1].id} <= among["new"]
    assert among["old"] == {question.id for question in questions[2:]}


def test_a_lost_table_by_age_is_made_again_and_nothing_asked(gone_on, capsys):
    evaluate.score(gone_on)
    path, before = gone_on.folder / "scores_by_age.json", stamps(gone_on)
    text = path.read_text()
    evaluate.score(gone_on)
    assert "evaluate: up to date" in capsys.readouterr().err
    path.unlink()
    evaluate.score(gone_on)
    assert path.read_text() == text and stamps(gone_on) == before


def test_an_age_that_nobody_asked_about_has_no_rows(gone_on, capsys):
    record = learnt_passages.read(gone_on.folder / "adapter")
    learnt_passages.write(gone_on.folder / "adapter", replace(record, new=[]))
    evaluate.score(gone_on)
    apart = read_json(gone_on.folder / "scores_by_age.json")
    assert apart["new"] == {} and apart["old"]["adapter_closed_book"]["token_f1"]["n"] == 3
    assert "new documents were not asked about, old documents " in capsys.readouterr().err


def test_training_from_scratch_takes_the_table_by_age_away(config, gone_on, model):
    evaluate.score(gone_on)
    train.run(config)
    evaluate.score(config)
    assert not (config.folder / "scores_by_age.json").exists()


def test_the_judges_grades_are_told_apart_too(gone_on, model, monkeypatch):
    monkeypatch.setattr(
        evaluate.judge.Judge,
        "__call__",
        lambda self, lines: [line["document"] == "1" for line in lines],
    )
    settings = {
        "questions": gone_on.evaluate.questions,
        "max_new_tokens": 4,
        "bootstrap_samples": 50,
        "judge": {"url": "http://localhost/v1", "model": "grader"},
    }
    evaluate.score(changed(gone_on, model, evaluate=settings))
    apart = read_json(gone_on.folder / "scores_by_age.json")
    grades = {age: systems["adapter_closed_book"]["judged"] for age, systems in apart.items()}
    assert grades["old"]["value"] == 0.0
    assert grades["new"]["value"] == pytest.approx(1 / grades["new"]["n"])


def test_without_questions_the_stage_says_that_it_is_skipped(model, tmp_path, capsys):
    evaluate.score(tiny_config(tmp_path, model))
    assert "evaluate: skipped" in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists()


def test_questions_that_are_not_there_are_named(model, tmp_path):
    config = tiny_config(tmp_path, model, evaluate={"questions": str(tmp_path / "gone.jsonl")})
    write_lesson(config, *tiny_lesson())
    with pytest.raises(ValueError, match=r"gone.jsonl' is not a file; expected JSONL with a quest"):
        evaluate.score(config)


def test_scoring_before_training_says_what_to_run(model, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "Where?", "answers": ["Osk"]}\n')
    config = tiny_config(tmp_path / "run", model, evaluate={"questions": str(path)})
    write_lesson(config, *tiny_lesson())
    with pytest.raises(ValueError, match=r"no trained adapter yet; run `pdtrain train CONFIG`"):
        evaluate.score(config)
