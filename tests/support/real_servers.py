"""Start real servers of completions, kill them, and let a stage ask them all the while."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from support import tiny_config, write_records

from pdtrain.config import RunConfig, dump
from pdtrain.records import Passage, Question, content_id
from pdtrain.storage import read_json, read_shards
from pdtrain.synthesis import answers

TOOLS = Path(os.environ.get("PDTRAIN_VLLM", "."))  # the folder of vLLM's scripts and its Python
PATIENCE = float(os.environ.get("PDTRAIN_VLLM_PATIENCE", "900"))  # seconds to load
COUNT = int(os.environ.get("PDTRAIN_VLLM_QUESTIONS", "300"))
TEXT = "The mill of Osk grinds rye. It was built by Anna Gray in 1801. The miller keeps two goats."


class RealServer(ABC):
    """Start a server on loopback, and end it by its handle.

    Args:
        folder: for its log.
        options: further words of its command.
        up: the address, below the server's, that answers once it is there.
    """

    def __init__(self, folder: Path, *options: object, up: str = "v1/models") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.up = f"http://127.0.0.1:{self.port}/{up}"
        self.log = folder / "server.log"
        self.options = options
        self.start()

    @abstractmethod
    def command(self) -> list[object]:
        """Return the words of the command that starts it."""

    def start(self) -> None:
        """Start it, on the same port as before, and wait until it answers."""
        env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [str(word) for word in self.command()],
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        try:
            while not self.is_up():
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                assert time.monotonic() < deadline, "it took too long to load"
                time.sleep(1)
        except BaseException:
            self.kill()
            raise

    def is_up(self) -> bool:
        """Return whether it answers."""
        try:
            with urllib.request.urlopen(self.up, timeout=5):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)  # its engine is a process of its own
        self.process.wait()


def through_two_deaths(
    server: RealServer,
    folder: Path,
    served: dict[str, Any],
    count: int,
    sampling: dict[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Answer questions, undisturbed and by a process whose server is killed and started twice.

    Nothing is filtered, and each answer has a seed.

    Args:
        served: the values of `generation.server`.
        sampling: of the answers.

    Returns:
        The records of the disturbed process, those of the undisturbed one, and what the manifest
        of the disturbed one says of its requests.
    """
    keeps: dict[str, Any] = {"grounded": False, "quote": False, "checks": 0, "attempts": 1}
    keeps["enough_per_sentence"] = 1000
    keeps["sampling"] = {"max_new_tokens": 12} | (sampling or {})
    runs = []
    for name in ("undisturbed", "disturbed"):
        generation = {"backend": "server", "server": served}
        config = tiny_config(folder / name, "embedded", answers=keeps, generation=generation)
        _write_questions(config, count)
        dump(config, folder / f"{name}.yaml")
        runs.append(config)
    undisturbed, disturbed = runs
    answers.collect(undisturbed)
    command = [sys.executable, "-m", "pdtrain", "answers", str(folder / "disturbed.yaml")]
    worker = subprocess.Popen(command, cwd=folder)
    requests = disturbed.folder / "answers" / "requests"
    for part in (0.3, 0.6):
        while _num_answered(requests) < part * count:
            assert worker.poll() is None, "it ended before the server was killed"
            time.sleep(0.05)
        server.kill()
        server.start()
    assert worker.wait(PATIENCE) == 0
    found, wanted = (list(read_shards(c.folder / "answers")) for c in (disturbed, undisturbed))
    about = read_json(disturbed.folder / "answers" / "manifest.json")["generation"]
    return found, wanted, about


def _write_questions(config: RunConfig, count: int) -> None:
    """Write passages with ten questions each, of which the stage of the answers is left to do."""
    passages, questions = [], []
    for number in range(count // 10):
        text = TEXT.replace("1801", str(1801 + number))
        ends = [place + 1 for place, sign in enumerate(text) if sign == "."]
        spans = tuple(zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True))
        name = content_id("passage", number)
        passages.append(Passage(name, "d", "The mill of Osk", text, 0, len(text), 30, spans))
        for turn in range(10):
            words = f"{turn}: when was the mill of Osk built, and by whom?"
            questions.append(Question(content_id(name, turn), name, words, "fact", 1))
    write_records(config, passages, questions)


def _num_answered(requests: Path) -> int:
    """Count the requests that were answered: of units at work, and of those that are done."""
    counted = sum(path.read_bytes().count(b"\n") for path in requests.glob("*.jsonl"))
    usage = sum(path.read_bytes().count(b"\n") for path in requests.glob("usage-*.jsonl"))
    return counted - usage + usage * 10
