"""Read in Markdown what CommonMark has no rules for: formulas, products, numbers that say more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

# dollars inside a text of prices have blanks before the second or digits behind it
FORMULA = re.compile(
    r"\$\$(?:[^$\\]|\\.)+\$\$|\$(?![\s$])(?:[^$\\\n]|\\[^\n])*(?<!\s)\$(?![\w$])"
    r"|\\\((?:[^\\\n]|\\[^\n)]){0,500}\\\)|\\\[(?:[^\\]|\\[^\]]){0,500}\\\]",
    re.DOTALL,
)
# brackets without a command, an index or an equation in them were only escaped
IN_FORMULAS = re.compile(r"\\[A-Za-z{}]|(?<!\\)[_^]|\s=\s")
TIMES = re.compile(
    r"(?<=\d)\*(?=[A-Za-z0-9(])|(?<=[A-Za-z])\*(?=\d)|(?<=\d)\*\*(?=\d)"
    r"|(?<=\))\*(?=[\d(]|[A-Za-z]+\*[A-Za-z0-9(])"
)
STAR = ord("*")


def formula(state: StateInline, silent: bool) -> bool:
    """Read a formula as it stands: its backslashes and underscores are no Markdown."""
    found = FORMULA.match(state.src, state.pos)
    if found is None or (found[0][0] == "\\" and not IN_FORMULAS.search(found[0][2:-2])):
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


def times(state: StateInline, silent: bool) -> bool:
    """Read a star between factors as it stands; in a word it would begin what is in italics."""
    found = TIMES.match(state.src, state.pos)
    if found is None or any(d.marker == STAR and d.open and d.end < 0 for d in state.delimiters):
        return False  # the second star ends what the first one began
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


def reference(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Read where a link leads to; a footnote of one word would pass for that, and be lost."""
    from markdown_it.rules_block import reference as read_reference

    begins = state.bMarks[first] + state.tShift[first]
    return not state.src.startswith("[^", begins) and read_reference(state, first, last, silent)


def write_numbers(tokens: Sequence[Token]) -> None:
    """Write the numbers of list items that do not just count: "3. Mai 1990" begins no third step.

    A list counts where it begins with 1, or where the list before it ended, and leaves none out.
    """
    lists: list[list[int]] = []  # of those that are open: the places of their items
    next_number: dict[int, int] = {}  # by depth
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            next_number.clear()
        elif token.type in ("ordered_list_open", "bullet_list_open"):
            lists.append([])
        elif token.type == "list_item_open":
            lists[-1].append(place)
        elif token.type == "bullet_list_close":
            lists.pop()
        elif token.type == "ordered_list_close":
            items = [tokens[place] for place in lists[-1]]
            numbers = [int(item.info) for item in items]
            first = numbers[0]
            in_turn = numbers == [*range(first, first + len(numbers))]
            counts = in_turn and (first < 2 or first == next_number.get(len(lists)))
            counts |= first < 2 and len(set(numbers)) == 1  # and so it does in "1. 1. 1."
            if not counts:
                for place, item in zip(lists[-1], items, strict=True):
                    _write_before(tokens[place + 1 : place + 3], f"{item.info}{item.markup} ")
            next_number[len(lists)] = numbers[-1] + 1
            lists.pop()


def _write_before(inside: Sequence[Token], text: str) -> None:
    """Write a text before a paragraph, if that is what these tokens begin."""
    from markdown_it.token import Token

    if len(inside) == 2 and inside[0].type == "paragraph_open" and inside[1].children is not None:
        inside[1].children.insert(0, Token("text", "", 0, content=text))
