"""Test which messages are shown at which level and where, and that a program may take them."""

import io
import logging
import os
import sys
from contextlib import suppress

import pytest

from pdtrain import progress
from pdtrain.progress import LOGGER, be_silent, detail, say, set_level, show_error, warn


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """Give the test the logger of a fresh process, and restore it afterwards."""
    monkeypatch.setattr(LOGGER, "handlers", [])
    monkeypatch.setattr(LOGGER, "propagate", True)
    before = LOGGER.level
    LOGGER.setLevel(logging.NOTSET)
    yield
    LOGGER.setLevel(before)


def tell_all():
    detail("small")
    say("plain")
    warn("loud")


@pytest.mark.parametrize(
    ("choose", "wanted"),
    [
        (lambda: None, "plain\nloud\n"),
        (lambda: set_level(logging.WARNING), "loud\n"),
        (lambda: set_level(logging.DEBUG), "small\nplain\nloud\n"),
        (be_silent, ""),
    ],
    ids=["default", "quiet", "verbose", "another_rank"],
)
def test_the_level_decides_what_is_printed_on_standard_error(capsys, choose, wanted):
    choose()
    tell_all()
    assert capsys.readouterr() == ("", wanted)


def test_a_program_that_logs_gets_no_second_copy(capsys):
    root = logging.StreamHandler()
    logging.root.addHandler(root)
    try:
        say("once")
    finally:
        logging.root.removeHandler(root)
    assert capsys.readouterr().err == "once\n"


def test_a_program_with_a_handler_of_its_own_gets_the_records_alone(capsys):
    records = []
    own = logging.Handler()
    own.emit = records.append
    LOGGER.addHandler(own)
    set_level(logging.INFO)
    tell_all()
    assert [(r.levelname, r.getMessage()) for r in records] == [
        ("INFO", "plain"),
        ("WARNING", "loud"),
    ]
    assert records[0].funcName == "tell_all"
    assert capsys.readouterr().err == ""


def test_a_percent_sign_is_a_percent_sign(capsys):
    say("100 %d of it")
    assert capsys.readouterr().err == "100 %d of it\n"


@pytest.mark.parametrize(("level", "num_lines"), [("INFO", 1), ("DEBUG", 7), ("WARNING", 0)])
def test_long_work_says_now_and_then_how_far_it_is(capsys, monkeypatch, level, num_lines):
    set_level(getattr(logging, level))
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress("answers", 100, "questions", done=20) as advance:
        for _ in range(7):
            now[0] += 10.0
            advance(10, "loss 1.0")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == num_lines
    if level == "INFO":
        assert lines == ["  answers: 80/100 questions, 1.00 questions/s, about 20 s left, loss 1.0"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_an_error_that_cannot_be_shown_ends_nothing(monkeypatch):
    """The threads that watch other ranks say so, and must go on."""
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        show_error("rank 3 has given no sign of life for 60 s")
        with suppress(OSError):
            full.close()


def test_work_goes_on_where_standard_error_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as a daemon's is
    monkeypatch.setattr(sys, "stdout", None)
    with progress.progress("answers", 2, "questions") as advance:
        advance()
    tell_all()
    show_error("an error")


def test_a_result_is_shown_in_any_locale(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", out)
    progress.show_line("── passage · Zürich")
    assert out.buffer.getvalue().decode("latin-1") == "?? passage · Zürich\n"
