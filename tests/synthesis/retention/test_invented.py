"""Texts of invented facts that the base makes up, to practise reading on."""

from collections import Counter

from fake_backend import FakeBackend

from pdtrain.synthesis.held_out import read_reading
from pdtrain.synthesis.retention import invented
from pdtrain.synthesis.retention.topics import TALES, TOPICS
from pdtrain.synthesis.text import content_words, normalise


def tells(prompt, rng):
    """Tell of the last topic in two sentences and a third that is cut, or ask about the text."""
    last = prompt.rsplit("user\n", 1)[1]
    if "Topic: " in last:
        topic = last.split("Topic: ")[1].split("<|im_end|>")[0]
        return f"The {topic} of Osk cost {rng.randrange(10**6)} crowns. It is green! It has a"
    return f"What did the {last.split()[1]} cost, as of {last.split()[5]}?"


def written(reply, topics=("chess", "salt"), is_held_out=lambda _: False):
    backend, dropped = FakeBackend(reply), Counter()
    return invented.write(backend, topics, (1, 2), is_held_out, dropped), dropped, backend


def test_each_question_has_its_text_in_view_up_to_its_last_whole_sentence():
    found, dropped, backend = written(tells)
    assert not dropped and len(found) == 2
    for one, topic in zip(found, ("chess", "salt"), strict=True):
        (passage,) = one.passages
        assert passage.title == topic.title() and passage.text.endswith("It is green!")
        assert topic in one.question and passage.text.startswith(f"The {topic} of Osk")
        assert [passage.text[a:b].strip() for a, b in passage.sentences][1] == "It is green!"
    told, asked = backend.calls
    assert all(text in prompt for _, text, _ in TALES for prompt in told.prompts)
    assert [one.passages[0].text in p for one, p in zip(found, asked.prompts, strict=True)]


def test_a_topic_may_be_there_twice_and_its_texts_differ():
    found, _, _ = written(tells, ("chess", "chess"))
    assert len({one.passages[0].text for one in found}) == 2


def test_what_is_short_repeated_or_held_out_is_counted_and_left_out():
    found, dropped, _ = written(lambda *_: "Only one sentence.")
    assert not found and dropped == {"texts too short or repeated": 2}
    found, dropped, _ = written(lambda *_: TALES[0][1])
    assert not found and dropped == {"texts too short or repeated": 2}
    found, dropped, _ = written(tells, is_held_out=lambda question: "chess" in question)
    assert len(found) == 1 and dropped == {"empty, repeated or held out": 1}
    silent = written(lambda prompt, rng: tells(prompt, rng) if "Topic" in prompt else "")
    assert not silent[0] and silent[1] == {"empty, repeated or held out": 2}


def test_the_ends_of_sentences_are_found_in_any_script():
    assert invented._whole("盐很贵。它是绿色的。它") == "盐很贵。它是绿色的。"
    assert invented._whole('He said: "No." Then') == 'He said: "No."'
    assert invented._whole("no end at all") == ""


def test_what_the_base_is_shown_is_not_what_reading_is_measured_on():
    held_out = read_reading()
    texts = {normalise(one.passage) for one in held_out}
    questions = {normalise(one.question.question) for one in held_out}
    titles = [content_words(one.title) for one in held_out]
    for topic, text, question in TALES:
        assert normalise(text) not in texts and normalise(question) not in questions
        assert not any(title and title <= content_words(text) for title in titles)
        assert topic not in TOPICS
