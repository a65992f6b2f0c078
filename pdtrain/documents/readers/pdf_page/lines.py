"""Find the lines that pieces of text stand in, with what is raised in them or begins a chapter."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

SLANTED = 3  # the turn of a run that stands at no right angle, as what is stamped on a page
WIDE_GAP = 1.8  # in heights of a line: a wider gap in a line is one between cells
# what stands before an item of a list, by itself
MARK = re.compile(r"[-*+•‣◦▪–●○■□➢✓]|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{2,5})[.)]")
ENDS = tuple(".,;:!?)]\"'”’»")  # what the mark of a note may stand behind
SMALL = 0.75  # of a page's usual height of letters: what is raised has less
MOST_ENDS = 200  # words that end where a raised number begins
MOST_INITIALS = 20  # on a page
INITIAL = 1.6  # times the usual height: a letter as tall begins a chapter
LETTER = re.compile(r"[\"'“‘„«]?[^\W\d_]")


@dataclass(frozen=True)
class Run:
    """Hold a piece of a line in one font; coordinates in points from the lower left corner."""

    left: float
    bottom: float
    right: float
    top: float
    text: str
    size: float  # of the font
    is_fixed: bool = False  # all letters of the font have the same width
    turn: int = 0  # 1 where it is read from bottom to top, -1 from top to bottom, 2 upside down

    @property
    def height(self) -> float:
        """Return the height of its letters."""
        return max(self.top - self.bottom, 1.0)


@dataclass(frozen=True)
class Line:
    """Hold the runs that stand side by side in one column, from left to right."""

    runs: tuple[Run, ...]

    @property
    def left(self) -> float:
        """Return where it begins."""
        return self.runs[0].left

    @property
    def right(self) -> float:
        """Return where it ends."""
        return max(run.right for run in self.runs)

    @property
    def bottom(self) -> float:
        """Return its lower edge."""
        return min(run.bottom for run in self.runs)

    @property
    def top(self) -> float:
        """Return its upper edge."""
        return max(run.top for run in self.runs)

    @property
    def size(self) -> float:
        """Return the size of its widest run's font."""
        return max(self.runs, key=lambda run: len(run.text)).size

    @property
    def is_fixed(self) -> bool:
        """Return whether all of it is in fonts whose letters have the same width."""
        return all(run.is_fixed for run in self.runs)

    @property
    def text(self) -> str:
        """Return its words, with raised digits marked."""
        parts: list[str] = []
        before: Run | None = None
        for run in self.runs:
            words = run.text
            if before is not None:
                raised = _is_raised(run, before)
                gap = run.left - before.right
                word = parts[-1].rstrip()[-1:]
                if raised and (word.isalnum() or word in ENDS) and gap < before.height / 2:
                    after_number = word.isdigit()
                    parts[-1] = parts[-1].rstrip()
                    words = f"^{words.strip()}" if after_number else f"[{words.strip()}]"
                elif gap > 0.15 * run.height and not parts[-1].endswith(" "):
                    parts.append(" ")
            parts.append(words)
            before = run
        return " ".join("".join(parts).split(" ")).strip()


def _is_raised(run: Run, before: Run) -> bool:
    return (
        run.size < 0.85 * before.size
        and run.bottom > before.bottom + 0.2 * before.height
        and run.text.strip().isdigit()
    )


def lines_of(runs: Sequence[Run]) -> list[Line]:
    """Return the lines that runs of one column stand in, from top to bottom.

    A raised number belongs to the line of the word that it stands behind, and a tall letter that
    begins a chapter to the first of the lines beside it.
    """
    if not runs:
        return []
    usual = median(run.height for run in runs)
    behind = _Ends(runs, usual)
    raised = [(run, behind.of(run)) for run in runs if run.height < SMALL * usual]
    lines = _grouped([r for r in runs if r.height >= SMALL * usual or behind.of(r) is None])
    line_of = {id(run): line for line in lines for run in line}
    for run, word in raised:
        if word is not None:
            line_of[id(word)].append(run)
    return [Line(tuple(sorted(line, key=lambda r: r.left))) for line in lines]


class _Ends:
    """Find the word that a raised number stands behind."""

    def __init__(self, runs: Sequence[Run], usual: float) -> None:
        words = [run for run in runs if run.height >= SMALL * usual]
        self.words = sorted(words, key=lambda run: run.right)
        self.rights = [run.right for run in self.words]
        self.usual = usual

    def of(self, run: Run) -> Run | None:
        """Return it; None where there is none, or a run is no such number."""
        if not run.text.strip().isdigit():
            return None
        first = bisect_left(self.rights, run.left - self.usual / 2)
        last = bisect_right(self.rights, run.left + 1)
        for word in self.words[first : min(last, first + MOST_ENDS)]:
            if word.bottom < run.bottom < word.top < run.top + word.height / 2:
                return word
        return None


def with_initials(runs: Sequence[Run], words: Counter[str]) -> list[Run]:
    """Return the runs of a page with each tall letter that begins a chapter in the line it begins.

    Args:
        words: how often the file has each word, in small letters: they tell whether such a letter
            is a word of its own.
    """
    usual = median([run.height for run in runs] or [0.0])
    found = list(runs)
    tall = [
        place
        for place, run in enumerate(runs)
        if run.height >= INITIAL * usual and LETTER.fullmatch(run.text.strip())
    ]
    for place in tall[:MOST_INITIALS]:
        letter = runs[place]
        beside = [
            number
            for number, run in enumerate(runs)
            if run.height < letter.height / 1.2
            and -1 <= run.left - letter.right <= usual
            and min(run.top, letter.top) - max(run.bottom, letter.bottom) > run.height / 2
        ]
        if len(lines_of([runs[number] for number in beside])) < 2:
            continue
        upper = max(beside, key=lambda number: runs[number].top)
        first = runs[upper]
        for number in beside:  # the paragraph begins where the letter does
            if number != upper:
                found[number] = replace(runs[number], left=letter.left)
        text, begun = letter.text.strip(), re.match(r"\w*", first.text.lstrip())
        rest = begun[0].lower() if begun else ""
        is_word = not words[f"{text}{rest}".lower()] and words[text.lower()] and words[rest]
        found[place] = replace(
            first, left=letter.left, right=first.left, text=f"{text} " if is_word else text
        )
    return found


def _grouped(runs: Sequence[Run]) -> list[list[Run]]:
    lines: list[list[Run]] = []
    for run in sorted(runs, key=lambda r: -(r.top + r.bottom)):
        if lines and _beside(lines[-1], run):
            lines[-1].append(run)
        else:
            lines.append([run])
    return lines


def _beside(line: Sequence[Run], run: Run) -> bool:
    """Return whether a run stands at the height of a line, raised letters included."""
    first = max(line, key=lambda r: r.height)
    overlap = min(first.top, run.top) - max(first.bottom, run.bottom)
    return overlap > 0.5 * min(first.height, run.height)


def cells_of(line: Line) -> list[Line]:
    """Return the parts of a line between gaps that are wider than any between words.

    What stands before an item of a list is no cell.
    """
    cells: list[list[Run]] = [[line.runs[0]]]
    for before, run in itertools.pairwise(line.runs):
        if run.left - before.right > WIDE_GAP * max(before.height, run.height):
            cells.append([])
        cells[-1].append(run)
    found = [Line(tuple(cell)) for cell in cells]
    return [line] if len(found) == 2 and MARK.fullmatch(found[0].text) else found
