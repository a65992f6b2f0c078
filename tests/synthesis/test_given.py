"""Questions of a data set: which passage each is about, what is dropped, what is learned."""

import json

import pytest
from fake_backend import FakeBackend, ask_well
from support import tiny_config, tiny_model, write_records

from pdtrain.documents import passages as passages_stage
from pdtrain.records import Passage
from pdtrain.stage import output_hash
from pdtrain.synthesis import answers as answers_stage
from pdtrain.synthesis import questions as questions_stage
from pdtrain.synthesis.given import Given
from pdtrain.synthesis.held_out import held_out_texts, read_questions
from pdtrain.synthesis.text import normalise

PIER = "The pier of Osk was built in 1883 by Anna Gray. It is 90 metres long."
MILL = "The mill of Osk grinds chestnuts. Paul Reed sold it to a museum in 1921."
ROWS = [
    {"title": "Pier", "context": PIER, "question": "Who built the pier?", "answers": ["Anna Gray"]},
    {"title": "Pier", "context": PIER, "question": "How long is it?", "answers": ["90 metres"]},
    {"title": "Mill", "context": MILL, "question": "What does it grind?", "answers": ["chestnuts"]},
    {"title": "Mill", "context": MILL, "question": "Who bought it?", "answers": ["a museum"]},
    {"title": "Mill", "context": MILL, "question": "Who burnt it?", "answers": []},
    {"title": "Mill", "context": MILL, "question": "What does it grind?", "answers": ["nuts"]},
]
HELD_OUT = {"question": "Who bought it?", "answers": {"text": ["a museum"]}, "context": MILL}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def config(tmp_path):
    """A run whose documents are the contexts of a data set, with one question held out."""
    rows = write(tmp_path / "squad.jsonl", ROWS)
    held_out = write(tmp_path / "test.jsonl", [HELD_OUT])

    def config(**questions):
        return tiny_config(
            tmp_path / "run",
            tiny_model(tmp_path / "model"),
            corpus={"documents": rows},
            questions={"given": rows} | questions,
            evaluate={"questions": held_out},
        )

    return config


def run(config, reply=ask_well):
    """Run the first three stages, and return passages, questions, answers and the backend."""
    backend = FakeBackend(reply)
    passages_stage.split(config)
    questions_stage.ask(config, backend)
    answers_stage.collect(config, backend)
    run = config.run
    return list(run.passages()), list(run.questions()), list(run.answers()), backend


def test_given_questions_take_the_place_of_generated_ones_and_keep_their_answers(config, caplog):
    with caplog.at_level("INFO", "pdtrain"):
        passages, questions, answers, backend = run(config())
    assert [p.text for p in passages] == [PIER, MILL], "a context is a document, once"
    assert [(q.text, q.phrase, q.kind, q.sentence) for q in questions] == [
        ("Who built the pier?", "Anna Gray", "given", 0),
        ("How long is it?", "90 metres", "given", 1),
        ("What does it grind?", "chestnuts", "given", 0),
    ]
    assert {q.passage_id for q in questions[:2]} == {passages[0].id}
    assert [a.text for a in answers] == ["Anna Gray", "90 metres", "chestnuts"]
    assert all(a.finished and a.token_ids[-1] in backend.chat.stop_ids for a in answers)
    assert backend.asked == [], "the model writes nothing"
    assert (
        "questions: 3 of 6 given questions are asked, 1 held out, or nearly, 1 without an answer, "
        "1 repeated"
    ) in caplog.text


def test_the_teacher_may_answer_given_questions(config):
    said = "The pier was built by Anna Gray."
    _, questions, answers, backend = run(config(given_answers="sample"), lambda *_: said)
    first = [a for a in answers if a.question_id == questions[0].id]
    assert [a.text for a in first] == [said]
    assert any("Who built the pier?" in prompt and PIER in prompt for prompt in backend.asked)


def test_generated_questions_may_stand_beside_given_ones(config):
    _, questions, _, _ = run(config(given_and_generated=True))
    kinds = [q.kind for q in questions]
    assert kinds.count("given") == 3 and kinds.count("fact") > 3


def test_another_data_set_asks_again_and_the_same_one_does_not(config, tmp_path):
    first = config()
    run(first)
    before = output_hash(first.run.questions_folder)
    backend = FakeBackend(ask_well)
    questions_stage.ask(first, backend)
    assert output_hash(first.run.questions_folder) == before
    write(tmp_path / "squad.jsonl", ROWS[:1])
    questions_stage.ask(first, backend)
    assert [q.text for q in first.run.questions()] == ["Who built the pier?"]


def test_answers_that_are_too_long_to_be_read_are_sampled(config, tmp_path):
    long = " ".join(["The pier of Osk was built by Anna Gray."] * 3)
    rows = [{"question": "What of the pier?", "answer": long}]
    path = write(tmp_path / "qa.jsonl", rows)
    made = tiny_config(
        tmp_path / "run2",
        tiny_model(tmp_path / "model"),
        corpus={"documents": path},
        questions={"given": path},
        train={"tokens_per_micro_batch": 128},
    )
    passages_stage.split(made)
    backend = FakeBackend(lambda *_: "The pier of Osk was built by Anna Gray.")
    questions_stage.ask(made, backend)
    answers_stage.collect(made, backend)
    assert [a.text for a in made.run.answers()] == ["The pier of Osk was built by Anna Gray."]


def passage(number, text, name="", title=""):
    spans = ((0, len(text)),)
    return Passage(f"p{number}", name or f"{number}.txt", title, text, 0, len(text), 9, spans)


def given(tmp_path, rows, passages):
    path = write(tmp_path / "rows.jsonl", rows)
    made = tiny_config(tmp_path / "r", tmp_path, questions={"given": path})
    return Given(made, passages, set())


def test_the_passage_of_a_question_is_found_by_its_words_and_its_answer(tmp_path):
    passages = [passage(n, f"The tower of Ulm {n} is {n} metres high.") for n in range(200)]
    passages += [passage(900, PIER), passage(901, MILL)]
    rows = [
        {"question": "Who built the pier of Osk?", "answer": "Anna Gray"},
        {"prompt": "What does the mill of Osk do?", "completion": "It grinds chestnuts."},
        {"question": "How high is the tower of Ulm 150?", "answer": "150 metres"},
        {"question": "Who built the pier of Osk?", "answer": "Tobias Wells"},
    ]
    found = given(tmp_path, rows, passages)
    places = {q.text: p.id for p in passages for q in found.about(p)}
    assert places == {
        "Who built the pier of Osk?": "p900",
        "What does the mill of Osk do?": "p901",
        "How high is the tower of Ulm 150?": "p150",
    }
    assert found.dropped == {"answered by no passage": 1}


def test_the_document_that_a_question_names_is_the_only_one_looked_into(tmp_path):
    passages = [passage(1, PIER, "a/pier.txt"), passage(2, PIER, "b/copy.txt"), passage(3, MILL)]
    rows = [{"question": "Who built it?", "answer": "Anna Gray", "document": "copy.txt"}]
    found = given(tmp_path, rows, passages)
    assert [p.id for p in passages if found.about(p)] == ["p2"]


def test_a_question_that_names_an_unknown_document_goes_by_its_answer_and_is_counted(tmp_path):
    passages = [passage(1, PIER), passage(2, MILL)]
    rows = [
        {"question": "Who built the pier of Osk?", "answer": "Anna Gray", "document": "gone.txt"},
        {"question": "What does the mill grind?", "answer": "chestnuts", "document": "2.txt"},
    ]
    found = given(tmp_path, rows, passages)
    assert [len(found.about(p)) for p in passages] == [1, 1]
    assert found.line() == "2 of 2 given questions are asked; 1 with a document that is not there"


CHINESE = (
    "奥斯克的蓝磨坊是安娜·格雷在1883年建造的。磨坊主每天早上磨栗子。",
    "奥斯克的码头长九十米。保罗·里德把它卖给了博物馆。",
)


@pytest.mark.parametrize("more", [{}, {"document": "zh.txt"}, {"context": "".join(CHINESE)}])
def test_a_text_without_blanks_is_found_by_its_letters(tmp_path, more):
    passages = [passage(n, text, "zh.txt") for n, text in enumerate(CHINESE)]
    rows = [
        {"question": "蓝磨坊是谁建造的？", "answer": "安娜·格雷", **more},
        {"question": "码头有多长？", "answer": "九十米", **more},
    ]
    found = given(tmp_path, rows, passages)
    assert [[q.phrase for q in found.about(p)] for p in passages] == [["安娜·格雷"], ["九十米"]]


def test_a_held_out_question_without_blanks_is_known_by_its_letters(tmp_path):
    text = "".join(CHINESE)
    held_out = "奥斯克的蓝磨坊是谁在哪一年建造的呢？"
    rows = [
        {"question": "奥斯克的蓝磨坊是谁在哪一年建造的？", "answer": "安娜·格雷"},
        {"question": "码头有多长？", "answer": "九十米"},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    made = tiny_config(tmp_path / "r", tmp_path, questions={"given": path, "near_duplicate": 0.7})
    found = Given(made, [passage(1, text)], {normalise(held_out)})
    assert found.asked == 1 and found.dropped == {"held out, or nearly": 1}


def test_a_right_answer_without_blanks_is_not_dropped(tmp_path):
    rows = [{"question": "码头有多长？", "answer": "九十米"}]
    questions = {"given": write(tmp_path / "rows.jsonl", rows), "given_answers": "sample"}
    made = tiny_config(tmp_path / "r", tiny_model(tmp_path / "m"), questions=questions)
    write_records(made, [passage(1, "".join(CHINESE))])
    backend = FakeBackend(lambda *_: "码头长九十米。")
    questions_stage.ask(made, backend)
    answers_stage.collect(made, backend)
    assert [answer.text for answer in made.run.answers()] == ["码头长九十米。"]


def test_a_yes_is_of_the_passage_that_says_most_of_the_question_in_the_named_document(tmp_path):
    passages = [passage(1, PIER, "osk.txt"), passage(2, MILL, "osk.txt")]
    row = {"question": "Was the mill of Osk sold to a museum?", "answer": "Yes"}
    found = given(tmp_path, [row | {"document": "osk.txt"}], passages)
    assert [len(found.about(p)) for p in passages] == [0, 1]
    with pytest.raises(ValueError, match="1 answered by no passage"):
        given(tmp_path, [row], passages)


def test_a_data_set_about_other_documents_is_refused(tmp_path):
    rows = [{"question": "Who wrote it?", "answer": "Homer"}]
    with pytest.raises(ValueError, match=r"0 of 1 given questions are asked, 1 answered by no pa"):
        given(tmp_path, rows, [passage(1, PIER), passage(2, MILL)])


def test_held_out_questions_may_have_the_columns_of_data_sets(tmp_path):
    rows = [
        HELD_OUT,
        {
            "messages": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "Ice"},
            ]
        },
        {"question": "What?", "answers": {"text": [], "answer_start": []}},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    found = read_questions(path)
    assert [(q.question, q.answers) for q in found] == [
        ("Who bought it?", ("a museum",)),
        ("Why?", ("Ice",)),
        ("What?", ()),
    ]
    assert held_out_texts(path) == {"who bought it", "why", "what"}
    (tmp_path / "t.csv").write_text("question,answer\nWho bought it?,a museum\n")
    assert read_questions(tmp_path / "t.csv")[0].answers == ("a museum",)
