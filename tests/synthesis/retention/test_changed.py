"""Passages whose facts are changed, so that only reading tells them."""

import random
import re

import pytest

from pdtrain.records import Passage, Question
from pdtrain.synthesis.retention.changed import change, phrase_pool

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
]


def test_a_name_becomes_another_passages_name_wherever_it_stands():
    one = change(asks("Ada Wells"), PASSAGE, POOL, random.Random(0))
    assert one.new == ("Tobias Moor",)
    assert one.passage.text == TEXT.replace("Ada Wells", "Tobias Moor")
    assert one.passage.title == PASSAGE.title
    pieces = [one.passage.text[a:b].strip() for a, b in one.passage.sentences]
    assert pieces == re.split(r"(?<=\.) ", one.passage.text) and one.passage.id != PASSAGE.id


def test_other_words_take_the_place_of_as_many_words_with_the_same_capitals():
    one = change(asks("fish oil"), PASSAGE, POOL, random.Random(0))
    assert one.new == ("spotted goats",) and "fish oil" not in one.passage.text
    assert change(asks("oil"), PASSAGE, POOL, random.Random(0)) is None  # nothing of that shape


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
    bare = Passage("p", "d", "", "No number here.", 0, 15, 4, ((0, 15),))
    assert change(asks(""), bare, POOL, random.Random(0)) is None


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


def test_what_the_title_says_and_what_does_not_stand_there_is_not_changed():
    for phrase in ("Osk", "lamp", "Ida Finch", "the"):
        assert change(asks(phrase), PASSAGE, POOL, random.Random(0)) is None
    # a part of a word is not the word
    assert change(asks("fish o"), PASSAGE, POOL, random.Random(0)) is None


def test_phrases_are_drawn_by_id_and_not_by_place():
    questions = [asks(f"name {i}", name=str(i)) for i in range(400)] + [asks(""), asks("the")]
    drawn = phrase_pool(questions, 0)
    assert len(drawn) == 256 and drawn == phrase_pool(questions[::-1], 0)
    assert drawn != phrase_pool(questions, 1) and not {"", "the"} & {one.phrase for one in drawn}
