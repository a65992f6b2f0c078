"""Mark what the base says without the passage, too, in any language; and leave all else alone."""

import re
from collections import Counter

import pytest
from fake_backend import FakeBackend
from support import tiny_config, tiny_model, write_records

from pdtrain.config import from_dict
from pdtrain.records import Answer, Passage, Question
from pdtrain.storage import read_json, read_shards
from pdtrain.synthesis import agreement, answers
from pdtrain.synthesis.agreement import says_the_same
from pdtrain.synthesis.answers import Teacher

# text of a passage; the kind of its questions; which the base knows, what it answers to that, and
# to the other, with the passage in view
CASES = {
    "en": (
        "The Vell lamp burns rape oil. Paris is the capital of France.",
        ("What does the Vell lamp burn?", "The Vell lamp burns rape oil."),
        ("What is the capital of France?", "Paris is the capital of France."),
    ),
    "zh": (
        "奥斯克磨坊由安娜·格雷于1801年建造。巴黎是法国的首都。",
        ("奥斯克磨坊由谁建造？", "奥斯克磨坊由安娜·格雷建造。"),
        ("法国的首都是哪里？", "巴黎是法国的首都。"),
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def answered(folder, model, language, **knobs):
    """Answer two questions with a base that knows one of them, and return config and backend."""
    text, secret, known = CASES[language]
    end = len(text) // 2
    passage = Passage("p", "d", "", text, 0, len(text), 40, ((0, end), (end, len(text))))
    texts = (secret[0], known[0])
    asked = [Question(f"q{i}", "p", words, "detail", i) for i, words in enumerate(texts)]

    def reply(prompt, _):
        for words, said in (secret, known):
            if words in prompt:
                knows = text in prompt or (words, said) == known
                return said if knows else "?!"
        raise AssertionError(prompt)

    keeps = {"grounded": False, "checks": 0, "quote": False, "attempts": 1}
    config = tiny_config(folder, model, answers=keeps | knobs)
    write_records(config, [passage], asked)
    backend = FakeBackend(reply)
    answers.collect(config, backend)
    return config, backend


@pytest.mark.parametrize("language", CASES)
def test_what_the_base_knows_without_the_passage_is_kept_and_marked(
    tmp_path, model, language, monkeypatch
):
    told = []
    monkeypatch.setattr(agreement, "say", told.append)
    config, backend = answered(tmp_path, model, language, mark_known=True)
    found = {one["question_id"]: one["known"] for one in read_shards(config.run.answers_folder)}
    assert found == {"q0": False, "q1": True}
    assert [one.known for one in config.run.answers()] == [False, True]
    text, *_ = CASES[language]
    assert len(backend.calls[-1].prompts) == 2, "each question once, without the passage"
    assert not any(text in prompt for prompt in backend.calls[-1].prompts)
    assert told == ["answers: 1 of 2 are what the base says without the passage, too"]


def test_it_is_off_unless_asked_for_and_changes_no_hash_of_earlier_runs(tmp_path, model):
    off, backend = answered(tmp_path / "off", model, "en")
    on, _ = answered(tmp_path / "on", model, "en", mark_known=True)
    assert len(backend.calls) == 1
    records = [list(read_shards(one.run.answers_folder)) for one in (off, on)]
    assert not any("known" in one for one in records[0])
    without = [{k: v for k, v in one.items() if k != "known"} for one in records[1]]
    assert without == records[0]
    made = [read_json(c.run.answers_folder / "manifest.json")["settings"] for c in (off, on)]
    assert made[0] != made[1]
    assert off.hash_for("answers") == on.hash_for("answers")


def test_a_mark_of_another_kind_is_refused():
    one = Answer("a", "q", "p", "Yes.", (1, 2), True, known=True).to_json()
    assert Answer.from_json(one).known is True
    with pytest.raises(ValueError, match="whose known is no"):
        Answer.from_json(one | {"known": "yes"})


class Judged(FakeBackend):
    """Answer a question with one of some texts, and judge as it is told."""

    def __init__(self, texts, verdict):
        turns = iter(texts)
        self.verdicts = []

        def reply(prompt, _):
            if "Do the two answers say the same thing?" not in prompt:
                return next(turns)
            question, *both = re.findall(r"(?:Question|First answer|Second answer): (.*)", prompt)
            self.verdicts.append((question, *both))
            return verdict(*both)

        super().__init__(reply)


YEARS = [f"奥斯克磨坊由安娜·格雷于{year}年建造。" for year in (1801, 1810, 1801)]


@pytest.mark.parametrize("agreed", ["words", "judge"])
def test_a_judge_tells_years_apart_that_letters_do_not(agreed):
    """The same text with another year has nearly the same letters."""
    text = YEARS[0]
    passage = Passage("p", "d", "", text, 0, len(text), 40, ((0, len(text)),))
    question = Question("q", "p", "奥斯克磨坊是哪一年建造的？", "detail", 0)
    knobs = {"checks": 1, "quote": False, "attempts": 1, "agreement": agreed}
    config, dropped = from_dict({"answers": knobs}), Counter()
    model = Judged([YEARS[0], YEARS[1]], lambda one, other: "yes" if one == other else "No.")
    found = Teacher(config, dropped, model).answer(passage, [question])
    if agreed == "words":
        assert [one.text for one in found] == [text] and not model.verdicts
        return
    assert found == [] and dropped == {"answered inconsistently": 1}
    assert model.verdicts == [(question.text, YEARS[1], YEARS[0])]


def test_equal_answers_need_no_judge_and_an_unclear_verdict_drops_and_marks_nothing():
    asked = Question("q", "p", "Who?", "detail", 0)
    config = from_dict({"answers": {"agreement": "judge"}})
    model = Judged([], lambda *_: "Perhaps.")
    pairs = [(asked, "Anna Gray", "anna  GRAY"), (asked, "Anna", "Ben")]
    for if_unclear in (True, False):
        found = agreement.agree(pairs, config, model, if_unclear=if_unclear)
        assert found == [True, if_unclear]
    assert len(model.verdicts) == 2


def test_what_a_judge_decides_is_part_of_the_hash_and_off_it_changes_none(tmp_path, model):
    made = []
    for name, knobs in (("off", {}), ("on", {"agreement": "judge"})):
        config, _ = answered(tmp_path / name, model, "en", **knobs)
        made.append(read_json(config.run.answers_folder / "manifest.json")["settings"])
    assert made[0] != made[1]


def test_texts_are_compared_by_words_or_by_letters():
    assert says_the_same("It burns rape oil.", "rape oil")
    assert not says_the_same("奥斯克磨坊由安娜·格雷建造。", "奥斯克磨坊由安娜·格雷于1801年建造。")
    same = ("奥斯克磨坊由安娜·格雷建造。", "奥斯克磨坊由安娜·格雷于1801年建造。")
    assert says_the_same(*same, any_language=True)
    assert not says_the_same("巴黎是法国的首都。", "它磨黑麦和燕麦。", any_language=True)
