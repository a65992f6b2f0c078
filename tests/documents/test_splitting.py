"""Passages of documents with structure: code by lines, tables by rows, sections by name."""

import itertools
import random

import pytest

from pdtrain.documents.blocks import BlockBuilder
from pdtrain.documents.document import Source
from pdtrain.documents.splitting import split_document


def words_in(text):
    """One token a word, and one for every five characters."""
    return sum(1 + len(word) // 5 for word in text.split())


def not_blank(text):
    return "".join(text.split())


def document_of(builder):
    return builder.document(Source("d.txt"))


def random_structure(rng):
    builder = BlockBuilder()
    for _ in range(rng.randrange(1, 30)):
        kind = rng.choice(["heading", "prose", "prose", "code", "table"])
        if kind == "heading":
            builder.heading(f"About {rng.randrange(99)}", rng.randrange(1, 5))
        elif kind == "prose":
            builder.prose("The pier is long. " * rng.randrange(1, 30) + "x" * rng.randrange(0, 200))
        elif kind == "code":
            lines = [
                "  " * rng.randrange(4) + "call(x)" * rng.choice([0, 1, 2, 40]) for _ in "12345678"
            ]
            builder.code("\n".join(lines * rng.randrange(1, 5)))
        else:
            rows = [[f"cell {r}", "word " * rng.choice([1, 5, 90]), "9"] for r in range(9)]
            builder.table([["Name", "What", "Count"], *rows], rng.choice([0, 1]))
    return document_of(builder)


@pytest.mark.parametrize("max_tokens", [16, 60, 500])
@pytest.mark.parametrize("overlap", [0, 12])
def test_passages_hold_every_character_of_any_structure(max_tokens, overlap):
    rng = random.Random(max_tokens)
    for number in range(60):
        document = random_structure(rng)
        covered = 0
        for passage in split_document(document, max_tokens, words_in, overlap):
            own = document.text[passage.start : passage.end]
            assert passage.text.endswith(own), "before its own text stands the header, or nothing"
            header = passage.text[: len(passage.text) - len(own)]
            assert header in ("", "Name | What | Count\n")
            assert passage.num_tokens == words_in(passage.text) <= max_tokens
            assert passage.start <= covered or not document.text[covered : passage.start].strip()
            assert overlap or passage.start >= covered, "nothing twice"
            said = "".join(passage.text[a:b] for a, b in passage.sentences)
            assert not_blank(header + said) == not_blank(passage.text)
            assert passage.end > covered
            covered = passage.end
        assert not document.text[covered:].strip(), f"number {number}"


FUNCTION = "def moor(boat):\n    rope = tie(boat)\n\n    return rope"


def test_code_that_fits_is_one_piece_and_compiles():
    builder = BlockBuilder()
    builder.prose("So it is done.")
    builder.code(FUNCTION)
    (passage,) = split_document(document_of(builder), 100, words_in)
    first, code = (passage.text[a:b] for a, b in passage.sentences)
    assert (first, code) == ("So it is done.", FUNCTION)
    compile(code, "code", "exec")


def test_long_code_is_cut_between_lines_and_best_at_empty_ones():
    builder = BlockBuilder()
    functions = [
        f"def moor_{n}(boat):\n    rope = tie(boat, {n})\n    return rope" for n in range(40)
    ]
    builder.code("\n\n\n".join(functions))
    passages = split_document(document_of(builder), 90, words_in)
    assert len(passages) > 5
    for passage in passages:
        compile(passage.text, "code", "exec")


def test_a_passage_that_begins_inside_a_block_of_code_keeps_the_indentation():
    builder = BlockBuilder()
    builder.code("\n".join(["with osk:", *[f"    moor({n}, tightly)" for n in range(60)]]))
    passages = split_document(document_of(builder), 60, words_in)
    assert all(p.text.startswith("    moor(") for p in passages[1:])


def test_rows_are_whole_and_the_header_is_repeated():
    builder = BlockBuilder()
    rows = [[f"Boat {n}", f"{n} men and a dog", "Osk"] for n in range(60)]
    builder.table([["Boat", "Crew", "Port"], *rows], header=1)
    lines = document_of(builder).text.split("\n")
    passages = split_document(document_of(builder), 80, words_in)
    assert len(passages) > 4
    for passage in passages:
        header, *held = passage.text.split("\n")
        assert header == "Boat | Crew | Port" and set(held) <= set(lines)
    held = [line for p in passages for line in p.text.split("\n")[1:]]
    assert held == lines[1:], "each row once"
    starts = {p.text[slice(*p.sentences[0])] for p in passages[1:]}
    assert "Boat | Crew | Port" not in starts, "no question is asked about the repeated row"


def test_a_header_that_would_fill_the_passage_is_not_repeated():
    builder = BlockBuilder()
    builder.table([["A very long name of a column"] * 3, *[["a", "b", "c"]] * 60], header=1)
    first, *others = split_document(document_of(builder), 40, words_in)
    assert "very long" in first.text and all("very long" not in p.text for p in others)


def test_a_passage_knows_its_section_and_a_heading_stays_with_what_follows():
    builder = BlockBuilder()
    builder.title = "Osk"
    for place in ("Pier", "Mill"):
        builder.heading(place, 2)
        builder.heading(f"History of the {place}", 3)
        builder.prose(f"The {place} is old and nobody knows who built it. " * 12)
    passages = split_document(document_of(builder), 60, words_in)
    for passage in passages:
        assert not passage.text.endswith(("Pier", "Mill")), "no heading stands alone"
    inside = [p for p in passages if p.text.startswith("The Mill")]
    assert inside[-1].section == ("Mill", "History of the Mill")
    assert inside[-1].heading == "Osk: Mill: History of the Mill"
    assert passages[0].section == () and passages[0].heading == "Osk"
    assert "section" not in passages[0].to_json()
    assert inside[-1].to_json()["section"] == ("Mill", "History of the Mill")


def test_a_passage_ends_at_a_heading_that_is_near():
    builder = BlockBuilder()
    builder.heading("Pier", 2)
    builder.prose("The pier is long and very old. " * 9)
    builder.heading("Mill", 2)
    builder.prose("The mill is tall and very old. " * 10)
    first, second = split_document(document_of(builder), 120, words_in)
    assert first.text.startswith("Pier") and second.text.startswith("Mill")


def test_a_passage_that_overlaps_stands_in_the_section_of_its_own_text():
    builder = BlockBuilder()
    builder.heading("Osk", 1)
    for name in ("Pier", "Mill"):
        builder.heading(name, 2)
        builder.prose(" ".join(f"{name} number {n} has six words." for n in range(10)))
    document = document_of(builder)
    _, second = split_document(document, 80, lambda text: len(text.split()), overlap_tokens=15)
    assert second.text.startswith("Pier number 8"), "it repeats the end of the section before"
    assert second.section == ("Osk",), "as any passage that begins with the heading of the mill"
    _, alone = split_document(document, 80, lambda text: len(text.split()))
    assert alone.text.startswith("Mill") and alone.section == second.section


def test_passages_overlap_by_whole_sentences():
    builder = BlockBuilder()
    builder.prose(" ".join(f"Sentence number {n} has six words." for n in range(60)))
    document = document_of(builder)
    passages = split_document(document, 100, words_in, overlap_tokens=25)
    for before, after in itertools.pairwise(passages):
        shared = document.text[after.start : before.end]
        assert shared.startswith("Sentence") and shared.endswith("words.")
        assert 0 < words_in(shared) <= 25
