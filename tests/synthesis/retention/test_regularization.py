"""What the base makes up about other things: kinds, seeds, and what is never trained on."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from fake_backend import FakeBackend
from support import tiny_config, tiny_model, tiny_records, tiny_tokenizer, write_records

from pdtrain.config import from_dict
from pdtrain.distillation.examples import from_regularization
from pdtrain.synthesis.held_out import read_reading, read_unrelated
from pdtrain.synthesis.retention import invented, reading_practice, regularization
from pdtrain.synthesis.text import content_words, normalise

TOPICS = ("volcanoes", "chess", "salt")
GAP = "\n\nOsk\n\n"  # between passages of several documents
NUMBER = re.compile(r"\d+")
SETTINGS = {"weight": 1.0, "per_topic": 4, "sampling": {"max_new_tokens": 6}}


def collected(folder, backend=None, model="none", topics=TOPICS, **sections):
    config = tiny_config(folder, model, retain=SETTINGS, **sections)
    regularization.collect(config, backend, topics)
    return list(config.run.regularization())


def at_random(prompt, rng):
    return f"What is number {rng.random()}?"


def test_topics_are_asked_about_and_texts_are_opened(tmp_path):
    backend = FakeBackend(at_random)
    found = collected(tmp_path, backend)
    assert len({one.id for one in found}) == len(found) == 12
    for place, topic in enumerate(TOPICS):
        own = found[4 * place : 4 * place + 4]
        assert [one.kind for one in own] == ["question", "text", "request", "question"]
        assert all(topic in one.prompt for one in own if one.kind != "question")
    asked, answered = backend.calls
    assert sum(f"Topic: {topic}" in prompt for topic in TOPICS for prompt in asked.prompts) == 6
    # a text is opened without a chat, and everything else is asked in one
    plain = {prompt for prompt in answered.prompts if "<|im_start|>" not in prompt}
    assert plain == {one.prompt for one in found if one.kind == "text"}


def test_neighbours_get_other_wordings(tmp_path):
    found = collected(tmp_path, FakeBackend(at_random))
    texts = [o.prompt.replace(t, "") for t in TOPICS for o in found if t in o.prompt]
    assert len(set(texts)) == len(texts)


def test_the_same_seed_makes_the_same_and_another_makes_others(tmp_path):
    first, again = (collected(tmp_path / name, FakeBackend(at_random)) for name in "ab")
    assert first == again
    other = collected(tmp_path / "c", FakeBackend(at_random), seed=1)
    assert not {one.text for one in other} & {one.text for one in first}


def test_a_group_of_topics_does_not_depend_on_the_groups_after_it(tmp_path):
    many = regularization.TOPICS[: regularization.TOGETHER + 2]
    whole = collected(tmp_path / "whole", FakeBackend(at_random), topics=many)
    part = collected(tmp_path / "part", FakeBackend(at_random), topics=many[:-2])
    assert part == whole[: len(part)] and len(part) < len(whole)


def test_a_second_time_nothing_is_made_and_a_weight_is_no_reason(tmp_path):
    first, backend = collected(tmp_path, FakeBackend(at_random)), FakeBackend(at_random)
    config = tiny_config(tmp_path, "none", retain=SETTINGS | {"weight": 0.5, "per_step": 9})
    regularization.collect(config, backend, TOPICS)
    assert not backend.calls and list(config.run.regularization()) == first


def test_without_a_weight_nothing_is_made(tmp_path):
    backend = FakeBackend(at_random)
    regularization.collect(tiny_config(tmp_path, "none"), backend)
    assert not backend.calls and not (tmp_path / "retain").exists()


def asked_by_base(folder, *questions, **sections):
    """The prompts that are kept of a base that asks these in turn."""
    backend = FakeBackend.in_turn(*questions)
    return {normalise(one.prompt) for one in collected(folder, backend, **sections)}


def test_what_forgetting_is_measured_on_is_never_trained_on(tmp_path):
    """A base that asks what is held out, in other letters, is not heard."""
    held_out = read_unrelated().questions
    prompts = asked_by_base(tmp_path, held_out[1].upper(), "What else?")
    assert normalise("What else?") in prompts
    assert not prompts & {normalise(question) for question in held_out}


def test_what_the_documents_are_asked_is_never_trained_on_either(tmp_path):
    """Nor nearly: what the base says without the passage would be learned as the answer."""
    path = tmp_path / "q.jsonl"
    held_out = "How many harbour masters has the old town of Osk had since the year 1812?"
    path.write_text(json.dumps({"question": held_out, "answers": ["9"]}) + "\n")
    near = held_out.replace("old ", "")
    prompts = asked_by_base(tmp_path, near, "What else?", evaluate={"questions": str(path)})
    assert normalise("What else?") in prompts and normalise(near) not in prompts
    prompts = asked_by_base(tmp_path / "unknown", near, "What else?")
    assert normalise(near) in prompts


def test_a_question_is_one_line_and_an_empty_or_repeated_one_is_dropped(tmp_path):
    prompts = asked_by_base(tmp_path, "What now?\nAnd then?", "", topics=TOPICS[:1])
    assert normalise("What now?") in prompts and len(prompts) == 3
    prompts = asked_by_base(tmp_path / "twice", "What now?", topics=TOPICS[:1])
    assert normalise("What now?") in prompts and len(prompts) == 3


def test_a_real_model_keeps_the_tokens_that_it_sampled(tmp_path):
    model = tiny_model(tmp_path / "model")
    found = collected(tmp_path / "run", model=model)
    tokenizer = tiny_tokenizer()
    assert found and all(0 < len(one.token_ids) <= 6 for one in found)
    for one in found:
        assert tokenizer.decode(one.token_ids, skip_special_tokens=True).strip() == one.text


def test_topics_are_not_those_of_the_texts_that_forgetting_is_measured_on():
    from pdtrain.synthesis.retention.topics import SHOTS

    bundled = read_unrelated()
    topics = set().union(*(content_words(topic) for topic in regularization.TOPICS))
    for question in (*bundled.questions, *bundled.texts):
        shared = content_words(question) & topics
        assert len(shared) <= 1, (question, shared)
    shown = {normalise(question) for _, question in SHOTS}
    assert not shown & {normalise(question) for question in bundled.questions}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"weight": -1}, r"retain\.weight must be >= 0 \(0 is off\), got -1"),
        ({"per_step": 0}, r"retain\.per_step must be > 0, got 0"),
        ({"per_topic": 0}, r"retain\.per_topic must be > 0, got 0"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict({"retain": values})


# --- Reading ------------------------------------------------------------------------------------


ASKED = "detail"  # a kind whose answers are not checked by rules


BUNDLED = read_reading(str(invented.TEXTS))
TOLD = {one.question.question: one.question.answers[0] for one in BUNDLED}


def reads(prompt, rng):
    """Answer what is in view from it: with its numbers, or what a bundled text says."""
    view, asked, _ = prompt.rpartition("user\n")[2].partition("Using only")
    if not asked:
        return at_random(prompt, rng)
    found = [answer for question, answer in TOLD.items() if question in prompt]
    return found[0] if found else f"At {' '.join(NUMBER.findall(view))}."


def asked_records():
    """Return records whose questions ask for no phrase, and are answered in any language."""
    passages, questions, answers = tiny_records()
    numbered = [replace(o, text=f"{o.text}, and {41 + i} pots") for i, o in enumerate(passages)]
    return numbered, [replace(question, kind=ASKED) for question in questions], answers


def with_reading(folder, share, backend=None, records=None, **sections):
    config = tiny_config(folder, "none", retain=SETTINGS | {"reading": share}, **sections)
    write_records(config, *(records or asked_records()))
    regularization.collect(config, backend or FakeBackend(reads), TOPICS)
    return config, [*config.run.regularization()]


def practice(found):
    """Return the samples about the documents, those about changed ones, and those about others."""
    known = [passage.text for records in (tiny_records, asked_records) for passage in records()[0]]
    reading = [one for one in found if one.kind == "reading"]
    told = [one for one in reading if one.prompt in TOLD]
    rest = [one for one in reading if one not in told]
    own = [one for one in rest if all(text in known for text in one.passages.split(GAP))]
    return own, [one for one in rest if one not in own], told


def test_a_third_of_the_practice_reads_the_documents_as_they_are(tmp_path):
    config, found = with_reading(tmp_path, 0.4)
    reading, changed, told = practice(found)
    assert len(reading) == 3 and len(told) == 2 and len(changed) == 3 and len(found) == 20
    questions = {question.text: question for question in config.run.questions()}
    passages = {passage.id: passage for passage in config.run.passages()}
    ways = Counter()
    for one in reading:
        own = passages[questions[one.prompt].passage_id].text
        number = sum(passage.text in one.passages for passage in passages.values())
        ways["own" if own in one.passages else "another", number] += 1
    assert ways == {("own", 1): 2, ("own", 3): 1}
    assert len({one.id for one in found}) == len(found)


def test_now_and_then_another_passage_is_in_view_which_does_not_help(tmp_path):
    config, _ = with_reading(tmp_path, 0.4)
    plain, _ = reading_practice.choose(config, 6, 6)
    questions = {question.text: question for question in config.run.questions()}
    is_own = [
        questions[one.question].passage_id in {passage.id for passage in one.passages}
        for one in plain
    ]
    assert is_own == [i % 6 != 3 for i in range(12)][: len(plain)] and len(plain) > 4


def test_a_third_reads_passages_whose_facts_were_changed_some_of_them_among_others(tmp_path):
    config, found = with_reading(tmp_path, 0.4)
    questions = {question.text: question for question in config.run.questions()}
    passages = {passage.id: passage.text for passage in config.run.passages()}
    _, changed, _ = practice(found)
    views = []
    for one in changed:
        old = passages[questions[one.prompt].passage_id]
        seen = [text for text in one.passages.split(GAP) if text not in passages.values()]
        assert len(seen) == 1 and NUMBER.sub("", seen[0]) == NUMBER.sub("", old)
        assert not set(NUMBER.findall(seen[0])) & set(NUMBER.findall(old))
        assert NUMBER.findall(seen[0])[0] in one.text
        views.append(len(one.passages.split(GAP)))
    assert views == [1, 1, 3]


def test_what_the_base_does_not_read_is_not_practised_and_counted(tmp_path, capsys):
    _, found = with_reading(tmp_path, 0.4, FakeBackend(at_random))
    reading, changed, told = practice(found)
    assert len(reading) == 3 and not changed and not told
    assert "not read by the base" in capsys.readouterr().err


def test_the_answer_to_a_question_by_rules_must_come_from_its_passage(tmp_path, capsys):
    records = tiny_records()
    _, found = with_reading(tmp_path, 0.4, FakeBackend(at_random), records)
    known = {passage.id: passage.text for passage in records[0]}
    own = {question.text: known[question.passage_id] for question in records[1]}
    assert all(own[one.prompt] not in one.passages for one in practice(found)[0])
    assert "not read by the base" in capsys.readouterr().err


def test_both_sides_read_the_passages_in_view(tmp_path):
    _, found = with_reading(tmp_path, 0.4)
    chat = FakeBackend(reads).chat
    reading = [one for one in found if one.kind == "reading"]
    assert reading
    for one, example in zip(reading, from_regularization(reading, chat), strict=True):
        assert example.teacher_prompt == example.student_prompt
        text = chat.tokenizer.decode(example.student_prompt, skip_special_tokens=False)
        assert one.passages in text and one.prompt in text
        assert list(example.student_prompt) == chat.teacher(one.in_view, one.prompt)
        assert tuple(example.answer) == one.token_ids


def test_the_others_are_the_same_with_and_without_reading(tmp_path):
    without = collected(tmp_path / "without", FakeBackend(reads))
    _, found = with_reading(tmp_path / "with", 0.4)
    assert [one for one in found if one.kind != "reading"] == without
    assert all("passages" not in one.to_json() for one in without)


def test_reading_depends_on_the_seed_and_not_on_the_order_of_the_questions(tmp_path):
    _, first = with_reading(tmp_path / "a", 0.4)
    _, again = with_reading(tmp_path / "b", 0.4)
    assert first == again
    _, other = with_reading(tmp_path / "c", 0.4, seed=1)
    assert other != first


def test_what_no_document_says_is_never_practised(tmp_path):
    passages, questions, answers = asked_records()
    unsaid = [replace(question, kind="unsaid") for question in questions[6:]]
    records = passages, [*questions[:6], *unsaid], answers
    own, changed, _ = practice(with_reading(tmp_path, 0.4, records=records)[1])
    asked = {one.prompt for one in (*own, *changed)}
    assert own and changed and asked <= {question.text for question in questions[:6]}


def test_questions_are_practised_rather_than_requests_by_templates(tmp_path):
    passages, questions, answers = asked_records()
    templates = [replace(question, kind="recital") for question in questions[2:]]
    records = passages, [*questions[:2], *templates], answers
    own, changed, _ = practice(with_reading(tmp_path, 0.4, records=records)[1])
    asked = {one.prompt for one in (*own, *changed)}
    assert asked == {question.text for question in questions[:2]}


def test_other_questions_make_other_samples(tmp_path):
    config, _ = with_reading(tmp_path, 0.4)
    passages, questions, answers = asked_records()
    write_records(config, passages, questions[:6], answers)
    backend = FakeBackend(reads)
    regularization.collect(config, backend, TOPICS)
    assert backend.calls
    own, changed, _ = practice(list(config.run.regularization()))
    assert {o.prompt for o in (*own, *changed)} <= {question.text for question in questions[:6]}


def test_what_does_not_fit_the_window_is_read_with_fewer_passages_or_left_out(tmp_path, capsys):
    chat = FakeBackend(reads).chat
    _, whole = with_reading(tmp_path / "whole", 0.4)
    lengths = [len(chat.teacher(o.in_view, o.prompt)) for o in whole if o.kind == "reading"]
    window = max(lengths) - 1 + SETTINGS["sampling"]["max_new_tokens"]
    _, found = with_reading(tmp_path / "cut", 0.4, FakeBackend(reads, window=window))
    reading = [one for one in found if one.kind == "reading"]
    for one in reading:
        assert len(chat.teacher(one.in_view, one.prompt)) + 6 <= window
    assert len(reading) == len(lengths) and "too long" not in capsys.readouterr().err
    _, found = with_reading(tmp_path / "none", 0.4, FakeBackend(reads, window=40))
    assert not [one for one in found if one.kind == "reading"]
    assert "too long to read" in capsys.readouterr().err


def test_a_third_of_the_practice_is_about_invented_texts_and_all_is_read_greedily(tmp_path):
    backend = FakeBackend(reads)
    _, found = with_reading(tmp_path, 0.4, backend)
    _, _, told = practice(found)
    assert len(told) == len({one.prompt for one in told}) == 2
    answered = [call for call in backend.calls if "Using only" in call.prompts[0]]
    num_asked = sum(len(call.prompts) for call in answered)
    assert num_asked == 3 + 3 + 2, "no more than are wanted, where all are read"
    assert all(call.sampling.temperature == 0 for call in answered)


def test_more_is_asked_until_there_is_enough(tmp_path):
    """A base that reads every second text is asked twice as often, and as much is kept."""
    read = set(list(TOLD)[::2])

    def reads_some(prompt, rng):
        return reads(prompt, rng) if not any(q in prompt for q in TOLD.keys() - read) else "No."

    backend = FakeBackend(reads_some)
    config, found = with_reading(tmp_path, 0.6, backend)
    questions = [one.question for one in invented.choose(6, config.seed)]
    *_, told = practice(found)
    assert [one.prompt for one in told] == [q for q in questions if q in read][:6]
    asked = [q for call in backend.calls for p in call.prompts for q in TOLD if q in p]
    assert len(asked) == len({*asked}) > 6


def test_the_passage_that_holds_the_answer_is_the_last_to_be_left_out():
    passages = tuple(replace(one, id=str(i)) for i, one in enumerate(tiny_records()[0][:3]))
    for right in range(3):
        one = reading_practice.Practice("Who?", passages, right=right)
        for length in (2, 1, 1):
            one = one.shortened()
            assert len(one.passages) == length and passages[right] in one.passages
            assert one.passages[one.right] == passages[right]


def test_what_reading_is_measured_on_is_never_practised(tmp_path):
    chosen = invented.choose(2, 0)
    record = {"passage": "It is so.", "questions": [{"question": chosen[0].question.upper()}]}
    record["questions"][0]["answers"] = ["so"]
    (tmp_path / "reading.jsonl").write_text(json.dumps(record) + "\n")
    evaluate = {"reading": str(tmp_path / "reading.jsonl")}
    _, found = with_reading(tmp_path, 0.4, evaluate=evaluate)
    _, _, told = practice(found)
    assert {one.prompt for one in told} == {one.question for one in chosen[1:3]}


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_of_all_is_refused(share):
    with pytest.raises(ValueError, match=r"retain.reading: from 0 to below 1"):
        from_dict({"retain": {"reading": share}})


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_there_are_never_more_samples_of_reading_than_the_share(tmp_path, share):
    _, found = with_reading(tmp_path, share, FakeBackend(reads))
    reading = sum(one.kind == "reading" for one in found)
    assert 0 < reading <= share * len(found) + 1


def test_questions_of_other_passages_are_refused(tmp_path):
    passages, questions, answers = asked_records()
    lost = [replace(question, passage_id="gone") for question in questions]
    with pytest.raises(ValueError, match="the questions are of other passages"):
        with_reading(tmp_path, 0.4, records=(passages, lost, answers))


@pytest.mark.parametrize("kind, grounded", [("given", True), ("fact", False)])
def test_answers_in_any_words_are_practised_where_no_rule_checks_them(tmp_path, kind, grounded):
    passages, questions, answers = asked_records()
    records = passages, [replace(question, kind=kind) for question in questions], answers
    _, found = with_reading(
        tmp_path, 0.4, FakeBackend(at_random), records, answers={"grounded": grounded}
    )
    assert len(practice(found)[0]) == 3


def test_without_questions_about_the_documents_invented_texts_alone_are_read(tmp_path):
    """Raw text is learned without questions, which the stage of questions skips."""
    train = {"objective": "raw_text"}
    settings = SETTINGS | {"reading": 0.4}
    config = tiny_config(tmp_path, "none", retain=settings, train=train, loss={"labels": 0})
    write_records(config, tiny_records()[0])
    regularization.collect(config, FakeBackend(reads), TOPICS)
    own, changed, told = practice([*config.run.regularization()])
    assert len(told) == 8 and not own and not changed
