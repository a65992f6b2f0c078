"""Held-out questions and their grades, by hand."""

import random

import pytest

from pdtrain.evaluation.metrics import exact_match, gold_in_answer, grade, recovered, summarise
from pdtrain.evaluation.systems import ADAPTER, BASE, TEACHER
from pdtrain.records import Score
from pdtrain.synthesis.held_out import read_questions
from pdtrain.synthesis.text import normalise, token_f1


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("The  Pier of\nOsk.", "pier of osk"),
        ("A man, a plan & an idea!", "man plan idea"),
        ("Theatre and anthem", "theatre and anthem"),
        ("1,750 metres", "1750 metres"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("The", ""),
        ("Ünver's Café", "ünvers café"),
    ],
)
def test_normalising_is_squads(text, wanted):
    assert normalise(text) == wanted


@pytest.mark.parametrize(
    "prediction, answers, wanted",
    [
        ("It is 175 metres long.", ["175"], 1.0),
        ("It is 1750 metres long.", ["175"], 0.0),
        ("It is 1,750 metres long.", ["1750"], 1.0),
        ("By Ina Marrow, of course", ["Ina Marrow"], 1.0),
        ("By Ina Marrows", ["Ina Marrow"], 0.0),
        ("THE PIER", ["pier"], 1.0),
        ("Ina or Marrow", ["Ina Marrow"], 0.0),
        ("Nine", ["seven", "nine"], 1.0),
        ("", ["nine"], 0.0),
        ("anything", ["The"], 0.0),
        ("a cheese", ["The cheese."], 1.0),
    ],
)
def test_a_gold_answer_counts_as_whole_words(prediction, answers, wanted):
    assert gold_in_answer(prediction, answers) == wanted


@pytest.mark.parametrize(
    "prediction, answers, wanted",
    [
        ("The Pier!", ["pier"], 1.0),
        ("the long pier", ["pier"], 0.0),
        ("two", ["one", "Two."], 1.0),
    ],
)
def test_exact_match_is_after_normalising(prediction, answers, wanted):
    assert exact_match(prediction, answers) == wanted


@pytest.mark.parametrize(
    "prediction, answers, wanted",
    [
        ("the pier of Osk", ["pier of Osk"], 1.0),
        ("Osk", ["pier of Osk"], 0.5),  # precision 1, recall 1/3
        ("red red boat", ["red boat boat"], 2 / 3),  # two words in common of three each
        ("blue", ["red"], 0.0),
        ("red boat", ["green", "the red boat sails"], 0.8),  # 1, 2/3
        ("", ["red"], 0.0),
        ("the", ["a"], 1.0),  # nothing is left of either
    ],
)
def test_token_f1_by_hand(prediction, answers, wanted):
    assert token_f1(prediction, answers) == pytest.approx(wanted)


def test_a_grade_has_each_metric_once():
    assert grade("The pier of Osk", ["pier"]) == {
        "gold_in_answer": 1.0,
        "exact_match": 0.0,
        "token_f1": 0.5,
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_mean_and_shrinks_with_more_questions(seed):
    rng = random.Random(seed)
    values = [float(rng.random() < 0.3) for _ in range(400)]
    widths = []
    for n in (20, 100, 400):
        score = summarise(values[:n], 500, seed)
        assert score.value == pytest.approx(sum(values[:n]) / n) and score.n == n
        assert score.low <= score.value <= score.high
        widths.append(score.high - score.low)
    assert widths == sorted(widths, reverse=True)
    # 1.96 standard errors to either side
    assert widths[-1] == pytest.approx(2 * 1.96 * (0.3 * 0.7 / 400) ** 0.5, rel=0.25)


def test_weights_of_one_change_nothing_and_others_weigh():
    values = [0.0, 1.0, 1.0, 0.5, 0.25]
    assert summarise(values, 200, 1, [2.0] * 5) == summarise(values, 200, 1)
    assert summarise([0.0, 1.0], 200, 1, [1, 3]) == Score(0.75, 0.0, 1.0, 2)


def test_an_interval_is_the_same_every_time_and_a_point_where_all_agree():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert summarise(values, 200, 1) == summarise(values, 200, 1)
    assert summarise([1.0] * 5, 200, 1) == Score(1.0, 1.0, 1.0, 5)
    assert summarise([0.25], 1, 0) == Score(0.25, 0.25, 0.25, 1)


def table(base, teacher, student):
    return {
        system.name: {"m": Score(value, value, value, 1)}
        for system, value in ((BASE, base), (TEACHER, teacher), (ADAPTER, student))
    }


@pytest.mark.parametrize(
    "values, wanted",
    [
        ((0.0, 0.8, 0.4), 0.5),
        ((-4.0, -1.0, -2.5), 0.5),
        ((0.2, 0.8, 0.1), -1 / 6),
        ((0.5, 0.5, 0.9), None),
        ((0.6, 0.5, 0.9), None),
    ],
)
def test_recovered_is_the_share_of_what_the_teacher_adds(values, wanted):
    found = recovered(table(*values), "m")
    assert found is None if wanted is None else found == pytest.approx(wanted)


def questions(tmp_path, text, limit=0):
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    return read_questions(path, limit)


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


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"q\.jsonl holds no question"),
        ('{"question": "Q?"}', r'row 1: expected "question" .* found the keys question'),
        ('{"question": "Q?", "answers": []}', "row 1: .*a list of texts"),
        ('{"question": "Q?", "answers": ["x", " "]}', "row 1: .*none empty"),
        ('["secret"]', r'q\.jsonl, row 1: expected "question"'),
        ('{"title": "T", "questions": ["secret?"]}', "row 1: .* found the keys questions, title"),
        ('{"title": "T", "questions": null}', "row 1: .* found the keys questions, title"),
        ('{"question": "Q?", "answers": [null]}', "row 1: .*a list of texts"),
        ('{"question": "Q?", "answers": [["secret"]]}', "row 1: .*a list of texts"),
        ('{"question": "Q?", "answers": "secret"}', "row 1: .*a list of texts"),
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


def test_a_file_that_is_not_there_says_what_belongs_into_it(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.jsonl' is not a file; expected JSONL with a qu"):
        read_questions(tmp_path / "absent.jsonl")
