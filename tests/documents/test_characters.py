"""Characters that look like others, hide or stand for what a program did, and their plain forms."""

from collections import Counter

import pytest

from pdtrain.documents.encoding.characters import normalise

PLAIN = [
    ("\u0132zer, \u01c7ubav", "IJzer, LJubav"),
    ("\uff62水門\uff63は古い\uff64と言う\uff61", "「水門」は古い、と言う。"),
    ("\u2ed3\u2ed4\u2ec4", "长门西"),
    ("\uf0b7 tar", "• tar"),
    ("น\u0e4d\u0e49\u0e32 น\u0e49\u0e4d\u0e32 ท\u0e4d\u0e32", "น้ำ น้ำ ทำ"),
    ("ນ\u0ecd\u0ec9\u0eb2", "ນ້ຳ"),
    ("مـــيـناء 1160 هـ", "ميناء 1160 هـ"),
    ("پـــدر کــتاب مَـــيناء", "پدر کتاب مَيناء"),
    ("a\ufffcb c\uffff 城\ufe00 d\ufdd0", "ab c 城 d"),
    ("the mill\x92s \x93wheel\x94 \x96 old", "the mill’s “wheel” – old"),
    ("\x1b]8;;https://osk.org\x1b\\the mill\x1b]8;;\x1b\\ \x1b]0;t\x07\x1b(Bends", "the mill ends"),
    ("N\x08NA\x08AM\x08ME\x08E _\x08m_\x08i_\x08l_\x08l", "NAME mill"),
]
KEPT = [
    "I ❤\ufe0f Osk",
    "5\ufe0f\u20e3",
    "م\u0640 ",
    "م \u0640\u0640\u0640 م",
    "กํ",
    "a\u0336",
    "\ue000",
    "㎏",
    "\u2e80",
]


@pytest.mark.parametrize(("text", "wanted"), PLAIN)
def test_characters_are_those_that_people_type(text, wanted):
    assert normalise(text) == wanted
    assert normalise(wanted) == wanted


@pytest.mark.parametrize("text", KEPT)
def test_characters_with_a_meaning_stay(text):
    changes = Counter()
    assert normalise(text, changes) == text and not changes


def test_what_cannot_be_seen_hides_no_record_of_a_list(read_one):
    lines = [
        "\u200e[04.11.23, 08:14:03] Lena: the mill has stopped, it has",
        "\u200e[04.11.23, 08:15:10] Reed: \u200ewhy",
        "\ufeff[04.11.23, 08:16:10] Lena: ask",
    ]
    document = read_one("a.txt", "\n".join(lines))
    assert [line.partition("] ")[2] for line in document.text.split("\n")] == [
        "Lena: the mill has stopped, it has",
        "Reed: why",
        "Lena: ask",
    ]
    assert document.warnings == ("4 invisible characters removed",)
