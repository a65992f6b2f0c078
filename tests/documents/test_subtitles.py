"""Subtitles: what is said, as sentences, without numbers, times and markup."""

import pytest

SRT = """1
00:00:01,000 --> 00:00:04,000
<i>The pier was built in 1883</i>
by Clara Finch.

2
00:00:04,500 --> 00:00:08,000
{\\an8}Nine boats lie

3
00:00:08,100 --> 00:00:09,000
at it in summer.

4
00:01:00,000 --> 00:01:02,000
It is closed
"""
VTT = """WEBVTT

NOTE made by hand

STYLE
::cue { color: red }

intro
00:01.000 --> 00:04.000 align:start
<v Clara Finch>The pier is old.

00:05.000 --> 00:06.000
<c.yellow>It is</c> <00:05.500>long.
"""
SAID = "The pier was built in 1883 by Clara Finch.\nNine boats lie at it in summer.\nIt is closed"


def test_what_is_said_is_put_together_from_the_subtitles(read_one):
    assert read_one("a.srt", SRT).text == SAID
    assert read_one("a.vtt", VTT).text == "Clara Finch: The pier is old.\nIt is long."


@pytest.mark.parametrize(
    "times",
    ["00:00:01 --> 00:00:04", "00:01-->00:04", "00:00:01,000-->00:00:04,000", "0:01.5\t-->\t0:04"],
)
def test_times_may_lack_fractions_or_blanks(read_one, times):
    text = f"1\n{times}\nThe pier is old.\n\n2\n00:00:05,000 --> 00:00:06,000\nIt is long.\n"
    assert read_one("a.srt", text).text == "The pier is old.\nIt is long."
    assert read_one("b.vtt", f"WEBVTT\n\n{text}").text == "The pier is old.\nIt is long."


def test_times_of_day_in_a_text_make_no_subtitles_of_it(read_one):
    text = "Ferry\n12:30 --> 13:30\nOnly in summer.\n"
    assert "12:30 --> 13:30" in read_one("a.txt", text).text


def test_subtitles_are_known_by_their_times_too(read_one):
    assert read_one("a.txt", SRT.replace("\n", "\r\n")).text == SAID


def test_without_punctuation_every_subtitle_is_a_line(read_one):
    cues = [f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\nso the boat number {n}\n" for n in range(9)]
    text = read_one("a.srt", "\n".join(cues)).text
    assert text.split("\n") == [f"so the boat number {n}" for n in range(9)]


def test_signs_that_are_written_as_entities_are_read(read_one):
    cue = "WEBVTT\n\n00:01.000 --> 00:02.000\nFish &amp; chips for &lt;3.\n"
    assert read_one("a.vtt", cue).text == "Fish & chips for <3."


def test_no_blank_is_put_into_a_word_of_a_script_without_blanks(read_one):
    cue = "1\n00:00:01,000 --> 00:00:02,000\n{}\n\n2\n00:00:02,100 --> 00:00:03,000\n{}\n"
    assert read_one("a.srt", cue.format("灯台はとて\nも古", "い。")).text == "灯台はとても古い。"
    assert read_one("b.srt", cue.format("등대는\n아주", "낡았다.")).text == "등대는 아주 낡았다."
    spoken = cue.format("\uff0d来たよ\n\uff0d本当", "です。")  # each by somebody else
    assert read_one("c.srt", spoken).text == "\uff0d来たよ \uff0d本当です。"


def test_names_in_brackets_that_no_subtitle_has_are_said(read_one):
    said = "The mark <start_of_turn> and </s> begin <think>, in <i>italics</i> and <c.red>red</c>."
    cue = f"WEBVTT\n\n00:01.000 --> 00:02.000\n{said}\n"
    wanted = "The mark <start_of_turn> and </s> begin <think>, in italics and red."
    assert " ".join(read_one("a.vtt", cue).text.split()) == wanted


@pytest.mark.parametrize(
    "sentence",
    ["ግድቡ አሮጌ ነው።", "ទំនប់ចាស់ណាស់។", "တာတမံသည် ဟောင်းသည်။", "Ամբարտակը հին է\u0589", "ཆུ་རགས་རྙིང་པ་ཡིན།"],
)
def test_a_sentence_of_several_subtitles_is_one_in_any_script(read_one, sentence):
    first, second = sentence[:5], sentence[5:]
    cues = "".join(
        f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{said}\n\n"
        for n, said in enumerate([sentence, first, second], 1)
    )
    lines = read_one("a.srt", cues).text.split("\n")
    assert lines == [sentence, f"{first.strip()} {second.strip()}"]


def test_emphasis_of_pages_is_no_word(read_one):
    said = "<em>The mill</em> is <strong>old</strong> and <small>small</small>."
    cue = f"1\n00:00:01,000 --> 00:00:02,000\n{said}\n"
    assert read_one("a.srt", cue).text == "The mill is old and small."


CUES = "00:00:01.000 --> 00:00:02.000\nThe mill\n\n00:00:03.000 --> 00:00:04.000\nhas stopped.\n"


@pytest.mark.parametrize("head", ["", "\n", "1\n", "WEBVTT\n\n", "WEBVTT - x\nKind: captions\n\n"])
def test_subtitles_by_another_name_are_read_as_such(read_one, head):
    assert read_one("a.txt", head + CUES).text == "The mill has stopped."


def test_a_text_with_an_example_of_subtitles_is_a_text(read_one):
    found = read_one("a.txt", f"An example:\n\n{CUES}\nThat is all.").text
    assert found.startswith("An example:") and "-->" in found and found.endswith("That is all.")
