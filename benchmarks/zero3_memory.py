"""Peak memory of a rank under ZeRO-3 for 1, 2 and 3 ranks, beside what `pdtrain plan` says.

    python benchmarks/zero3_memory.py --ranks 1 2 3

Gloo ranks on one machine, a random Llama in fp32, one answer a rank and step, checkpointing on. A
CPU rank's own memory (anonymous pages, sampled every millisecond) stands for a GPU's: what it had
before the model was loaded, Python and its libraries, is taken off. Pages of the model's files,
which the kernel takes back when it wants, are a column of their own. Freed memory goes back to the
kernel at once (PLAIN_MALLOC). "Objects" are Python's, hooks and modules, which a GPU does not hold:
what the same run with narrow layers takes beyond its plan; they are taken off before the plan is
compared. The benchmark fails where that is further off than LIMIT, or does not fall with the ranks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pdtrain.distillation import packing
from pdtrain.models.shape import shape_of, sizes_of
from pdtrain.planning import memory_model

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from support import PLAIN_MALLOC, Resident, resident_bytes, run_ranks, tiny_config, tiny_model

from pdtrain.config import RunConfig
from pdtrain.distillation import examples
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.distributed import sharded_loading, zero
from pdtrain.distributed.world import World, publish
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, skeleton
from pdtrain.training.step import train_step

MB = 1e6
LIMIT = 0.05
STEPS = 2  # the first one records in which order weights are used, the others prefetch
NARROW = 64  # hidden size
PASSAGE, QUESTION, ANSWER = 64, 16, 16  # tokens


def example(rank: int) -> examples.Example:
    """Random tokens: a prompt of the student is the end of the teacher's."""
    noise = torch.Generator().manual_seed(rank)
    ids = tuple(torch.randint(4, 300, (PASSAGE + QUESTION + ANSWER,), generator=noise).tolist())
    prompt = ids[:-ANSWER]
    return examples.Example(f"{rank}", f"{rank}", prompt, prompt[PASSAGE:], ids[-ANSWER:])


def work(rank: int, config: RunConfig, small: str, out: str) -> None:
    size = torch.distributed.get_world_size()
    world = World(rank, size, rank, size, "the benchmark")
    publish(world)
    from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine

    settings = zero.settings(config, sizes_of(config.model), world, torch.float32)
    with sharded_loading.spread(settings):  # imports what a load and an engine need
        load_model(replace(config.model, name=small))
    before = resident_bytes()["RssAnon"]
    with Resident() as loading:
        with sharded_loading.spread(settings):
            base = load_model(config.model)
        sharded_loading.verify(base, config.model)
    with Resident() as training:
        twin = Twin(add_adapter(base, config.adapter, 1), TopKLoss(config.loss), checkpointing=True)
        engine = DeepSpeedEngine(twin, config.train, 10, world, settings)
        for _ in range(STEPS):
            batch = packing.twin_batch(
                [example(rank)], config.loss, engine.device, with_teacher=True
            )
            train_step(engine, [batch])
    found = {
        "base": sum(p.ds_tensor.nbytes for p in twin.parameters() if not p.requires_grad),
        "loading": loading.peak["RssAnon"] - before,
        "file": loading.peak["RssFile"],
        "training": training.peak["RssAnon"] - before,
    }
    Path(f"{out}.{rank}").write_text(json.dumps(found))


def measure(config: RunConfig, num_ranks: int, folder: Path) -> dict[str, float]:
    """The worst rank's figures, in bytes."""
    out, small = str(folder / f"found-{num_ranks}"), tiny_model(folder / "small")
    run_ranks(work, num_ranks, folder, config, str(small), out, timeout_seconds=900)
    found = [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(num_ranks)]
    return {key: max(rank[key] for rank in found) for key in found[0]}


def config_of(folder: Path, layers: int, hidden: int) -> RunConfig:
    shape: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": 4 * hidden}
    shape["vocab_size"] = 16 * hidden  # as in 70B a head is somewhat larger than a layer
    tiny_model(folder / "model", num_hidden_layers=layers, head_dim=64, **shape)
    return tiny_config(
        folder / "run",
        folder / "model",
        corpus={"max_passage_tokens": PASSAGE},
        train={"answers_per_micro_batch": 1, "gradient_checkpointing": True},
        plan={"question_tokens": QUESTION, "answer_tokens": ANSWER},
    )


def planned(config: RunConfig, num_ranks: int) -> memory_model.Memory:
    shape = shape_of(skeleton(config.model), config.adapter.target_modules)
    train = replace(config.train, answers_per_step=num_ranks)
    plan = replace(config.plan, nodes=1, gpus_per_node=num_ranks)
    engine = replace(config.engine, kind="deepspeed")
    world = World(num_ranks=num_ranks, ranks_per_node=num_ranks)
    changed = replace(config, train=train, plan=plan, engine=engine)
    return replace(memory_model.memory_of(changed, shape, world), reserve=0)  # of a CUDA context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--hidden", type=int, default=768)
    options = parser.parse_args()
    os.environ |= {**PLAIN_MALLOC, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    print(
        f"commit {commit.stdout.strip()}, torch {version('torch')}, deepspeed "
        f"{version('deepspeed')}, transformers {version('transformers')}; MB\n\n"
        "| ranks | base, held | peak of the load | file pages | peak of training | of it objects "
        "| without | planned | off |\n|---|---|---|---|---|---|---|---|---|"
    )
    plans, net = {}, []
    with tempfile.TemporaryDirectory() as name:
        wide, narrow = (
            config_of(Path(name) / str(size), options.layers, size)
            for size in (options.hidden, NARROW)
        )
        for num_ranks in options.ranks:
            found, plan = measure(wide, num_ranks, Path(name)), planned(wide, num_ranks)
            small = measure(narrow, num_ranks, Path(name))["training"]
            objects = small - planned(narrow, num_ranks).total
            net.append(found["training"] - objects)
            columns = [found[key] for key in ("base", "loading", "file", "training")]
            texts = [f"{size / MB:.0f}" for size in (*columns, objects, net[-1], plan.total)]
            off = net[-1] / plan.total - 1
            print(f"| {num_ranks} | {' | '.join(texts)} | {off:+.1%} |", flush=True)
            plans[num_ranks] = asdict(plan)
            assert abs(off) < LIMIT, "the peak is further off the plan"
            assert abs(found["base"] / plan.base_shard - 1) < 0.01, "the base's part is off"
    assert net == sorted(net, reverse=True), "more ranks hold more"
    print("\n| planned, MB | " + " | ".join(f"{n} ranks" for n in plans) + " |")
    print("|---" * (1 + len(plans)) + "|")
    for part in asdict(plan):
        sizes = [f"{each[part] / MB:.1f}" for each in plans.values()]
        print(f"| {part} | {' | '.join(sizes)} |")


if __name__ == "__main__":
    main()
