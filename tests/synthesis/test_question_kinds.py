"""The table of kinds: its knobs, its templates, and that a new line of it is all a kind needs."""

from collections import Counter
from dataclasses import fields, replace

import pytest
from support import tiny_config

from pdtrain.config import QuestionConfig
from pdtrain.records import Passage
from pdtrain.synthesis.question_kinds import KINDS, QuestionKind, fault, kind_of, requests
from pdtrain.synthesis.sentence_writer import question_templates as templates
from pdtrain.synthesis.sentence_writer.question_templates import Request
from pdtrain.synthesis.text import content_words, names

TEXT = (
    "The Quell barometer was invented by Signe Quell in 1903. "
    "A storm is near when the float falls below the red ring."
)
PASSAGE = Passage("p", "d", "The Quell barometer", TEXT, 0, len(TEXT), 25, ((0, 56), (57, 113)))
OFF = dict.fromkeys(QuestionConfig().counts(), 0)


def asked(folder, passage=PASSAGE, **counts):
    """Requests about a passage, with all kinds off but those that have a count."""
    config = tiny_config(folder, folder, questions=OFF | {"per_sentence": 1} | counts)
    return list(requests(passage, config))


# --- The table --------------------------------------------------------------------------------


def test_every_kind_has_a_knob_of_its_own_and_every_knob_a_kind():
    assert sorted(kind.knob for kind in KINDS.values()) == sorted(QuestionConfig().counts())
    assert all(name == kind.name for name, kind in KINDS.items())


def test_a_kind_is_found_by_its_name_and_an_unknown_one_is_refused():
    assert kind_of("cue").quoted and not kind_of("fact").quoted
    with pytest.raises(ValueError, match=r"no kind of question is called 'riddle'; known are fact"):
        kind_of("riddle")


def test_a_kind_that_stands_in_the_table_is_asked_and_checked(tmp_path, monkeypatch):
    """A kind that is added needs no other place: here one that asks backwards for each sentence."""

    def backwards(passage, count, seed):
        for index in range(len(passage.sentences)):
            for turn in range(count):
                yield Request(f"Say sentence {index} backwards, {turn}.", index)

    def is_even(question, passage):
        return "" if question.sentence % 2 == 0 else "odd"

    kind = QuestionKind(
        "backwards", "per_name", requests=backwards, by_sentence=True, check=is_even
    )
    monkeypatch.setitem(KINDS, kind.name, kind)
    found = [q for q in asked(tmp_path, per_name=2) if q.kind == "backwards"]
    assert [q.sentence for q in found] == [0, 0, 1, 1] and len({q.id for q in found}) == 4
    assert [fault(q, PASSAGE, set()) for q in found] == ["", "", "odd", "odd"]


def test_a_knob_asks_for_no_more_than_there_are_wordings(tmp_path):
    most = {f.name: f.metadata.get("wordings") for f in fields(QuestionConfig)}
    for kind in KINDS.values():
        if not most[kind.knob]:
            continue
        found = asked(tmp_path, **{kind.knob: most[kind.knob]})
        assert len({q.text for q in found}) == len(found) == most[kind.knob]
        with pytest.raises(ValueError, match=f"questions.{kind.knob} must be at most .* got 9"):
            asked(tmp_path, **{kind.knob: 9})


# --- Requests by templates --------------------------------------------------------------------


def test_requests_come_for_the_whole_passage_first_and_then_sentence_by_sentence(tmp_path):
    found = asked(tmp_path, per_passage_lists=1, per_sentence_completions=1, per_sentence_blanks=1)
    places = [(q.kind, q.sentence) for q in found]
    each = [("complete", 0), ("blank", 0), ("complete", 1), ("blank", 1)]
    assert places == [("list", -1), *each]


def test_requests_name_sentences_that_exist_and_follow_the_counts(tmp_path):
    assert asked(tmp_path) == []
    for per_passage in (1, 5, 8):
        found = asked(tmp_path, per_passage=per_passage)
        assert [q.kind for q in found] == ["recital"] * per_passage
        assert {q.sentence for q in found} == set(range(min(2, per_passage)))
        assert all("Quell barometer" in q.text for q in found)
    named = asked(tmp_path, per_name=2)
    assert [(q.kind, q.sentence) for q in named] == [("name", 0)] * 2
    assert all("Signe Quell" in q.text for q in named)


def test_summaries_and_lists_are_about_the_whole_passage(tmp_path):
    for key, kind in (("per_passage_summaries", "summary"), ("per_passage_lists", "list")):
        for count in (1, 3):
            found = asked(tmp_path, **{key: count})
            assert [(q.kind, q.sentence, q.phrase) for q in found] == [(kind, -1, "")] * count
            assert len({q.text for q in found}) == count
            assert all("the Quell barometer" in q.text for q in found)
            assert all(fault(q, PASSAGE, set()) == "" for q in found)


def test_a_completion_asks_for_the_rest_of_its_sentence(tmp_path):
    found = asked(tmp_path, per_sentence_completions=3)
    assert {q.kind for q in found} == {"complete"} and {q.sentence for q in found} == {0, 1}
    for question in found:
        start, end = PASSAGE.sentences[question.sentence]
        opening = question.text.removeprefix("Complete this sentence: ").removesuffix(" ...")
        assert f"{opening} {question.phrase}" == TEXT[start:end]


def test_a_cue_names_the_subject_or_a_name_and_words_of_its_sentence(tmp_path):
    found = asked(tmp_path, per_sentence_cues=4)
    assert [(q.kind, q.sentence) for q in found] == [("cue", 0)] * 4 + [("cue", 1)] * 4
    assert found == asked(tmp_path, per_sentence_cues=4), "drawn with a seed"
    title = content_words(PASSAGE.title)
    wordings = " ".join(templates.CUES).replace("{subject}", "").replace("{words}", "")
    for question in found:
        start, end = PASSAGE.sentences[question.sentence]
        sentence = TEXT[start:end]
        name = next(n for n in ("the Quell barometer", *names(sentence)) if n in question.text)
        own = content_words(question.text.replace(name, "")) - title - content_words(wordings)
        assert 1 <= len(own) <= 2 and own <= content_words(sentence)
        assert fault(question, PASSAGE, set()) == ""


def test_every_second_cue_names_what_its_own_sentence_names(tmp_path):
    text = "Long ago Clara Hopper met Silas Booth, with his raven Professor Pickle."
    passage = Passage("p", "d", "Clara Hopper", text, 0, len(text), 14, ((0, len(text)),))
    found = [q.text for q in asked(tmp_path, passage, per_sentence_cues=6)]
    assert ["Clara Hopper" in text for text in found] == [True, False] * 3
    assert ["Silas Booth" in text for text in found[1::4]] == [True] * 2
    assert "Professor Pickle" in found[3]
    assert all(text.count("Silas") == text.count("Booth") == 1 for text in found[1::4])


def test_all_words_of_a_sentence_have_a_turn_in_its_cues_before_one_comes_again(tmp_path):
    text = "The Puddle Parade warms seven tired marchers along muddy rivers below dark mountains."
    passage = Passage("p", "d", "The Puddle Parade", text, 0, len(text), 12, ((0, len(text)),))
    found = asked(tmp_path, passage, per_sentence_cues=10)
    words = content_words(text) - content_words(passage.title)
    turns = Counter(word for q in found for word in content_words(q.text) & words)
    assert set(turns) == words and sum(turns.values()) == 15 > len(words)
    assert max(turns.values()) - min(turns.values()) == 1


def test_a_blank_stands_for_a_phrase_of_its_sentence(tmp_path):
    found = asked(tmp_path, per_sentence_blanks=2)
    assert {q.kind for q in found} == {"blank"} and {q.sentence for q in found} == {0, 1}
    assert len({q.text for q in found}) == 4
    for question in found:
        start, end = PASSAGE.sentences[question.sentence]
        blank = question.text.removeprefix("Fill in the blank: ")
        assert blank.replace("____", question.phrase) == TEXT[start:end]


@pytest.mark.parametrize(
    "sentence, wanted",
    [
        ("The leftover soup in Oak End was left.", "The leftover soup in Oak End was ____."),
        ("Old Anna Gray met Anna Gray there.", "Old ____ met ____ there."),
        ("In Oak End 1,500 sheep ate grass.", "In Oak End ____."),
    ],
)
def test_a_blank_takes_whole_words_and_every_one(tmp_path, sentence, wanted):
    passage = Passage("p", "d", "Notes", sentence, 0, len(sentence), 9, ((0, len(sentence)),))
    (question,) = asked(tmp_path, passage, per_sentence_blanks=1)
    assert question.text == f"Fill in the blank: {wanted}"


def test_a_name_in_two_sentences_is_asked_about_in_other_words(tmp_path):
    text = "In 1801 Signe Quell made the clock. Years later Signe Quell sold it."
    passage = Passage("p", "d", "The clock", text, 0, len(text), 16, ((0, 35), (36, len(text))))
    named = asked(tmp_path, passage, per_name=2)
    assert [q.sentence for q in named] == [0, 0, 1, 1]
    assert len({q.text for q in named}) == 4


def test_a_subject_that_the_text_calls_otherwise_is_not_asked_about_as_a_name(tmp_path):
    """A file's name is no subject: the first name in the text is, which is no other name then."""
    passage = replace(PASSAGE, title="notes_07")
    assert asked(tmp_path, passage, per_name=1) == []


# --- Passages without a subject ----------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["it opens at nine and closes at five.", "灯塔由工程师建造 共有214级台阶 很高。"]
)
def test_nothing_is_asked_about_all_of_a_passage_that_has_no_subject(tmp_path, text):
    bare = Passage("p", "rows.jsonl:1", "", text, 0, len(text), 9, ((0, len(text)),))
    found = asked(
        tmp_path,
        bare,
        per_passage=8,
        per_passage_summaries=4,
        per_passage_lists=4,
        per_sentence_cues=3,
        per_sentence_completions=1,
    )
    assert {q.kind for q in found} <= {"cue", "complete"}
    assert not any("  " in q.text or "about ." in q.text or "None" in q.text for q in found)
    cues = [q.text for q in found if q.kind == "cue"]
    assert len(set(cues)) == len(cues) == 3
    assert all(" and " in cue for cue in cues), "one word would not say which sentence is meant"


def test_a_passage_without_a_title_is_asked_about_by_the_first_name_in_it(tmp_path):
    text = "The pier was built by Anna Gray in 1883."
    bare = Passage("p", "rows.jsonl:1", "", text, 0, len(text), 9, ((0, len(text)),))
    found = asked(tmp_path, bare, per_passage=1)
    assert [q.text for q in found] == ["Tell me about Anna Gray."]
