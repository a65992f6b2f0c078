"""What no document says is asked, and answered by saying so; what one might say is not asked."""

from collections import Counter

import pytest
from fake_backend import FakeBackend, ask_well
from support import tiny_config, write_records

from pdtrain.evaluation.grading.declining import declines
from pdtrain.records import Passage, content_id
from pdtrain.storage import read_shards
from pdtrain.synthesis import answers, questions
from pdtrain.synthesis.sentence_writer import unanswerable
from pdtrain.synthesis.sentence_writer.unanswerable import ATTRIBUTES, YEAR, Mentions

MILL = "The Blue Mill grinds rye for Anna Gray."


def passage(text, title="The Blue Mill", document="mill.md"):
    name = content_id(document, text)
    return Passage(name, document, title, text, 0, len(text), 20, ((0, len(text)),))


def texts(mentions, one, count=1000, seed=0):
    return [request.text for request in mentions.requests(one, count, seed)]


def test_every_attribute_is_asked_of_the_subject_and_of_every_other_name():
    one = passage(MILL)
    found = list(Mentions([one]).requests(one, 1000, 0))
    wanted = {
        (a.question.format(name), f"The documents do not say {a.unsaid.format(name)}.")
        for a in ATTRIBUTES
        for name in ("the Blue Mill", "Anna Gray")
    }
    # the mill is blue
    wanted -= {w for w in wanted if "Which colour" in w[0]}
    assert {(r.text, r.phrase) for r in found} == wanted and len(found) == len(wanted)
    assert all(r.sentence == -1 for r in found)


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda a: a.question)
def test_an_answer_declines_and_no_word_that_goes_with_an_attribute_lets_it_be_asked(attribute):
    assert declines(f"The documents do not say {attribute.unsaid.format('the mill')}.")
    assert attribute.question.count("{}") == attribute.unsaid.count("{}") == 1
    for word in attribute.words.split():
        said = word.replace(YEAR, "1837")
        one = passage(f"Anna Gray keeps it, {said} and all.")
        assert attribute.question.format("Anna Gray") not in texts(Mentions([one]), one), word
    plural = passage(f"Anna Gray keeps it, {attribute.words.split()[0].upper()} and all.")
    assert attribute.question.format("Anna Gray") not in texts(Mentions([plural]), plural)


@pytest.mark.parametrize(
    "other",
    [
        passage("It weighs nine tons.", document="mill.md"),
        passage("Its weight is known to Anna Gray.", "Scales", "scales.md"),
        passage("It is heavy.", "Anna Gray", "gray.md"),
    ],
    ids=["of the same document", "with the name in it", "with the name as its title"],
)
def test_what_another_passage_may_tell_is_not_asked(other):
    one = passage(MILL)
    alone, both = texts(Mentions([one]), one), texts(Mentions([one, other]), one)
    assert "What does Anna Gray weigh?" in alone
    assert "What does Anna Gray weigh?" not in both
    assert set(both) < set(alone)


def test_an_unrelated_passage_takes_no_question_away():
    one, other = passage(MILL), passage("Ore weighs much.", "Ore", "ore.md")
    assert texts(Mentions([one]), one) == texts(Mentions([one, other]), one)


def test_names_take_turns_and_the_seed_decides_the_rest():
    one = passage(MILL)
    mentions = Mentions([one])
    four = texts(mentions, one, 4)
    assert ["the Blue Mill" in t for t in four] == [True, False, True, False]
    assert four == texts(mentions, one, 4) and four != texts(mentions, one, 4, seed=1)
    assert texts(mentions, one, 0) == []
    assert texts(mentions, passage("it is so.", ""), 4) == []


def test_names_that_share_a_place_lose_questions_and_never_gain_one(monkeypatch):
    one = passage(MILL)
    other = passage("Ore weighs much.", "Ore", "ore.md")
    alone = texts(Mentions([one, other]), one)
    monkeypatch.setattr(unanswerable, "PLACES", 1)
    assert set(texts(Mentions([one, other]), one)) < set(alone)


def run(folder, passages, count):
    off = {"per_pair": 0, "per_entity": 0, "per_passage_unanswerable": count}
    config = tiny_config(folder, "none", questions=off)
    write_records(config, passages)
    backend = FakeBackend(ask_well)
    questions.ask(config, backend)
    return config, list(read_shards(config.run.questions_folder)), backend


def test_the_questions_join_the_others_and_are_answered_without_the_model(tmp_path):
    _, before, _ = run(tmp_path / "without", [passage(MILL)], 0)
    config, rows, _ = run(tmp_path / "with", [passage(MILL)], 5)
    assert [row for row in rows if row["kind"] != "unsaid"] == before
    unsaid = [row for row in rows if row["kind"] == "unsaid"]
    assert len(unsaid) == 5
    backend = FakeBackend(lambda prompt, _: "It grinds rye.")
    answers.collect(config, backend)
    given = {a["question_id"]: a for a in read_shards(config.run.answers_folder)}
    stop = backend.chat.stop_ids[0]
    for row in unsaid:
        answer = given[row["id"]]
        assert answer["text"] == row["phrase"] and answer["finished"]
        assert answer["token_ids"][-1] == stop
        assert not any(row["text"] in prompt for prompt in backend.asked)


def test_a_document_that_says_more_changes_the_questions_of_those_it_names_alone(tmp_path):
    ore = passage("Jonas Tuttle digs for it.", "Ore", "ore.md")
    later = passage("Its weight is known to Anna Gray.", "Scales", "scales.md")
    _, rows, _ = run(tmp_path, [passage(MILL), ore], 40)
    assert any(row["text"] == "What does Anna Gray weigh?" for row in rows)
    _, again, backend = run(tmp_path, [passage(MILL), ore, later], 40)
    texts = [row["text"] for row in again]
    assert "What does Anna Gray weigh?" not in texts
    assert not any(count > 1 for count in Counter(row["id"] for row in again).values())
    assert not any("Jonas Tuttle digs" in prompt for prompt in backend.asked)
    assert any(MILL in prompt for prompt in backend.asked)
    about = [row for row in rows if row["passage_id"] == ore.id]
    assert about == [row for row in again if row["passage_id"] == ore.id]
