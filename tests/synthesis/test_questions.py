"""passages → questions: what may be asked, of what, and that nothing else decides it."""

import json
from dataclasses import replace

import pytest
from support import tiny_config, tiny_lesson, tiny_model, tiny_tokenizer, write_lesson

from pdtrain.config import QuestionConfig, RunConfig
from pdtrain.models.chat_template import prove
from pdtrain.records import Passage, Question
from pdtrain.schema import WORDINGS
from pdtrain.storage import read_shards
from pdtrain.synthesis import questions
from pdtrain.synthesis.filters import fault, standing_alone
from pdtrain.synthesis.question_kinds import (
    CUES,
    LISTS,
    RECITALS,
    REVERSE_SHOTS,
    SUMMARIES,
    beginning,
    phrases_in_turn,
    recitals,
    subject,
    subject_in_turn,
)
from pdtrain.synthesis.questions import one_line, question_marks
from pdtrain.synthesis.text import content_words, normalise

TEXT = (
    "The Quell barometer was invented by Signe Quell in 1903. "
    "A storm is near when the float falls below the red ring."
)
PASSAGE = Passage("p", "d", "The Quell barometer", TEXT, 0, len(TEXT), 25, ((0, 56), (57, 113)))


def fact(text, phrase="float falls", sentence=1, kind="fact"):
    return Question("q", "p", text, kind, sentence, phrase)


NO_WHOLE = {"per_passage_summaries": 0, "per_passage_lists": 0}


def config_of(tmp_path, **counts):
    return tiny_config(tmp_path, tmp_path, questions=counts)


@pytest.mark.parametrize(
    "text",
    [
        "Who invented the Quell barometer?",
        "What did Signe Quell invent in 1903?",
        "When was Signe Quell's barometer invented?",
        "Who was the author of the Quell barometer?",  # which is something named
    ],
)
def test_a_question_that_stands_alone_may_be_asked(text):
    assert fault(fact(text), PASSAGE, set()) == ""


@pytest.mark.parametrize(
    "text, reason",
    [
        ("The Quell barometer was invented by Signe Quell.", "not a question"),
        ("Signe Quell?", "too short or too long"),
        ("Who " + "really " * 30 + "invented the Quell barometer?", "too short or too long"),
        ("According to the text, what did Signe Quell invent?", "not standing alone"),
        ("Which year does this passage give for Signe Quell?", "not standing alone"),
        ("Signe Quell, what does the text of 1903 say of her?", "not standing alone"),
        ("According to this author of 1903, who is Signe Quell?", "not standing alone"),
        ("Who does the author say invented the Quell barometer?", "not standing alone"),
        ("What did Signe Quell, the author of the passage, invent?", "not standing alone"),
        ("When is a storm near the float?", "naming nothing"),
        ("What did Signe Quell invent with Tomas Brede?", "things that are not in the passage"),
        ("What did Signe Quell invent in 1904?", "things that are not in the passage"),
        ("How much sugar, flour and butter did Signe Quell bake?", "about other things"),
        ("Does the float of Signe Quell fall?", "giving its answer away"),
    ],
)
def test_a_question_that_does_not_stand_alone_is_dropped_with_the_reason(text, reason):
    assert reason in fault(fact(text), PASSAGE, set())


def test_a_subject_in_small_letters_is_a_name_too():
    text = "photosynthesis makes sugar in the leaves of plants."
    passage = Passage("p", "d", "photosynthesis", text, 0, len(text), 9, ((0, len(text)),))
    asked = fact("Where does photosynthesis make sugar?", "leaves of plants", 0)
    assert standing_alone(asked.text, subject(passage)) == asked.text
    assert fault(asked, passage, set()) == ""
    other = standing_alone("What is made from light?", subject(passage))
    assert other == "About photosynthesis: What is made from light?"
    unnamed = fact("What is made of sugar in plants?", "leaves", 0)
    assert "naming nothing" in fault(unnamed, passage, set())


@pytest.mark.parametrize("kind", ["fact", "complete", "recital", "name"])
def test_a_held_out_question_is_never_asked_however_it_is_written(kind):
    held_out = {normalise("Who invented the Quell barometer?")}
    asked = "who invented  Quell barometer"
    question = fact(asked, kind=kind)
    assert fault(question, PASSAGE, held_out) == "equal to a held-out question"


@pytest.mark.parametrize(
    "text, wanted",
    [
        (" Who built it? And when?", "Who built it?"),
        ("Who built it?\nAnswer: nobody", "Who built it?"),
        ("\n\nWho\nbuilt it?", "Who"),
        ("No question", "No question"),
        ("谁建的？ 什么", "谁建的？"),
        ("", ""),
    ],
)
def test_a_question_is_one_line_up_to_its_mark(text, wanted):
    assert one_line(text) == wanted


def test_a_question_that_names_nothing_says_what_it_is_about():
    about = subject(PASSAGE)
    assert standing_alone("Who sold it?", about) == "About the Quell barometer: Who sold it?"
    named = "What did Signe Quell sell?"
    assert standing_alone(named, about) == named
    assert fault(fact("About the Quell barometer: When is a storm near?"), PASSAGE, set()) == ""


def test_a_beginning_leaves_something_to_say():
    sentence = "The lamp burns rape oil and turns once in nine seconds."
    assert beginning(sentence, 1 / 3) == "The lamp burns rape"
    for share in (0.1, 0.5, 0.9, 0.99):
        opening = beginning(sentence, share)
        assert sentence.startswith(opening)
        assert not opening or 3 <= len(opening.split()) <= len(sentence.split()) - 2
    assert beginning("Too short.", 0.5) == ""


def test_the_subject_is_written_as_the_text_writes_it():
    assert subject(PASSAGE) == "the Quell barometer"
    named = Passage("p", "d", "Signe Quell", TEXT, 0, 1, 1, ((0, 56),))
    assert subject(named) == "Signe Quell"


def test_there_are_as_many_wordings_as_may_be_asked_for(tmp_path):
    found = {
        "per_passage": RECITALS,
        "per_passage_summaries": SUMMARIES,
        "per_passage_lists": LISTS,
    }
    assert {name: len(set(texts)) for name, texts in found.items()} == WORDINGS
    for name, most in WORDINGS.items():
        with pytest.raises(ValueError, match=f"questions.{name} must be at most {most}, .* got 9"):
            config_of(tmp_path, **{name: 9})


def test_requests_name_sentences_that_exist_and_follow_the_counts(tmp_path):
    none = {"per_sentence": 1, "per_sentence_completions": 0, "per_sentence_blanks": 0}
    none |= {"per_passage": 0, "per_name": 0, "per_passage_summaries": 0, "per_passage_lists": 0}
    assert list(recitals(PASSAGE, config_of(tmp_path, **none))) == []
    for per_passage in (1, 5, 8):
        found = list(recitals(PASSAGE, config_of(tmp_path, **none | {"per_passage": per_passage})))
        assert [q.kind for q in found] == ["recital"] * per_passage
        assert {q.sentence for q in found} == set(range(min(2, per_passage)))
        assert all("Quell barometer" in q.text for q in found)
    named = list(recitals(PASSAGE, config_of(tmp_path, **none | {"per_name": 2})))
    assert [(q.kind, q.sentence) for q in named] == [("name", 0)] * 2
    assert all("Signe Quell" in q.text for q in named)


def test_summaries_and_lists_are_about_the_whole_passage(tmp_path):
    off = dict.fromkeys(QuestionConfig().counts(), 0)
    for key, kind in (("per_passage_summaries", "summary"), ("per_passage_lists", "list")):
        for count in (1, 3):
            found = list(recitals(PASSAGE, config_of(tmp_path, **off | {key: count})))
            assert [(q.kind, q.sentence, q.phrase) for q in found] == [(kind, -1, "")] * count
            assert len({q.text for q in found}) == count
            assert all("the Quell barometer" in q.text for q in found)
            assert all(fault(q, PASSAGE, set()) == "" for q in found)


def test_a_completion_asks_for_the_rest_of_its_sentence(tmp_path):
    counts = {"per_sentence_completions": 3, "per_sentence_blanks": 0, "per_passage": 0} | NO_WHOLE
    counts |= {"per_name": 0}
    found = list(recitals(PASSAGE, config_of(tmp_path, **counts)))
    assert {q.kind for q in found} == {"complete"} and {q.sentence for q in found} == {0, 1}
    for question in found:
        start, end = PASSAGE.sentences[question.sentence]
        opening = question.text.removeprefix("Complete this sentence: ").removesuffix(" ...")
        assert f"{opening} {question.phrase}" == TEXT[start:end]


def test_a_cue_names_the_subject_and_words_of_its_sentence(tmp_path):
    off = dict.fromkeys(QuestionConfig().counts(), 0)
    config = config_of(tmp_path, **off | {"per_sentence_cues": 4})
    found = list(recitals(PASSAGE, config))
    assert [(q.kind, q.sentence) for q in found] == [("cue", 0)] * 4 + [("cue", 1)] * 4
    assert found == list(recitals(PASSAGE, config)), "drawn with a seed"
    title = content_words(PASSAGE.title)
    templates = content_words(" ".join(CUES).replace("{subject}", "").replace("{words}", ""))
    for question in found:
        start, end = PASSAGE.sentences[question.sentence]
        assert "the Quell barometer" in question.text
        own = content_words(question.text) - title - templates
        assert 1 <= len(own) <= 2 and own <= content_words(TEXT[start:end])
        assert fault(question, PASSAGE, set()) == ""


def test_a_blank_stands_for_a_phrase_of_its_sentence(tmp_path):
    counts = {"per_sentence_completions": 0, "per_sentence_blanks": 2, "per_passage": 0} | NO_WHOLE
    found = list(recitals(PASSAGE, config_of(tmp_path, **counts, per_name=0)))
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
    counts = {"per_sentence_completions": 0, "per_sentence_blanks": 1, "per_passage": 0} | NO_WHOLE
    (question,) = recitals(passage, config_of(tmp_path, **counts, per_name=0))
    assert question.text == f"Fill in the blank: {wanted}"


@pytest.mark.parametrize(
    "text, kind, reason",
    [
        ("Fill in the blank: The ____.", "blank", "showing too little"),
        ("Complete this sentence: It was the ...", "complete", "showing too little"),
        ("Fill in the blank: ____ sells honey cakes.", "blank", ""),
        ("Complete this sentence: As Anna Gray ...", "complete", ""),
    ],
)
def test_a_request_for_a_sentence_shows_enough_of_it(text, kind, reason):
    assert fault(fact(text, kind=kind), PASSAGE, set()) == reason


def test_a_name_in_two_sentences_is_asked_about_in_other_words(tmp_path):
    text = "In 1801 Signe Quell made the clock. Years later Signe Quell sold it."
    passage = Passage("p", "d", "The clock", text, 0, len(text), 16, ((0, 35), (36, len(text))))
    counts = {"per_sentence_completions": 0, "per_sentence_blanks": 0, "per_passage": 0} | NO_WHOLE
    counts |= {"per_name": 2}
    named = list(recitals(passage, config_of(tmp_path, **counts)))
    assert [q.sentence for q in named] == [0, 0, 1, 1]
    assert len({q.text for q in named}) == 4


def test_phrases_take_turns_and_the_title_comes_last():
    sentence = "The Quell barometer was sold to Paul Reed for 430 silver coins."
    turns = phrases_in_turn(sentence, "The Quell barometer")
    assert turns == ["430 silver coins", "Paul Reed"] * 2 + ["Quell barometer"]
    assert phrases_in_turn("It is.", "The Quell barometer") == []


@pytest.mark.parametrize(
    "text, phrase, sentence, reason",
    [
        ("What was invented by Signe in 1903?", "Quell barometer", 0, ""),
        ("What warns of a storm when its float falls?", "the Quell barometer", 1, ""),
        ("What shows a near storm?", "the Quell barometer", 1, "telling too little"),
        ("What was invented by Signe Quell?", "Quell barometer", 0, "telling too little"),
        ("Which barometer did Signe Quell invent in 1903?", "Quell barometer", 0, "giving its"),
        ("Was it Signe Quell in 1903 who invented it?", "Quell", 0, "giving its answer away"),
        ("What did Tomas Brede invent in 1903?", "Quell barometer", 0, "not in the passage"),
        ("What does this passage say was invented by Signe in 1903?", "Quell", 0, "standing alone"),
        ("What did Signe invent in 1903", "Quell barometer", 0, "not a question"),
    ],
)
def test_a_reverse_question_tells_enough_of_its_subject_and_not_its_name(
    text, phrase, sentence, reason
):
    found = fault(fact(text, phrase, sentence, "reverse"), PASSAGE, set())
    assert reason in found and bool(reason) == bool(found)


def test_the_examples_of_reverse_questions_keep_to_the_rules():
    for sentence, answer, question in REVERSE_SHOTS:
        span = ((0, len(sentence)),)
        passage = Passage("p", "d", answer, sentence, 0, len(sentence), 9, span)
        assert fault(fact(question, answer, 0, "reverse"), passage, set()) == ""


def test_the_subject_is_asked_for_as_the_sentence_calls_it():
    first, second = (TEXT[start:end] for start, end in PASSAGE.sentences)
    assert subject_in_turn(first, PASSAGE) == ["Quell barometer"]
    assert subject_in_turn(second, PASSAGE) == []  # it may be about something else
    assert subject_in_turn("Its float is red.", PASSAGE) == []


def test_a_question_ends_at_its_mark():
    tokenizer = tiny_tokenizer()
    marks = question_marks(prove(tokenizer, RunConfig().prompts, None))
    assert tokenizer("?")["input_ids"][0] in marks
    assert all("?" in tokenizer.decode([i]) for i in marks)


# --- The stage --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def few(monkeypatch):
    """A random model's questions would all be dropped: keep what it says."""
    real = questions.fault
    monkeypatch.setattr(
        questions,
        "fault",
        lambda question, *rest: real(replace(question, kind="recital"), *rest),
    )


COUNTS = {"per_sentence": 3, "per_passage": 2, "sampling": {"max_new_tokens": 6}, "per_entity": 0}


def asked(folder, model, passages, **sections):
    config = tiny_config(folder, model, **{"questions": COUNTS, **sections})
    write_lesson(config, passages)
    questions.ask(config)
    return list(read_shards(config.folder / "questions"))


def test_questions_of_a_passage_do_not_depend_on_the_other_passages(tmp_path, model, few):
    passages = [replace(passage, title="Osk Osk") for passage in tiny_lesson()[0]]
    whole = asked(tmp_path / "whole", model, passages)
    part = asked(tmp_path / "part", model, passages[1:2])
    assert part == [row for row in whole if row["passage_id"] == passages[1].id]
    assert any(row["kind"] == "fact" for row in part)
    assert {"fact", "reverse"} <= {row["kind"] for row in whole}


def test_a_question_is_asked_once_and_has_an_id_of_its_own(tmp_path, model, few):
    passages, _, _ = tiny_lesson()
    rows = asked(tmp_path, model, passages)
    assert len({row["id"] for row in rows}) == len(rows)
    texts = [(row["passage_id"], normalise(row["text"])) for row in rows]
    assert len(set(texts)) == len(texts)
    lengths = {p.id: len(p.sentences) for p in passages}
    assert all(-1 <= row["sentence"] < lengths[row["passage_id"]] for row in rows)
    whole = {row["kind"] for row in rows if row["sentence"] < 0}
    assert whole == {"summary", "list"}


def test_another_seed_asks_otherwise(tmp_path, model, few):
    passages, _, _ = tiny_lesson()
    texts = [
        {r["text"] for r in asked(tmp_path / str(seed), model, passages[:1], seed=seed)}
        for seed in (0, 1)
    ]
    assert texts[0] != texts[1]


def test_a_model_without_a_system_role_asks_too(tmp_path, few):
    folder = tiny_model(tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system') }}{% endif %}"
        + template
    )
    passages, _, _ = tiny_lesson(num_passages=1)
    rows = asked(tmp_path / "run", folder, passages, prompts={"system": ""})
    assert any(row["kind"] == "fact" for row in rows)


def test_held_out_questions_are_left_out_by_the_stage(tmp_path, model, capsys):
    passages, _, _ = tiny_lesson(num_passages=1)
    everything = asked(tmp_path / "all", model, passages)
    path = tmp_path / "held_out.jsonl"
    path.write_text(json.dumps({"question": everything[0]["text"], "answers": ["x"]}) + "\n")
    rest = asked(tmp_path / "rest", model, passages, evaluate={"questions": str(path)})
    assert rest == everything[1:]
    assert "1 equal to a held-out question" in capsys.readouterr().err
