"""Plain text: lines that were wrapped are joined, and lines that stand for themselves are not."""

import textwrap

import pytest

PROSE = (
    "The lighthouse stands on a rock of black basalt, and the keeper winds its clockwork every "
    "four hours. In winter nobody comes. Then he reads, mends his nets and counts the ships that "
    "pass far out, one or two of them a day, on their way to Osk."
)


@pytest.mark.parametrize("width", [50, 65, 72, 80, 100])
@pytest.mark.parametrize("indent", ["", "    "])
def test_wrapped_lines_are_joined(read_one, width, indent):
    wrapped = textwrap.fill(PROSE, width, initial_indent=indent)
    assert read_one("a.txt", f"{wrapped}\n\n{wrapped}").text == f"{PROSE}\n{PROSE}"


@pytest.mark.parametrize(
    "text, joined",
    [
        (
            "The news-\npaper that was pub-\nlished in Osk\nwas old.",
            "The newspaper that was published in Osk was old.",
        ),
        ("news-\npaper that was pub-\nlished", "newspaper that was published"),
        ("Die Zei\u00ad\ntung lag da.", "Die Zeitung lag da."),
        ("Der Leucht\u2010\nturm steht.", "Der Leuchtturm steht."),
        # hyphens that are a part of the text
        ("It was a well-\nknown pier of Osk.", "It was a well-known pier of Osk."),
        ("The Anglo-\nSaxon church from 1066-\n1070 is old.", None),
        ("Der Ein-\nund Ausgang ist hier.", "Der Ein- und Ausgang ist hier."),
        (
            "By e-\nmail or at osk.org/old-\nharbour he wrote.",
            "By e-mail or at osk.org/old-harbour he wrote.",
        ),
        ("His mother-in-\nlaw came.", "His mother-in-law came."),
        ("Kesä-\nja talviaika. Pre-\ny posguerra.", "Kesä- ja talviaika. Pre- y posguerra."),
        ("He said: Allons-\ny, celui-\nci.", "He said: Allons-y, celui-ci."),
        ("It was (pre-\npared) and “under-\nstood”.", "It was (prepared) and “understood”."),
        ("It is up-\nto-date.", "It is up-to-date."),
        ("A real world, a real-\nworld boat.", "A real world, a real-world boat."),
        ("He left --\nand came.", "He left -- and came."),
        (
            "A re-\nsign here; re-sign, they said, and re-sign\nit again.",
            "A re-sign here; re-sign, they said, and re-sign it again.",
        ),
    ],
)
def test_a_word_that_a_line_end_cuts_is_one(read_one, text, joined):
    found = read_one("a.txt", text).text
    assert found == joined if joined else "Anglo- " not in found


def test_the_document_tells_whether_a_hyphen_belongs_to_a_word(read_one):
    text = "The air-raid was long.\n\nAfter the air-\nraid, the co-\noperation of all began; "
    text += "cooperation is good."
    assert read_one("a.txt", text).text.endswith(
        "After the air-raid, the cooperation of all began; cooperation is good."
    )


def test_parts_of_words_in_a_list_stay_apart(read_one):
    assert read_one("a.txt", "anti-\nauto-\nbio-").text.split("\n") == ["anti-", "auto-", "bio-"]


def test_lines_of_east_asian_text_are_joined_without_a_blank(read_one):
    line = "灯台は古いので毎晩灯台守がランプに火をともす"
    assert read_one("a.txt", f"{line}\n{line}\n{line}。").text == f"{line * 3}。"


@pytest.mark.parametrize(
    "lines",
    [
        ["Monday: closed", "Tuesday: 9 to 17, Clara Finch", "Sunday: only by appointment"],
        ["[09:14] anna: the boat is late", "[09:15] paul: why", "[09:31] anna: engine, i think"],
        ["2024-05-01 12:00:01 pump on", "2024-05-01 12:00:07 pump off, tank full"],
        ["- hemp rope", "- lamp oil", "- twelve candles"],
        ["1. Open the valve", "2. Wait for the bell", "3. Close it"],
        ["The wind is cold", "The pier is long", "And no one sings"],
        ["rope", "oil", "candles"],
    ],
)
def test_lines_that_stand_for_themselves_are_kept_apart(read_one, lines):
    assert read_one("a.txt", "\n".join(lines)).text.split("\n") == lines


LONG = "Linseed oil that is pressed in the mill behind the town hall every autumn"


@pytest.mark.parametrize(
    "lines",
    [
        # the longest line, which nothing could follow on its line
        ["Hemp rope", LONG, "Twelve candles", "Tar", "Tin"],
        ["Hemp rope", LONG, "Twelve candles"],
        [LONG, "Hemp rope", "12 candles", "Tar"],
        [
            "绳子",
            "每年秋天在市政厅后面的磨坊里压榨的亚麻籽油和其他的油",
            "蜡烛十二根",
            "焦油",
            "锡",
        ],
        # lists of quantities
        ["250 g rye flour", "2 eggs", "½ tsp salt", "caraway to taste", "3 tbsp oil"],
        # items by letters, signs and numbers
        ["(1) Nobody may land with", "a) dogs,", "b) goats, or", "c) fire.", "(2) It is so."],
        ["1.1 Each tenant pays the rent in advance.", "1.2 Rent is due in May.", "1.2.1 So be it."],
        ["i. hemp", "ii. tar", "iii. tin of the old mine", "iv. wax"],
        ["[ ] hemp", "[x] tar", "[ ] tin"],
        ["[1] A. Marsh, Mills of Vell, second edition, 1923", "[2] J. Reed, Boats, 1930"],
        [
            "第一条 居民应当登记。",
            "第二条 船只应当登记、每年一次、在港口的办公室里办理手续",
            "第三条 完。",
        ],
        # entries of a glossary and settings
        ["quern – two round stones that grind the corn", "sluice – a gate that holds water"],
        ["depth = four feet at the lower end of it", "width = nine feet from wall to wall"],
        # what people say
        ["— Wann kommt das Boot?", "— Morgen früh, wenn der Wind nachlässt, sagte er.", "— Gut."],
        [
            "LENA: The mill has stopped, and nobody in the village knows the reason.",
            "REED: The sluice is shut, and the key of it lies at the ground of the lake.",
            "LENA: Why?",
            "She sits down.",
        ],
    ],
)
def test_records_are_kept_apart_whatever_they_begin_with(read_one, lines):
    assert read_one("a.txt", "\n".join(lines)).text.split("\n") == lines


@pytest.mark.parametrize(
    "text",
    [
        # dashes and signs of a sentence, not behind the words of a glossary
        "The mill - built in 1741 by the family of the mayor - is now\na museum - the first one of "
        "the region - and open on Sundays.",
        "Die Mühle wurde – so die Chronik – im Jahre 1741 von der Familie des\nersten Meisters "
        "erbaut. Sie liegt am Fluss – etwa 10 Minuten vom Tor\nder Stadt – und ist alt.",
        "The depth d = 4 ft and the width w = 9 ft are those of the plan that\nwas a = b = c in "
        "the book of the mayor.",
        # numbers that count nothing
        "12 men went to the mill and carried the sacks of flour to the boats, of which there were\n"
        "14 at the landing stage, while the others waited with the remaining goats and the last\n"
        "30 sacks of the miller.",
        "I. Reed wrote the chronicle of the town in the year 1741, together with\nV. Marsh, who "
        "was his neighbour.",
        # a word that ends what stands in brackets
        "Nobody knows what the keepers (whom the people of the town call what they used\nto) did "
        "with their money.",
        # items of narrow lists, whose numbers are no quantities
        "1. Take the boat to the\n   other side of the lake",
        "1) Open the box of\nthe lamp",
    ],
)
def test_wrapped_lines_are_joined_whatever_they_begin_with(read_one, text):
    assert read_one("a.txt", text).text == " ".join(text.split())


def test_chinese_lines_are_joined_whatever_they_begin_with(read_one):
    said = "老人站在门口看着我们慢慢地说\uff1a“磨坊早就没有了。”孩子们\n"
    said += "听了都不相信、其中一个大声问\uff1a“那水车呢\uff1f”老人笑了。"
    book = "第一章讲述了磨坊的历史、第二章讲述了湖的历史、\n"
    book += "第三章讲述了小镇的历史以及它的居民的生活。"
    for text in (said, book):
        assert read_one("a.txt", text).text == text.replace("\n", "")


def test_numbers_that_count_on_begin_records(read_one):
    lines = [
        "1 Introduction",
        "1.1 The mill and its wheel, as the people of the town have told it to the author",
        "2 The lake and the boats of the mayor, which he had bought for the money of the",
    ]
    wrapped = "14 goats that the miller had sold"
    found = read_one("a.txt", "\n".join([*lines, wrapped, "2.1 The end", "3 Index"])).text
    assert found.split("\n") == [*lines[:2], f"{lines[2]} {wrapped}", "2.1 The end", "3 Index"]


def test_times_of_a_table_of_hours_stand_for_themselves(read_one):
    lines = ["Opening hours", "Mon", "8:00", "Tue", "9:00"]
    assert read_one("a.txt", "\n".join(lines)).text.split("\n") == lines


def test_a_message_of_several_lines_is_one_in_a_log_of_a_chat(read_one):
    lines = ["04/11/23, 08:14 - Lena: the mill has stopped", "and nobody knows the reason"]
    last = "04/11/23, 08:15 - Reed: i do"
    found = read_one("a.txt", "\n".join([*lines, last])).text
    assert found.split("\n") == [" ".join(lines), last]
    times = "0:00\nwelcome to the mill\n0:07\nToday we talk\nabout wheels\n"
    assert read_one("b.txt", times).text.split("\n") == [
        "0:00 welcome to the mill",
        "0:07 Today we talk about wheels",
    ]


def test_entries_with_a_hanging_indent_are_prose(read_one):
    entries = [
        "Marsh, A. (1923). The mills of Vell and what they have ground. Vell: Reed Press, the",
        "    second edition, 45 pages.",
        "Reed, J. (1930). Boats. Vell: Reed Press.",
        "Tarn, O. (1931). Sluices of the north and their keepers, a history. Journal of Sluices,",
        "    4(2), 7-9.",
    ]
    document = read_one("a.txt", "\n".join(entries))
    assert [block.kind for block in document.blocks] == ["prose"] * 3
    assert "Reed Press, the second edition, 45 pages." in document.text
    code = "for boat in harbour.all_boats_that_lie_here(True):\n    boat.moor()\nstop()\nprint(1)"
    assert read_one("b.txt", code).blocks[0].kind == "code"


def test_a_page_that_ends_within_a_sentence_ends_no_paragraph(read_one):
    text = "The mill stands at the end of\n\fthe lane. It is old.\n\fThe wheel is new.\n"
    found = read_one("a.txt", text).text.split("\n")
    assert found == ["The mill stands at the end of the lane. It is old.", "The wheel is new."]


def test_an_item_that_goes_on_in_the_next_line_is_one(read_one):
    text = "- hemp rope, which is sold by the\n  metre\n- lamp oil"
    assert read_one("a.txt", text).text == "- hemp rope, which is sold by the metre\n- lamp oil"


SCRIPT = "for boat in osk vell\ndo\n\tmoor $boat\n\tif wet; then\n\t\tdry $boat\n\tfi\ndone"
COLUMNS = "Boat      Crew   Built\nPetrel    9      1883\nTern      12     1901"


SETTINGS = """lamp:
  oil: 12
  keepers:
    - Anna Gray
    - Paul Reed
# at night
mill: {old: true}"""


@pytest.mark.parametrize(
    "layout", [SCRIPT, COLUMNS, SETTINGS], ids=["script", "columns", "settings"]
)
def test_layout_that_means_something_is_kept(read_one, layout):
    document = read_one("a.txt", f"Before it.\n\n{layout}\n\nAfter it.")
    assert document.text == f"Before it.\n{layout}\nAfter it."
    assert [block.kind for block in document.blocks] == ["prose", "code", "prose"]


@pytest.mark.parametrize("text", ["Fruit:\n- apples\n- pears", "- Boats:\n  - Petrel\n  - Tern"])
def test_items_below_a_word_are_no_settings(read_one, text):
    assert {block.kind for block in read_one("a.txt", text).blocks} == {"prose"}


def test_an_underlined_heading_is_a_section(read_one):
    document = read_one("a.txt", "Boats\n=====\n\nThe Petrel.\n\nCrews\n-----\n\nNine men.\n")
    assert document.text == "Boats\nThe Petrel.\nCrews\nNine men."
    assert document.blocks[-1].section == ("Boats", "Crews")


def test_markdown_lines_that_stand_for_themselves_are_kept_apart(read_one):
    source = "**When?**\nAt 6:30.\n\nMonday: closed\nTuesday: open\n\n" + textwrap.fill(PROSE, 70)
    lines = read_one("a.md", source).text.split("\n")
    assert lines == ["When?", "At 6:30.", "Monday: closed", "Tuesday: open", PROSE]


def test_what_somebody_says_in_two_lines_is_one_in_a_transcript(read_one):
    said = "A: In 1901, with my mother, and the boat took us over the lake of Vell to"
    lines = ["Q: When did you come?", said, "the pier.", "Q: And then?", "A: Then I worked."]
    found = read_one("a.txt", "\n".join(lines)).text.split("\n")
    assert found == [lines[0], f"{said} the pier.", *lines[3:]]
    hours = ["Monday: closed", "Tuesday: open", "Friday: open", "Sunday: open", "by appointment"]
    assert read_one("b.txt", "\n".join(hours)).text.split("\n") == hours


@pytest.mark.parametrize("leader", ["................", " . . . . . . . .", "………", "__________"])
def test_lines_with_leaders_stand_for_themselves(read_one, leader):
    dishes = ["Soup of the day with rye bread", "Fish from the lake of Vell, fried", "Wine"]
    prices = ["5", "12.50 €", "4"]
    lines = [f"{dish}{leader} {price}" for dish, price in zip(dishes, prices, strict=True)]
    assert read_one("a.txt", "\n".join(lines)).text.split("\n") == lines
