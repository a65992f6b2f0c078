# ruff: noqa: RUF001
"""Encodings and look-alike characters: what is read is what was written, or the file is named."""

import time
import unicodedata
from collections import Counter

import pytest

from pdtrain.documents.document import Unreadable
from pdtrain.documents.encoding.characters import normalise
from pdtrain.documents.encoding.decoding import decode

TEXTS = {
    "de": "Am Hafen von Osk wohnt Frau Gräßlin. Sie führt über die Brücke und zählt die Möwen, "
    "die dort täglich hören, wie die große Glocke schlägt. Die Fähre fährt um fünf Uhr.",
    "ru": "Маяк старый. Его построил инженер из города, и смотритель зажигает лампу каждый вечер. "
    "Зимой залив замерзает, и люди ходят на остров пешком.",
    "ja": "灯台は古い。毎晩、灯台守がランプに火をともす。冬になると海峡は凍り、"
    "人々は歩いて島へ渡る。船は夏にだけ港を出る。",
    "pl": "Latarnia morska stoi nad zatoką. Każdego wieczoru strażnik zapala lampę, a zimą "
    "cieśnina zamarza i ludzie przechodzą pieszo na wyspę. Łódź wraca późno.",
    "el": "Ο φάρος είναι παλιός. Κάθε βράδυ ο φύλακας ανάβει τη λάμπα, και τον χειμώνα το στενό "
    "παγώνει και οι άνθρωποι περνούν με τα πόδια στο νησί.",
    "zh": "灯塔很旧。看守人每天晚上点灯。冬天海峡结冰，人们步行到岛上去。夏天才有船离开港口。",
}
MARKED = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
ENCODINGS = [
    *[
        (language, mark)
        for language in TEXTS
        for mark in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    ],
    *[("de", "cp1252"), ("de", "latin-1"), ("ru", "cp1251"), ("ru", "koi8-r"), ("ja", "cp932")],
    *[("ja", "euc-jp"), ("pl", "cp1250"), ("el", "cp1253"), ("zh", "gb18030"), ("de", "utf-16-le")],
    *[("el", "iso-8859-7"), ("pl", "iso-8859-2"), ("ja", "iso-2022-jp"), ("ru", "iso-8859-5")],
]


@pytest.mark.parametrize("language, encoding", ENCODINGS)
def test_the_characters_are_those_that_were_written(read_one, language, encoding):
    text = TEXTS[language]
    document = read_one("a.txt", "\n\n".join([text] * 3).encode(encoding))
    assert document.text == "\n".join([text] * 3)
    assert bool(document.warnings) is (encoding not in MARKED), "a guess is said"


def test_a_few_letters_are_taken_for_western_ones(read_one):
    document = read_one("a.txt", "Zürich".encode("latin-1"))
    assert (document.text, document.warnings) == ("Zürich", ("read as cp1252",))


WESTERN = [
    "Name;Straße;Ort;Preis\nMüller;Hafenstraße 3;Köln;5 €\n",
    "Müller;Köln\n",
    "Le café coûte 3 €, et l’hôtel est à côté.\n",
    "Il caffè è buono, costa 2 €.\n",
    "El niño salió; ¿cuándo vuelve a España?\n",
    "O pão não é caro, e a maçã também.\n",
    "It’s a café. “Hi” – ok\n",
    "The ferry—late again—left at 5 °C.\n",
    "5 °C ± 2 °C, § 5, ½\n",
    "ÖVRIGT: ÄPPLEN\n",
    "Færgen går fra Ærø til Ålborg.\n",
]


@pytest.mark.parametrize("count", [1, 3, 10, 30])
@pytest.mark.parametrize("line", WESTERN)
def test_western_text_is_not_taken_for_another_script_or_an_old_page(line, count):
    found, warnings = decode((line * count).encode("cp1252"), "x")
    assert found == line * count and warnings


ALPHABETS = {
    "uk": ("Їжак їсть яблуко біля причалу.", "cp1251 koi8-u"),
    "ru": ("Съешь ещё булок, да выпей чаю.", "cp1251 koi8-r cp866 iso-8859-5 mac-cyrillic"),
    "el": ("Κάθε βράδυ ο φύλακας ανάβει τη λάμπα.", "cp1253 iso-8859-7"),
    "he": ("השומר מדליק את המנורה בכל ערב.", "cp1255 iso-8859-8"),
    "ar": ("يضيء الحارس المصباح كل مساء.", "cp1256 iso-8859-6"),
    "tr": ("Şişli’de yaşayan kaptan ışığı yaktı.", "cp1254"),
    "lt": ("Žmonės eina pėsčiomis į šaltą salą.", "cp1257"),
    "lv": ("Kuģis nāk vēlu, un cilvēki iet kājām.", "cp1257 iso-8859-13"),
    "pl": ("Łódź wraca późno, świeci księżyc.", "cp1250 iso-8859-2"),
    "cs": ("Příliš žluťoučký kůň pil vodu u mola.", "cp1250 iso-8859-2"),
    "hu": ("Az őr este meggyújtja a lámpát a szűk öbölben.", "cp1250 iso-8859-2"),
    "zh": ("看守人每天晚上点灯，船三艘。", "gbk gb18030"),
    "zh-TW": ("看守人每天晚上點燈，船三艘。", "big5"),
    "ja": ("灯台は古い。PDFを5枚見た。", "cp932 euc-jp iso-2022-jp"),
    "ko": ("등대지기가 매일 저녁 불을 켠다.", "euc-kr cp949"),
    "th": ("ผู้ดูแลจุดไฟทุกคืน และเรือจอดที่ท่า", "cp874"),
}


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(
    "text, encoding",
    [(text, name) for text, names in ALPHABETS.values() for name in names.split()],
)
def test_other_alphabets_are_told_in_short_and_in_long_texts(text, encoding, count):
    written = f"{text}\n" * count
    assert decode(written.encode(encoding), "x")[0] == written


def test_no_text_is_read_in_the_encoding_of_a_mainframe():
    try:
        _, warnings = decode("Gräßlin wohnt in Köln".encode("cp273"), "x")
    except Unreadable:
        return
    assert "cp273" not in warnings[0] and "cp500" not in warnings[0]


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "utf-8"])
def test_a_page_names_its_encoding(read_one, encoding):
    page = f'<html><head><meta charset="{encoding}"></head><body><p>Маяк стар.</p></body></html>'
    document = read_one("a.html", page.encode(encoding))
    assert (document.text, document.warnings) == ("Маяк стар.", ())


def test_a_page_that_names_the_wrong_encoding_is_read_in_the_right_one(read_one):
    page = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>Gräßlin “1”'
    assert read_one("a.html", page.encode()).text == "Gräßlin “1”"
    assert read_one("b.html", page.encode("cp1252")).text == "Gräßlin “1”", "as browsers read it"


def test_a_few_damaged_characters_are_left_out_and_counted(read_one):
    data = TEXTS["ru"].encode() + b" \xff\xfe. " + TEXTS["ru"].encode()
    document = read_one("a.txt", data)
    assert document.text == f"{TEXTS['ru']} . {TEXTS['ru']}"
    assert document.warnings == ("2 characters that are no UTF-8 left out",)


@pytest.mark.parametrize("other", ["cp1252", "cp1250"])
def test_lines_in_another_encoding_keep_their_letters(read_one, other):
    first, last = "Die Tür am Fluß.\n\nEin “Café” – geöffnet.", "Die Möwe über der Brücke."
    line = "Frau Müller zählt die Vögel am Fluß."
    data = f"{first}\n\n".encode() + line.encode(other) + f"\n\n{last}".encode()
    document = read_one("a.txt", data)
    assert document.text.split("\n") == [*first.split("\n\n"), line, last]
    assert document.warnings[0].startswith("1 lines read as ")


@pytest.mark.parametrize(
    "data, wanted",
    [
        ("Die Mühle am Fluß.\n\nThe lake “is” deep".encode() + b"\n\nAt the Flu\xc3", "At the Flu"),
        ("Die Mühle am Fluß.\n\n".encode() + b"a quote \xe2\x80 here.", "a quote  here."),
    ],
)
def test_letters_that_were_cut_are_in_no_other_encoding(data, wanted):
    text, warnings = decode(data, "a.txt")
    assert text.split("\n")[-1] == wanted
    assert warnings == ("1 characters that are no UTF-8 left out",)


def test_short_lines_of_an_older_encoding_are_in_one():
    text = "\n".join(
        "磨坊建于一七四一年由第一任市长的家族建造一直使用到一九二三年当时最后一位磨坊主离开了小镇"
    )
    assert decode(text.encode("gbk"), "a.txt")[0] == text


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_a_text_that_was_written_twice_is_read_once(read_one, encoding):
    text = "Frau Müller führt die Brücke. Áron sagt: “nein”."
    text = text if encoding == "cp1252" else text.replace("“", "»").replace("”", "«ß")
    twice = "".join(
        bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in text.encode()
    ).encode()
    document = read_one("a.txt", twice)
    assert (document.text, document.warnings) == (text, ("UTF-8 that was written twice",))
    quoted = "The letters Ã¼ of München come of UTF-8 that is read as cp1252: Ã¤, Ã¶."
    assert read_one("b.txt", quoted).text == quoted
    quoted = """Such a program writes "Ã©", 'Ã¼' and `Ã±`, and "cafÃ©" on a menu."""
    assert read_one("c.txt", quoted).text == quoted


@pytest.mark.parametrize(
    "text",
    ['"Name","Ort"\n"Müller","Köln"\n"Jäger","Düren"', '{"name": "Müller", "ort": "Köln-Süd"}'],
)
def test_words_in_quotes_of_a_table_that_was_written_twice_are_read_once(text):
    assert decode(text.encode().decode("cp1252").encode(), "a.csv")[0] == text


def test_long_words_of_a_text_that_was_written_twice_take_no_longer_for_each_letter():
    text = "élevé, ôté: " + "a" * 200_000
    start = time.process_time()
    assert decode(text.encode().decode("cp1252").encode(), "a.txt")[0] == text
    assert time.process_time() - start < 10, "minutes where it grows by the square"


def test_a_sign_that_stands_behind_no_word_tells_the_encoding():
    text = "Die Brücke über den Fluß wurde für die Bürger gebaut."
    assert decode(text.encode("mac_roman"), "a.txt")[0] == text


def test_bytes_that_are_no_text_are_refused(read_one):
    for data in (bytes(range(1, 256)) * 4, b"\xff\xfe\x00\xd8\x00\x00"):
        with pytest.raises(Unreadable) as error:
            read_one("a.txt", data)
        assert error.value.reason in ("binary", "broken")


FORMS = {
    "decomposed letters": lambda text: unicodedata.normalize("NFD", text),
    "soft hyphens": lambda text: text.replace("ei", "e\u00adi"),
    "zero-width blanks": lambda text: text.replace("ei", "e\u200bi"),
    "marks of direction": lambda text: f"\u202a{text}\u202c",
    "ligatures": lambda text: text.replace("fi", "\ufb01").replace("ff", "\ufb00"),
    "full width": lambda text: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text
    ),
    "tags": lambda text: text.replace("a", "a\U000e0041\U000e007f"),
    "joiners of graphemes": lambda text: text.replace("i", "i\u034f"),
    "fillers and deprecated marks": lambda text: text.replace(" ", "\u3164 \u206a\ufffb"),
    "bold letters of formulas": lambda text: "".join(
        chr(0x1D400 + 26 * c.islower() + ord(c.lower()) - ord("a"))
        if c.isascii() and c.isalpha()
        else c
        for c in text
    ),
    "Arabic marks and inherent vowels": lambda text: text.replace("i", "i\u061c\u17b4\u17b5"),
    "fillers of Korean": lambda text: text.replace("i", "\u115f\u1160i"),
    "selectors of variants": lambda text: text.replace("i", "i\ufe0e").replace("n", "n\ufe0f"),
    "selectors of Chinese variants": lambda text: text.replace("i", "i\U000e0100"),
    "blanks of Braille": lambda text: text.replace(" ", "\u2800"),
    "joiners": lambda text: text.replace("i", "i\u200c").replace("n", "n\u200d\u200d"),
    "no-break blanks": lambda text: text.replace(" ", "\u00a0"),
    "line separators": lambda text: text.replace(". ", ".\u2028\u2028"),
}
PLAIN = "Frau Gräßlin fischt im Hafen, bei fünf Grad. Ihr Schiff heißt „Möwe“; es fährt weit."


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.rst", "a.srt"])
def test_what_looks_alike_is_read_alike(read_one, form, name):
    text = FORMS[form](PLAIN)
    if name == "a.srt":
        text = f"1\n00:00:01,000 --> 00:00:04,000\n{text}\n"
    if form == "line separators" and name != "a.txt":
        pytest.skip("a blank like others")
    document = read_one(name, text)
    assert " ".join(document.text.split()) == PLAIN
    if form not in ("no-break blanks", "line separators"):
        assert document.warnings, "what was changed is said"


def test_html_entities_are_characters_like_others(read_one):
    document = read_one("a.html", "<p>Leucht&shy;turm&#8203;wärter und&nbsp;Fähre</p>")
    assert document.text == "Leuchtturmwärter und Fähre"
    assert document.warnings == ("1 soft hyphens removed", "1 invisible characters removed")


@pytest.mark.parametrize(
    "text",
    [
        "می‌شود",
        "क्‍ष",
        "👩‍🚒",
        "👨‍👩‍👧‍👦 ❤\ufe0f‍🔥 👁\ufe0f‍🗨\ufe0f 👩🏽‍🚒",
        "☎\ufe0e ❤\ufe0f \u2139\ufe0f 5\ufe0f\u20e3 #\ufe0f\u20e3 ㊗\ufe0f",
        "🏴‍☠\ufe0f",
        "សម្រាប់\u200cខ្មែរ",
        "ᠮᠣᠩᠭᠣᠯ\u200d ᠬᠠᠷ\u180eᠠ",
        "她说：“来吧！”（对）",
        "e\u0301".encode().decode(),
    ],
)
def test_what_has_a_meaning_stays(text):
    assert normalise(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text",
    [
        "灯\u200d塔",
        "灯\u200c塔",
        "葛\U000e0101城",
        "灯\ufe0f塔",
        "灯\u180e塔",
        "가\u200d나",
        "ア\u200dイ",
    ],
)
def test_what_cannot_be_seen_between_letters_of_east_asia_goes(text):
    assert normalise(text) == "".join(c for c in text if c.isalpha())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("ﾋﾟｱは古い。", "ピアは古い。"),
        ("⼤⼈", "大人"),
        ("\ufe8d\ufedf\ufe92\ufea4\ufeae", "البحر"),
        ("\ufb2a\ufb35", "\u05e9\u05c1\u05d5\u05bc"),
        ("\ufb50\ufefb", "ٱلا"),
    ],
)
def test_letters_of_another_shape_are_made_plain(text, plain):
    changes = Counter()
    assert normalise(text, changes) == unicodedata.normalize("NFC", plain)
    assert changes["letters of another shape made plain"]


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # a flag
        "𝑎𝑥 + 𝐛 = 𝟎",
        "\ufdfa",  # a whole sentence as one sign
        "<\uff5cUser\uff5c>Hello<\uff5cend\u2581of\u2581sentence\uff5c>",  # a turn
        "x\u00b2",
        "ｶ\uff65"[1:],
    ],
)
def test_signs_that_mean_something_as_they_are_stay(text):
    changes = Counter()
    assert normalise(text, changes) == text and not changes


def test_plain_text_is_left_alone():
    changes = Counter()
    for text in (*TEXTS.values(), PLAIN, "a\tb\nc", ""):
        assert normalise(text, changes) == text
    assert not changes


def test_colours_of_a_terminal_and_control_characters_go():
    assert normalise("\x1b[31mred\x1b[0m and\x07 bell\x00") == "red and bell"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text",
    [
        "Die Mühle ist größer.\nSie mahlt.",
        "Маяк построил инженер в 1883 году.\nОн стар.",
        "灯塔由工程师于1883年建造，共有214级台阶。\n它很旧。",
        "灯台は1883年に建てられた。\n階段は214段ある。",
        "بنى المهندس المنارة عام 1883.\nهي قديمة.",
        "등대는 1883년에 지어졌다.\n계단이 214개 있다.",
    ],
)
def test_wide_letters_without_a_mark_are_told_in_any_script(text, encoding):
    assert decode(text.encode(encoding), "x") == (text, (f"read as {encoding}",))


@pytest.mark.parametrize("language, encoding", [("de", "utf-8"), ("zh", "utf-8"), ("ru", "cp1251")])
def test_a_stray_nul_costs_itself_alone(language, encoding):
    data = "\n".join([TEXTS[language]] * 4).encode(encoding)
    for place in (0, 100, len(data)):
        text, warnings = decode(data[:place] + b"\0" + data[place:], "a.txt")
        assert text == "\n".join([TEXTS[language]] * 4)
        assert warnings[-1] == "1 NUL characters removed"


@pytest.mark.parametrize(
    "data", [b"The pier\0 is old. \1" * 20, b"The pier is old. " * 20 + b"\0\0\0\0\0"]
)
def test_what_has_more_of_them_or_other_ones_is_no_text(data):
    with pytest.raises(Unreadable, match="NUL"):
        decode(data, "a.txt")


@pytest.mark.parametrize("data", [b"The pier\0 is old. " * 20, b"PK\0ab " * 40, bytes(200)])
def test_bytes_that_are_no_text_are_not_taken_for_utf_16(data):
    with pytest.raises(Unreadable, match="NUL"):
        decode(data, "x")


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("ท่าเรือเก่า มีเรือใหญ่ อยู่ที่นี่ และผู้คนมาที่นี่ทุกวัน\n", "cp874"),
        ("בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ\n", "cp1255"),
        ("မြန်မာ စာသား\nကမ်းခြေ\n", "utf-16-le"),
        ("తెలుగు పాఠం\nఓడరేవు\n", "utf-16-be"),
        ("தமிழ் உரை\nதுறைமுகம்\n", "utf-16-le"),
        ("ភាសា ខ្មែរ\nកំពង់ផែ\n", "utf-16-le"),
    ],
)
def test_letters_with_marks_are_told_in_any_script(text, encoding):
    found, warnings = decode((text * 5).encode(encoding), "a.txt")
    assert (found, warnings) == (text * 5, (f"read as {encoding}",))
