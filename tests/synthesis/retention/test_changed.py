"""Passages whose facts are changed, so that only reading tells them."""

import random
import re
from dataclasses import replace

import pytest

from pdtrain.records import Passage, Question
from pdtrain.synthesis.retention.changed import change

TEXT = "The lamp of Osk was lit by Ada Wells in 1862. Ada Wells carried 40 litres of fish oil."
PASSAGE = Passage("p", "d", "The lamp of Osk", TEXT, 0, len(TEXT), 20, ((0, 45), (46, len(TEXT))))


def asks(phrase, passage_id="p", name="q"):
    return Question(name, passage_id, "Who or what?", "fact", 0, phrase)


POOL = [
    asks("Tobias Moor", "other"),
    asks("Silver Acorn Medal", "other"),
    asks("spotted goats", "other"),
    asks("fish oil", "other"),
    asks("Ida Finch"),  # of the same passage
    asks("Ada Wells", "other"),  # what stands there already
    asks("Harbour", "other"),
    asks("goats", "other"),
    asks("an", "other"),
]
SEEDS = [random.Random(seed) for seed in range(20)]


@pytest.mark.parametrize("rng", SEEDS)
def test_a_name_becomes_another_passages_name_wherever_it_stands(rng):
    one = change(asks("Ada Wells"), PASSAGE, POOL, rng)
    assert one.new == ("Tobias Moor",) and one.old == ("Ada Wells",)
    assert one.passage.text == TEXT.replace("Ada Wells", "Tobias Moor")
    assert one.passage.title == PASSAGE.title
    pieces = [one.passage.text[a:b].strip() for a, b in one.passage.sentences]
    assert pieces == re.split(r"(?<=\.) ", one.passage.text) and one.passage.id != PASSAGE.id


def test_other_words_take_the_place_of_as_many_words_with_the_same_capitals():
    one = change(asks("fish oil"), PASSAGE, POOL, random.Random(0))
    assert one.new == ("spotted goats",) and "fish oil" not in one.passage.text
    one = change(asks("carried"), PASSAGE, POOL, random.Random(0))
    assert one.new == ("goats",)
    assert (
        change(asks("of fish oil"), PASSAGE, POOL, random.Random(0)) is None
    )  # none of that shape
    # neither other forms of what stands there, nor numbers where there was none
    for phrase in ("fish oils", "oil fish", "40 goats"):
        only = [asks(phrase, "other")]
        assert change(asks("fish oil"), PASSAGE, only, random.Random(0)) is None


@pytest.mark.parametrize("seed", range(20))
def test_numbers_get_other_digits_and_years_stay_in_their_century(seed):
    one = change(asks("1862"), PASSAGE, POOL, random.Random(seed))
    assert re.fullmatch(r"18\d\d", one.new[0]) and one.new[0] != "1862"
    assert one.passage.text == TEXT.replace("1862", one.new[0])
    one = change(asks("40 litres"), PASSAGE, POOL, random.Random(seed))
    assert re.fullmatch(r"[1-9]{2} litres", one.new[0]) and one.new[0] != "40 litres"


def test_a_question_that_names_no_phrase_is_asked_with_all_numbers_changed():
    one = change(asks(""), PASSAGE, POOL, random.Random(0))
    old, new = (re.findall(r"\d+", text) for text in (TEXT, one.passage.text))
    assert [*one.new] == new and not set(old) & set(new)
    assert one.is_read(f"In {new[0]}.") and not one.is_read(f"In {new[0]}7 or {old[0]}.")
    assert not one.is_read(f"In {new[0]}, or {old[0]}.")
    bare = Passage("p", "d", "", "No number here.", 0, 15, 4, ((0, 15),))
    assert change(asks(""), bare, POOL, random.Random(0)) is None


@pytest.mark.parametrize("rng", SEEDS)
def test_no_number_becomes_one_that_stands_in_the_passage(rng):
    """Else who remembers would count as who reads; where all digits are taken, there are more."""
    text = "He has 3 dogs, 7 cats, 5 goats, 1 cow, 2 hens, 4 bees, 6 eels, 8 rams, 9 owls, 3 ants."
    passage = Passage("p", "d", "", text, 0, len(text), 30, ((0, len(text)),))
    one = change(asks(""), passage, (), rng)
    assert len(set(one.new)) == 9 and not set(one.new) & set("123456789")
    assert not one.is_read("He has 7 cats.") and one.is_read(f"He has {one.new[1]} cats.")


def test_numbers_of_the_question_the_headings_and_lists_stay():
    text = "1. Open it in 1862.\n2. Wait 45 minutes with part 88."
    passage = Passage("p", "d", "Part 88", text, 0, len(text), 20, ((0, len(text)),))
    asked = Question("q", "p", "How long does one wait, as of 1862?", "detail", -1)
    one = change(asked, passage, (), random.Random(0))
    (new,) = one.new
    assert one.passage.text == text.replace("45", new) and one.old == ("45",)


def test_numbers_with_separators_are_one():
    text = "It cost 1,862 crowns, or 3.5 a day, in all 862 days."
    passage = Passage("p", "d", "", text, 0, len(text), 20, ((0, len(text)),))
    one = change(asks("862"), passage, (), random.Random(0))
    assert "1,862" in one.passage.text and "862 days" not in one.passage.text
    one = change(asks(""), passage, (), random.Random(0))
    assert re.fullmatch(r"\d,\d{3}", one.new[0]) and re.fullmatch(r"\d\.\d", one.new[1])


@pytest.mark.parametrize(
    "text, phrase, other, right, wrong",
    [
        # a vowel sign is part of its word
        ("रामायण की कथा राम ने कही।", "राम", "सीता", "सीता ने।", "स त"),
        # no blanks: a phrase stands wherever it stands
        ("这座灯塔由王明建造。", "王明", "李华", "李华建造。", "王明建造。"),
    ],
)
def test_phrases_of_any_script_are_changed_and_found(text, phrase, other, right, wrong):
    passage = Passage("p", "d", "", text, 0, len(text), 20, ((0, len(text)),))
    one = change(asks(phrase), passage, [asks(other, "other")], random.Random(0))
    assert one.passage.text.count(other) == 1 and one.passage.text.startswith(text[:4])
    assert one.is_read(right) and not one.is_read(wrong)


def test_numbers_are_found_between_letters_of_a_script_without_blanks():
    text = "这座灯塔建于1862年。"
    passage = Passage("p", "d", "灯塔", text, 0, len(text), 9, ((0, len(text)),))
    one = change(asks(""), passage, (), random.Random(0))
    assert one.is_read(f"它建于{one.new[0]}年。") and not one.is_read("它建于1862年。")


def test_other_digits_are_of_the_same_script():
    text = "بني المنارة عام ١٨٦٢."
    passage = Passage("p", "d", "", text, 0, len(text), 9, ((0, len(text)),))
    (new,) = change(asks(""), passage, (), random.Random(0)).new
    assert new != "١٨٦٢" and re.fullmatch("\u0661\u0668[\u0661-\u0669]{2}", new)


def test_an_answer_must_hold_all_words_that_are_new():
    one = change(asks("Ada Wells"), PASSAGE, POOL, random.Random(0))
    assert one.is_read("Tobias Moor lit it.") and one.is_read("It was lit by Moor, Tobias.")
    assert not one.is_read("Ada Wells lit it.") and not one.is_read("Tobias did.")


def test_what_the_headings_say_and_what_does_not_stand_there_is_not_changed():
    for phrase in ("Osk", "lamp", "Ida Finch", "the", "of"):
        assert change(asks(phrase), PASSAGE, POOL, random.Random(0)) is None
    section = replace(PASSAGE, section=("Ada Wells, keeper",))
    assert change(asks("Ada Wells"), section, POOL, random.Random(0)) is None
    # a part of a word is not the word
    assert change(asks("fish o"), PASSAGE, POOL, random.Random(0)) is None
