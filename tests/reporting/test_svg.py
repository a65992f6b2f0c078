"""Numbers as drawings."""

import math

import pytest

from pdtrain.reporting.svg import (
    Curve,
    dots,
    interval_bar,
    line_chart,
    number,
    smooth,
    strip,
    thin,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0, 200, [0, 50, 100, 150, 200]), (3, 3, [3]), (-4.2, 0, [-4, -2, 0])],
)
def test_ticks_are_round_numbers_inside_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (12.0, "12"), (1500, "1500"), (15_000, "15k"), (2e-5, "2e-05")],
)
def test_numbers_are_brief(value, text):
    assert number(value) == text


def test_smoothing_keeps_a_straight_line_and_thinning_keeps_the_ends():
    line = [(float(x), 2.0 * x) for x in range(2000)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])
    thinned = thin(line)
    assert len(thinned) <= 700 and thinned[0] == line[0] and thinned[-1] == line[-1]


@pytest.mark.parametrize("points", [[], [(1.0, math.nan)]])
def test_a_chart_of_nothing_draws_nothing(points):
    drawing = line_chart([Curve(points, "base")], "loss")
    assert "<svg" not in drawing and "Nothing was logged" in drawing


def test_a_chart_of_one_point_shows_it():
    assert "<circle" in line_chart([Curve([(5.0, 1.0)], "base")], "loss")


def test_a_bar_reaches_from_zero_to_its_value():
    assert 'x="1.0" y="3" width="59.0"' in interval_bar(0.5, 0.4, 0.6, (0.0, 1.0), "base")
    assert 'x="60.0" y="3" width="59.0"' in interval_bar(-1.0, -1.5, -0.5, (-2.0, 0.0), "base")


def test_a_strip_has_a_cell_for_each_sentence():
    drawing = strip([0, 3, 1] * 20, 3)
    assert drawing.count("<rect") == 60 and drawing.count('class="empty"') == 20


@pytest.mark.parametrize("text", ["<script>", '" onload="alert(1)', "' onload='alert(1)"])
def test_names_are_escaped(text):
    curve = Curve([(0.0, 1.0), (1.0, 2.0)], "base")
    drawings = (
        line_chart([curve], text, reference=(1.0, text)),
        dots([(0.5, text, text)]),
        interval_bar(0.5, 0.4, 0.6, (0.0, 1.0), text),
    )
    assert not any(text in drawing for drawing in drawings)
