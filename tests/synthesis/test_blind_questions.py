"""Questions with no plan: what counts as one, how often is asked, and that nothing else changes."""

from collections import Counter
from dataclasses import replace

import pytest
from support import tiny_config, tiny_lesson, tiny_model

from pdtrain.config import QuestionConfig
from pdtrain.generation.huggingface import Completion
from pdtrain.synthesis import blind_questions, questions
from pdtrain.synthesis.questions import Asker


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
    found = blind_questions.parse(text)
    assert found[: len(wanted)] == wanted and len(found) in (0, 5) and bool(found) == bool(wanted)


def test_the_request_holds_the_passage_once_whatever_stands_in_it():
    (message,) = blind_questions.messages("Braces {passage} and {x}.")
    assert message["content"].count("Braces {passage} and {x}.") == 1
    assert len(blind_questions.parse(message["content"])) == 5, "the examples show what is read"


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
def asker(tmp_path):
    counts = dict.fromkeys([k for k in QuestionConfig().counts() if k != "blind"], 0)
    model = tiny_model(tmp_path / "model")
    config = tiny_config(tmp_path, model, questions=counts | {"blind": 12, "near_duplicate": 1.0})
    made = Asker(config, set(), Counter())
    made.whole = Quizmaster()
    return made


def test_calls_are_made_again_until_there_are_enough(asker):
    passage = tiny_lesson()[0][0]
    found = asker(passage)
    assert [q.kind for q in found] == ["blind"] * 12
    assert [q.sentence for q in found] == [-1] * 12 and len({q.id for q in found}) == 12
    # of 3 calls one gives five, of the next 2 another, and the last as well
    assert asker.whole.calls == [3, 2, 1]
    assert len(set(asker.whole.seeds)) == 3
    assert not asker.dropped


def test_a_small_model_is_asked_for_one_a_call_after_examples(asker):
    config = asker.config
    asker.config = replace(config, questions=replace(config.questions, blind_a_call=1))
    asked: list[tuple[int, str]] = []

    def generator(prompts, sampling, seed):
        if not prompts:  # about no phrases
            return []
        asked.append((len(prompts), asker.chat.tokenizer.decode(prompts[0])))
        words = [
            "Where does Ina Marrow live?",
            "And how long is it?",
            "It is long.",
            "What is it? Or not?",
        ]
        return [Completion(words[i % 4], (1,), True) for i in range(len(prompts))]

    asker.generator = generator
    passage = tiny_lesson()[0][0]
    texts = [q.text for q in asker(passage)]
    assert [number for number, _ in asked] == [12, 3, 1]
    for _, prompt in asked:
        assert prompt.count(blind_questions.ONE) == 1 and prompt.count(passage.text) == 1
        assert all(question in prompt for _, question in blind_questions.SHOTS)
    about = f"About {questions.subject(passage)}"
    assert texts == [
        "Where does Ina Marrow live?",
        f"{about}: And how long is it?",
        f"{about}: What is it?",
    ]
    assert asker.dropped["repeated"] == 9


def test_without_a_system_role_the_first_example_says_what_is_wanted():
    with_system, without = (
        blind_questions.messages_of_one("P.", is_system=is_so) for is_so in (True, False)
    )
    assert without[0]["content"] == f"{blind_questions.ONE}\n\n{with_system[0]['content']}"
    assert without[1:] == with_system[1:] and with_system[-1] == {"role": "user", "content": "P."}


def test_a_model_that_never_gives_five_is_asked_for_long_and_the_rest_is_counted(asker):
    asker.whole = lambda prompts, *_: [Completion("I cannot.", (1,), True)] * len(prompts)
    assert asker(tiny_lesson()[0][0]) == []
    assert asker.dropped == {"wanted and not given": 12}


def test_repeated_and_held_out_ones_are_dropped(asker):
    asker.held_out = {questions.normalise("What is number 1 of 2?")}
    same = Completion(tagged(*(["What is number 1 of 2?", "Who?"] * 2), "Why?"), (1,), True)
    asker.whole = lambda prompts, *_: [same] * len(prompts)
    assert [q.text for q in asker(tiny_lesson()[0][0])] == ["Who?", "Why?"]
    assert asker.dropped["equal to a held-out question"] == 5


def test_questions_made_without_it_are_still_the_same(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    assert "blind" not in questions._settings(config)
    other = tiny_config(tmp_path, tmp_path, questions={"blind": 5})
    assert questions._settings(other)["blind"] == 5
    assert "blind_a_call" not in questions._settings(other)
    other = tiny_config(tmp_path, tmp_path, questions={"blind": 5, "blind_a_call": 1})
    assert questions._settings(other)["blind_a_call"] == 1


def test_five_a_call_is_what_the_request_asks_for():
    assert QuestionConfig().blind_a_call == blind_questions.PER_CALL
