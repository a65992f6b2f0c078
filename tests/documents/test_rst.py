"""reStructuredText: the text that Markdown of the same content gives, and nothing is run."""

from pathlib import Path

import pytest

MARKDOWN = """# The *old* harbour

The [pier](https://hidden) is **long**
and `old`.

## Boats

![Osk](hidden.png)

| Boat | Crew |
|---|---|
| Petrel | 9 |
| Tern | 12 |

- one
- two

> Quoted.

<!-- hidden -->

```
code stays
    as it is
```

# The new harbour

It is dark.
"""

RST = """The *old* harbour
=================

The `pier <https://hidden>`_ is **long**
and ``old``.

Boats
-----

.. image:: hidden.png
   :alt: Osk

======  ====
Boat    Crew
======  ====
Petrel  9
Tern    12
======  ====

- one
- two

  Quoted.

.. hidden

.. code-block:: python

   code stays
       as it is

The new harbour
===============

It is dark.
"""


def test_it_gives_the_text_that_markdown_gives(read_one):
    rst, markdown = read_one("osk.rst", RST), read_one("osk.md", MARKDOWN)
    assert (rst.title, rst.text) == (markdown.title, markdown.text)
    assert rst.title == "The old harbour" and "Boat | Crew\nPetrel | 9\nTern | 12" in rst.text


def test_the_title_is_the_documents_or_made_of_the_files_name(read_one):
    assert read_one("a.rst", "####\nOsk\n####\n\nBoats\n=====\n\nIt is dark.").title == "Osk"
    assert read_one("old_harbour.rst", "It is dark.").title == "Old Harbour"


def test_notes_footnotes_and_definitions_belong_to_the_text(read_one):
    source = """
.. note:: Mind the gap. [1]_

.. warning::

   It is deep.

depth : metres
   How deep it is.

.. [1] Since 1870.
"""
    text = read_one("osk.rst", source).text
    for part in ("Mind the gap. [1]", "It is deep.", "depth : metres\nHow deep", "Since 1870."):
        assert part in text


def test_what_only_sphinx_knows_keeps_its_text(read_one):
    source = """
See :func:`~osk.pier`, :ref:`the boats <boats>` and `nowhere`_.

.. versionadded:: 1.2
   The *pier*.

.. function:: moor(boat)
   :module: osk

   Tie it up.

   boat : Boat
      Ours.

   .. seealso:: The :class:`Boat`.

.. code-block:: python
   :linenos:

   tie(*boats)

.. toctree::
   :maxdepth: 2

   hidden
"""
    lines = read_one("osk.rst", source).text.splitlines()
    assert lines == [
        "See osk.pier, the boats and nowhere.",
        *("1.2", "The pier."),
        *("moor(boat)", "Tie it up.", "boat : Boat", "Ours.", "The Boat."),
        "tie(*boats)",
    ]


DAMAGED = """
Harbour
====

Some *emphasis and ``literal and |absent| and [9]_.

    +-----+
    | cell
    +-----+

.. note::

.. figure::

Deep
----

Deeper
~~~~~~

Back again
==========

Too deep
~~~~~~~~

  * last
 words

=====
Never
"""


def test_damaged_markup_loses_no_word_and_prints_nothing(read_one, capfd):
    document = read_one("osk.rst", DAMAGED)
    assert document.title == "Harbour"
    words = "Some emphasis literal absent [9] cell Deep Deeper Back again Too deep last words Never"
    for word in words.split():
        assert word in document.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "source",
    [
        ".. include:: {file}",
        ".. include:: {file}\n   :literal:",
        ".. raw:: html\n   :file: {file}",
        ".. raw:: html\n\n   secret",
        ".. csv-table::\n   :file: {file}",
        ".. image:: {file}\n   :loading: embed",
        ".. figure:: {file}\n   :loading: embed",
    ],
)
def test_nothing_outside_the_file_is_read(read_one, tmp_path, monkeypatch, source):
    file = tmp_path / "other.svg"
    file.write_text("<svg><text>secret</text></svg>")
    read_text = Path.read_text

    def watched(path, **options):
        assert path != file, "it was read, if only to be left out afterwards"
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", watched)
    text = read_one("osk.rst", f"First.\n\n{source.format(file=file)}\n\nLast.").text
    assert text == "First.\nLast."


def test_no_settings_of_the_machine_are_read(read_one, tmp_path, monkeypatch):
    (tmp_path / "docutils.conf").write_text("[general]\nfile_insertion_enabled: yes\nhalt_level: 1")
    (tmp_path / "other.txt").write_text("secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCUTILSCONFIG", str(tmp_path / "docutils.conf"))
    assert read_one("osk.rst", "Dark.\n\n.. include:: other.txt").text == "Dark."


def test_the_text_is_the_same_every_day(read_one):
    source = ".. |today| date:: %Y-%m-%d\n\nWritten on |today|."
    assert read_one("osk.rst", source).text == "Written on |today|."


def test_a_long_line_is_read(read_one):
    assert len(read_one("osk.rst", "It is dark. " * 2000).text) == 2000 * 12 - 1


def test_no_blank_is_put_into_a_word_of_a_script_without_blanks(read_one):
    assert read_one("a.rst", "灯塔很\n旧。\n\n- 港\n  口\n").text == "灯塔很旧。\n港口"


@pytest.mark.parametrize("directive", ["prompt:: bash $", "testcode::", "ipython:: python"])
def test_code_of_directives_that_others_know_keeps_its_lines(read_one, directive):
    source = f"To see it:\n\n.. {directive}\n\n   cd osk\n   ls -l\n\n.. literalinclude:: lamp.py\n"
    document = read_one("osk.rst", source)
    assert document.text == "To see it:\ncd osk\nls -l"
    assert [block.kind for block in document.blocks] == ["prose", "code"]
