"""CSV, TSV and JSON: records where a column holds the text, and else tables and trees."""

import json

import pytest

from pdtrain.documents.document import Unreadable


@pytest.mark.parametrize("mark, suffix", [(",", "csv"), (";", "csv"), ("\t", "tsv"), ("|", "csv")])
def test_a_table_keeps_rows_and_columns(read_one, mark, suffix):
    rows = [["Boat", "Crew", "Port"], ["Petrel", "9", "Osk"], ["Tern", "12", "Vell"]] * 2
    content = "\r\n".join(mark.join(row) for row in rows)
    document = read_one(f"a.{suffix}", content)
    assert document.text.split("\n") == [" | ".join(row) for row in rows]
    assert (document.blocks[0].kind, document.blocks[0].header) == ("table", 1)


def test_rows_with_a_text_are_documents(read):
    found = read("a.csv", 'title,text\nPier,"It is long,\nand old."\nMill,It grinds.\n')
    assert [(d.title, d.text) for d in found] == [
        ("Pier", "It is long, and old."),
        ("Mill", "It grinds."),
    ]


def test_json_records_are_documents_and_other_json_is_kept_as_it_is(read, read_one):
    assert [d.text for d in read("a.json", '[{"text": "One."}, {"text": "Two."}]')] == [
        "One.",
        "Two.",
    ]
    document = read_one("b.json", '{"pier": {"länge": 260, "boats": ["Petrel"]}}')
    assert document.text.split("\n")[:3] == ["{", ' "pier": {', '  "länge": 260,']
    assert document.blocks[0].kind == "code"


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "<html>404</html>"])
def test_what_is_no_json_is_named(read, content):
    with pytest.raises(Unreadable) as error:
        read("a.json", content)
    assert error.value.reason == "broken"


@pytest.mark.parametrize(
    "content, expected",
    [
        ("text\nWood, rope; tar\nMore: a, b\n", [("", "Wood, rope; tar"), ("", "More: a, b")]),
        (
            "id,text\n1,It's; 'a'; 'b'; x\n2,Or; 'c'; 'd'; y\n",
            [("", "It's; 'a'; 'b'; x"), ("", "Or; 'c'; 'd'; y")],
        ),
        ("\n\ntitle,text\nPier,Old.\n", [("Pier", "Old.")]),
        ('title, text\nPier, "Old, long."\n', [("Pier", "Old, long.")]),
        ("sep=;\r\ntitle;text\r\nPier;Old, long.\r\n", [("Pier", "Old, long.")]),
    ],
)
def test_texts_may_hold_what_parts_cells_in_other_files(read, content, expected):
    found = read("a.csv", content)
    assert [(d.title, d.text) for d in found] == expected
    assert not any(d.warnings for d in found)


@pytest.mark.parametrize(
    "rows, texts, are_stray",
    [
        (
            'D,"Not closed text\nE,Lost one.\nF,"Found, too."\nG,Last.\n',
            ['"Not closed text', "Lost one.", "Found, too.", "Last."],
            [True, False, False, False],
        ),
        (
            'A,"One "quoted" word here."\nB,Two.\n',
            ['One "quoted" word here.', "Two."],
            [True, False],
        ),
        ('A,"Come up," she said.\nB,Two.\n', ['"Come up," she said.', "Two."], [True, False]),
        ('"A","Not closed\n"B","Two."\n', ['"Not closed', "Two."], [True, False]),
        ('A,One.\nB,"Open to the end', ["One.", '"Open to the end'], [False, True]),
        (
            'A,"Weird Al" sang,x\nB,"He" said "no"\n',
            ['"Weird Al" sang', '"He" said "no"'],
            [True] * 2,
        ),
        # what is right stays as it is
        (
            'A,"She said ""come up"",\n\nand went."\nB, "Two, or three." \nC,5" pipe\n',
            ['She said "come up", and went.', "Two, or three.", '5" pipe'],
            [False, False, False],
        ),
        ('A,"One\nor more." ,x\nB,"",\nC,"Two."', ["One or more.", "", "Two."], [False] * 3),
    ],
)
def test_a_stray_quote_costs_no_other_record(read, rows, texts, are_stray):
    found = read("a.csv", f"title,text\n{rows}")
    assert [" ".join(d.text.split()) for d in found] == texts
    assert [any("stray quote" in w for w in d.warnings) for d in found] == are_stray


def test_stray_quotes_of_a_table_are_counted(read_one):
    document = read_one("a.csv", 'boat,crew\nPetrel,"9\nTern,12\n')
    assert document.text.split("\n") == ["boat | crew", 'Petrel | "9', "Tern | 12"]
    assert document.warnings == ("1 rows with a stray quote",)


def test_records_without_an_id_have_their_number(read):
    assert [d.id for d in read("a.csv", "id,text\n,Old.\n,New.\n")] == ["a.csv:1", "a.csv:2"]


def test_a_guessed_encoding_is_said_of_records_once(read):
    content = "title,text\nFähre,Die Fähre fährt über die Förde.\nTür,Die Tür.\n".encode("cp1252")
    assert [d.warnings for d in read("a.csv", content)] == [("read as cp1252",), ()]


def test_json_with_a_record_a_line_is_read_as_such(read):
    assert [d.text for d in read("a.json", '{"text": "One."}\n{"text": "Two."}\n')] == [
        "One.",
        "Two.",
    ]


PIER, MILL = {"title": "Pier", "text": "One."}, {"title": "Mill", "text": "Two."}


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.json", json.dumps({"version": 2, "data": [PIER, MILL]})),
        ("a.json", json.dumps({"a": PIER, "b": MILL})),
        ("a.jsonl", json.dumps([PIER, MILL])),
        ("a.jsonl", json.dumps([PIER, MILL], indent=2) + "\n"),
        ("a.ndjson", "\ufeff" + json.dumps(PIER) + "\n" + json.dumps(MILL)),
    ],
)
def test_records_are_found_wherever_a_json_file_has_them(read, name, content):
    found = read(name, content)
    assert [(d.title, d.text) for d in found] == [("Pier", "One."), ("Mill", "Two.")]


def test_records_under_a_key_each_are_called_by_it(read):
    assert [d.id for d in read("a.json", json.dumps({"x": PIER, "y": MILL | {"id": 7}}))] == [
        "a.json:x",
        "a.json:7",
    ]


def test_json_of_another_form_is_kept_as_it_is(read_one, read):
    for found in ({"a": [PIER], "b": [MILL]}, {"pump": {"oil": 3}}, {"data": [1, 2]}):
        assert json.loads(read_one("a.json", json.dumps(found)).text) == found
    with pytest.raises(ValueError, match=r"record 1: expected a text under 'text', found list"):
        read("a.jsonl", "[1, 2]\n[3, 4]\n")
    with pytest.raises(Unreadable, match=r"a\.jsonl is no JSON in line 3"):
        read("a.jsonl", '[\n{"text": "One."\n')


def test_a_number_that_is_too_long_is_no_error_of_python(read):
    with pytest.raises(Unreadable, match="a number is too long"):
        read("a.json", f'{{"n": {"9" * 5000}}}')


def test_a_line_that_is_nested_too_deeply_costs_no_other(read):
    content = '{"text": "One."}\n' + "[" * 100_000 + '\n{"text": "Two."}\n'
    with pytest.raises(ValueError, match=r"records left out: 1, .*nested too deeply"):
        read("a.jsonl", content)


def test_what_stands_beside_the_records_is_named(read):
    town = {"version": 2, "about": "A long story of the town.", "items": [{"text": "The mill."}]}
    (found,) = read("a.json", json.dumps(town))
    assert (found.text, found.warnings) == ("The mill.", ("left out beside the records: about",))


def test_what_programs_write_for_an_empty_cell_is_one(read_one):
    text = "name,opens,crew\nPetrel,NaT,nan\nTern,<NA>,NULL\nNan,9:00,N/A\n"
    found = read_one("boats.csv", text).text.split("\n")
    assert found == ["name | opens | crew", "Petrel |  |", "Tern |  |", "Nan | 9:00 | N/A"]
    found = read_one("values.csv", "value,meaning\nNULL,nothing known\nNaN,no number\n").text
    assert found.split("\n")[1:] == ["NULL | nothing known", "NaN | no number"]


def test_an_answer_that_is_missing_is_none(read):
    found = read("a.csv", "question,answer\nWho?,nan\nWhat is 0/0?,NaN\nWho came?,None\n")
    assert [document.text for document in found] == [
        "",
        "What is 0/0?\nNaN",
        "Who came?\nNone",
    ]
