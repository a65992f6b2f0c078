"""Held-out questions, flat or in their documents, and unrelated ones; what is none is refused."""

import json

import pytest

from pdtrain.storage import to_line
from pdtrain.synthesis.held_out import read_questions, read_reading, read_unrelated


def questions(tmp_path, text, limit=0):
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    return read_questions(path, limit)


NO_TEXT = "record 2: .*found an answer that is empty or no text"
FLAT = (
    '{"document": "osk", "question": "How long?", "answers": ["260 metres", "260"]}\n\n'
    '{"id": "mine", "question": "Who?", "answers": ["Ruben"]}\n'
)
NESTED = (
    '{"title": "Osk", "text": "ignored", "questions": ['
    '{"question": "How long?", "answers": ["260"]}, {"question": "Who?", "answers": ["Ruben"]}]}\n'
    '{"title": "Vell", "questions": [{"question": "Who?", "answers": ["Ina"]}]}\n'
)


def test_flat_questions(tmp_path):
    first, second = questions(tmp_path, FLAT)
    assert (first.document, first.question) == ("osk", "How long?")
    assert first.answers == ("260 metres", "260")
    assert (second.id, second.document, second.answers) == ("mine", "", ("Ruben",))


def test_questions_nested_in_their_documents(tmp_path):
    found = questions(tmp_path, NESTED)
    assert [(q.document, q.question) for q in found] == [
        ("Osk", "How long?"),
        ("Osk", "Who?"),
        ("Vell", "Who?"),
    ]
    assert len({q.id for q in found}) == 3


def test_ids_stay_when_other_questions_come(tmp_path):
    before = questions(tmp_path, FLAT)
    after = questions(tmp_path, '{"question": "New?", "answers": ["x"]}\n' + FLAT)
    assert [q.id for q in after[1:]] == [q.id for q in before]


def test_a_limit_takes_the_first(tmp_path):
    assert [q.question for q in questions(tmp_path, NESTED, limit=1)] == ["How long?"]
    assert len(questions(tmp_path, NESTED, limit=99)) == 3


def test_a_question_that_the_documents_do_not_answer_has_no_answers(tmp_path):
    text = '{"question": "Q?", "answers": []}\n{"question": "R?", "answers": ["x"]}'
    assert [q.answers for q in questions(tmp_path, text)] == [(), ("x",)]
    with pytest.raises(ValueError, match=r"the first 1 questions .* raise evaluate.limit"):
        questions(tmp_path, text, limit=1)


def test_answers_may_be_objects_with_their_places_as_in_articles(tmp_path):
    asked = [
        {"id": "q1", "question": "How high?", "answers": [{"text": "42 m", "answer_start": 6}]},
        {"id": "q2", "question": "How old?", "answers": [], "is_impossible": True},
    ]
    articles = [{"title": "The_Dam", "paragraphs": [{"context": "It is 42 m.", "qas": asked}]}]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": articles}), encoding="utf-8")
    found = [(one.id, one.question, one.answers) for one in read_questions(path)]
    assert found == [("q1", "How high?", ("42 m",)), ("q2", "How old?", ())]


def test_answers_may_be_true_or_false(tmp_path):
    path = tmp_path / "q.jsonl"
    for answer in ('"answer": true', '"answer": [true]', '"answers": true', '"answers": [true]'):
        path.write_text(f'{{"question": "Is the pier old?", {answer}}}\n')
        assert read_questions(path)[0].answers == ("yes",)


def test_answers_may_be_one_text(tmp_path):
    text = '{"question": "Who?", "answers": " Anna "}\n{"question": "When?", "answers": ""}\n'
    nested = '{"title": "Osk", "questions": [{"question": "Where?", "answers": "at sea"}]}'
    assert [q.answers for q in questions(tmp_path, text + nested)] == [("Anna",), (), ("at sea",)]


@pytest.mark.parametrize(
    "record, answers",
    [
        ({"answers": 7}, ("7",)),
        ({"answers": [7, 7.5]}, ("7", "7.5")),
        ({"answer": {"value": "Ann Gray", "aliases": ["A. Gray"]}}, ("Ann Gray", "A. Gray")),
        ({"answers": [], "answer": "Ann Gray"}, ("Ann Gray",)),
        ({"answer": 1, "choices": ["Tom", "Ann Gray"]}, ("Ann Gray",)),
        ({"answer": "B", "options": ["Tom", "Ann Gray"], "answers": []}, ("Ann Gray",)),
        ({"answers": '["Ann Gray", "Gray"]'}, ("Ann Gray", "Gray")),
        ({"answers": "[Ann] Gray"}, ("[Ann] Gray",)),
    ],
)
def test_answers_may_have_the_forms_of_other_data_sets(tmp_path, record, answers):
    (found,) = questions(tmp_path, json.dumps({"question": "Who, or how many?", **record}))
    assert found.answers == answers


@pytest.mark.parametrize("column", ["answer", "answers"])
def test_a_table_of_questions_may_call_its_answers_either_way(tmp_path, column):
    path = tmp_path / "q.csv"
    path.write_text(f"question,{column},document\nWho?,Anna,osk\nWhen?,,osk\n")
    found = [(q.question, q.answers, q.document) for q in read_questions(path)]
    assert found == [("Who?", ("Anna",), "osk"), ("When?", (), "osk")]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"q\.jsonl holds no question"),
        ('{"question": "Q?", "answers": []}', r"q\.jsonl holds no question with an answer"),
        ('{"question": "Q?"}', r'record 1: expected "question" .* found the keys question'),
        ('{"question": "Q?", "answers": ["x", " "]}', "record 1: .*none of them empty"),
        ('["secret"]', r'q\.jsonl, record 1: expected "question"'),
        (
            '{"title": "T", "questions": ["secret?"]}',
            "record 1: .* the keys questions, title",
        ),
        ('{"title": "T", "questions": null}', "record 1: .* the keys questions, title"),
        ('{"question": "Q?", "answers": [null]}', "record 1: .*a list of texts"),
        ('{"question": "Q?", "answers": [["secret"]]}', "record 1: .*a list of texts"),
        ('{"question": "Q?", "answers": NaN}', "record 1: .*a list of texts"),
        ('{"question": "Q?", "answers": {"secret": ["x"]}}', "record 1: .*a list of texts"),
        ('{"question": "R?", "answers": ["x"]}\n{"question": "secret", "answers": [NaN]}', NO_TEXT),
        (
            '{"question": "R?", "answers": ["x"]}\n{"question": "Q", "answers": ["secret", null]}',
            NO_TEXT,
        ),
        (
            '{"question": "R?", "answers": ["x"]}\n{"question": " ", "answers": ["secret"]}',
            "record 2: .*found a blank question",
        ),
        ('{"question": "", "answers": "secret"}', "record 1: .*found a blank question"),
        ('{"q": "Q?", "answers": ["x"]}', "found the keys answers, q"),
        ('{"question": "secret', "line 1: expected one JSON object a line"),
        (
            '{"id": "a", "question": "Q?", "answers": ["x"]}\n'
            '{"id": "a", "question": "R?", "answers": ["y"]}',
            "question ids must be unique, 'a' is not",
        ),
    ],
)
def test_what_is_no_question_is_named_and_not_quoted(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        questions(tmp_path, text)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "record",
    [
        r'{"question": "What is secret \ud83d?", "answers": ["x"]}',
        r'{"question": "What is secret?", "answers": ["x", "\udcfc"]}',
        r'{"title": "secret \udfff", "questions": [{"question": "Q?", "answers": ["x"]}]}',
    ],
)
def test_half_a_surrogate_pair_is_refused_before_anything_is_made_of_it(tmp_path, record):
    with pytest.raises(ValueError, match=r"q\.jsonl, record 2: half of a surrogate pair") as error:
        questions(tmp_path, '{"question": "Q?", "answers": ["y"]}\n' + record)
    assert "secret" not in str(error.value)


def test_a_file_that_is_not_there_says_what_belongs_into_it(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.jsonl' is not a file; expected JSONL with a qu"):
        read_questions(tmp_path / "absent.jsonl")


# --- Unrelated texts and questions ------------------------------------------------------------


def test_the_bundled_ones_are_many_and_each_once():
    texts, questions = read_unrelated()
    assert len(texts) >= 6 and len(questions) >= 20
    assert len(set(texts)) == len(texts) and len(set(questions)) == len(questions)
    assert all(50 <= len(text.split()) <= 120 for text in texts)


def test_a_file_gives_its_own(tmp_path):
    path = tmp_path / "u.jsonl"
    path.write_text(
        '{"text": "A text of words."}\n{"question": "What now?"}\n{"text": "Two more."}\n'
    )
    assert read_unrelated(str(path)) == (("A text of words.", "Two more."), ("What now?",))


@pytest.mark.parametrize(
    "text", ["", '{"text": ""}\n', '{"text": "One"}\n', '{"answer": "No no"}\n', '["a"]\n']
)
def test_a_file_without_them_is_refused_without_quoting_it(tmp_path, text):
    path = tmp_path / "u.jsonl"
    path.write_text('{"text": "Good enough"}\n' * bool(text) + text)
    with pytest.raises(ValueError, match=r"u\.jsonl: expected .* in every record, found") as error:
        read_unrelated(str(path))
    assert "Good enough" not in str(error.value)


def test_a_file_of_unrelated_ones_that_is_not_there_says_what_belongs_into_it(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.jsonl' is not a file; expected JSONL with"):
        read_unrelated(str(tmp_path / "absent.jsonl"))


def test_a_document_and_an_id_may_be_none_and_an_id_may_be_0(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [{"document": None, "id": 0}, {"document": "a", "id": None}]
    path.write_text("".join(to_line({"question": "Who?", "answers": ["I"], **r}) for r in rows))
    first, second = read_questions(path)
    assert (first.document, first.id) == ("", "0")
    assert second.document == "a" and len(second.id) == 16


def test_questions_that_are_asked_twice_are_named_by_their_places(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(to_line({"question": "Who?", "answers": ["I"]}) * 2)
    with pytest.raises(ValueError, match=r"ids must be unique, .* is not: questions 1 and 2 have"):
        read_questions(path)


def test_unrelated_texts_may_be_in_a_script_without_blanks(tmp_path):
    path = tmp_path / "u.jsonl"
    path.write_text(to_line({"text": "今天天气很好。"}) + to_line({"question": "猫吃什么？"}))
    found = read_unrelated(str(path))
    assert found.texts == ("今天天气很好。",) and len(found.questions) == 1


def test_a_blank_question_about_a_passage_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    asked = [{"question": " ", "answers": []}]
    path.write_text(to_line({"title": "T", "passage": "It is red.", "questions": asked}))
    with pytest.raises(ValueError, match=r"record 1: .*found a blank question"):
        read_reading(str(path))
