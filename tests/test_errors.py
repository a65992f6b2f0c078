"""Test that errors of the machine are said in words, and that only our own refusals are."""

import errno
import fcntl
import json
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import pytest

from pdtrain import cli
from pdtrain.distributed.world import World
from pdtrain.errors import MACHINE, in_words, is_for_user
from pdtrain.progress import Stopped
from pdtrain.schema import require


@pytest.fixture
def config(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("The pier of Osk is old.")
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"corpus": {"documents": "docs"}, "out_dir": str(tmp_path / "run")}))
    return path


@pytest.fixture(autouse=True)
def interruptible():
    """Let Ctrl-C through, as from a terminal: a worker of pytest-xdist ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture
def stage(monkeypatch):
    """Replace the stage `passages`, which needs no model, by a function of a config."""
    return lambda function: monkeypatch.setattr("pdtrain.documents.passages.split", function)


def raised(function, *arguments):
    with pytest.raises(ValueError) as found:
        function(*arguments)
    return found.value


def test_a_refusal_of_ours_is_for_the_user():
    assert is_for_user(raised(require, False, "set it to 1"))


@pytest.mark.parametrize(
    "function, argument",
    [(int, "x"), (json.loads, "{"), (lambda n: list(zip([1], [], strict=n)), True)],
    ids=["built-in", "library", "zip"],
)
def test_an_error_of_a_library_is_not_for_the_user(function, argument):
    assert not is_for_user(raised(function, argument))


def test_a_library_error_keeps_its_traceback(config, stage):
    stage(lambda _: json.loads("{"))
    with pytest.raises(json.JSONDecodeError):
        cli.main(["passages", str(config)])


NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG]
NUMBERS += [errno.ENOLCK, errno.ENOSYS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EIO]
NUMBERS += [errno.ESTALE, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOENT]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: errno.errorcode[number])
def test_every_error_of_the_machine_has_path_safety_and_remedy(config, stage, capsys, number):
    path = config.parent / "run" / "file"

    def broken(_):
        raise OSError(number, os.strerror(number), str(path))

    stage(broken)
    assert cli.main(["passages", str(config)]) == MACHINE
    said = capsys.readouterr().err
    assert str(path) in said and os.strerror(number) in said
    assert "What was finished before is kept" in said and "run the same command again" in said
    assert "Traceback" not in said


def test_the_traceback_of_an_error_of_the_machine_can_be_asked_for(config, stage, monkeypatch):
    def broken(_):
        raise OSError(errno.ENOSPC, "full")

    stage(broken)
    monkeypatch.setenv("PDTRAIN_TRACEBACK", "1")
    with pytest.raises(OSError, match="full"):
        cli.main(["passages", str(config)])


@pytest.mark.parametrize(
    "path, setting",
    [
        ("{run}/a", "out_dir"),
        ("/x/.cache/huggingface/hub/a", "HF_HOME"),
        ("/x/.cache/pdtrain/a", "XDG_CACHE_HOME"),
        ("/x/.triton/cache", "TRITON_CACHE_DIR"),
        ("/x/matplotlib", "MPLCONFIGDIR"),
    ],
)
def test_the_remedy_names_what_says_where_the_path_lies(tmp_path, path, setting):
    path = path.format(run=tmp_path / "run")
    said = in_words(OSError(errno.EACCES, "denied", path), str(tmp_path / "run"))
    assert path in said and setting in said


def test_a_full_disk_without_any_temporary_folder_is_said(tmp_path, monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    said = in_words(OSError(errno.ENOSPC, "full", "/x/log"), str(tmp_path / "run"))
    assert "/x/log: the disk is full" in said and "make room there" in said


def not_encoded(text):
    """Return the error of a text that has no UTF-8."""
    with pytest.raises(UnicodeEncodeError) as found:
        text.encode()
    return found.value


@pytest.mark.parametrize("around", ["{}", '{{"out_dir": "{}/run"}}', "out_dir: {}/run\n"])
def test_a_name_that_is_not_utf8_is_said(tmp_path, around):
    folder = tmp_path / "Z\udcfcrich"
    folder.mkdir()
    said = in_words(not_encoded(around.format(folder)))
    assert f"a name is not UTF-8: '{tmp_path}/Z" in said and r"Z\udcfcrich';" in said


def test_a_run_folder_that_is_not_there_yet_is_said():
    said = in_words(not_encoded('{"folder": "runs/Z\udcfcrich"}'), "runs/Z\udcfcrich")
    assert r"a name is not UTF-8: 'runs/Z\udcfcrich'; rename it" in said


@pytest.mark.parametrize("half", ["\ud83d", "\udcfc"])
def test_half_a_surrogate_pair_in_a_text_is_said_without_the_text(half):
    said = in_words(not_encoded(f'["what is secret {half} of anna"]'))
    assert "half of a surrogate pair" in said and "run the same command again" in said
    assert "secret" not in said and "anna" not in said


def test_an_error_without_a_number_is_no_error_of_the_machine():
    assert in_words(OSError("no such model on the hub")) is None
    assert in_words(RuntimeError("a bug")) is None


def test_a_file_in_the_place_of_the_run_folder(config, capsys):
    (config.parent / "run").write_text("somebody's")
    assert cli.main(["passages", str(config)]) == MACHINE
    said = capsys.readouterr().err
    assert f"{config.parent / 'run'}: " in said and "where a folder belongs" in said


def test_a_limit_on_the_size_of_files(config, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        status = cli.main(["passages", str(config)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert status == MACHINE and str(config.parent / "run") in said and "Traceback" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
@pytest.mark.parametrize(
    "error, status", [(OSError(errno.ENOSPC, "full", "x"), MACHINE), (Stopped("stopped"), 75)]
)
def test_a_log_on_a_full_disk_does_not_change_the_status(config, stage, monkeypatch, error, status):
    def broken(_):
        raise error

    stage(broken)
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        try:
            assert cli.main(["passages", str(config)]) == status
        finally:
            with suppress(OSError):
                full.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_rank_whose_log_is_on_a_full_disk_still_tells_the_others(config, monkeypatch):
    told, ends = [], []
    monkeypatch.setattr(cli, "_outcome", partial(refuse, RuntimeError("a bug")))
    monkeypatch.setattr(cli, "find_world", lambda: World(1, 2, 1, 2, "torchrun"))
    monkeypatch.setattr("pdtrain.distributed.meeting.tell_failure", lambda _, why: told.append(why))
    monkeypatch.setattr(os, "_exit", ends.append)
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        try:
            cli.run()
        finally:
            with suppress(OSError):
                full.close()
    assert told == ["RuntimeError: a bug"] and ends == [1]


def refuse(error, _):
    raise error


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(config, capsys, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert cli.main(["passages", str(config)]) in (1, MACHINE)
    said = capsys.readouterr().err
    assert str(config.parent / "run") in said and "set out_dir" in said and "Traceback" not in said


@pytest.mark.parametrize(
    "number, status", [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]
)
@pytest.mark.parametrize("swallows", [False, True], ids=["", "in code that catches everything"])
def test_a_signal_ends_any_stage_in_words(config, stage, capsys, number, status, swallows):
    from pdtrain.progress import progress

    def work(_):
        with progress("passages", 9, "files") as advance:
            advance(3)
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except Exception:
                if not swallows:
                    raise
            advance(1)
        raise AssertionError("the signal was lost")

    stage(work)
    assert cli.main(["passages", str(config)]) == status
    said = capsys.readouterr().err
    assert "at passages: 3 of 9 files" in said and "what was finished is kept in" in said
    assert "goes on from there" in said and "Traceback" not in said


def test_the_handlers_of_the_caller_come_back(config, stage):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    stage(lambda _: None)
    cli.main(["passages", str(config)])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_a_thread_with_an_error_of_the_machine_prints_no_traceback(config, stage, capsys):
    def full():
        raise OSError(errno.ENOSPC, "full")

    def work(_):
        thread = threading.Thread(target=full)
        thread.start()
        thread.join()

    stage(work)
    before = threading.excepthook
    assert cli.main(["passages", str(config)]) == 0
    assert threading.excepthook is before
    assert "Traceback" not in capsys.readouterr().err


def test_a_thread_that_meets_the_same_error_later_prints_no_traceback(
    config, stage, capsys, monkeypatch
):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back after the test
    is_over = threading.Event()

    def write():
        is_over.wait(60)
        raise OSError(errno.ENOSPC, "full")

    late = threading.Thread(target=write)

    def work(_):
        late.start()
        raise OSError(errno.ENOSPC, "full", "metrics.jsonl")

    stage(work)
    assert cli.main(["passages", str(config)]) == 74
    is_over.set()
    late.join()
    said = capsys.readouterr().err
    assert "metrics.jsonl" in said and "Traceback" not in said
