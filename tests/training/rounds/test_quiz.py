"""Test the quiz: a question of its own about each fact, and who counts as knowing it."""

from dataclasses import replace

import lamp
import pytest
from support import tiny_config, tiny_model, write_records

from pdtrain.config import RoundsConfig, SamplingConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.records import Question
from pdtrain.storage import ADAPTER_WEIGHTS, read_json
from pdtrain.synthesis.text import normalise
from pdtrain.training import train
from pdtrain.training.rounds import quiz

ABOUT = Question("q", "p", "What does the Gray family of Vell Point burn?", "fact", 0, "Anna Gray")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(tmp_path, model):
    config = tiny_config(
        tmp_path,
        model,
        answers={"sampling": {"max_new_tokens": 4}},
        train={"epochs": 1, "answers_per_step": 4, "evaluate_every_epochs": 0},
    )
    write_records(config, *lamp.records())
    return config


def taken():
    return {normalise(question.text) for question in lamp.records()[1]}


def made(config, texts=None, base=None):
    passages = {passage.id: passage for passage in lamp.passages()}
    asked = quiz.facts(lamp.records()[1], most=2)
    texts = taken() if texts is None else texts
    return quiz.make_quiz(config, passages, asked, texts, base or lamp.backend())


@pytest.mark.parametrize(
    "answer, is_known",
    [
        ("Anna", True),
        ("It was Anna Gray of Vell Point.", True),
        ("The Gray family.", False),  # half of the phrase, but no more than the question said
        ("Tomas Brede.", False),
        ("", False),
    ],
)
def test_an_answer_must_say_what_the_question_does_not(answer, is_known):
    assert quiz.knows(ABOUT, answer) is is_known


def test_half_of_the_phrase_is_needed():
    long = Question("q", "p", "What is burnt?", "fact", 0, "rape oil and birch wood")
    assert quiz.knows(long, "rape and oil") and not quiz.knows(long, "some oil")


def test_a_fact_comes_once_and_so_many_of_a_sentence():
    def ask(phrase, sentence=0, kind="fact", passage="p"):
        return Question(f"{phrase} {sentence}", passage, "?", kind, sentence, phrase)

    asked = [ask("a"), ask("a"), ask("b"), ask("c"), ask("a", 1), ask("d", kind="blank")]
    asked.append(ask("a", passage="other"))
    assert quiz.facts(asked, 2) == {"p": [(0, "a"), (0, "b"), (1, "a")], "other": [(0, "a")]}
    assert quiz.facts(asked, 1) == {"p": [(0, "a"), (1, "a")], "other": [(0, "a")]}


def test_every_fact_gets_a_question_that_is_neither_trained_on_nor_held_out(config):
    held_out = {normalise(q.text) for q in lamp.all_questions() if q.text.startswith("So")}
    items = made(config, taken() | held_out)
    assert len(items) == 3
    assert all(item.question.text for item in items)
    assert not {normalise(item.question.text) for item in items} & (taken() | held_out)


def test_a_fact_without_a_question_of_its_own_is_quizzed_by_none(config):
    lost = {normalise(q.text) for q in lamp.all_questions() if q.phrase == "iron chains"}
    items = made(config, taken() | lost)
    assert [item.question.phrase for item in items if not item.question.text] == ["iron chains"]
    assert not any(item.is_known for item in items if not item.question.text)


def test_the_teacher_answers_greedily_with_its_sentence_in_focus(config):
    base = lamp.backend()
    items = made(config, base=base)
    assert [item.teacher for item in items] == [f"By {item.question.phrase}." for item in items]
    assert all(item.is_known for item in items)
    chat, passages = base.chat, {passage.id: passage for passage in lamp.passages()}
    asked = {
        prompt for call in base.calls if not call.sampling.temperature for prompt in call.prompts
    }
    assert asked == {
        chat.tokenizer.decode(chat.teacher(passages[q.passage_id], q.text, q.sentence))
        for q in (item.question for item in items)
    }


def test_the_quiz_is_made_once(config):
    before, base = made(config), lamp.backend()
    assert made(config, base=base) == before and not base.calls
    made(config, taken() | {"and what is new"}, base)  # a question that is trained on came in
    assert base.calls


def test_a_question_that_is_nearly_trained_on_is_not_put(config):
    strict = replace(config, questions=replace(config.questions, near_duplicate=0.5))
    assert all(item.question.text for item in made(config))
    assert not any(item.question.text for item in made(strict))


def test_new_questions_are_in_words_that_none_had(config):
    passages = {passage.id: passage for passage in lamp.passages()}
    (pier,) = (passage for passage in passages.values() if passage.document_id == "pier.txt")
    missed = {pier.id: [(0, "iron chains")]}
    config = replace(config, rounds=RoundsConfig(questions_per_miss=5))
    found = quiz.new_questions(config, 1, passages, missed, taken(), lamp.backend())
    assert found == list(config.run.round(1).questions())
    assert 1 < len(found) <= 5
    assert {(q.passage_id, q.sentence, q.phrase) for q in found} == {(pier.id, 0, "iron chains")}
    texts = [normalise(q.text) for q in found]
    assert len({*texts}) == len(texts) and not {*texts} & taken()
    everything = {normalise(q.text) for q in lamp.all_questions()}
    assert not quiz.new_questions(config, 2, passages, missed, everything, lamp.backend())


def test_the_student_answers_from_memory_what_its_teacher_knows(config, tmp_path):
    adapter, path = tmp_path / "adapter", tmp_path / "quiz.json"
    adapter.mkdir()
    (adapter / ADAPTER_WEIGHTS).write_text("weights")
    items = made(config, base=lamp.backend(["rape oil", "north tower"]))
    assert [item.is_known for item in items] == [True, True, False]
    student = lamp.backend(["north tower", "iron chains"])
    opened = []

    def open_student(_, folder):
        opened.append(folder)
        return student

    known = quiz.take_quiz(config, items, adapter, path, open_student)
    assert known == {items[1].question.id} and opened == [adapter]
    answers = read_json(path)["answers"]
    assert [*answers] == [item.question.id for item in items[:2]]
    (call,) = student.calls
    prompts = [student.chat.student(item.question.text) for item in items[:2]]
    assert call.prompts == [student.chat.tokenizer.decode(prompt) for prompt in prompts]
    assert call.sampling.temperature == 0
    assert quiz.take_quiz(config, items, adapter, path, open_student) == known
    assert len(opened) == 1, "it is not asked again"
    (adapter / ADAPTER_WEIGHTS).write_text("other weights")
    quiz.take_quiz(config, items, adapter, path, open_student)
    assert len(opened) == 2


def test_a_student_is_the_base_with_an_adapter_on_it(config):
    train.run(config)
    student = quiz.open_student(config, config.run.adapter)
    wanted = HuggingFaceBackend.of_student(config)
    prompts = [student.chat.student("Who built the Blue Mill?")]
    greedy = SamplingConfig(temperature=0, max_new_tokens=4)
    found = [backend.sample(prompts, greedy, seed=0) for backend in (student, wanted)]
    assert found[0] == found[1]
