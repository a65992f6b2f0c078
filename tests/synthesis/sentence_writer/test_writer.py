"""The writer: how the model is asked, and which of its questions are kept."""

from collections import Counter
from itertools import count

import pytest
from fake_backend import FakeBackend, ask_well, shown_and_answer
from support import tiny_config, tiny_records, tiny_tokenizer

from pdtrain.config import QuestionConfig, RunConfig
from pdtrain.models.chat.chat_template import prove
from pdtrain.records import Passage
from pdtrain.synthesis.question_kinds import FACT, kind_of
from pdtrain.synthesis.sentence_writer import question_examples as examples
from pdtrain.synthesis.sentence_writer.writer import Writer, one_line, question_marks
from pdtrain.synthesis.text import normalise, sentences_of, subject


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


def test_a_question_ends_at_its_mark():
    tokenizer = tiny_tokenizer()
    marks = question_marks(prove(tokenizer, RunConfig().prompts, None))
    assert tokenizer("?")["input_ids"][0] in marks
    assert all("?" in tokenizer.decode([i]) for i in marks)


OFF = dict.fromkeys(QuestionConfig().counts(), 0)
LONG = "In which year did the baker Anna Gray build her blue mill beside the river at Oak End?"
TEXT = (
    "In 1801 Anna Gray built the Blue Mill beside the river at Oak End. "
    "The Blue Mill grinds rye and oats for the old village."
)
SPANS = ((0, 66), (67, len(TEXT)))
PASSAGE = Passage("p", "d", "The Blue Mill", TEXT, 0, len(TEXT), 30, SPANS)


def writer_of(folder, backend, held_out=(), **questions):
    """A writer that asks only for the kinds that have a count."""
    config = tiny_config(folder, "none", questions=OFF | questions)
    return Writer(config, set(held_out), Counter(), backend)


# --- How the model is asked -------------------------------------------------------------------


def test_the_model_sees_examples_then_the_sentence_and_the_answer_to_ask_for(tmp_path):
    backend = FakeBackend(ask_well)
    found = writer_of(tmp_path, backend, per_sentence=2).about_passage(PASSAGE)
    sentences = sentences_of(PASSAGE)
    assert [q.sentence for q in found] == [0, 0, 1, 1] and {q.kind for q in found} == {"fact"}
    shown = [shown_and_answer(prompt) for prompt in backend.asked]
    assert shown == [(sentences[q.sentence], q.phrase) for q in found]
    for text, answer, question in FACT.few_shot.shots:
        assert all(f"{text}\nAnswer: {answer}" in prompt for prompt in backend.asked)
        assert all(question in prompt for prompt in backend.asked)


def test_the_subject_is_asked_for_in_sentences_that_name_it(tmp_path):
    asks = "What did Anna Gray build in 1801?", "What grinds rye and oats for the old village?"
    backend = FakeBackend.in_turn(*(f"{text} The mill." for text in asks))
    found = writer_of(tmp_path, backend, per_sentence_reverse=1).about_passage(PASSAGE)
    assert [(q.kind, q.text) for q in found] == [("reverse", text) for text in asks]
    shown = [shown_and_answer(prompt) for prompt in backend.asked]
    assert shown == [(sentence, "Blue Mill") for sentence in sentences_of(PASSAGE)]
    instruction = kind_of("reverse").few_shot.instruction
    assert all(instruction in prompt for prompt in backend.asked)


def test_a_question_about_nothing_gets_its_subject_and_one_for_the_subject_does_not(tmp_path):
    vague = FakeBackend.in_turn("When was it built beside the river?")
    (found,) = writer_of(tmp_path, vague, per_sentence=1).about(FACT, PASSAGE, [(0, "1801")], 0)
    assert found.text == "About the Blue Mill: When was it built beside the river?"
    reverse, target = kind_of("reverse"), (1, "Blue Mill")
    (found,) = writer_of(tmp_path, vague, per_sentence=1).about(reverse, PASSAGE, [target], 0)
    assert found.text == "When was it built beside the river?"


# --- What is kept -----------------------------------------------------------------------------


def test_a_question_with_a_fault_is_dropped_and_counted(tmp_path):
    backend = FakeBackend.in_turn("Where is the blue mill of Anna Gray?", "At Oak End.")
    writer = writer_of(tmp_path, backend, per_sentence=1)
    (found,) = writer.about_passage(PASSAGE)
    assert found.text == "Where is the blue mill of Anna Gray?"
    assert writer.dropped == {"not a question": 1}


def kept(folder, *texts, **knobs):
    """What is kept of what the model asks without a plan, and why the others are dropped."""
    counts = {"blind": len(texts), "blind_a_call": 1} | knobs
    writer = writer_of(folder, FakeBackend.in_turn(*texts), **counts)
    found = [question.text for question in writer.about_passage(PASSAGE)]
    return found, dict(writer.dropped)


def test_a_question_in_nearly_the_words_of_another_is_dropped_and_counted(tmp_path):
    again = LONG.replace("did the", "did that")
    other = "Who built a mill at Oak End?"
    assert kept(tmp_path, LONG, again, other) == ([LONG, other], {"nearly repeated": 1})
    assert kept(tmp_path, LONG, again, near_duplicate=1.0) == ([LONG, again], {})
    spaced = LONG.replace("the river", "the  river")
    assert kept(tmp_path, LONG, spaced, near_duplicate=1.0) == ([LONG], {"repeated": 1})
    assert kept(tmp_path, LONG, LONG) == ([LONG], {"repeated": 1})


def test_two_blanks_of_a_sentence_are_not_each_others_repetition(tmp_path):
    writer = writer_of(tmp_path, FakeBackend(ask_well), per_sentence_blanks=2, near_duplicate=0.3)
    found = writer.about_passage(PASSAGE)
    assert [q.sentence for q in found] == [0, 0, 1, 1] and not writer.dropped


@pytest.mark.parametrize("kind", ["fact", "recital", "complete", "blind"])
def test_a_question_that_is_held_out_or_nearly_is_dropped_whatever_its_kind(tmp_path, kind):
    knob = {kind_of(kind).knob: 1, "blind_a_call": 1}

    def asked(held_out, least):
        backend = FakeBackend.in_turn("Where is the blue mill of Anna Gray?", "Who eats oats here?")
        writer = writer_of(tmp_path, backend, held_out, **knob, near_duplicate=least)
        return [q.text for q in writer.about_passage(PASSAGE)], dict(writer.dropped)

    (first, *others), dropped = asked((), 1.0)
    near, equal = {normalise(first) + " now"}, {normalise(first)}
    assert asked(near, 1.0) == ([first, *others], dropped)
    assert asked(near, 0.6) == (others, dropped | {"nearly a held-out question": 1})
    assert asked(equal, 1.0) == (others, dropped | {"equal to a held-out question": 1})


# --- Questions without a plan ------------------------------------------------------------------


def tagged(*texts):
    return "".join(f"<question>{text}</question>\n" for text in texts)


FIVE = ("Who?", "What is\n it?", "When?", "Where?", "Why?")


@pytest.mark.parametrize(
    "text, wanted",
    [
        (tagged(*FIVE), ["Who?", "What is it?", "When?", "Where?", "Why?"]),
        ("Sure!\n" + tagged(*FIVE) + "I hope this helps.", ["Who?", "What is it?", "When?"]),
        (tagged(*FIVE, "And?"), ["Who?", "What is it?", "When?", "Where?", "Why?"]),
        (tagged(*FIVE[:4]), []),
        (tagged(*FIVE[:4], " "), []),
        (tagged(*FIVE[:4]) + "<question>cut sho", []),
        ("1. Who? 2. What?", []),
    ],
)
def test_a_call_gives_five_questions_or_none(text, wanted):
    found = examples.questions_between_tags(text)
    assert found[: len(wanted)] == wanted and len(found) in (0, 5) and bool(found) == bool(wanted)


def test_the_request_holds_the_passage_once_whatever_stands_in_it():
    request = examples.blind_request("Braces {passage} and {x}.")
    assert request.count("Braces {passage} and {x}.") == 1
    assert len(examples.questions_between_tags(request)) == 5, "the examples show what is read"


def test_five_a_call_is_what_the_request_asks_for():
    assert QuestionConfig().blind_a_call == examples.BLIND_PER_CALL


BLIND = {"blind": 12, "near_duplicate": 1.0}


def test_calls_are_made_again_until_there_are_enough(tmp_path):
    """The model gives five new questions in every second call."""
    numbers = count()

    def reply(*_):
        number = next(numbers)
        texts = [f"What is number {number} of {k}?" for k in range(5)]
        return tagged(*texts[: 5 if number % 2 else 3])

    backend = FakeBackend(reply)
    writer = writer_of(tmp_path, backend, **BLIND)
    found = writer.about_passage(PASSAGE)
    assert [q.kind for q in found] == ["blind"] * 12
    assert [q.sentence for q in found] == [-1] * 12 and len({q.id for q in found}) == 12
    # of 3 calls one gives five, of the next 2 another, and the last as well
    assert [len(call.prompts) for call in backend.calls] == [3, 2, 1]
    assert len({call.seed for call in backend.calls}) == 3
    assert not writer.dropped


def test_a_small_model_is_asked_for_one_a_call_after_examples(tmp_path):
    numbers = count()
    said = [
        "Where does Ina Marrow live?",
        "And how long is it?",
        "It is long.",
        "What is it? Or not?",
    ]
    backend = FakeBackend(lambda *_: said[next(numbers) % 4])
    writer = writer_of(tmp_path, backend, **BLIND, blind_a_call=1)
    passage = tiny_records()[0][0]
    texts = [q.text for q in writer.about_passage(passage)]
    assert [len(call.prompts) for call in backend.calls] == [12, 3, 1]
    for prompt in backend.asked:
        assert prompt.count(examples.BLIND_ASK) == 1 and prompt.count(passage.text) == 1
        assert all(question in prompt for _, question in examples.BLIND_SHOTS)
    about = f"About {subject(passage)}"
    assert texts == [
        "Where does Ina Marrow live?",
        f"{about}: And how long is it?",
        f"{about}: What is it?",
    ]
    assert writer.dropped["repeated"] == 9


def test_a_model_that_never_gives_five_is_asked_for_long_and_the_rest_is_counted(tmp_path):
    backend = FakeBackend.in_turn("I cannot.")
    writer = writer_of(tmp_path, backend, **BLIND)
    assert writer.about_passage(PASSAGE) == []
    assert writer.dropped == {"wanted and not given": 12}
    assert len(backend.calls) == examples.BLIND_ATTEMPTS


def test_repeated_and_held_out_ones_are_dropped(tmp_path):
    held_out = {normalise("What is number 1 of 2?")}
    same = FakeBackend.in_turn(tagged(*(["What is number 1 of 2?", "Who?"] * 2), "Why?"))
    writer = writer_of(tmp_path, same, held_out, **BLIND)
    assert [q.text for q in writer.about_passage(PASSAGE)] == ["Who?", "Why?"]
    assert writer.dropped["equal to a held-out question"] == 5
