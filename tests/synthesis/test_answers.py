"""questions → answers: sampled ids are kept as they were, and what is ungrounded is dropped."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from fake_backend import FakeBackend
from support import tiny_config, tiny_model, tiny_records, write_records

from pdtrain.config import from_dict
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.records import Answer, Passage, Question
from pdtrain.stage import output_hash
from pdtrain.storage import read_json, read_shards
from pdtrain.synthesis import agreement, answers
from pdtrain.synthesis.answers import Teacher
from pdtrain.synthesis.filters import ungrounded

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


# --- The teacher ------------------------------------------------------------------------------

OIL, HOURS = "The lamp burns rape oil.", "Tomas Brede winds it every 4 hours."
GOOD, BAD = "It burns rape oil.", "It burns petrol."
LIGHT = replace(ABOUT_OIL, id="q1", text="By what does the lamp of Vell Point give light?")


class Scripted(FakeBackend):
    """Says to each question what stands for it in a script, its last text again and again."""

    def __init__(self, **script):
        self.script, self.said = script, defaultdict(int)
        super().__init__(self._next)

    def _next(self, prompt, _):
        texts = {q.text: texts for q in QUESTIONS if (texts := self.script.get(q.id))}
        (key,) = (text for text in texts if f"answer in one short sentence: {text}" in prompt)
        self.said[key] += 1
        return texts[key][min(self.said[key], len(texts[key])) - 1]


ALL = replace(ABOUT_ALL, id="all")
QUESTIONS = (ABOUT_OIL, LIGHT, ALL)


def kept_of(backend, *questions, **settings):
    """All answers that a teacher keeps, and why it drops the others."""
    off = {"checks": 0, "quote": False}
    config = tiny_config("runs", "none", answers=off | settings)
    dropped = Counter()
    kept = Teacher(config, dropped, backend).answer(PASSAGE, list(questions))
    return kept, dict(dropped)


def answered(backend, *questions, **settings):
    """(question id, text) of all answers that a teacher keeps, and why it drops the others."""
    kept, dropped = kept_of(backend, *questions, **settings)
    return [(answer.question_id, answer.text) for answer in kept], dropped


def num_asked(backend):
    return [len(call.prompts) for call in backend.calls]


def test_the_teacher_reads_the_passage_and_the_sentence_in_question():
    backend = Scripted(q=[GOOD], all=[GOOD])
    answered(backend, ABOUT_OIL, ALL)
    about_oil, about_all = backend.asked
    assert about_oil.count(TEXT) == about_all.count(TEXT) == 1
    assert about_oil.count(OIL) == 2 and about_all.count(OIL) == 1


def test_every_question_is_answered_as_often_as_asked_for_and_equal_answers_are_kept_once():
    backend = Scripted(q=[GOOD, "Rape oil.", GOOD], q1=[GOOD])
    kept, dropped = answered(backend, ABOUT_OIL, LIGHT, per_question=3)
    assert kept == [("q", GOOD), ("q", "Rape oil."), ("q1", GOOD)]
    assert dropped == {"repeated": 3}


def test_a_question_whose_answer_was_dropped_is_asked_again_and_no_other_one():
    backend = Scripted(q=[BAD, GOOD], q1=[GOOD])
    kept, dropped = answered(backend, ABOUT_OIL, LIGHT, attempts=3)
    assert sorted(kept) == [("q", GOOD), ("q1", GOOD)]
    assert dropped == {"saying nothing that the sentence says": 1} and num_asked(backend) == [2, 1]
    assert len({call.seed for call in backend.calls}) == 2
    kept, _ = answered(Scripted(q=[BAD, GOOD], q1=[GOOD]), ABOUT_OIL, LIGHT, attempts=1)
    assert kept == [("q1", GOOD)]
    kept, dropped = answered(Scripted(q=[BAD]), ABOUT_OIL, grounded=False)
    assert kept == [("q", BAD)] and not dropped


def test_an_empty_answer_is_dropped_even_where_nothing_is_checked():
    kept, dropped = answered(Scripted(q=["", GOOD]), ABOUT_OIL, grounded=False)
    assert kept == [("q", GOOD)] and dropped == {"empty": 1}


class Cut(Scripted):
    """Is cut off in its first answer to each question."""

    def sample(self, *given, **more):
        first = not self.calls
        return [replace(c, finished=not first) for c in super().sample(*given, **more)]


def test_an_answer_that_was_cut_off_is_asked_for_again_where_wanted():
    script = {"q": [GOOD, "Rape oil."]}
    assert answered(Cut(**script), ABOUT_OIL) == ([("q", GOOD)], {})
    wanted = [("q", "Rape oil.")], {"unfinished": 1}
    assert answered(Cut(**script), ABOUT_OIL, unfinished=False) == wanted
    only = {"unfinished": False, "attempts": 1, "quote": True}
    assert answered(Cut(**script), ABOUT_OIL, **only) == ([("q", OIL)], {"unfinished": 1})
    free = {"unfinished": False, "attempts": 1, "grounded": False}
    assert answered(Cut(**script), ABOUT_OIL, **free)[0] == [], "also where nothing is checked"


def test_a_greedy_answer_is_asked_for_once():
    backend = Scripted(q=[BAD])
    greedy = {"temperature": 0}
    assert answered(backend, ABOUT_OIL, attempts=3, sampling=greedy)[0] == []
    assert num_asked(backend) == [1]


@pytest.mark.parametrize("enough, again", [(1, ["all"]), (2, ["q1", "all"])])
def test_a_sentence_with_enough_answers_is_left_alone(enough, again):
    """A whole passage has no number of answers that is enough."""
    backend = Scripted(q=[GOOD], q1=[BAD], all=["Nothing."])
    settings = {"attempts": 2, "enough_per_sentence": enough}
    kept, _ = answered(backend, ABOUT_OIL, LIGHT, ALL, **settings)
    assert kept == [("q", GOOD)] and num_asked(backend) == [3, len(again)]
    texts = {question.id: question.text for question in QUESTIONS}
    second = backend.calls[1].prompts
    assert all(texts[name] in prompt for name, prompt in zip(again, second, strict=True))


def test_a_request_for_a_sentence_is_answered_by_the_sentence_and_not_sampled():
    asked = [replace(ABOUT_OIL, id=kind, kind=kind) for kind in ("complete", "blank", "cue")]
    backend = Scripted(q=[GOOD])
    teacher = Teacher(tiny_config("runs", "none"), Counter(), backend)
    kept = teacher.answer(PASSAGE, [*asked, ABOUT_OIL])
    by_question = {answer.question_id: answer for answer in kept}
    for question in asked:
        answer = by_question[question.id]
        assert answer.text == OIL and answer.finished
        assert answer.token_ids == (*backend.chat.ids(OIL), backend.chat.stop_ids[0])
    assert by_question["q"].text == GOOD
    # the question and its check, and no request
    assert num_asked(backend) == [1, 1]


def test_a_sentence_is_not_quoted_where_quotes_are_off_or_it_is_too_long():
    quoted, again = replace(ABOUT_OIL, kind="complete"), Scripted(q=[GOOD])
    assert answered(again, quoted, quote=False)[0] == [("q", GOOD)]
    length = len(again.chat.ids(OIL))
    for most, wanted in ((length, GOOD), (length + 1, OIL)):
        found, _ = answered(again, quoted, quote=True, sampling={"max_new_tokens": most})
        assert found == [("q", wanted)]


def test_a_sentence_that_spells_the_end_of_an_answer_is_quoted_as_text():
    text = "The mark <|im_end|> stands here."
    passage = replace(PASSAGE, text=text, sentences=((0, len(text)),))
    config = tiny_config("runs", "none", answers={"checks": 0})
    teacher = Teacher(config, Counter(), FakeBackend.in_turn("The mark stands."))
    (kept,) = teacher.answer(passage, [replace(ABOUT_OIL, kind="complete")])
    assert kept.text == text
    ends = [place for place, token in enumerate(kept.token_ids) if token in teacher.chat.stop_ids]
    assert ends == [len(kept.token_ids) - 1]


def test_a_question_without_any_answer_left_is_answered_by_its_sentence():
    backend = Scripted(q=[BAD], all=["Nothing."])
    kept, _ = answered(backend, ABOUT_OIL, ALL, quote=True)
    assert kept == [("q", OIL)], "one about the whole passage has no sentence"
    assert answered(backend, ABOUT_OIL, ALL, quote=False)[0] == []


@pytest.mark.parametrize(
    "kind, is_request",
    [
        ("fact", False),
        ("reverse", False),
        ("recital", True),
        ("name", True),
        ("cue", True),
        ("complete", True),
        ("blank", True),
    ],
)
def test_only_requests_are_answered_by_a_sentence_where_that_is_set(kind, is_request):
    asked = replace(ABOUT_OIL, kind=kind, phrase="lamp" if kind == "reverse" else "")
    kept, _ = answered(FakeBackend.in_turn(BAD), asked, quote="asked")
    assert kept == [("q", OIL)] * is_request
    assert answered(FakeBackend.in_turn(BAD), asked, quote=True)[0] == [("q", OIL)]


def test_the_phrase_is_left_of_a_question_that_is_not_answered_by_its_sentence():
    asked = replace(ABOUT_OIL, kind="fact", phrase="rape oil")
    kept, _ = answered(FakeBackend.in_turn(BAD), asked, quote="asked", spans=True)
    assert kept == [("q", "rape oil")]


def test_a_sentence_that_does_not_name_its_subject_is_no_answer_to_which_it_is():
    asked = [
        replace(ABOUT_OIL, id=phrase, kind="reverse", phrase=phrase)
        for phrase in ("lamp", "Vell Point")
    ]
    backend = FakeBackend.in_turn(BAD)
    assert answered(backend, *asked, quote=True)[0] == [("lamp", OIL)]


def test_a_phrase_that_is_asked_for_is_an_answer_of_its_own_where_wanted():
    kinds = {"fact": "rape oil", "reverse": "lamp", "complete": "rape oil", "cue": "", "blank": ""}
    asked = [replace(ABOUT_OIL, id=k, kind=k, phrase=phrase) for k, phrase in kinds.items()]
    asked.append(replace(ABOUT_OIL, id="none", phrase=""))
    backend = FakeBackend.in_turn("The lamp burns rape oil here.")
    without, _ = answered(backend, *asked)
    found, _ = answered(backend, *asked, spans=True)
    assert found == [*without, ("fact", "rape oil"), ("reverse", "lamp")]


def test_a_phrase_that_the_teacher_said_is_one_answer():
    asked = replace(ABOUT_OIL, phrase="rape oil")
    assert answered(Scripted(q=["rape oil"]), asked, spans=True)[0] == [("q", "rape oil")]


@pytest.mark.parametrize(
    "said, kind, phrase, more, checked",
    [
        (GOOD, "fact", "rape oil", {}, {GOOD: True, "rape oil": True}),
        (BAD, "fact", "rape oil", {}, {OIL: False, "rape oil": False}),
        (BAD, "fact", "rape oil", {"grounded": False}, {BAD: True, "rape oil": False}),
        (GOOD, "fact", "rape oil", {"grounded": False}, {GOOD: True, "rape oil": True}),
        (BAD, "complete", "rape oil", {}, {OIL: True}),
        (BAD, "unsaid", "rape oil", {}, {"rape oil": True}),
        (BAD, "given", "rape oil", {}, {"rape oil": True}),
    ],
)
def test_what_stands_in_for_dropped_answers_is_not_checked(said, kind, phrase, more, checked):
    asked = replace(ABOUT_OIL, kind=kind, phrase=phrase)
    backend = FakeBackend.in_turn(said)
    check_marks(kept_of(backend, asked, quote=True, spans=True, **more)[0], checked)


@pytest.mark.parametrize(
    "phrase, checked", [("rape oil", {OIL: False, "rape oil": True}), (OIL, {OIL: True})]
)
def test_a_data_sets_own_answer_is_right_whatever_the_teacher_says(phrase, checked):
    asked = replace(ABOUT_OIL, kind="given", phrase=phrase)
    more = {"questions": {"given_answers": "sample"}}
    settings = {"checks": 0, "quote": True, "spans": True}
    config = tiny_config("runs", "none", answers=settings, **more)
    teacher = Teacher(config, Counter(), FakeBackend.in_turn(BAD))
    check_marks(teacher.answer(PASSAGE, [asked]), checked)


def check_marks(kept, checked):
    assert {answer.text: answer.checked for answer in kept} == checked
    for answer in kept:
        found = answer.to_json()
        assert ("checked" in found) is not answer.checked, "as earlier versions wrote it"
        assert Answer.from_json(found) == answer


# --- Further samples --------------------------------------------------------------------------


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
    answer = Answer("a", ABOUT_OIL.id, "p", "The lamp burns rape oil.", (1,), True)
    asked, nobody = {ABOUT_OIL.id: ABOUT_OIL}, FakeBackend.in_turn("?")
    found = agreement.consistent([answer], [samples], asked, from_dict({}), nobody)
    assert found == [holds] and not nobody.calls


def test_an_answer_that_further_samples_do_not_agree_with_is_dropped():
    agreed = Scripted(q=[GOOD, "The lamp burns rape oil.", HOURS])
    assert answered(agreed, ABOUT_OIL, checks=2) == ([("q", GOOD)], {})
    alone = Scripted(q=[GOOD, HOURS, HOURS, "The lamp burns rape oil."])
    dropped = {"answered inconsistently": 1}
    assert answered(alone, ABOUT_OIL, checks=3) == ([], dropped)
    assert num_asked(alone) == [1, 3]
    kept, _ = answered(Scripted(q=[GOOD, HOURS]), ABOUT_OIL, checks=1, quote=True)
    assert kept == [("q", OIL)], "its sentence is left"


def test_answers_that_hold_a_phrase_and_greedy_ones_are_not_checked():
    with_phrase = Scripted(q=[GOOD, HOURS])
    asked = replace(ABOUT_OIL, phrase="rape oil")
    assert answered(with_phrase, asked, checks=3) == ([("q", GOOD)], {})
    assert num_asked(with_phrase) == [1]
    greedy = Scripted(q=[GOOD, HOURS])
    assert answered(greedy, ABOUT_OIL, checks=3, sampling={"temperature": 0})[0] == [("q", GOOD)]
    assert num_asked(greedy) == [1]


# --- The stage, with a real model -------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


SETTINGS = {
    "grounded": False,
    "checks": 0,
    "quote": False,
    "sampling": {"max_new_tokens": 8, "temperature": 1.0},
}


def collected(folder, model, records=None, backend=None, **settings):
    passages, questions, _ = records or tiny_records()
    config = tiny_config(folder, model, answers=SETTINGS | settings)
    write_records(config, passages, questions)
    answers.collect(config, backend)
    return list(read_shards(config.folder / "answers")), config


def test_dropping_unfinished_answers_alone_gives_the_stage_another_hash(tmp_path, model):
    """Runs that were made before the knob was there can be resumed."""
    inputs = {}
    ways = {"plain": {}, "keep": {"unfinished": True}, "drop": {"unfinished": False}}
    for name, settings in ways.items():
        backend = FakeBackend.in_turn("Rape oil.")
        _, config = collected(tmp_path / name, model, backend=backend, **settings)
        inputs[name] = read_json(config.folder / "answers" / "manifest.json")["inputs"]
    assert inputs["plain"] == inputs["keep"] != inputs["drop"]
    plain = tiny_config(tmp_path / "other", model, answers=SETTINGS)
    assert "answers.unfinished" not in plain.decisions("answers")


def test_the_tokens_that_were_sampled_are_kept(tmp_path, model):
    rows, config = collected(tmp_path, model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    asked = {q.id: q for q in tiny_records()[1]}
    for row in rows:
        assert 0 < len(row["token_ids"]) <= 8
        assert chat.text(row["token_ids"]) == row["text"]
        assert row["finished"] == (row["token_ids"][-1] in chat.stop_ids)
        assert asked[row["question_id"]].passage_id == row["passage_id"]
    # not what tokenizing the text again would give
    assert any(chat.ids(row["text"]) != row["token_ids"] for row in rows)


def test_answers_of_a_passage_do_not_depend_on_the_other_passages(tmp_path, model):
    passages, questions, _ = tiny_records()
    whole, _ = collected(tmp_path / "whole", model)
    own = [q for q in questions if q.passage_id == passages[1].id]
    part, _ = collected(tmp_path / "part", model, ([passages[1]], own, []))
    assert part == [row for row in whole if row["passage_id"] == passages[1].id]


def test_a_random_models_answers_are_ungrounded_and_inconsistent(tmp_path, model):
    questions = tiny_records()[1]
    for name, settings in (("grounded", {"grounded": True}), ("checks", {"checks": 1})):
        rows, _ = collected(tmp_path / name, model, **settings)
        assert len(rows) < len(questions)


def test_a_second_time_the_model_is_not_asked(tmp_path):
    backend = FakeBackend(lambda prompt, rng: f"It is number {rng.random()}.")
    first, config = collected(tmp_path, "none", backend=backend)
    before = len(backend.calls), output_hash(config.run.answers_folder)
    assert before[0]
    assert collected(tmp_path, "none", backend=backend)[0] == first
    assert (len(backend.calls), output_hash(config.run.answers_folder)) == before
    counts = read_json(tmp_path / "coverage.json")["passages"]
    assert sum(sum(one["answers"].values()) for one in counts) == len(first)


def test_questions_of_other_passages_are_refused(tmp_path):
    passages, questions, _ = tiny_records()
    with pytest.raises(ValueError, match="the questions are of other passages; run `pdtrain q"):
        collected(tmp_path, "none", (passages[:1], questions, []))
