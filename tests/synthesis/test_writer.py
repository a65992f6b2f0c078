"""The writer: how the model is asked, and which of its questions are kept."""

from collections import Counter
from dataclasses import replace

import pytest
from support import tiny_config, tiny_lesson, tiny_model, tiny_tokenizer

from pdtrain.config import QuestionConfig, RunConfig
from pdtrain.generation.huggingface import Completion
from pdtrain.models.chat_template import prove
from pdtrain.records import Passage, Question
from pdtrain.synthesis import question_templates as templates
from pdtrain.synthesis.text import normalise, subject
from pdtrain.synthesis.writer import Writer, one_line, question_marks


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


LONG = "In which year did the baker Anna Gray build her blue mill beside the river at Oak End?"
TEXT = "Anna Gray built the blue mill. It grinds rye."
PASSAGE = Passage("p", "d", "The blue mill", TEXT, 0, len(TEXT), 12, ((0, 30), (31, 45)))


@pytest.fixture
def kept(tmp_path):
    """What a writer keeps of planned questions, and why it drops the others."""
    model = tiny_model(tmp_path / "model")

    def keep(*texts, held_out=(), kind="recital", **knobs):
        config = tiny_config(tmp_path, model, questions=knobs)
        writer = Writer(config, set(held_out), Counter())
        planned = [Question(str(i), "p", text, kind, 0) for i, text in enumerate(texts)]
        found = [question.text for question in writer._kept(planned, PASSAGE)]
        return found, dict(writer.dropped)

    return keep


def test_a_question_in_nearly_the_words_of_another_is_dropped_and_counted(kept):
    again, other = LONG.replace("did the", "did that"), "Who built it?"
    assert kept(LONG, again, other) == ([LONG, other], {"nearly repeated": 1})
    assert kept(LONG, again, near_duplicate=1.0) == ([LONG, again], {})
    assert kept(LONG, LONG.upper(), near_duplicate=1.0) == ([LONG], {"repeated": 1})
    assert kept(LONG, LONG.upper()) == ([LONG], {"repeated": 1})


def test_two_blanks_of_a_sentence_are_not_each_others_repetition(kept):
    blanks = [f"Fill in the blank: {LONG.replace(word, '____')}" for word in ("river", "blue")]
    assert kept(*blanks, kind="blank") == (blanks, {})


@pytest.mark.parametrize("kind", ["recital", "blind", "blank"])
def test_a_question_in_nearly_the_words_of_a_held_out_one_is_dropped_and_counted(kept, kind):
    held_out = ["Blank: " + LONG.replace("did the", "did that").lower()]
    asked = "Blank: " + LONG
    assert kept(asked, held_out=held_out, kind=kind) == ([], {"nearly a held-out question": 1})
    assert kept(asked, held_out=held_out, kind=kind, near_duplicate=1.0) == ([asked], {})


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
    found = templates.questions_between_tags(text)
    assert found[: len(wanted)] == wanted and len(found) in (0, 5) and bool(found) == bool(wanted)


def test_the_request_holds_the_passage_once_whatever_stands_in_it():
    request = templates.blind_request("Braces {passage} and {x}.")
    assert request.count("Braces {passage} and {x}.") == 1
    assert len(templates.questions_between_tags(request)) == 5, "the examples show what is read"


class Quizmaster:
    """Gives five new questions in every second call."""

    def __init__(self):
        self.calls, self.seeds = [], []

    def __call__(self, prompts, sampling, seed):
        self.calls.append(len(prompts))
        self.seeds.append(seed)
        made = []
        for i in range(len(prompts)):
            number = sum(self.calls) - len(prompts) + i
            texts = [f"What is number {number} of {k}?" for k in range(5)]
            made.append(Completion(tagged(*texts[: 5 if number % 2 else 3]), (1,), True))
        return made


@pytest.fixture
def writer(tmp_path):
    counts = dict.fromkeys([k for k in QuestionConfig().counts() if k != "blind"], 0)
    model = tiny_model(tmp_path / "model")
    config = tiny_config(tmp_path, model, questions=counts | {"blind": 12, "near_duplicate": 1.0})
    made = Writer(config, set(), Counter())
    made.whole = Quizmaster()
    return made


def test_calls_are_made_again_until_there_are_enough(writer):
    passage = tiny_lesson()[0][0]
    found = writer.about_passage(passage)
    assert [q.kind for q in found] == ["blind"] * 12
    assert [q.sentence for q in found] == [-1] * 12 and len({q.id for q in found}) == 12
    # of 3 calls one gives five, of the next 2 another, and the last as well
    assert writer.whole.calls == [3, 2, 1]
    assert len(set(writer.whole.seeds)) == 3
    assert not writer.dropped


def test_a_small_model_is_asked_for_one_a_call_after_examples(writer):
    config = writer.config
    writer.config = replace(config, questions=replace(config.questions, blind_a_call=1))
    asked: list[tuple[int, str]] = []

    def generator(prompts, sampling, seed):
        if not prompts:  # about no phrases
            return []
        asked.append((len(prompts), writer.chat.tokenizer.decode(prompts[0])))
        words = [
            "Where does Ina Marrow live?",
            "And how long is it?",
            "It is long.",
            "What is it? Or not?",
        ]
        return [Completion(words[i % 4], (1,), True) for i in range(len(prompts))]

    writer.generator = generator
    passage = tiny_lesson()[0][0]
    texts = [q.text for q in writer.about_passage(passage)]
    assert [number for number, _ in asked] == [12, 3, 1]
    for _, prompt in asked:
        assert prompt.count(templates.BLIND_ASK) == 1 and prompt.count(passage.text) == 1
        assert all(question in prompt for _, question in templates.BLIND_SHOTS)
    about = f"About {subject(passage)}"
    assert texts == [
        "Where does Ina Marrow live?",
        f"{about}: And how long is it?",
        f"{about}: What is it?",
    ]
    assert writer.dropped["repeated"] == 9


def test_a_model_that_never_gives_five_is_asked_for_long_and_the_rest_is_counted(writer):
    writer.whole = lambda prompts, *_: [Completion("I cannot.", (1,), True)] * len(prompts)
    assert writer.about_passage(tiny_lesson()[0][0]) == []
    assert writer.dropped == {"wanted and not given": 12}


def test_repeated_and_held_out_ones_are_dropped(writer):
    writer.held_out = {normalise("What is number 1 of 2?")}
    same = Completion(tagged(*(["What is number 1 of 2?", "Who?"] * 2), "Why?"), (1,), True)
    writer.whole = lambda prompts, *_: [same] * len(prompts)
    assert [q.text for q in writer.about_passage(tiny_lesson()[0][0])] == ["Who?", "Why?"]
    assert writer.dropped["equal to a held-out question"] == 5


def test_five_a_call_is_what_the_request_asks_for():
    assert QuestionConfig().blind_a_call == templates.BLIND_PER_CALL
