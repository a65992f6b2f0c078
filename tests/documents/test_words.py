"""Words by which answers are graded and passages are found, in many scripts and forms."""

# ruff: noqa: RUF001 - letters that look alike are what this is about
import random
import string

import bm25s
import pytest

from pdtrain.documents.words import holds, length, number, search_words, words
from pdtrain.synthesis.text import normalise

CASES = {  # a text, what it holds, and what it does not
    "English": ("The bell-ringer’s “Old Tom” weighs 1,750 kg.", ["Old Tom", "1750"], ["750", "17"]),
    "Chinese": (
        "磨坊由安娜·格雷于1801年建造，高3.5米。",
        ["安娜·格雷", "安娜格雷", "3.5"],
        ["35", "格雷安"],
    ),
    "Japanese": (
        "水車小屋はアンナ・グレイが建てた。",
        ["アンナ・グレイ", "ｱﾝﾅ・ｸﾞﾚｲ"],
        ["グレイアンナ"],
    ),
    "Korean": (
        "방앗간은 안나 그레이가 1801년에 지었다.",
        ["안나 그레이", "1801"],
        ["801", "그레이안나"],
    ),
    "Thai": (
        "โรงสีสร้างโดยแอนนา เกรย์ ในปี ๑๘๐๑",
        ["แอนนา เกรย์", "แอนนาเกรย์", "1801"],
        ["เกรย์แอนนา", "801"],
    ),
    "Hindi": ("चक्की अन्ना ग्रे ने १८०१ में बनाई।", ["अन्ना ग्रे", "1801", "बनाई"], ["अन्न", "801"]),
    "Arabic": (
        "بَنَتْ آنا غراي الطاحونة عام ١٨٠١، وارتفاعها ٣٫٥ أمتار.",
        ["انا غراي", "طاحونة", "1801", "3.5", "بنت"],
        ["35", "غراي انا", "احونة"],
    ),
    "Persian": ("آسیاب را آنا گری ساخت؛ می‌چرخد.", ["آنا گری", "میچرخد"], ["گری آنا"]),
    "Hebrew": ("הַטַּחֲנָה נבנתה בידי צה״ל ב־1801.", ["הטחנה", 'צה"ל', "צה״ל", "1801"], ["חנה"]),
    "Vietnamese": (
        "Cối xay do bà Trần Thị Hồng xây.",
        ["Tra\u0302\u0300n Thị Hồng"],
        ["Tran", "Hồng Thị"],
    ),
    "Turkish": (
        "Değirmen Iğdır'da, IŞIK'lıdır; İzmir'e 12,50 km.",
        ["ığdır", "ışık", "izmir", "12.5"],
        ["50"],
    ),
    "Greek": ("Ο ΜΥΛΟΣ ΤΗΣ ΑΘΗΝΑΣ έχει ύψος 3,5 μ.", ["μύλος της Αθήνας", "3.5"], ["35", "μύλο"]),
    "French": (
        "Le moulin est près de l’hôtel « Le Héron », à 12\u202f500 m.",
        ["hôtel", "Le Héron", "12500"],
        ["500"],
    ),
    "German": (
        "Die Mühle in der HAUPTSTRASSE kostet 2.000,50 Kronen.",
        ["Hauptstraße", "2000,5"],
        ["2"],
    ),
    "Russian": ("Мельницу построила Анна Грей; −5 °C.", ["Анна Грей", "-5"], ["5", "Анн"]),
    "Burmese": ("စက်ကို ၁၈၀၁ ခုနှစ်။", ["1801", "စက်"], ["801"]),
}


@pytest.mark.parametrize("language", CASES)
def test_what_a_text_holds_in_any_script(language):
    text, there, missing = CASES[language]
    for part in there:
        assert holds(words(text), words(part)), part
    for part in missing:
        assert not holds(words(text), words(part)), part


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("1750", "1750"),
        ("1,750", "1750"),
        ("1.750", "1750"),
        ("1.750.000", "1750000"),
        ("1,750.50", "1750.5"),
        ("1.750,50", "1750.5"),
        ("12,50", "12.5"),
        ("12.50", "12.5"),
        ("3.0", "3"),
        ("0.125", "0.125"),
        ("-3.5", "-3.5"),
        (".5", "0.5"),
        ("12,34,567", "1234567"),
        ("3.10.1990", "3.10.1990"),
        ("10.0.0.1", "10.0.0.1"),
        ("6:30", "6:30"),
        ("2'000", "2000"),
    ],
)
def test_a_number_is_written_in_one_way(text, wanted):
    assert number(text) == wanted
    assert words(f"about {text} of them") == ["about", wanted, "of", "them"]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("from -5 to 3", ["from", "-5", "to", "3"]),
        ("(-5)", ["-5"]),
        ("pages 1990-1995", ["pages", "1990", "1995"]),
        ("2−1", ["2", "1"]),
        ("at −5 °C", ["at", "-5", "c"]),
        ("in the 1990s, the 3rd of 37m", ["in", "1990s", "3rd", "of", "37m"]),
        ("v1.2 weighs 3.5kg", ["v1.2", "weighs", "3.5kg"]),
        ("$5, 12.5% and €3.50", ["5", "12.5", "and", "3.5"]),
        ("1½ miles in 1890¹, 10⁶ m² of H₂O", "1 1 2 miles in 1890 1 10 6 m2 of h2o".split()),
    ],
)
def test_signs_and_units_of_numbers(text, wanted):
    assert words(text) == wanted


@pytest.mark.parametrize("left, right", [("3.5", "35"), ("-5", "5"), ("1.5", "15"), ("0.5", "5")])
def test_other_numbers_are_never_equal(left, right):
    assert words(left) != words(right)
    assert not holds(words(f"It is {left} metres."), words(right))


def test_what_cannot_be_seen_changes_nothing():
    for text in (
        "cafe\u0301 so\u00adft",
        "ca\u200bfé soft",
        "\u202bcafé soft",
        "ＣＡＦÉ ｓoft",
        "caｆé soft",
    ):
        assert words(text) == ["café", "soft"], ascii(text)
    assert words("葛\U000e0101城\ufe00") == words("葛城"), "variants of a Chinese character"


def test_english_words_are_those_of_squad():
    rng = random.Random(0)
    signs = "-.&_" + "     "
    for _ in range(2000):
        letters = [rng.choice(string.ascii_letters + signs) for _ in range(rng.randrange(30))]
        text = "".join(letters)
        assert words(text) == normalise(text).split(), text
    for text in ("It's Ina Marrow's; we'll see, they don't!", "the U.S. well-known (a) pier?"):
        assert words(text) == normalise(text).split()


def test_an_empty_text_holds_and_is_nothing():
    assert words("") == words("the, an ... !") == [] and not holds(["pier"], [])


def test_two_letters_of_a_script_without_blanks_count_as_a_word():
    assert length(words("the old mill of Osk")) == 4
    assert length(words("磨坊由安娜建造")) == 4


def test_english_is_found_by_the_words_of_the_library():
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(rng.choice(string.printable[:95]) for _ in range(60))
        (wanted,) = bm25s.tokenize([text], stopwords=[], return_ids=False, show_progress=False)
        assert search_words(text) == wanted, text


def test_scripts_without_blanks_are_found_by_pairs_of_letters():
    assert search_words("磨坊很高。B座") == ["磨坊", "坊很", "很高", "座"]
    assert search_words("방앗간") == ["방앗", "앗간"]
    assert search_words("โรงสี")[:2] == ["โร", "รง"]
    assert search_words("चक्की बनाई") == ["चक्की", "बनाई"]
