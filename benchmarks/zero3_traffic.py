"""Bytes of the base gathered in a micro-step, and its time, for three ways to run the teacher.

    python benchmarks/zero3_traffic.py --ranks 2 --steps 5

Gloo ranks on one machine, DeepSpeed ZeRO-3, a random Llama in fp32. DeepSpeed's knobs are set so
that nothing stays gathered, as in a model that is large: P is the base, H its head, and the
embedding has H's size. Also twin on two "nodes" of two ranks with hpZ: what crosses them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pdtrain.distillation import packing, schedule
from pdtrain.models.shape import Shape, adapter_weights, shape_of, sizes_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from support import Collectives, run_ranks, tiny_config, tiny_model, tiny_records

from pdkernels import TopK
from pdtrain.config import RunConfig
from pdtrain.distillation.batch import TwinBatch
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.twin import Twin
from pdtrain.distributed import zero
from pdtrain.distributed.world import World, publish
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer, skeleton
from pdtrain.models.chat.chat_template import prove
from pdtrain.models.head import called

NOTHING_KEPT = {
    f"stage3_{name}": 0
    for name in (
        "param_persistence_threshold",
        "max_reuse_distance",
        "prefetch_bucket_size",
        "max_live_parameters",
    )
}
# way: times that layers, embedding and head are gathered
WAYS = {"two engine forwards": (3, 2, 3), "one wrapper, two passes": (3, 2, 2), "twin": (2, 1, 2)}
FORMULAS = {
    "two engine forwards": "3P - H",
    "one wrapper, two passes": "3P - 2H",
    "twin": "2P - H",
}


class TwoPasses(Twin):
    """The teacher through the whole model, then the student."""

    def hidden_rows(self, teacher: Any, student: Any) -> list[torch.Tensor]:
        if teacher is None or student is None:
            return super().hidden_rows(teacher, student)
        with torch.no_grad():
            taught = super().hidden_rows(teacher, None)
        return [*taught, *super().hidden_rows(None, student)]


class TwoForwards(Twin):
    """The teacher's forward gives plain tensors: DeepSpeed's hooks cannot look into a TopK."""

    def forward(self, batch: TwinBatch) -> Any:
        if batch.student is not None:
            return super().forward(batch)

        def teach(rows_ND: torch.Tensor) -> tuple[torch.Tensor, ...]:
            topk = self.loss.teacher(rows_ND, self.head.weight)
            return topk.log_p_NK, topk.ids_NK, topk.lse_N, topk.log_p_tail_N

        with called(self.head, teach):
            return self.head(*self.hidden_rows(batch.teacher, None))


KINDS = {"two engine forwards": TwoForwards, "one wrapper, two passes": TwoPasses, "twin": Twin}


def micro_step(engine: Any, way: str, batch: TwinBatch) -> None:
    if way == "two engine forwards":
        with torch.no_grad():
            topk = TopK(*engine(replace(batch, student=None)), temperature=1.0)
        batch = replace(batch, teacher=None, topk=topk)
    loss, _ = engine(batch)
    engine.backward(loss / batch.total_weight, last=True)


def build(config: RunConfig, world: World, way: str) -> Any:
    from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine

    settings = zero.settings(config, sizes_of(config.model), world, torch.float32)
    model = add_adapter(load_model(config.model), config.adapter, 1)
    twin = KINDS[way](model, TopKLoss(config.loss), checkpointing=True)
    return DeepSpeedEngine(twin, config.train, 1000, world, settings)


def work(
    rank: int, world: World, ways: list[str], num_steps: int, config: RunConfig, out: str
) -> None:
    os.environ["DS_ACCELERATOR"] = "cpu"
    world = replace(world, rank=rank, local_rank=rank % world.ranks_per_node)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    publish(world)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    examples = from_answers(*tiny_records(), chat)
    engines = {way: build(config, world, way) for way in ways}
    cut = schedule.split_evenly(examples, world.num_ranks)[rank]
    batch = packing.twin_batch(cut, config.loss, torch.device("cpu"), with_teacher=True)
    found: dict[str, Any] = {way: {"seconds": []} for way in ways}
    for _ in range(num_steps):
        for way, engine in engines.items():  # one after the other, so that all meet the same noise
            started = time.perf_counter()
            with Collectives() as seen:
                micro_step(engine, way, batch)
            found[way]["seconds"].append(time.perf_counter() - started)
            found[way]["counts"] = [c for c in seen.counts if c[0] == "gather"]
            engine.step()
    if rank == 0:
        Path(out).write_text(json.dumps(found))


def measure(num_ranks: int, per_node: int, ways: list[str], num_steps: int, layers: int) -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"hidden_size": 256, "intermediate_size": 1024, "head_dim": 64}
        tiny_model(folder / "model", num_hidden_layers=layers, **sizes)
        knobs = {"zero_optimization": NOTHING_KEPT}
        config = tiny_config(folder / "run", folder / "model", deepspeed=knobs)
        world = World(num_ranks=num_ranks, ranks_per_node=per_node, launcher="benchmark")
        out = folder / "found.json"
        arguments = (world, ways, num_steps, config, str(out))
        run_ranks(work, num_ranks, folder, *arguments, timeout_seconds=500)
        shape = shape_of(skeleton(config.model), config.adapter.target_modules)
        return json.loads(out.read_text()), shape, adapter_weights(config, shape) * 4


def table(found: Any, shape: Shape, adapter: int) -> None:
    base, head = shape.sizes.total * 4, shape.sizes.head * 4
    two_passes = statistics.median(found["one wrapper, two passes"]["seconds"][1:])
    print(
        "| way | formula | formula, P | counted, P | off | collectives | s a micro-step "
        "| of two passes |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for way, (layers, embeddings, heads) in WAYS.items():
        counts = found[way]["counts"]
        counted = (sum(size for _, _, size in counts) - layers * adapter) / base
        planned = (layers * (base - 2 * head) + (embeddings + heads) * head) / base
        seconds = statistics.median(found[way]["seconds"][1:])
        print(
            f"| {way} | {FORMULAS[way]} | {planned:.3f} | {counted:.3f} | "
            f"{counted / planned - 1:+.2%} | {len(counts)} | {seconds:.3f} | "
            f"{seconds / two_passes:.2f} |"
        )
        assert abs(counted / planned - 1) < 0.02, f"{way}: more than 2 % off"


def hpz(found: Any, adapter: int, base: int) -> None:
    counts = found["twin"]["counts"]
    inside, across = (sum(size for _, ranks, size in counts if len(ranks) == n) for n in (2, 4))
    print(
        f"\ntwin with hpZ, 2 nodes x 2 ranks: {inside / base:.3f} P gathered inside nodes, the "
        f"adapter's included; across nodes {across} bytes, of which the adapter's {adapter} and "
        f"the base's {across - adapter}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--layers", type=int, default=8)
    options = parser.parse_args()
    found, shape, adapter = measure(
        options.ranks, options.ranks, list(WAYS), options.steps, options.layers
    )
    print(
        f"{options.ranks} ranks; P = {shape.sizes.total * 4 / 1e6:.1f} MB, H = "
        f"{shape.sizes.head * 4 / 1e6:.2f} MB; the adapter's bytes are taken off\n"
    )
    table(found, shape, adapter)
    found, shape, adapter = measure(4, 2, ["twin"], 2, options.layers)
    hpz(found, adapter, shape.sizes.total * 4)


if __name__ == "__main__":
    main()
