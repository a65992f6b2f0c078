"""The writer for capable models, asked by a script that answers as one would, in five languages."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from fake_backend import FakeBackend
from support import tiny_config, tiny_model, write_records

from pdtrain.records import Passage, content_id
from pdtrain.storage import read_json, read_shards
from pdtrain.synthesis import answers, questions
from pdtrain.synthesis.asking import model_writer, replies, script, templates
from pdtrain.synthesis.asking.model_writer import ATTEMPTS, ModelWriter
from pdtrain.synthesis.asking.related import related_pairs
from pdtrain.synthesis.asking.templates import OF_PAIRS, OF_PASSAGES, OF_SENTENCES
from pdtrain.synthesis.sentence_writer.multi_hop import PassagePair

TEXTS = {
    "en": (
        "The mill of Osk",
        "The mill of Osk was built in 1801 by Anna Gray.",
        "It grinds rye and oats for the whole village.",
        "Two goats live beside its old pond.",
    ),
    "zh": (
        "奥斯克磨坊",
        "奥斯克磨坊由安娜·格雷于1801年建造。",
        "它为整个村庄磨黑麦和燕麦。",
        "旧池塘边住着两只山羊。",
    ),
    "ja": (
        "オスクの水車小屋",
        "オスクの水車小屋は1801年にアンナ・グレイが建てた。",
        "村のためにライ麦とオーツ麦をひいている。",
        "古い池のそばには二頭のヤギがいる。",
    ),
    "de": (
        "Die Mühle von Osk",
        "Die Mühle von Osk wurde im Jahr 1801 von Anna Gray erbaut.",
        "Sie mahlt Roggen und Hafer für das ganze Dorf.",
        "Zwei Ziegen leben neben ihrem alten Teich.",
    ),
    "ar": (
        "طاحونة أوسك",
        "بنت آنا غراي طاحونة أوسك في عام 1801.",
        "تطحن الطاحونة الجاودار والشوفان للقرية كلها.",
        "تعيش عنزتان بجانب البركة القديمة.",
    ),
}
# for each kind in turn, in the language: what a question begins with
OPENINGS = {
    "en": "What is said of|Which thing is meant by|Who has to do with|When one reads",
    "zh": "请说明关于|哪一件事情是指|谁与此有关|当人们读到",
    "ja": "次のことについて説明せよ|どの事柄を指すか|誰が関係するのか|こう読むとき",
    "de": "Was wird gesagt über|Welche Sache ist gemeint mit|Wer hat zu tun mit|Wenn man liest",
    "ar": "ماذا يقال عن|أي شيء يقصد به|من له علاقة مع|عندما يقرأ المرء",
}


def passage(language):
    title, *sentences = TEXTS[language]
    text, spans = "", []
    for sentence in sentences:
        text += " " if text else ""
        spans.append((len(text), len(text) + len(sentence)))
        text += sentence
    name = content_id(language)
    return Passage(name, f"{language}.txt", title, text, 0, len(text), 50, tuple(spans))


class Capable:
    """Answer as a capable model would, and keep what it was asked.

    Args:
        spoil: (number of the reply, from 0; its items) to the text of the reply.
    """

    def __init__(self, language, spoil=lambda number, items: as_json(items), alone="yes"):
        self.language, self.spoil, self.alone = language, spoil, alone
        self.requests = []

    def __call__(self, prompt, rng):
        if "Reply with one word: yes or no" in prompt:
            return self.alone
        if "Reply with a JSON array" not in prompt:
            return TEXTS[self.language][1]  # an answer
        sentences = re.findall(r"^\[\d+\] (.*)$", prompt, re.MULTILINE)
        if "The first text: " in prompt:
            return self.about_two(prompt, sentences)
        focus = re.search(r"about the sentences ([\d, ]+), so", prompt)
        if focus:
            each = int(re.search(r"asked about (\d+) times", prompt)[1])
            places = [int(one) for one in focus[1].split(", ")]
            wanted = [(kind, one) for one in places for kind in [*OF_SENTENCES][:each]]
        else:
            wanted = [(kind, 1 + turn % len(sentences)) for turn, kind in enumerate(OF_PASSAGES)]
        found = [self.item(kind, place, sentences[place - 1]) for kind, place in wanted]
        self.requests.append(prompt)
        return self.spoil(len(self.requests) - 1, found)

    def about_two(self, prompt, sentences):
        """Ask what needs the first sentence of the text and the last one of the other."""
        items = [self.item("overview", len(sentences), sentences[-1]) for _ in OF_PAIRS]
        for item, kind, opening in zip(
            items, OF_PAIRS, OPENINGS[self.language].split("|"), strict=False
        ):
            text = f"{opening} {sentences[0][: len(sentences[0]) // 2].strip()}?"
            item |= {"kind": kind, "question": text, "sentences": [1, len(sentences)]}
        self.requests.append(prompt)
        return self.spoil(len(self.requests) - 1, items)

    def item(self, kind, place, sentence):
        half = len(sentence) // 2
        turn = [*OF_SENTENCES, *OF_PASSAGES].index(kind)
        openings = OPENINGS[self.language].split("|")
        begin = " ".join(([(one,) for one in openings] + [*combinations(openings, 2)])[turn])
        return {
            "kind": kind,
            "question": f"{begin} {sentence[:half].strip()}?",
            "sentences": [place],
            "quote": sentence[half:].strip(),
        }


def as_json(items):
    return json.dumps(items, ensure_ascii=False)


def written(folder, language, backend, held_out=(), /, **knobs):
    """Return the questions about a passage, and what was dropped."""
    knobs = {"writer": "model", "model_per_sentence": 2, "model_per_passage": 1, **knobs}
    config = tiny_config(folder, "none", questions=knobs)
    dropped = Counter()
    writer = ModelWriter(config, set(held_out), dropped, FakeBackend(backend))
    return writer.about_passage(passage(language)), dict(dropped)


# --- In five languages ------------------------------------------------------------------------


@pytest.mark.parametrize("language", TEXTS)
def test_every_sentence_is_asked_about_in_its_own_language(tmp_path, language):
    model = Capable(language)
    found, dropped = written(tmp_path, language, model)
    assert not dropped
    about = Counter(question.sentence for question in found if question.kind in OF_SENTENCES)
    assert about == {0: 2, 1: 2, 2: 2}, "coverage 1.0, twice"
    assert {question.kind for question in found} >= set(OF_PASSAGES)
    assert f"(ISO 639-1: {language})" in model.requests[0]
    own = script.script_of(passage(language).text)
    assert {script.script_of(question.text) for question in found} == {own}
    if own != "LATIN":
        assert not any(script.LATIN.search(question.text) for question in found)
    assert len(model.requests) == 2, "the sentences, and the whole"


def test_a_language_may_be_set(tmp_path):
    model = Capable("en")
    written(tmp_path, "en", model, language="fr")
    assert "if that is not the language fr (ISO 639-1), write them in fr" in model.requests[0]


def test_a_question_in_the_language_that_was_set_is_kept_whatever_the_text_is_in():
    english = "When was the old mill of Osk built, and who was the miller's wife?"
    chinese = "奥斯克磨坊是谁在哪一年建造的？"
    text = "奥斯克磨坊很老。安娜·格雷在一八〇一年建造。"
    assert script.is_foreign(english, text, "en") and script.is_foreign(chinese, english, "zh")
    assert not script.is_foreign(english, text, "en", is_translated=True)
    assert not script.is_foreign(chinese, english, "zh", is_translated=True)
    assert script.is_foreign(english, text, "de", is_translated=True)


@pytest.mark.parametrize("language", ["EN", "en-GB", "english", "e"])
def test_a_language_that_is_no_code_is_refused(tmp_path, language):
    with pytest.raises(ValueError, match=r"questions\.language must be a code of two lower-case"):
        tiny_config(tmp_path, "none", questions={"language": language})


def test_the_stages_run_behind_it_with_answers_in_the_language(tmp_path):
    model = tiny_model(tmp_path / "model")
    for language in ("zh", "de"):
        knobs = {"writer": "model", "model_per_sentence": 2}
        config = tiny_config(tmp_path / language, model, questions=knobs)
        write_records(config, [passage(language)])
        backend = FakeBackend(Capable(language))
        questions.ask(config, backend)
        answers.collect(config, backend)
        asked = list(read_shards(config.folder / "questions"))
        said = list(read_shards(config.folder / "answers"))
        assert {one["question_id"] for one in said} == {one["id"] for one in asked}
        assert {one["text"] for one in said} <= {TEXTS[language][1], *TEXTS[language]}
        (counts,) = read_json(config.run.coverage_file)["passages"]
        assert min(counts["answers_per_sentence"]) >= 1


# --- Replies that are not as asked for --------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        "{}",
        "```json\n{}\n```",
        "Here are the questions:\n\n{}\n\nI hope that they help.",
        '{{"questions": {}}}',
    ],
)
def test_a_reply_is_read_however_it_is_wrapped(wrap):
    wanted = [{"kind": "detail", "question": "Who?"}, {"kind": "inverse", "question": "A {b}?"}]
    assert replies.items(wrap.format(as_json(wanted))) == (wanted, "")


@pytest.mark.parametrize(
    "text, finished, count, reason",
    [
        ("", True, 0, "empty"),
        ("  \n", True, 0, "empty"),
        ("I cannot help with that.", True, 0, "refused"),
        ("[]", True, 0, "refused"),
        ('[{"question": "Who?"}, {"question": ', True, 1, "broken JSON"),
        ('[{"question": "Who?"}, {"question": "Wh', False, 1, "endless"),
        (
            '[{"question": "Who?"}, {question: "What?"}, {"question": "Why?"}]',
            True,
            2,
            "broken JSON",
        ),
        ("no end of words " * 50, False, 0, "endless"),
        ('[{"question": "Who?"}, {"sentences": [' + "1" * 5000 + "]}]", True, 1, "broken JSON"),
        ('[{"question": "Who?"}, {"a": ' + "[" * 9000, True, 1, "broken JSON"),
    ],
)
def test_of_a_broken_reply_the_whole_objects_count(text, finished, count, reason):
    found, said = replies.items(text, is_finished=finished)
    assert (len(found), said) == (count, reason)


def test_all_lists_of_objects_in_a_reply_count():
    detail, inverse = [{"question": "Who?"}, {"question": "Why?"}], [{"question": "What?"}]
    text = as_json({"detail": detail, "note": "none", "inverse": inverse})
    assert replies.items(text) == ([*detail, *inverse], "")


@pytest.mark.parametrize(
    "text",
    [
        '[{"question": "Who, and why?", "sentences": [1, 2]},]',
        '[{"question": "Who, and why?", "sentences": [1, 2],}]',
        '[{"question": "Who, and why?", "sentences": [1, 2 , \n ] , \n }]',
        '{"questions": [{"question": "Who, and why?", "sentences": [1, 2,],},],}',
    ],
)
def test_a_comma_behind_the_last_item_is_no_fault(text):
    assert replies.items(text) == ([{"question": "Who, and why?", "sentences": [1, 2]}], "")


def test_a_comma_before_a_bracket_within_a_text_stays():
    text = '[{"question": "Is it [a,] or {b, }?", "quote": "a,]",}]'
    assert replies.items(text) == ([{"question": "Is it [a,] or {b, }?", "quote": "a,]"}], "")


def test_a_line_break_within_a_text_is_no_fault():
    found, said = replies.items('[{"question": "Who built\n\tit?"}]')
    assert (found, said) == ([{"question": "Who built\n\tit?"}], "")


class CutOff(FakeBackend):
    """Cut the first reply off, as the limit of tokens does to one that never ends."""

    def _completion(self, text, stop_ids):
        return replace(super()._completion(text, stop_ids), finished=bool(self.calls[1:]))


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize(
    "bad, reason",
    [
        (lambda items: "", "replies: empty"),
        (lambda items: "I cannot help with that.", "replies: refused"),
        (lambda items: as_json(items)[:-30], "replies: broken JSON"),
        (lambda items: as_json(items)[:-30], "replies: endless"),
        (lambda items: as_json(items)[:20] + "x" * 5000, "replies: endless"),
    ],
)
def test_what_is_missing_is_asked_for_again_and_counted(tmp_path, bad, reason, language):
    model = Capable(language, lambda n, items: bad(items) if n == 0 else as_json(items))
    backend = CutOff(model) if "endless" in reason else FakeBackend(model)
    # the sentences alone, so that the first call has one reply
    knobs = {"writer": "model", "model_per_sentence": 2, "model_per_passage": 0}
    config, dropped = tiny_config(tmp_path, "none", questions=knobs), Counter()
    found = ModelWriter(config, set(), dropped, backend).about_passage(passage(language))
    about = Counter(question.sentence for question in found if question.kind in OF_SENTENCES)
    assert set(about) == {0, 1, 2} and min(about.values()) >= 2, "coverage 1.0, twice"
    assert dropped[reason] == 1 and set(dropped) <= {reason, "repeated, or nearly"}
    assert len(model.requests) > 1


def test_a_model_that_never_answers_is_asked_a_few_times(tmp_path):
    model = Capable("en", lambda n, items: "No.")
    found, dropped = written(tmp_path, "en", model)
    assert found == [] and len(model.requests) == ATTEMPTS + 1
    assert dropped == {"replies: refused": ATTEMPTS + 1, "sentences that no question cites": 3}


# --- Passages that leave little room ----------------------------------------------------------

NO_ROOM = "requests with no room for questions.model_tokens in the window"


def in_window(folder, window):
    """Return the questions about a passage, what was dropped, and what the model was asked."""
    knobs = {"writer": "model", "model_per_sentence": 2, "model_per_passage": 1}
    config = tiny_config(folder, "none", questions=knobs | {"model_tokens": 400})
    dropped, backend = Counter(), FakeBackend(Capable("en"), window=window)
    found = ModelWriter(config, set(), dropped, backend).about_passage(passage("en"))
    return {one.kind for one in found}, dict(dropped), backend


@pytest.mark.parametrize("window, most", [(None, 400), (3000, 400), (1186, 150)])
def test_replies_have_the_room_that_the_window_leaves(tmp_path, window, most):
    kinds, dropped, backend = in_window(tmp_path, window)
    assert kinds >= set(OF_PASSAGES) and not dropped
    assert backend.calls[0].sampling.max_new_tokens == most


def test_a_request_that_leaves_no_room_is_dropped_and_the_others_are_made(tmp_path):
    kinds, dropped, backend = in_window(tmp_path, 1086)
    assert kinds and kinds <= set(OF_SENTENCES) and dropped == {NO_ROOM: 1}
    assert backend.calls[0].sampling.max_new_tokens == 188


def test_a_passage_that_leaves_no_room_at_all_is_not_asked_about(tmp_path):
    kinds, dropped, backend = in_window(tmp_path, 930)
    assert not kinds and not backend.calls
    assert dropped == {NO_ROOM: 2, "sentences that no question cites": 3}


def test_a_window_that_no_passage_fits_is_refused_before_anything_is_asked(tmp_path):
    with pytest.raises(ValueError, match=r"window of 800; lower questions\.model_tokens"):
        in_window(tmp_path, 800)


# --- Filters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"kind": "poem"}, "without a known kind, a question or a quote"),
        ({"kind": ["detail"]}, "without a known kind, a question or a quote"),
        ({"question": None}, "without a known kind, a question or a quote"),
        ({"question": "?"}, "too short or too long"),
        ({"question": "Why " * 200}, "too short or too long"),
        ({"sentences": []}, "citing no sentence of the text"),
        ({"sentences": [9]}, "citing no sentence of the text"),
        ({"sentences": "1"}, "citing no sentence of the text"),
        ({"sentences": [True]}, "citing no sentence of the text"),
        ({"quote": "It grinds rye"}, "quoting what its sentences do not say"),
        ({"quote": " "}, "quoting what its sentences do not say"),
        ({"question": "Is it so that by Anna Gray it was built?"}, "giving its answer away"),
        ({"question": "谁建造了磨坊？"}, "in another language"),
        ({"question": "Who built the mill of Vell?"}, "equal to a held-out question, or nearly"),
    ],
)
def test_a_question_that_fails_a_check_is_dropped_with_the_reason(tmp_path, change, reason):
    def spoil(number, items):
        if number == 0:
            items[0] |= {"sentences": [1], "quote": "by Anna Gray"} | change
        return as_json(items)

    found, dropped = written(tmp_path, "en", Capable("en", spoil), ["who built mill of vell"])
    assert dropped[reason] == 1
    assert all(question.text != change.get("question") for question in found)


def test_half_a_letter_which_json_may_spell_is_no_letter(tmp_path):
    def spoil(number, items):
        items[0]["question"] = "Who built the mill of Osk HALF?"
        return as_json(items).replace("HALF", r"\ud83d")

    found, dropped = written(tmp_path, "en", Capable("en", spoil))
    assert found and dropped["with letters that are none"] >= 1
    assert all(question.text.encode() for question in found)


def test_quotes_are_compared_whatever_their_form(tmp_path):
    def spoil(number, items):
        for item in items:
            item["quote"] = f"  {item['quote'].upper()} ".replace(" ", "\u00a0 ")
        return as_json(items)

    found, dropped = written(tmp_path, "en", Capable("en", spoil))
    assert len(found) == 6 + len(OF_PASSAGES) and not dropped


@pytest.mark.parametrize(
    "text, quote",
    [
        ('the "Old Mill" of Osk', "the “Old Mill” of Osk"),
        ("the miller’s goats", "the miller's goats"),
        ("the miller\u00b4s goats", "the miller\u02bcs goats"),
        ("built 1801–1803 – twice", "built 1801-1803 - twice"),
        ("a long-lost mill", "a long\u2011lost mill"),
        ("the water\u00admill", "the watermill"),
        ("rye\u200b and oats", "rye and oats"),
        ("1\u00a0801 goats", "1 801 goats"),
        ("«Die Mühle»", "„Die Mühle“"),
    ],
)
def test_a_quote_may_have_other_marks_than_its_sentence(text, quote):
    assert script.letters(quote) == script.letters(text) and script.letters(quote)


@pytest.mark.parametrize(
    "text, quote",
    [("35 goats", "3.5 goats"), ("5 goats", "−5 goats"), ("$5", "€5"), ("5 goats", "5% goats")],
)
def test_a_quote_of_another_number_is_another_quote(text, quote):
    assert script.letters(quote) not in script.letters(text)


def test_a_question_whose_quote_has_other_marks_than_its_sentence_is_kept(tmp_path):
    def spoil(number, items):
        if number == 0:
            items[0] |= {"sentences": [1], "quote": "in\u00a01801 by “Anna” Gray"}
        return as_json(items)

    found, dropped = written(tmp_path, "en", Capable("en", spoil))
    assert len(found) == 6 + len(OF_PASSAGES) and not dropped


def test_an_unanswerable_question_need_not_hide_what_it_quotes(tmp_path):
    def spoil(number, items):
        for item in items:
            if item["kind"] == "unanswerable":
                item["question"] = f"Why is it that {item['quote']}?"
        return as_json(items)

    found, _ = written(tmp_path, "en", Capable("en", spoil))
    assert "unanswerable" in {question.kind for question in found}


def test_words_of_another_script_are_let_in_where_the_text_has_them():
    assert script.is_foreign("谁造了 engine 呢？", "奥斯克磨坊很老。", "zh")
    assert not script.is_foreign("谁造了 Engine 呢？", "奥斯克磨坊有一台 engine。", "zh")
    assert script.is_foreign("Who built it?", "奥斯克磨坊很老。", "zh")
    assert not script.is_foreign("誰がいつ建てたのか。", "オスクの水車小屋は古い建物である。", "ja")
    german = "Die Mühle von Osk wurde im Jahr 1801 von Anna Gray erbaut."
    assert script.is_foreign(
        "When was the mill built, and who was the miller's wife?", german, "de"
    )
    assert not script.is_foreign("Wann wurde die Mühle von Osk erbaut?", german, "de")


def test_a_question_that_the_model_does_not_understand_alone_is_dropped(tmp_path):
    found, dropped = written(tmp_path, "en", Capable("en", alone="No."))
    assert found == [] and dropped["not standing alone"] > 0
    found, _ = written(tmp_path, "en", Capable("en", alone="It depends."))
    assert found, "what is not clearly a no is kept"


@pytest.mark.parametrize(
    "said", ["No", "no.", "**No**", "_no_", "No, it", "NO - the", "No\n\nThe", "No。", "“No”"]
)
def test_a_no_is_one_whatever_comes_behind_it(said):
    assert replies.is_no(said) and not replies.is_yes(said)
    yes = said.replace("No", "Yes").replace("no", "yes").replace("NO", "YES")
    assert replies.is_yes(yes) and not replies.is_no(yes)


@pytest.mark.parametrize("said", ["", "Not", "None.", "No doubt", "Yesterday", "It is no", "不"])
def test_what_begins_with_no_verdict_is_unclear(said):
    assert not replies.is_no(said) and not replies.is_yes(said)


def test_near_duplicates_are_found_without_blanks_between_words(tmp_path):
    def spoil(number, items):
        again = dict(items[0], question=items[0]["question"] + "呢")
        return as_json([*items, items[0], again])

    found, dropped = written(tmp_path, "zh", Capable("zh", spoil), near_duplicate=0.8)
    assert dropped["repeated, or nearly"] >= 4
    texts = [question.text for question in found]
    assert len(set(texts)) == len(texts)


# --- Two passages -----------------------------------------------------------------------------

# the same mill in another passage, of which the first text says nothing
OTHERS = {
    "en": ("The miller", "Anna Gray kept the mill of Osk open in winter.", "She sold it in 1830."),
    "zh": ("磨坊主", "安娜·格雷在冬天也开着奥斯克磨坊。", "她在1830年卖掉了磨坊。"),
    "ja": ("粉屋", "アンナ・グレイは冬も水車小屋を開けていた。", "彼女は1830年にそれを売った。"),
    "de": ("Die Müllerin", "Anna Gray hielt die Mühle auch im Winter offen.", "1830 gab sie auf."),
    "ar": ("الطحانة", "أبقت آنا غراي طاحونة أوسك مفتوحة في الشتاء.", "باعتها في عام 1830."),
}


def other_passage(language):
    title, *sentences = OTHERS[language]
    text, end = " ".join(sentences), len(sentences[0])
    spans = ((0, end), (end + 1, len(text)))
    return Passage(f"other-{language}", "other.txt", title, text, 0, len(text), 30, spans)


def about_two(folder, language, spoil=lambda number, items: as_json(items), **knobs):
    """Return the questions about two passages, what was dropped, and the model."""
    knobs = {"writer": "model", "model_per_pair": 1} | knobs
    config, dropped = tiny_config(folder, "none", questions=knobs), Counter()
    model = Capable(language, spoil)
    pair = PassagePair(passage(language), other_passage(language), (), is_compared=False)
    found = ModelWriter(config, set(), dropped, FakeBackend(model)).about_pair(pair)
    return found, dropped, model


@pytest.mark.parametrize("language", TEXTS)
def test_two_passages_are_asked_about_together_in_any_language(tmp_path, language):
    found, dropped, model = about_two(tmp_path, language)
    assert [question.kind for question in found] == [*OF_PAIRS] and not dropped
    first, other = passage(language), other_passage(language)
    places = {(one.passage_id, one.other_passage_id, one.sentence) for one in found}
    assert places == {(first.id, other.id, -1)}
    (prompt,) = model.requests
    assert first.title in prompt and other.title in prompt
    assert f"(ISO 639-1: {language})" in prompt
    numbered = re.findall(r"^\[(\d+)\] (.*)$", prompt, re.MULTILINE)
    assert [text for _, text in numbered] == [*TEXTS[language][1:], *OTHERS[language][1:]]


@pytest.mark.parametrize("places", [[1], [1, 2], [4], [4, 5]])
def test_a_question_that_cites_one_of_two_texts_alone_is_dropped(tmp_path, places):
    def spoil(number, items):
        sentence = [*TEXTS["en"][1:], *OTHERS["en"][1:]][places[0] - 1]
        items[0] |= {"sentences": places, "quote": sentence[:12]}
        return as_json(items)

    found, dropped, _ = about_two(tmp_path, "en", spoil)
    assert len(found) == 1 and dropped == {"citing one of two texts alone": 1}


@pytest.mark.parametrize(
    "reply, reason", [("[]", "two texts with nothing in common"), ("", "replies: empty")]
)
def test_two_texts_may_have_nothing_in_common(tmp_path, reply, reason):
    found, dropped, _ = about_two(tmp_path, "en", lambda number, items: reply)
    assert found == [] and dropped == {reason: 1}


def test_two_texts_that_leave_no_room_for_a_reply_are_not_asked_about(tmp_path):
    """The teacher may well read both to answer: what it is asked for then is shorter."""
    knobs = {"writer": "model", "model_per_pair": 1, "model_tokens": 1536}
    config, dropped = tiny_config(tmp_path, "none", questions=knobs), Counter()
    pair = PassagePair(passage("en"), other_passage("en"), (), is_compared=False)
    free = FakeBackend(Capable("en"))
    asked = ModelWriter(config, set(), dropped, free).about_pair(pair)
    size = len(free.chat.ids(free.calls[0].prompts[0]))
    for room, most in ((2000, 1536), (400, 400), (384, 384)):  # a quarter is enough
        narrow = FakeBackend(Capable("en"), window=size + room)
        assert ModelWriter(config, set(), dropped, narrow).about_pair(pair) == asked != []
        assert narrow.calls[0].sampling.max_new_tokens == most and not dropped
    long = FakeBackend(Capable("en"), window=size + 383)
    assert ModelWriter(config, set(), dropped, long).about_pair(pair) == []
    assert dropped == {"two texts too long to be asked about at once": 1} and not long.calls


@pytest.mark.parametrize("language", TEXTS)
def test_passages_that_share_rare_words_make_a_pair(tmp_path, language):
    away = "zh" if language in ("en", "de") else "en"  # which share names
    passages = [passage(language), passage(away), other_passage(language)]
    config = tiny_config(tmp_path, "none")
    (pair,) = related_pairs(passages, config)
    assert (pair.first, pair.other) == (passages[0], passages[2])
    assert related_pairs(passages[:2], config) == []
    assert related_pairs(passages, config, window=200) == [], "the teacher cannot read both"


def test_a_word_that_many_passages_have_connects_nothing(tmp_path):
    common = "Osk mills grind rye every morning."
    passages = [
        Passage(f"p{i}", "d", "", f"{common} {i * 7919}", 0, 40, 9, ((0, 34),)) for i in range(9)
    ]
    config = tiny_config(tmp_path, "none")
    assert related_pairs(passages, config) == []
    assert len(related_pairs(passages[:8], config)) == 7


def test_the_stages_ask_and_answer_about_pairs_and_off_they_keep_their_hash(tmp_path):
    model = tiny_model(tmp_path / "model")
    hashes = []
    for count in (0, 1):
        knobs = {"writer": "model", "model_per_sentence": 1, "model_per_pair": count}
        config = tiny_config(tmp_path / str(count), model, questions=knobs)
        write_records(config, [passage("zh"), other_passage("zh")])
        backend = FakeBackend(Capable("zh"))
        questions.ask(config, backend)
        answers.collect(config, backend)
        asked = {one["id"]: one for one in read_shards(config.folder / "questions")}
        two = {i for i, one in asked.items() if one.get("other_passage_id")}
        assert {asked[i]["kind"] for i in two} == (set(OF_PAIRS) if count else set())
        assert two <= {one["question_id"] for one in read_shards(config.folder / "answers")}
        hashes.append(model_writer.settings(config.questions))
    assert "pairs" not in hashes[0] and {**hashes[1], "pairs": None} == {**hashes[0], "pairs": None}


# --- Prompts and knobs ------------------------------------------------------------------------


def test_a_users_prompt_takes_the_place_of_the_packages_and_counts(tmp_path):
    own = tmp_path / "prompts"
    own.mkdir()
    bundled = templates.read("")
    with pytest.raises(ValueError, match=r"holds none of sentences\.md"):
        templates.read(str(own))
    (own / "alone.md").write_text("Clear? $question ($$5)")
    found = templates.read(str(own))
    assert found.fill("alone.md", question="Who?") == "Clear? Who? ($5)"
    assert found.texts["whole.md"] == bundled.texts["whole.md"] and found.hash != bundled.hash


def test_a_prompt_that_is_not_utf_8_is_named(tmp_path):
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "alone.md").write_text("Klar, daß $question für sich steht?", encoding=encoding)
        with pytest.raises(ValueError, match=r"alone\.md of questions\.prompts is not UTF-8 text"):
            templates.read(str(tmp_path))


def test_the_byte_order_mark_of_a_prompt_is_left_out(tmp_path):
    (tmp_path / "alone.md").write_text("Clear? $question", encoding="utf-8-sig")
    assert templates.read(str(tmp_path)).texts["alone.md"] == "Clear? $question"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("Clear?", r"lacks the field \$question"),
        ("Clear? $question $passage", r"has an unknown field \$passage"),
        ("Clear for 5 $? $question", "a lone"),
    ],
)
def test_a_prompt_that_cannot_be_filled_is_refused(tmp_path, text, reason):
    (tmp_path / "alone.md").write_text(text)
    with pytest.raises(ValueError, match=reason):
        templates.read(str(tmp_path))


def test_a_text_with_a_dollar_is_shown_as_it_is(tmp_path):
    assert "$numbered" in templates.read("").fill("alone.md", question="$numbered")
