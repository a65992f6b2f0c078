"""Run the command line: `pdtrain STAGE CONFIG [key=value ...]`."""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pdtrain import __version__
from pdtrain.distributed.world import STOPPED, find_world
from pdtrain.errors import FAILED, INTERRUPTED, MACHINE, SAVED, in_words, is_for_user
from pdtrain.processes.interrupt import stops_at_once
from pdtrain.progress import Interrupted, Stopped, at_work, set_level, show_error, show_line, warn

if TYPE_CHECKING:
    from pdtrain.config import RunConfig

HELP = {
    "init": "look at a FOLDER of documents, and write a commented config for it",
    "inspect": "the passages as the teacher will read them, here and as a page",
    "run": "passages to report, all stages in order; what is up to date is left alone",
    "passages": "documents → passages on sentence borders",
    "questions": "passages → questions, by the base model",
    "answers": "questions → answers, by the base model with the passage in view",
    "retain": "unrelated questions and texts by the base itself, to hold the adapter to it",
    "train": "answers → adapter, by prompt distillation",
    "rounds": "more questions about what the student misses, more training, until that stalls",
    "teach": "only fill the teacher's cache, which train otherwise does first",
    "evaluate": "scores of base, teacher, retrieval and adapter on held-out questions",
    "export": "a PEFT folder with tokenizer and model card; merged weights on request",
    "report": "one HTML page and a Markdown table",
    "serve": "print the command that serves the exported adapter with vLLM",
    "chat": "ask the base and the adapter the same questions",
    "verify": "check that every file of a run folder is as written, and say what would be redone",
    "doctor": "check that this machine is ready; under a launcher, that all are and fit together",
    "plan": "memory, traffic, time and cost of training on a cluster, before it is rented",
}
FLAGS = {  # whole numbers
    "plan": {"--nodes": "how many machines", "--gpus-per-node": "GPUs of each"},
    "inspect": {"--passages": "how many of them to print"},
}
OVERRIDES = {  # what a stage takes of the config's keys; others take all of them
    "init": "name=… and model.name=…, no others",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status, as `errors` lists them.

    A reason stands on standard error. With PDTRAIN_TRACEBACK set, errors keep their traceback.
    """
    status, _ = _outcome(arguments)
    return status


def _outcome(arguments: Sequence[str] | None) -> tuple[int, str]:
    """Run a command; return its exit status, and the reason where other ranks should hear it."""
    given = sys.argv[1:] if arguments is None else arguments
    # DeepSpeed's launcher adds --local_rank=N, which its variable LOCAL_RANK says as well
    options = _parse([a for a in given if not a.startswith("--local_rank=")])
    _prepare_environment()
    set_level(getattr(options, "level", logging.INFO))
    try:
        with stops_at_once(), _quiet_threads():
            return _dispatch(options), ""
    except Stopped as stopped:
        found = SAVED, str(stopped), ""
    except (Interrupted, KeyboardInterrupt) as error:
        status, text = _dropped(options, error)
        found = status, text, text
    except Exception as error:
        said = _say_error(options, error)
        if said is None or os.environ.get("PDTRAIN_TRACEBACK"):
            raise
        found = *said, said[1]
    status, text, reason = found
    show_error(f"pdtrain {options.stage}: {text}")
    return status, reason


def _say_error(options: argparse.Namespace, error: Exception) -> tuple[int, str] | None:
    """Return the status and the words for an error; None where it is a mistake of ours."""
    if isinstance(error, ValueError) and is_for_user(error):
        return FAILED, str(error)
    words = in_words(error, getattr(options, "out_dir", ""))
    return None if words is None else (MACHINE, words)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Print no traceback of a thread whose error of the machine the main thread will say.

    After an error of the machine it stays so: a thread may meet the same full disk a little later.
    """
    before = threading.excepthook
    stays = False

    def keep_quiet(failed: threading.ExceptHookArgs) -> None:
        words = failed.exc_value and in_words(failed.exc_value)
        if not words or os.environ.get("PDTRAIN_TRACEBACK"):
            before(failed)

    threading.excepthook = keep_quiet
    try:
        yield
    except Exception as error:
        stays = in_words(error) is not None
        raise
    finally:
        if not stays:
            threading.excepthook = before


def _dropped(
    options: argparse.Namespace, error: Interrupted | KeyboardInterrupt
) -> tuple[int, str]:
    """Return the status, and the words for what a signal has dropped and what is kept."""
    by_hand = isinstance(error, KeyboardInterrupt)
    found = at_work()
    work = f" at {found}" if found else ""
    where = f" in {options.out_dir}" if getattr(options, "out_dir", "") else ""
    return (
        INTERRUPTED if by_hand else SAVED,
        f"stopped by {'Ctrl-C' if by_hand else error}{work}; what was finished is kept{where}, "
        f"and {STOPPED}",
    )


def run() -> NoReturn:
    """Do what the command `pdtrain` does: `main`, and an end with its exit status."""
    if find_world().num_ranks == 1:
        sys.exit(main())
    status, reason = FAILED, ""
    try:
        status, reason = _outcome(None)
    except SystemExit as end:  # argparse's: --help, --version, or a usage error that it printed
        status = end.code if isinstance(end.code, int) else FAILED
    except BaseException as error:  # to be seen before the launcher, or a peer, ends this rank
        reason = _say_of_rank(error)
    if reason and status != 0:
        import_module("pdtrain.distributed.meeting").tell_failure(find_world(), reason)
    _end_at_once(status)


def _say_of_rank(error: BaseException) -> str:
    """Print the error of one of several ranks; return what the others should hear, if anything.

    Where another rank has failed, this one's error follows from that, and the other's is said.
    """
    from_peers = re.search("connection|gloo|nccl|timed out", str(error), re.IGNORECASE)
    wait = 5.0 if from_peers else 0.0
    lost = import_module("pdtrain.distributed.meeting").reason_heard(wait)
    if lost and not os.environ.get("PDTRAIN_TRACEBACK"):
        show_error(f"pdtrain: {lost}; this rank ends too")
        return ""
    with suppress(OSError):  # standard error may lie on a full disk
        traceback.print_exception(error)
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _end_at_once(status: int) -> NoReturn:
    """End one of several ranks without taking Python apart, at once where it has failed.

    DeepSpeed keeps process groups, whose threads gloo would at times abort the finished process
    for ("terminate called without an active exception"), and its launcher would take that for a
    failed run. What libraries want done at the end is still done, which Python offers under a
    private name alone; but not after an error, when it may wait for ranks that wait for this one.
    """
    if status in (0, SAVED):
        atexit._run_exitfuncs()
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError):
            output.flush()
    os._exit(status)


def _dispatch(options: argparse.Namespace) -> int:
    from pdtrain.api import run_stages  # a request for help does without a config's library
    from pdtrain.stage import STAGES

    if options.stage == "doctor":
        return import_module("pdtrain.planning.checks.doctor").examine(
            options.config, options.overrides
        )
    if options.stage == "chat":
        import_module("pdtrain.reporting.chat").chat(_config(options))
        return 0
    if options.stage == "init":
        import_module("pdtrain.documents.survey.starter").init(options.config, options.overrides)
        return 0
    if options.stage == "verify":
        named = Path(options.config)
        folder = named if named.is_dir() else _config(options).folder
        return int(import_module("pdtrain.reporting.verify").report(folder))
    config = _config(options)
    options.out_dir = str(config.folder)
    is_folder = Path(options.config).is_dir()
    if options.stage == "inspect":
        run_stages(config, ["passages"], keep_config=is_folder)
        import_module("pdtrain.reporting.inspection").inspect(config, options.passages)
        return 0
    if options.stage == "serve":
        show_line(import_module("pdtrain.reporting.exporting.serving").line(config))
        return 0
    if options.stage == "plan":
        plan = import_module("pdtrain.planning.plan")
        return plan.report(config, options.nodes, options.gpus_per_node)
    names = list(STAGES) if options.stage == "run" else [options.stage]
    run_stages(config, names, keep_config=is_folder)
    return 0


def _config(options: argparse.Namespace) -> RunConfig:
    """Return the config that CONFIG names: a YAML file, or the folder of a finished run."""
    from pdtrain.config import load, load_run, stored
    from pdtrain.files.trust import unrepeated

    if Path(options.config).is_dir():
        if shown := unrepeated(options.config, stored(options.config), options.overrides):
            warn(shown)
        return load_run(options.config, options.overrides)
    return load(options.config, options.overrides)


def _parser() -> argparse.ArgumentParser:
    loudness = _loudness()
    parser = argparse.ArgumentParser(
        prog="pdtrain",
        parents=[loudness],
        description="Move the knowledge of a document collection into a LoRA adapter.",
        epilog="example: pdtrain run configs/quickstart.yaml out_dir=runs/mine train.epochs=3",
    )
    parser.add_argument("--version", action="version", version=f"pdtrain {__version__}")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, text in HELP.items():
        sub = stages.add_parser(name, help=text, description=text, parents=[loudness])
        optional = name == "doctor"
        sub.add_argument(
            "config",
            metavar="FOLDER" if name == "init" else "CONFIG",
            nargs="?" if optional else None,
            help="documents" if name == "init" else "YAML file, or the folder of a run",
        )
        taken = OVERRIDES.get(name, "such as train.epochs=3; behind a YAML file")
        sub.add_argument("overrides", metavar="key=value", nargs="*", help=taken)
        for flag, what in FLAGS.get(name, {}).items():
            sub.add_argument(flag, type=int, metavar="N", help=what)
    return parser


def _loudness() -> argparse.ArgumentParser:
    """Return a parser of --quiet and --verbose, which may stand before or after the stage."""
    flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    either = flags.add_mutually_exclusive_group()
    for name, level, text in (
        ("quiet", logging.WARNING, "tell warnings and errors alone"),
        ("verbose", logging.DEBUG, "tell more: how long stages take, what is saved"),
    ):
        either.add_argument(
            f"-{name[0]}", f"--{name}", action="store_const", dest="level", const=level, help=text
        )
    return flags


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; overrides may also follow a flag, where argparse takes none."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if unknown := [word for word in rest if word.startswith("-")]:
        parser.error(f"unknown: {' '.join(unknown)}")
    options.overrides += rest
    return options


def _prepare_environment() -> None:
    """Settings that must stand before torch is imported; what the user has set stays."""
    # Threads that spin for long lose whole time slices to each other on a busy machine, and threads
    # that sleep at once wake too late for small matrix products: spin for some microseconds.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # PEFT asks transformers by a name that transformers has renamed
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    # DeepSpeed calls collectives by names that torch has renamed
    warnings.filterwarnings("ignore", ".*(all_gather_into|reduce_scatter)_tensor", FutureWarning)


if __name__ == "__main__":
    run()
