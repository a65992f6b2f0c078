"""The columns of the data sets of questions and answers that people have."""

import json
import math

import pytest

from pdtrain.documents.records.question_answers import is_question, question_of
from pdtrain.documents.records.question_files import read_given

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who built it?"},
    {"role": "assistant", "content": "Anna Gray."},
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "In 1883."},
]
RECORDS = [
    {"messages": CHAT},
    {"prompt": "Who built it?", "completion": "Anna Gray."},
    {"prompt": CHAT[:2], "completion": CHAT[2:3]},
    {"question": "Who built it?", "answer": "Anna Gray."},
    {"question": " Who built it? ", "answers": ["Anna Gray.", "Gray"]},
    {"question": "Who built it?", "answers": {"text": ["Anna Gray."], "answer_start": [4]}},
    {"question": "Who built it?", "answers": [{"text": "Anna Gray."}], "context": None},
    {"query": "Who built it?", "answers": ["Anna Gray."]},
    {"instruction": "Who built it?", "input": "", "output": "Anna Gray."},
    {"instruction": "Who built it?", "input": math.nan, "output": "Anna Gray."},
    {
        "conversations": [
            {"from": "human", "value": "Who built it?"},
            {"from": "gpt", "value": "Anna Gray."},
        ]
    },
    {"messages": [CHAT[1] | {"content": [{"type": "text", "text": "Who built it?"}]}, CHAT[2]]},
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: "-".join(r))
def test_question_and_answer_are_found(record):
    found = question_of(record)
    assert (found.question, found.answers[0], found.context) == ("Who built it?", "Anna Gray.", "")
    assert found.text == "Who built it?\n\nAnna Gray." and is_question(list(record))


def test_the_context_and_what_it_is_called_come_with_the_question():
    found = question_of(
        {
            "id": 3,
            "title": "Osk",
            "context": "The pier is old.",
            "question": "How old?",
            "answers": {"text": [], "answer_start": []},
        }
    )
    assert (found.context, found.title, found.id, found.answers) == (
        "The pier is old.",
        "Osk",
        "3",
        (),
    )
    paragraphs = {"title": ["A", "B"], "sentences": [["One. ", "Two."], ["Three."]]}
    found = question_of({"question": "Which?", "answer": "Two", "context": paragraphs})
    assert found.context == "One. Two.\n\nThree."


@pytest.mark.parametrize("answer, said", [(True, "yes"), (False, "no"), (0, "0")])
def test_true_and_false_are_answers(answer, said):
    asked = {"question": "Is the pier old?", "answer": answer, "passage": "The pier is old."}
    assert question_of(asked).answers == (said,)
    assert question_of({"instruction": "Is it?", "output": answer, "input": False}).answers == (
        said,
    )


CHOICES = ["Tom Ash", "Anna Gray"]
LABELLED = {"label": ["A", "B"], "text": CHOICES}


@pytest.mark.parametrize(
    "record",
    [
        {"choices": CHOICES, "answer": 1},
        {"choices": CHOICES, "answer": [1]},
        {"options": CHOICES, "answer": "B"},
        {"options": CHOICES, "answer": "Anna Gray"},
        {"options": {"A": "Tom Ash", "B": "Anna Gray"}, "answer": "B"},
        {"options": {"A": "Tom Ash", "B": "Anna Gray"}, "answer": "Anna Gray"},
        {"choices": LABELLED, "answerKey": "B"},
        {"choices": {"label": ["1", "2"], "text": CHOICES}, "answerKey": "2"},
    ],
)
def test_the_choice_that_is_right_is_the_answer(record):
    assert question_of({"question": "Who built it?", **record}).answers == ("Anna Gray",)


def test_choices_without_texts_are_none():
    record = {"question": "Which?", "choices": {"label": None, "text": None}, "answerKey": "A"}
    assert question_of(record).answers == ("A",)


def test_what_names_no_choice_is_the_answer_itself():
    for choices, answer in (
        (["A", "B"], "A"),
        ([4, 2], 2),
        (["no", "yes"], True),
        ([], "B"),
        (["a"], "ß"),
    ):
        said = "yes" if answer is True else str(answer)
        record = {"question": "Which?", "choices": choices, "answer": answer}
        assert question_of(record).answers == (said,)


@pytest.mark.parametrize(
    "record, answers",
    [
        ({"answer": {"value": "Anna Gray", "aliases": ["A. Gray"]}}, ("Anna Gray", "A. Gray")),
        ({"answer": {"value": "Gray", "aliases": ["Gray", "A. Gray"]}}, ("Gray", "A. Gray")),
        ({"answer": {"text": "Anna Gray", "value": 5}}, ("Anna Gray",)),
        ({"answers": [{"answer": "Anna Gray"}]}, ("Anna Gray",)),
        ({"answers": [], "answer": "Anna Gray"}, ("Anna Gray",)),
        ({"answers": "['Anna Gray', 'Gray']"}, ("Anna Gray", "Gray")),
        ({"answers": "{'text': ['Anna Gray'], 'answer_start': [4]}"}, ("Anna Gray",)),
        ({"answers": "[]"}, ()),
        ({"answers": "[1, 2]"}, ("[1, 2]",)),
        ({"answers": "['Anna Gray' 'Gray']"}, ("['Anna Gray' 'Gray']",)),
        ({"response": "['a', 'b']"}, ("['a', 'b']",)),
    ],
)
def test_answers_are_found_in_objects_and_in_lists_that_are_written_out(record, answers):
    assert question_of({"question": "Who built it?", **record}).answers == answers


def test_answers_in_a_form_that_is_not_known_are_not_taken_for_none():
    for value in ({"spans": ["Anna Gray"]}, [{"spans": ["Anna Gray"]}]):
        assert question_of({"question": "Who built it?", "answer": value}) is None


def test_an_input_is_a_part_of_the_question():
    found = question_of({"instruction": "Translate.", "input": "Guten Tag", "output": "Hello"})
    assert found.question == "Translate.\n\nGuten Tag"


@pytest.mark.parametrize(
    "record",
    [
        {"text": "The pier."},
        {"question": "Who?"},
        {"messages": [{"role": "system", "content": "Be brief."}]},
        {"messages": None},
        {"prompt": None, "completion": "x"},
    ],
)
def test_other_records_hold_no_question(record):
    assert question_of(record) is None


def test_a_record_of_questions_is_a_document_of_what_is_to_be_learned(read, tmp_path):
    rows = [
        {"id": "a", "title": "Osk", "context": "The pier.", "question": "What?", "answer": "pier"},
        {"question": "Who built it?", "answer": "Anna Gray did."},
    ]
    found = read("qa.jsonl", "\n".join(map(json.dumps, rows)))
    assert [(d.title, d.text) for d in found] == [
        ("Osk", "The pier."),
        ("", "Who built it?\nAnna Gray did."),
    ]
    found = read("qa.csv", "question,answer\nWho built it?,Anna Gray did.\n")
    assert [d.text for d in found] == ["Who built it?\nAnna Gray did."]


def test_all_that_is_said_in_a_chat_is_to_be_learned(read_one):
    document = read_one("a.jsonl", json.dumps({"messages": CHAT}))
    assert document.text == "Who built it?\nAnna Gray.\nWhen?\nIn 1883."


def test_articles_with_paragraphs_and_their_questions_are_read(read, tmp_path):
    asked = {"id": "q1", "question": "Who built it?", "answers": [{"text": "Anna Gray"}]}
    paragraphs = [{"context": "Anna Gray built it.", "qas": [asked]}, {"context": "It is old."}]
    articles = [{"title": "Old_Pier", "paragraphs": paragraphs}, {"paragraphs": paragraphs[1:]}]
    found = read("a.json", json.dumps({"version": "2.0", "data": articles}))
    assert [(d.title, d.text) for d in found] == [
        ("Old Pier", "Anna Gray built it.\nIt is old."),
        ("", "It is old."),
    ]
    (given,) = read_given(tmp_path / "a.json")
    assert (given.question, given.answers) == ("Who built it?", ("Anna Gray",))
    assert (given.id, given.title, given.context) == ("q1", "Old Pier", "Anna Gray built it.")
    paragraphs[0]["qas"] = ["Who built it?"]
    (tmp_path / "a.json").write_text(json.dumps({"data": articles}), encoding="utf-8")
    with pytest.raises(ValueError, match="record 1: expected a question and its answer"):
        list(read_given(tmp_path / "a.json"))


@pytest.mark.parametrize("answer", [None, "", [], {"text": []}])
def test_a_question_without_an_answer_has_no_text(read, answer):
    records = [
        {"question": "Who built it?", "answer": answer},
        {"question": "Who built it?", "answer": answer, "context": "The pier."},
        {"question": "When?", "answer": "In 1883."},
    ]
    found = read("qa.jsonl", "\n".join(map(json.dumps, records)))
    assert [d.text for d in found] == ["", "The pier.", "When?\nIn 1883."]


def test_files_and_folders_of_questions_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(RECORDS[0]))
    (tmp_path / "b.csv").write_text("question,answer\nWhen?,In 1883.\n")
    (tmp_path / "c.json").write_text(json.dumps([RECORDS[3]]))
    found = [one.question for one in read_given(tmp_path)]
    assert found == ["Who built it?", "When?", "Who built it?"]
    (tmp_path / "d.jsonl").write_text('{"text": "secret"}')
    with pytest.raises(
        ValueError, match=r"d.jsonl, record 1: expected a question.*found text"
    ) as e:
        list(read_given(tmp_path))
    assert "secret" not in str(e.value)
    with pytest.raises(ValueError, match=r"holds no questions; expected a file ending in .jsonl"):
        list(read_given(tmp_path / "none"))
