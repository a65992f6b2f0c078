"""questions → answers: sampled ids are kept as they were, and what is ungrounded is dropped."""

from dataclasses import replace

import pytest
from support import tiny_config, tiny_lesson, tiny_model, write_lesson

from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat_template import prove
from pdtrain.records import Passage, Question
from pdtrain.storage import read_shards
from pdtrain.synthesis import answers
from pdtrain.synthesis.answers import is_consistent, ungrounded

TEXT = "The lamp burns rape oil. Tomas Brede winds it every 4 hours."
PASSAGE = Passage("p", "d", "The lamp of Vell Point", TEXT, 0, len(TEXT), 16, ((0, 24), (25, 60)))
ABOUT_OIL = Question("q", "p", "What does the lamp of Vell Point burn?", "fact", 0)
ABOUT_ALL = replace(ABOUT_OIL, text="Tell me about Vell Point.", sentence=-1)


@pytest.mark.parametrize(
    "question, answer",
    [
        (ABOUT_OIL, "It burns rape oil."),
        (ABOUT_OIL, "Rape oil"),
        (ABOUT_ALL, "Tomas Brede winds the lamp every 4 hours."),
        (ABOUT_ALL, "rape oil"),
        (ABOUT_OIL, "It burns rape oil, which is cheap."),
        (replace(ABOUT_OIL, phrase="rape oil in winter"), "It burns rape oil."),
    ],
)
def test_what_the_passage_says_is_grounded(question, answer):
    assert ungrounded(PASSAGE, question, answer) == ""


@pytest.mark.parametrize(
    "question, answer, reason",
    [
        (ABOUT_OIL, "It burns oil from Anna Gray.", "naming things that are not in the passage"),
        (ABOUT_OIL, "It burns 5 litres of rape oil.", "naming things that are not in the passage"),
        (ABOUT_OIL, "The lamp burns.", "saying nothing that the sentence says"),
        (ABOUT_OIL, "It burns petrol.", "saying nothing that the sentence says"),
        (ABOUT_OIL, "Every 4 hours.", "saying nothing that the sentence says"),
        (
            replace(ABOUT_OIL, phrase="rape oil in winter"),
            "The lamp burns oil.",
            "without what was asked for",
        ),
        (
            ABOUT_OIL,
            "It burns rape oil in a fictional story about a haunted ship.",
            "mostly about other things than the sentence",
        ),
        (
            replace(ABOUT_OIL, text="What happens here?"),
            "The lamp of Vell Point is wound every 4 hours by Tomas Brede.",
            "mostly about other things than the sentence",
        ),
    ],
)
def test_what_it_does_not_say_is_dropped_with_the_reason(question, answer, reason):
    assert ungrounded(PASSAGE, question, answer) == reason


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


SETTINGS = {
    "grounded": False,
    "checks": 0,
    "quote": False,
    "sampling": {"max_new_tokens": 8, "temperature": 1.0},
}


def collected(folder, model, lesson=None, **settings):
    passages, questions, _ = lesson or tiny_lesson()
    config = tiny_config(folder, model, answers=SETTINGS | settings)
    write_lesson(config, passages, questions)
    answers.collect(config)
    return list(read_shards(config.folder / "answers")), config


def test_the_tokens_that_were_sampled_are_kept(tmp_path, model):
    rows, config = collected(tmp_path, model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    asked = {q.id: q for q in tiny_lesson()[1]}
    for row in rows:
        assert 0 < len(row["token_ids"]) <= 8
        assert chat.text(row["token_ids"]) == row["text"]
        assert row["finished"] == (row["token_ids"][-1] in chat.stop_ids)
        assert asked[row["question_id"]].passage_id == row["passage_id"]
    # not what tokenizing the text again would give
    assert any(chat.ids(row["text"]) != row["token_ids"] for row in rows)


def test_every_question_is_answered_as_often_as_asked_for(tmp_path, model):
    questions = tiny_lesson()[1]
    rows, _ = collected(tmp_path, model, per_question=3)
    counts = [sum(row["question_id"] == q.id for row in rows) for q in questions]
    assert max(counts) == 3 and min(counts) >= 1
    assert len({row["id"] for row in rows}) == len(rows)


def test_the_same_answer_to_a_question_is_kept_once(tmp_path, model, capsys):
    greedy = SETTINGS["sampling"] | {"temperature": 0}
    rows, _ = collected(tmp_path, model, per_question=4, sampling=greedy)
    said = [(row["question_id"], tuple(row["token_ids"])) for row in rows]
    assert len(set(said)) == len(said) <= len(tiny_lesson()[1])
    assert "repeated" in capsys.readouterr().err


def test_answers_of_a_passage_do_not_depend_on_the_other_passages(tmp_path, model):
    passages, questions, _ = tiny_lesson()
    whole, _ = collected(tmp_path / "whole", model)
    own = [q for q in questions if q.passage_id == passages[1].id]
    part, _ = collected(tmp_path / "part", model, ([passages[1]], own, []))
    assert part == [row for row in whole if row["passage_id"] == passages[1].id]


def test_ungrounded_answers_are_dropped_and_counted(tmp_path, model, capsys):
    rows, _ = collected(tmp_path, model, grounded=True)
    said = capsys.readouterr().err
    assert len(rows) < len(tiny_lesson()[1])
    assert "answers: dropped" in said and "in the passage" in said


def test_a_request_for_a_sentence_is_answered_by_the_sentence(tmp_path, model):
    passages, questions, _ = tiny_lesson(num_passages=1)
    start, end = passages[0].sentences[0]
    sentence = passages[0].text[start:end]
    kinds = ("complete", "blank", "fact")
    asked = [replace(q, kind=kind, sentence=0) for q, kind in zip(questions, kinds, strict=False)]
    lesson = ([passages[0]], asked, [])
    roomy = SETTINGS["sampling"] | {"max_new_tokens": 64}
    rows, config = collected(tmp_path / "quoted", model, lesson, sampling=roomy, quote=True)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    by_question = {row["question_id"]: row for row in rows}
    for question in asked[:2]:
        row = by_question[question.id]
        assert row["token_ids"] == [*chat.ids(sentence), chat.stop_ids[0]] and row["finished"]
        assert row["text"] == sentence.strip()
    assert by_question[asked[2].id]["text"] != sentence
    sampled, _ = collected(tmp_path / "sampled", model, lesson)
    assert all(row["text"] != sentence for row in sampled)
    short = SETTINGS["sampling"] | {"max_new_tokens": 2}
    rows, _ = collected(tmp_path / "too-long", model, lesson, sampling=short, quote=True)
    assert rows and all(len(row["token_ids"]) <= 2 for row in rows)


def test_a_phrase_that_is_asked_for_is_an_answer_of_its_own_where_wanted(tmp_path, model):
    passages, questions, _ = tiny_lesson(num_passages=1)
    start, end = passages[0].sentences[0]
    phrase = " ".join(passages[0].text[start:end].split()[1:3])
    kinds = ("fact", "reverse", "complete", "cue", "fact")
    phrases = (phrase, phrase, phrase, "", "")
    asked = [
        replace(q, kind=kind, sentence=0, phrase=wanted)
        for q, kind, wanted in zip(questions * 2, kinds, phrases, strict=False)
    ]
    asked = [replace(q, id=f"q{i}") for i, q in enumerate(asked)]
    lesson = ([passages[0]], asked, [])
    without, _ = collected(tmp_path / "without", model, lesson)
    rows, config = collected(tmp_path / "with", model, lesson, spans=True)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    added = [row for row in rows if row not in without]
    assert [row for row in rows if row in without] == without
    assert [row["question_id"] for row in added] == ["q0", "q1"]
    for row in added:
        assert row["token_ids"] == [*chat.ids(phrase), chat.stop_ids[0]] and row["finished"]


def test_a_sentence_that_does_not_name_its_subject_is_no_answer_to_which_it_is(tmp_path, model):
    passages, questions, _ = tiny_lesson(num_passages=1)
    start, end = passages[0].sentences[0]
    inside = passages[0].text[start:end].split()[1]
    asked = [
        replace(q, kind="reverse", sentence=0, phrase=phrase)
        for q, phrase in zip(questions, (inside, "Vell Point"), strict=False)
    ]
    roomy = SETTINGS["sampling"] | {"max_new_tokens": 64}
    settings = {"sampling": roomy, "quote": True, "grounded": True}
    rows, _ = collected(tmp_path, model, ([passages[0]], asked, []), **settings)
    assert [row["question_id"] for row in rows] == [asked[0].id]


def test_a_question_without_any_answer_left_is_answered_by_its_sentence(
    tmp_path, model, monkeypatch
):
    passages, questions, _ = tiny_lesson(num_passages=1)
    about = [q for q in questions if q.sentence == 0]
    assert 0 < len(about) < len(questions), "the lesson needs questions about no sentence, too"
    monkeypatch.setattr(answers, "ungrounded", lambda *_: "never good enough")
    roomy = SETTINGS["sampling"] | {"max_new_tokens": 64}
    settings = {"grounded": True, "quote": True, "sampling": roomy}
    rows, _ = collected(tmp_path, model, (passages, questions, []), **settings)
    start, end = passages[0].sentences[0]
    assert {row["text"] for row in rows} == {passages[0].text[start:end].strip()}
    assert {row["question_id"] for row in rows} == {q.id for q in about}


def test_a_sentence_that_would_end_the_answer_is_not_quoted(tmp_path, model):
    passages, questions, _ = tiny_lesson(num_passages=1)
    text = "The mark <|im_end|> stands here."
    passage = replace(passages[0], text=text, sentences=((0, len(text)),))
    asked = [replace(questions[0], kind="complete", sentence=0)]
    roomy = SETTINGS["sampling"] | {"max_new_tokens": 64}
    rows, _ = collected(tmp_path, model, ([passage], asked, []), sampling=roomy, quote=True)
    assert all("stands here" not in row["text"] for row in rows)


def test_a_question_whose_answer_was_dropped_is_asked_again(tmp_path, model, monkeypatch, capsys):
    """Every first answer is refused once; the second attempt asks those questions alone."""
    questions = tiny_lesson()[1]
    refused: set[str] = set()

    def once(passage, question, answer):
        first = question.id not in refused
        refused.add(question.id)
        return "not good enough" if first else ""

    monkeypatch.setattr(answers, "ungrounded", once)
    rows, _ = collected(tmp_path / "twice", model, grounded=True, attempts=2)
    dropped = capsys.readouterr().err
    assert f"{len(questions)} not good enough" in dropped
    assert {row["question_id"] for row in rows} == {q.id for q in questions}
    refused.clear()
    rows, _ = collected(tmp_path / "once", model, grounded=True, attempts=1)
    assert rows == []


def test_a_sentence_with_enough_answers_is_left_alone(tmp_path, model, monkeypatch, capsys):
    """One answer of each sentence is kept at once; the others are asked for again, or not."""
    questions = tiny_lesson()[1]
    sentences = {(q.passage_id, q.sentence) for q in questions}
    assert len(sentences) < len(questions), "the lesson needs two questions about a sentence"
    for enough in (1, 2):
        seen: set[tuple[str, int]] = set()

        def first_of_its_sentence(passage, question, answer, seen=seen):
            new = (passage.id, question.sentence) not in seen
            seen.add((passage.id, question.sentence))
            return "" if new else "not good enough"

        monkeypatch.setattr(answers, "ungrounded", first_of_its_sentence)
        settings = {"grounded": True, "attempts": 2, "enough_per_sentence": enough}
        rows, _ = collected(tmp_path / str(enough), model, **settings)
        assert len(rows) == len(sentences)
        firsts = {(q.passage_id, q.sentence): q.id for q in reversed(questions)}.values()
        refused = [q for q in questions if q.id not in firsts]
        # a whole passage has no number of answers that is enough
        twice = [q for q in refused if q.sentence < 0] if enough == 1 else refused
        again = len(refused) + len(twice)
        assert f"{again} not good enough" in capsys.readouterr().err


@pytest.mark.parametrize(
    "samples, holds",
    [
        ([], True),
        (["Rape oil is what it burns."], True),
        (["It is wound by Tomas Brede."], False),
        (["The lamp burns the rape oil.", "Tomas Brede."], True),
        (["It burns rape oil.", "Tomas Brede.", "Every 4 hours."], False),
    ],
)
def test_an_answer_holds_where_at_least_half_of_the_samples_agree(samples, holds):
    assert is_consistent("The lamp burns rape oil.", samples) == holds


def test_an_answer_that_further_samples_do_not_agree_with_is_dropped(
    tmp_path, model, monkeypatch, capsys
):
    """Of every two questions the first asks for a phrase, and is left alone."""
    passages, questions, _ = tiny_lesson()
    questions = [replace(q, phrase="oil" * (i % 2 == 0)) for i, q in enumerate(questions)]
    with_phrase = {q.id for q in questions if q.phrase}
    compared = []

    def never(answer, samples):
        compared.append((answer, samples))
        return False

    monkeypatch.setattr(answers, "is_consistent", never)
    before, _ = collected(tmp_path / "off", model, (passages, questions, []))
    assert {row["question_id"] for row in before} == {q.id for q in questions} and not compared
    rows, _ = collected(tmp_path / "on", model, (passages, questions, []), checks=3)
    assert rows == [row for row in before if row["question_id"] in with_phrase]
    num_free = len(questions) - len(with_phrase)
    assert len(compared) == num_free and all(len(samples) == 3 for _, samples in compared)
    assert f"{num_free} answered inconsistently" in capsys.readouterr().err
    monkeypatch.setattr(answers, "is_consistent", lambda *_: True)
    rows, _ = collected(tmp_path / "agreed", model, (passages, questions, []), checks=1)
    assert rows == before


def test_a_random_models_answers_are_inconsistent(tmp_path, model):
    lesson = tiny_lesson()
    rows, _ = collected(tmp_path, model, lesson, checks=1)
    assert len(rows) < len(lesson[1])


def test_quotes_and_greedy_answers_are_not_checked(tmp_path, model, monkeypatch):
    passages, questions, _ = tiny_lesson(num_passages=1)
    quoted = [replace(q, kind="complete", sentence=0) for q in questions]
    monkeypatch.setattr(answers, "is_consistent", lambda *_: False)
    roomy = SETTINGS["sampling"] | {"max_new_tokens": 64}
    settings = {"sampling": roomy, "quote": True, "checks": 1}
    rows, _ = collected(tmp_path / "quoted", model, (passages, quoted, []), **settings)
    assert len(rows) == len(quoted)
    greedy = SETTINGS["sampling"] | {"temperature": 0}
    rows, _ = collected(tmp_path / "greedy", model, sampling=greedy, checks=1)
    assert rows


def test_a_greedy_answer_is_asked_for_once(tmp_path, model, monkeypatch, capsys):
    monkeypatch.setattr(answers, "ungrounded", lambda *_: "never good enough")
    greedy = SETTINGS["sampling"] | {"temperature": 0}
    collected(tmp_path, model, grounded=True, attempts=3, sampling=greedy)
    assert f"{len(tiny_lesson()[1])} never good enough" in capsys.readouterr().err
