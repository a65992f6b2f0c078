"""Tokens per second of answers that read a passage: a plain loop, our backend, and a server.

    python benchmarks/generation_throughput.py --url http://127.0.0.1:8000/v1 --server PID

The bundled corpus with some of its held-out questions, each asked with its passage in view, as the
teacher is asked for answers. All engines hold the embedded model in fp32, get the same token ids,
answer greedily, and stop where the model ends its answer or at the same number of tokens. Prompts
of one passage stand side by side, as they do in the stage of the answers.

* `generate, one by one`: `model.generate` of transformers on one prompt after the other.
* `generate, batches`: the same on batches that are padded on the left.
* `huggingface`: `generation.backend=huggingface`, with batches of the same size.
* `server`: `generation.backend=server`, with as many requests in flight; `--url` names it. Without
  it the server is left out. Start it anew for each run, for what its cache keeps of the passages
  of an earlier one would count for it.

One run of each, after two short answers that warm it up. Each engine has one core (vLLM: set
`VLLM_CPU_OMP_THREADS_BIND` to one), and what is counted beside the seconds is the CPU time of this
process and of the server's processes: on a machine that others use, the seconds say little.
"Tokens" are those that were written, and "equal" counts the answers that have the token ids of the
first engine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pdtrain.api import run_stage
from pdtrain.config import RunConfig, SamplingConfig, load
from pdtrain.generation.backend import Backend, open_backend
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.records import Passage
from pdtrain.synthesis.held_out import TestQuestion, read_questions

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
Ids = list[int]
Engine = Callable[[Sequence[Ids]], list[Ids]]  # from prompts to what is written


@dataclass(frozen=True)
class Settings:
    """Hold what is equal for all engines."""

    new_tokens: int
    at_once: int

    @property
    def sampling(self) -> SamplingConfig:
        """Return the greedy sampling of an answer."""
        return SamplingConfig(temperature=0, max_new_tokens=self.new_tokens)


def config_of(folder: Path, url: str = "") -> RunConfig:
    """Return the quickstart's config in a folder of its own."""
    model = ["model.dtype=float32", "model.device=cpu"]
    config = load(CONFIG, [f"out_dir={folder}", *model])
    if not url:
        return config
    server = replace(config.generation.server, url=url)
    return replace(config, generation=replace(config.generation, backend="server", server=server))


def passage_of(question: TestQuestion, passages: Sequence[Passage]) -> Passage:
    """Return the passage of a question's document that holds its answer, or the first one."""
    own = [one for one in passages if one.document_id == question.document]
    holds = [one for one in own if any(answer in one.text for answer in question.answers)]
    return (holds or own)[0]


def prompts_of(config: RunConfig, backend: Backend, per_document: int) -> list[Ids]:
    """Return the prompts of some questions of each document, those of a passage side by side."""
    run_stage(config, "passages")
    passages = list(config.run.passages())
    asked: dict[str, list[TestQuestion]] = {}
    for question in read_questions(config.evaluate.questions):
        if question.document and question.answers:
            asked.setdefault(question.document, []).append(question)
    chosen = [one for found in asked.values() for one in found[:per_document]]
    pairs = [(passage_of(one, passages), one) for one in chosen]
    pairs.sort(key=lambda pair: pair[0].id)
    return [backend.chat.teacher(passage, one.question) for passage, one in pairs]


def plain(backend: HuggingFaceBackend, settings: Settings, batch_size: int) -> Engine:
    """Return `model.generate` on batches of prompts that are padded on the left."""
    model, stops = backend.model, sorted(backend.chat.stop_ids)

    def answer(prompts: Sequence[Ids]) -> list[Ids]:
        found = []
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            length = max(map(len, batch))
            ids = torch.tensor([[stops[0]] * (length - len(one)) + list(one) for one in batch])
            mask = torch.tensor([[0] * (length - len(one)) + [1] * len(one) for one in batch])
            with torch.inference_mode():
                rows = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=False,
                    max_new_tokens=settings.new_tokens,
                    eos_token_id=stops,
                    pad_token_id=stops[0],
                )
            found += [_until(row[length:].tolist(), stops) for row in rows]
        return found

    return answer


def _until(ids: Ids, stops: Sequence[int]) -> Ids:
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return ids[: end + 1]


def through(backend: Backend, settings: Settings) -> Engine:
    """Return a backend as an engine."""

    def answer(prompts: Sequence[Ids]) -> list[Ids]:
        return [list(one.token_ids) for one in backend.sample(prompts, settings.sampling, seed=0)]

    return answer


def main() -> None:
    """Time each engine once, and print a line for each as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="", help="of a server that was just started")
    parser.add_argument("--per-document", type=int, default=6, help="questions of a document")
    parser.add_argument("--new-tokens", type=int, default=32, help="of an answer, at most")
    parser.add_argument("--at-once", type=int, default=16, help="prompts of a batch, or in flight")
    parser.add_argument("--server", type=int, default=0, help="the id of the server's process")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(options.new_tokens, options.at_once)
    with tempfile.TemporaryDirectory() as name:
        config = config_of(Path(name))
        own = HuggingFaceBackend.of_base(config.model, config.prompts, batch_size=settings.at_once)
        prompts = prompts_of(config, own, options.per_document)
        engines = {
            "generate, one by one": plain(own, settings, 1),
            f"generate, batches of {settings.at_once}": plain(own, settings, settings.at_once),
            f"huggingface, batches of {settings.at_once}": through(own, settings),
        }
        if options.url:
            there = config_of(Path(name), options.url)
            server = replace(there.generation.server, concurrent=settings.at_once)
            there = replace(there, generation=replace(there.generation, server=server))
            served = through(open_backend(there), settings)
            engines[f"server, {settings.at_once} in flight"] = served
        measure(engines, prompts, own.chat.student("Say yes."), options.server)


def cpu_seconds(server: int) -> float:
    """Return the CPU time of this process and, if it has an id, of a server and its children."""
    used, waiting = time.process_time(), [server] if server else []
    while waiting:
        process = waiting.pop()
        # behind the name in brackets: state, parent, …, user and system time in ticks
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            waiting += map(int, children.read_text().split())
    return used


def measure(engines: dict[str, Engine], prompts: Sequence[Ids], warm_up: Ids, server: int) -> None:
    """Print for each engine its seconds, the tokens that it wrote, and those per second."""
    first: list[Ids] = []
    for name, answer in engines.items():
        answer([warm_up, warm_up])
        started, used = time.perf_counter(), cpu_seconds(server)
        found = answer(prompts)
        seconds, used = time.perf_counter() - started, cpu_seconds(server) - used
        first = first or found
        written = sum(map(len, found))
        line = {
            "engine": name,
            "prompts": len(prompts),
            "tokens read": sum(map(len, prompts)),
            "tokens written": written,
            "seconds": round(seconds, 1),
            "CPU seconds": round(used, 1),
            "written tokens a CPU second": round(written / used, 1),
            "equal": sum(one == other for one, other in zip(found, first, strict=True)),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
