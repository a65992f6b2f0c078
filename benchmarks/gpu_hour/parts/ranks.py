"""Train a small model on several ranks and on one: the losses must be the same."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_hour.report import Column, Report, Task

ALLOWED = 1e-4  # relative, of the losses of a step, in fp32
EPOCHS = 3
SMALL = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "head_dim": 64}
TOY = {"num_hidden_layers": 2}
ONE = "one rank, no DeepSpeed"


@dataclass(frozen=True)
class Way:
    """Describe a training: how many ranks, of which so many are taken for a node, and knobs."""

    name: str
    ranks: int
    ranks_per_node: int
    engine: dict[str, Any]


def run(task: Task, report: Report) -> None:
    """Train in every way on the same answers, and compare the curves with one rank's."""
    num_ranks = 2 if task.is_dry else num_gpus()
    ways = wanted(num_ranks, is_dry=task.is_dry)
    model, base_bytes = small_model(task)
    losses: dict[str, list[float]] = {}
    table = report.table(
        "Ranks against one rank",
        [
            Column("way", "way"),
            Column("ranks", "ranks", "int"),
            Column("first", "first loss", "score"),
            Column("last", "last loss", "score"),
            Column("off", "off by, at most", "error"),
            Column("gathered", "gathered a micro-step, P"),
            Column("outcome", "not measured because"),
        ],
        "One rank holds the whole base and uses no DeepSpeed. Off by: the largest relative "
        f"difference of a step's loss, in fp32; {ALLOWED:.0e} is allowed. P is the base; ZeRO-3 "
        "gathers at most 2 P a micro-step for teacher and student together, and the adapter, which "
        "is counted too. What is named `among 2` is gathered by 2 ranks.",
    )
    for way in ways:
        done = train(task, way, model)
        line: dict[str, Any] = {"way": way.name, "ranks": way.ranks, "outcome": done["outcome"]}
        if done["outcome"]:
            report.problem(f"{way.name}: {done['outcome']}")
        else:
            losses[way.name] = done["losses"]
            line |= {
                "losses": done["losses"],
                "first": done["losses"][0],
                "last": done["losses"][-1],
            }
            line |= compared(report, way, losses)
            line["gathered"] = gathered(done["bytes"], done["micro_steps"] * base_bytes)
        table.add(**line)
    if num_ranks < 4:
        report.note(
            f"hpZ was left out: two nodes of two ranks need 4 GPUs, and here are {num_ranks}."
        )
    else:
        report.note("Nodes are pretended: groups of ranks on one machine, each with its own GPUs.")


def num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def wanted(num_ranks: int, *, is_dry: bool) -> list[Way]:
    """Return one rank, all ranks under each ZeRO stage, and two nodes with hpZ where they fit."""
    stages = (3,) if is_dry else (1, 2, 3)
    ways = [Way(ONE, 1, 1, {"kind": "plain"})]
    ways += [
        Way(f"{num_ranks} ranks, ZeRO-{stage}", num_ranks, num_ranks, {"zero_stage": stage})
        for stage in stages
    ]
    if num_ranks >= 4:
        even = num_ranks - num_ranks % 2
        for hpz in (True, False):
            name = f"2 nodes of {even // 2} ranks, ZeRO-3, {'with' if hpz else 'without'} hpZ"
            ways.append(Way(name, even, even // 2, {"zero_stage": 3, "hpz": hpz}))
    return ways


def small_model(task: Task) -> tuple[Path, int]:
    """Return a folder with a small model and a tokenizer, and the bytes of its weights in fp32."""
    from gpu_hour.tiny import tiny_model

    from pdtrain.config import ModelConfig
    from pdtrain.models.shape import sizes_of

    folder = tiny_model(task.folder / "model", **(TOY if task.is_dry else SMALL))
    return folder, 4 * sizes_of(ModelConfig(name=str(folder))).total


def train(task: Task, way: Way, model: Path) -> dict[str, Any]:
    """Train in one way; the losses by step, bytes of collectives, or the reason why not."""
    from gpu_hour.tiny import tiny_records, write_records

    from pdtrain.config import load

    folder = task.folder / way.name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(json.dumps(knobs(task, folder / "run", model, way)), encoding="utf-8")
    write_records(load(config), *tiny_records())
    out, log = folder / "counts.json", folder / "log.txt"
    with log.open("wb") as output:
        try:
            status = subprocess.run(
                command(way, config, out),
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=max(10.0, task.seconds_left() / 2),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    text = log.read_text(encoding="utf-8", errors="replace")
    print(f"--- {way.name}\n{text}", flush=True)
    if status:
        why = "did not end in time" if status == -1 else f"ended with status {status}"
        return {"outcome": f"{why}; the part's output has its last lines"}
    metrics = load(config).run.metrics()
    counts = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    steps = [line["train/loss"] for line in metrics if "train/loss" in line]
    return {"outcome": "", "losses": steps, "bytes": counts, "micro_steps": len(steps)}


def command(way: Way, config: Path, out: Path) -> list[str]:
    """Return the command of a way; torchrun picks a free port."""
    if way.ranks == 1:
        return [sys.executable, "-m", "pdtrain", "train", str(config)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", str(way.ranks)]
    return [*launcher, "-m", "gpu_hour.rank", str(config), str(out), str(way.ranks_per_node)]


def knobs(task: Task, out_dir: Path, model: Path, way: Way) -> dict[str, Any]:
    """Return a config: fp32, so that curves can be compared, one micro-batch a rank and step."""
    return {
        "out_dir": str(out_dir),
        "model": {"name": str(model), "dtype": "float32"},
        "adapter": {"rank": 4, "alpha": 8},
        "teacher": {"cache": False},
        "loss": {"impl": "chunked" if "triton" in task.avoid else "auto"},
        "train": {"epochs": EPOCHS, "answers_per_step": 6, "learning_rate": 2e-3},
        "engine": way.engine,
    }


def compared(report: Report, way: Way, losses: dict[str, list[float]]) -> dict[str, Any]:
    """Return how far the losses are from those of one rank; say so where that is too far."""
    mine, one = losses[way.name], losses.get(ONE)
    if one is None or way.name == ONE:
        return {}
    if len(mine) != len(one):
        report.problem(f"{way.name} took {len(mine)} steps, one rank {len(one)}")
        return {}
    off = max(abs(a - b) / abs(b) for a, b in zip(mine, one, strict=True))
    if not off <= ALLOWED:
        report.problem(f"{way.name}: losses are off by {off:.1e} from those of one rank")
    report.headline(f"{way.name}: off by {off:.0e}")
    return {"off": off}


def gathered(counts: dict[str, int], unit: int) -> str | None:
    """Return what was gathered by the number of ranks that shared it, in bases a micro-step."""
    parts = [
        f"{size / unit:.2f} among {kind.removeprefix('gather of ')}"
        for kind, size in sorted(counts.items())
        if kind.startswith("gather of ")
    ]
    return "; ".join(parts) or None
