# ruff: noqa: RUF001
"""Source code and notebooks: every line as it was written."""

import json

import pytest

from pdtrain.documents.document import Unreadable

MODULE = '''"""Moor boats."""

import osk


def moor(boat):
    rope = osk.tie(boat)

    return rope


class Pier:
    length = 260
'''


def test_code_is_a_block_a_function_and_keeps_its_lines(read_one):
    document = read_one("src/pier.py".replace("src/", ""), MODULE)
    assert document.title == "pier.py"
    parts = [document.text[b.start : b.end] for b in document.blocks]
    assert parts[2] == "def moor(boat):\n    rope = osk.tie(boat)\n\n    return rope"
    assert len(parts) == 4 and {b.kind for b in document.blocks} == {"code"}
    compile(document.text, "pier.py", "exec")


LONG_TEXTS = """\
HELP = '''
Usage:

pier --long

  moor: ties "\"\"\" up
'''

NEXT = 1


LAST = 2
"""


def test_empty_lines_in_a_text_between_three_quotes_stay(read_one):
    document = read_one("a.py", LONG_TEXTS)
    parts = [document.text[b.start : b.end] for b in document.blocks]
    assert parts == [LONG_TEXTS.partition("\n\nNEXT")[0], "NEXT = 1", "LAST = 2"]


def test_three_quotes_that_do_not_fit_change_nothing(read_one):
    source = "# three ''' begin a text\na = 1\n\nb = 2\n"
    assert len(read_one("a.py", source).blocks) == 2
    shell = "echo '''a'''\n\necho '''\n\necho b\n\necho '''\n"
    assert len(read_one("a.sh", shell).blocks) == 4


def test_letters_of_a_program_stay_as_they_are(read_one):
    line = 'ODD = "ﬁ １２ \u2028 \u00ad e\u0301 \u00a0 ﾋﾟ \u200b"'
    document = read_one("a.py", f"{line}\n\n\nb = 2\n")
    assert document.text == f"{line}\nb = 2" and not document.warnings
    cell = {"cell_type": "code", "source": line}
    assert read_one("a.ipynb", json.dumps({"cells": [cell]})).text == line
    page = f"<pre>{line}</pre>"
    assert "fi 12" in read_one("a.html", page).text, "a page may be typeset"


def test_a_cookie_names_the_encoding(read_one):
    source = "# -*- coding: cp1251 -*-\nname = 'Маяк'\n"
    assert read_one("a.py", source.encode("cp1251")).text.endswith("'Маяк'")


NOTEBOOK = {
    "nbformat": 4,
    "cells": [
        {"cell_type": "markdown", "source": ["# Piers\n", "\n", "They are **long**."]},
        {
            "cell_type": "code",
            "source": "for n in (1, 2):\n    print(n)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n", "2\n"]},
                {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}},
                {"output_type": "execute_result", "data": {"text/plain": ["3"]}},
            ],
        },
        {"cell_type": "markdown", "source": "## Boats\n\nTwo."},
    ],
}


def test_notebooks(read_one):
    document = read_one("a.ipynb", json.dumps(NOTEBOOK))
    assert document.title == "Piers"
    loop = "for n in (1, 2):\n    print(n)"
    assert document.text == f"They are long.\n{loop}\n1\n2\n3\nBoats\nTwo."
    assert document.blocks[-1].section == ("Boats",)


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": [1]}', "[" * 100_000])
def test_what_is_no_notebook_is_named(read_one, content):
    with pytest.raises(Unreadable) as error:
        read_one("a.ipynb", content)
    assert error.value.reason == "broken"


def test_a_notebook_may_have_a_cell_without_a_source(read_one):
    cells = [{"cell_type": "code", "source": None}, {"cell_type": "markdown", "source": ["Old."]}]
    assert read_one("a.ipynb", json.dumps({"cells": cells})).text == "Old."
