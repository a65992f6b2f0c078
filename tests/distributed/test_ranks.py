"""DeepSpeed on gloo ranks: the numbers of one plain process, whatever the stage and the cut.

Every test starts processes, which take seconds to import DeepSpeed; so each does much at once.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import (
    PLAIN_MALLOC,
    Resident,
    needs_compiler,
    randomise_adapter,
    resident_bytes,
    run_ranks,
    tiny_config,
    tiny_model,
    tiny_records,
    write_records,
)

from pdtrain.config import from_dict
from pdtrain.distillation import examples, packing
from pdtrain.distillation.losses import TopKLoss
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.twin import Twin
from pdtrain.distributed.engine import PlainEngine
from pdtrain.distributed.world import World, publish
from pdtrain.models import shape
from pdtrain.models.adapters.lora import add_adapter
from pdtrain.models.base import load_model, load_tokenizer
from pdtrain.models.chat.chat_template import prove
from pdtrain.run_folder import RunFolder
from pdtrain.training import train
from pdtrain.training.step import train_step

CPU = torch.device("cpu")
STEPS = 3
# without these a tiny model's weights would simply stay gathered
RELEASED = {
    "zero_optimization": {
        "stage3_param_persistence_threshold": 0,
        "stage3_max_reuse_distance": 0,
        "stage3_prefetch_bucket_size": 0,
        "stage3_max_live_parameters": 0,
    }
}
SECONDS = 400.0  # importing DeepSpeed in three processes on a busy machine of two cores


@pytest.fixture(scope="module", autouse=True)
def on_cpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_ACCELERATOR", "cpu")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # read by the processes that start here
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    # 33 does not divide by 2 or 3 anywhere: the last rank's part of each weight is padded
    return tiny_model(tmp_path_factory.mktemp("model"), tie_word_embeddings=True)


def config_for(folder, model, **sections):
    sections["train"] = {
        "epochs": 1,
        "answers_per_step": 4,
        "answers_per_micro_batch": 1,
        "learning_rate": 0.01,
        "max_grad_norm": 0.5,
        "evaluate_every_epochs": 0,
    } | sections.get("train", {})
    return tiny_config(folder, model, **sections, adapter={"rank": 3, "alpha": 6})


def make_twin(config, *, spread=None, kind=Twin):
    from pdtrain.distributed import sharded_loading

    with sharded_loading.spread(spread):
        base = load_model(config.model)
    if spread and spread["zero_optimization"]["stage"] == 3:
        sharded_loading.verify(base, config.model)
    adapted = add_adapter(base, config.adapter, seed=1)
    randomise_adapter(adapted)
    checkpointing = config.train.checkpoints
    return kind(adapted, TopKLoss(config.loss), checkpointing=checkpointing)


def examples_of(config):
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    return examples.from_answers(*tiny_records(), chat)


def three_steps(engine, config, rank=0, num_ranks=1, before_each=lambda: None):
    """Loss, gradient norm and moments of every step; the adapter at the end, on the first rank."""
    schedule = Schedule(config, "", examples_of(config))
    found = {}
    for step in range(1, STEPS + 1):
        before_each()
        batches = [
            packing.twin_batch(
                cut.examples, config.loss, CPU, with_teacher=True, is_filler=cut.is_filler
            )
            for cut in schedule.micro_batches(step % schedule.steps_per_epoch + 1, rank, num_ranks)
        ]
        stats = train_step(engine, batches)
        found[f"{step} stats"] = torch.tensor([stats.loss, stats.grad_norm, stats.teacher_mass])
        found[f"{step} tokens"] = torch.tensor([stats.answer_tokens])
        state = engine.optimizer_state()
        found |= {f"{step} {k}": v for k, v in state.items() if k.endswith(".exp_avg")}
    return found | {f"end {k}": v for k, v in engine.adapter_state().items()}


@pytest.fixture(scope="module")
def one_process(model, tmp_path_factory):
    """What every cut must give: one process, one micro-batch a step."""
    folder = tmp_path_factory.mktemp("plain")
    config = config_for(folder, model, train={"answers_per_micro_batch": 4})
    found = three_steps(PlainEngine(make_twin(config), config.train, 10), config)
    save_file(found, folder / "wanted.safetensors")
    return folder / "wanted.safetensors"


def start_rank(rank, per_node=None):
    size = torch.distributed.get_world_size()
    per_node = per_node or size
    world = World(rank, size, rank % per_node, per_node, "the test")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    publish(world)
    return world


def check_against_one_process(rank, model, wanted, folder, stages, per_node=None):
    from pdtrain.distributed import zero
    from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine
    from pdtrain.distributed.deepspeed_private import WAITS

    world = start_rank(rank, per_node)
    cases = [(stage, False) for stage in stages]
    if per_node is None:  # DeepSpeed makes the groups of hpZ once a process
        cases.append((3, True))
    for stage, offload in cases:
        sections = {"deepspeed": RELEASED} if stage == 3 else {}
        config = config_for(
            folder,
            Path(model),
            engine={"zero_stage": stage, "offload_base": offload},
            train={"gradient_checkpointing": stage == 3},
            **sections,
        )
        settings = zero.settings(config, shape.sizes_of(config.model), world, torch.float32)
        twin = make_twin(config, spread=settings)
        is_timed = rank == 0  # numbers are the same with and without
        engine = DeepSpeedEngine(
            twin, config.train, 10, world, settings, time_communication=is_timed
        )
        assert wrapped_in(engine) == (set(WAITS[stage]) if is_timed else set())
        count = trace_invalidations() if stage == 3 else []
        after_first = []

        def note(count=count, seen=after_first):
            seen.append(len(count))

        found = three_steps(engine, config, rank, world.num_ranks, note)
        if stage == 3:
            assert len(count) == after_first[1], "a trace was made anew after the first step"
            assert_released(twin)
        if rank == 0:
            assert_same_numbers(found, load_file(wanted), f"stage {stage}, {offload}")


def wrapped_in(engine):
    """The methods of DeepSpeed that this engine has put others in the place of."""
    owners = [engine.engine, engine.optimizer]
    if engine.stage == 3:
        owners.append(engine.optimizer.parameter_offload.get_param_coordinator())
    known = set().union(*(vars(type(owner)) for owner in owners if owner is not engine.engine))
    known |= {"buffered_allreduce_fallback"}
    return {name for owner in owners for name in vars(owner) if name in known}


def trace_invalidations():
    from deepspeed.runtime.zero.partitioned_param_coordinator import (
        PartitionedParameterCoordinator as Coordinator,
    )

    count = []
    real = Coordinator._invalidate_trace
    Coordinator._invalidate_trace = lambda self: (count.append(1), real(self))[1]
    return count


def assert_released(twin):
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    frozen = [p for p in twin.parameters() if not p.requires_grad]
    assert all(p.ds_status == ZeroParamStatus.NOT_AVAILABLE for p in frozen)


def assert_same_numbers(found, wanted, label):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        off = (found[name].double() - value.double()).norm()
        assert off <= 1e-5 * value.double().norm(), f"{label}: {name} is off by {off:.1e}"


@needs_compiler
@pytest.mark.parametrize(
    "num_ranks, stages",
    [
        pytest.param(1, [3], marks=pytest.mark.slow),
        (2, [0, 1, 2, 3]),
        pytest.param(3, [3], marks=pytest.mark.slow),
    ],
)
def test_ranks_give_the_numbers_of_one_process(num_ranks, stages, model, one_process, tmp_path):
    """Loss, every adapter gradient (through its first moment) and the adapter, over three steps."""
    arguments = (str(model), str(one_process), tmp_path, stages)
    run_ranks(check_against_one_process, num_ranks, tmp_path, *arguments, timeout_seconds=SECONDS)


@pytest.mark.slow
@needs_compiler
def test_two_nodes_that_hold_the_base_each_give_the_numbers_of_one_process(
    model, one_process, tmp_path
):
    """hpZ: two ranks a node hold the base between them; gradients cross all four."""
    arguments = (str(model), str(one_process), tmp_path, [3], 2)
    run_ranks(check_against_one_process, 4, tmp_path, *arguments, timeout_seconds=SECONDS)


def test_three_ranks_need_fillers_here(model, tmp_path):
    config = config_for(tmp_path, model)
    schedule = Schedule(config, "", examples_of(config))
    cuts = [cut for rank in range(3) for cut in schedule.micro_batches(1, rank, 3)]
    assert [cut.is_filler for cut in cuts].count(True) == 2


def fail_on_one(rank, failing):
    from pdtrain.distributed.process_group import on_every_rank

    def work():
        if rank == failing:
            raise ValueError(f"rank {rank} has lost a file")
        return rank

    if failing is None:
        assert on_every_rank(work) == rank
    else:
        with pytest.raises(ValueError, match=f"rank {failing} has lost a file"):
            on_every_rank(work)


@pytest.mark.parametrize("failing", [None, pytest.param(1, marks=pytest.mark.slow)])
def test_what_fails_on_one_rank_fails_on_all(failing, tmp_path):
    run_ranks(fail_on_one, 2, tmp_path, failing, timeout_seconds=SECONDS)


def first_layer_without_a_gradient(rank, model, wanted, folder):
    """The frozen embedding's output asks for no gradient, as without the twin's own line for it."""
    from pdtrain.distributed import zero
    from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine

    class Careless(Twin):
        def hidden_rows(self, *sides):
            real = torch.Tensor.requires_grad_
            torch.Tensor.requires_grad_ = lambda tensor, *_: tensor
            try:
                return super().hidden_rows(*sides)
            finally:
                torch.Tensor.requires_grad_ = real

    world = start_rank(rank)
    config = config_for(folder, Path(model), deepspeed=RELEASED)
    settings = zero.settings(config, shape.sizes_of(config.model), world, torch.float32)
    twin = make_twin(config, spread=settings, kind=Careless)
    engine = DeepSpeedEngine(twin, config.train, 10, world, settings)
    try:
        found = three_steps(engine, config, rank, world.num_ranks)
    except RuntimeError:
        return  # its weights were released before backward read them
    if rank == 0:
        with pytest.raises(AssertionError, match="is off by"):
            assert_same_numbers(found, load_file(wanted), "careless")


@pytest.mark.slow
@needs_compiler
def test_the_comparison_would_notice_a_first_layer_without_a_gradient(model, one_process, tmp_path):
    arguments = (str(model), str(one_process), tmp_path)
    run_ranks(first_layer_without_a_gradient, 2, tmp_path, *arguments, timeout_seconds=SECONDS)


def run_stage(rank, values, stop_after):
    """The `train` stage on this rank, asked to stop after some steps if that is not 0."""
    start_rank(rank)
    config = from_dict(values)
    if stop_after:
        real = train.take_step

        def step(*arguments):
            made = real(*arguments)
            run_stage.taken += 1
            if rank == 0 and run_stage.taken == stop_after:
                config.run.stop_file.touch()
            return made

        run_stage.taken = 0
        train.take_step = step
        with pytest.raises(train.Stopped, match=r"saved after step \d+ of 9"):
            train.run(config)
    else:
        train.run(config)


def prepared(folder, model, **sections):
    """The config as plain values, for processes, and the run folder with records in it."""
    values = {
        "out_dir": str(folder),
        "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
        "adapter": {"rank": 3, "alpha": 6},
        "train": {
            "epochs": 3,
            "answers_per_step": 4,
            "answers_per_micro_batch": 2,
            "learning_rate": 0.01,
            "save_every_steps": 1000,
        },
        "deepspeed": RELEASED,
    } | sections
    write_records(from_dict(values), *tiny_records())
    return values


def adapter(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def go(tmp_path, num_ranks, values, stop_after=0):
    stop = Path(values["out_dir"]) / "STOP"
    stop.unlink(missing_ok=True)
    run_ranks(run_stage, num_ranks, tmp_path, values, stop_after, timeout_seconds=SECONDS)


@pytest.fixture(scope="module")
def plain_run(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain_run")
    train.run(from_dict(prepared(folder, model)))
    return folder


def relative_error(found, wanted):
    assert found.keys() == wanted.keys()
    return max(float((found[n] - v).norm() / v.norm()) for n, v in wanted.items())


@needs_compiler
@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_ranks(model, plain_run, tmp_path):
    """2 → 3 → 1 ranks, the last without DeepSpeed: the adapter of one undisturbed process."""
    values = prepared(tmp_path / "run", model)
    go(tmp_path, 2, values, stop_after=3)
    go(tmp_path, 3, values, stop_after=3)
    (tmp_path / "run" / "STOP").unlink()
    train.run(from_dict(values))
    assert relative_error(adapter(tmp_path / "run"), adapter(plain_run)) < 1e-5
    rows = train_rows(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(1, 10))
    waits = [row["time/communication_seconds"] for row in rows]
    assert min(waits[:6]) > 0 and max(waits[6:]) == 0, "six steps on several ranks, three on one"
    assert all(0 < row["train/model_flops_utilization"] < 1.5 for row in rows)
    assert max(row["train/padding_fraction"] for row in rows) < 0.5


def train_rows(folder):
    return [line for line in RunFolder(folder).metrics() if "train/loss" in line]


@needs_compiler
def test_the_same_ranks_go_on_to_the_bit_and_the_export_is_plain(model, plain_run, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    undisturbed = prepared(tmp_path / "undisturbed", model)
    go(tmp_path, 2, undisturbed)
    stopped = prepared(tmp_path / "stopped", model)
    go(tmp_path, 2, stopped, stop_after=4)
    go(tmp_path, 2, stopped)
    found = adapter(tmp_path / "stopped")
    wanted = adapter(tmp_path / "undisturbed")
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert relative_error(found, adapter(plain_run)) < 1e-5

    ids = torch.tensor([[5, 6, 7, 8]])
    logits = []
    for folder in (tmp_path / "stopped", plain_run):
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        with torch.no_grad():
            before = base(ids).logits
            loaded = PeftModel.from_pretrained(base, str(folder / "adapter")).eval()
            logits.append(loaded(ids).logits)
        assert (logits[-1] - before).abs().max() > 1e-2
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@needs_compiler
def test_a_bf16_run_trains_fp32_masters(model, plain_run, tmp_path):
    values = prepared(tmp_path / "run", model)
    values["model"]["dtype"] = "bfloat16"
    go(tmp_path, 2, values)
    found = adapter(tmp_path / "run")
    assert {value.dtype for value in found.values()} == {torch.float32}
    rounded = [torch.equal(value, value.bfloat16().float()) for value in found.values()]
    assert not any(rounded), "the bf16 copies were saved, not their masters"
    final = [train_rows(folder)[-1]["train/loss"] for folder in (tmp_path / "run", plain_run)]
    assert final[0] == pytest.approx(final[1], rel=0.02)


def load_and_verify(rank, values, per_node):
    """What a rank holds while loading; then the file or a rank's part changes, and is found out."""
    from pdtrain.distributed import sharded_loading, zero

    world = start_rank(rank, per_node)
    config = from_dict(values)
    sizes = shape.sizes_of(config.model)
    alone = replace(world, local_rank=rank, ranks_per_node=world.num_ranks)  # without hpZ's groups
    with sharded_loading.spread(zero.settings(config, sizes, alone, torch.float32)):
        load_model(
            replace(config.model, name=f"{config.model.name}-small")
        )  # imports what it needs
    settings = zero.settings(config, sizes, world, torch.float32)
    before = resident_bytes().get("RssAnon", 0)
    with Resident() as held, sharded_loading.spread(settings):
        base = load_model(config.model)
    assert sharded_loading.verify(base, config.model) == 0
    if not before:
        return  # not Linux
    copies = 1 / world.num_ranks + (1 / per_node if per_node else 0)
    grown, whole = held.peak["RssAnon"] - before, sizes.total * 4
    largest = sizes.hidden * max(4 * sizes.hidden, sizes.vocab) * 4
    assert grown < copies * whole + 3 * largest + 10e6 < 0.9 * whole, f"{grown} bytes of {whole}"

    path, name = Path(config.model.name) / "model.safetensors", "model.layers.3.mlp.up_proj.weight"
    whole = load_file(path)
    for place in (0, -1):
        torch.distributed.barrier()
        if rank == 0:
            changed = whole[name].clone()
            changed.flatten()[place] += 1
            save_file(whole | {name: changed}, path, metadata={"format": "pt"})
        torch.distributed.barrier()
        holder = 0 if place == 0 else (per_node or world.num_ranks) - 1
        with pytest.raises(ValueError, match=f"rank {holder} the weight {name} is not what its f"):
            sharded_loading.verify(base, config.model)
    torch.distributed.barrier()
    if rank == 0:
        save_file(whole, path, metadata={"format": "pt"})
    torch.distributed.barrier()
    for part in ("ds_tensor", "ds_secondary_tensor"):
        held = getattr(base.get_parameter(name), part)
        if held is not None and rank == 1:
            held[5] += 1
        if held is not None:
            with pytest.raises(ValueError, match=f"rank 1 the weight {name} is not what its file"):
                sharded_loading.verify(base, config.model)
        if held is not None and rank == 1:
            held[5] -= 1


@needs_compiler
@pytest.mark.parametrize(
    "num_ranks, per_node", [(2, None), pytest.param(4, 2, marks=pytest.mark.slow)]
)
def test_no_rank_holds_the_base_whole_and_every_bit_is_compared(
    num_ranks, per_node, tmp_path, monkeypatch
):
    for name, value in PLAIN_MALLOC.items():
        monkeypatch.setenv(name, value)
    tiny_model(tmp_path / "model-small", num_hidden_layers=1)
    sizes = {"hidden_size": 256, "intermediate_size": 1024}
    folder = tiny_model(tmp_path / "model", num_hidden_layers=40, **sizes)
    values = prepared(tmp_path / "run", folder)
    run_ranks(load_and_verify, num_ranks, tmp_path, values, per_node, timeout_seconds=SECONDS)


def test_a_base_with_a_missing_weight_is_refused(tmp_path):
    folder = tiny_model(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = tiny_config(tmp_path / "run", folder)
    with pytest.raises(ValueError, match="1 weights are missing from its files"):
        load_model(config.model)


def what_training_leaves(rank, values, path):
    """Train on this rank, then write how many bytes of tensors are still alive."""
    import gc

    start_rank(rank)
    train.run(from_dict(values))
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    if rank == 0:
        Path(path).write_text(str(sum(storages.values())))


@needs_compiler
@pytest.mark.parametrize("num_ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_training_leaves_neither_base_nor_optimizer_in_memory(num_ranks, model, tmp_path):
    """Later stages of the same process load the base beside whatever is left."""
    steps = {"epochs": 1, "answers_per_step": 4}
    values = prepared(tmp_path / "run", model, train=steps, engine={"kind": "deepspeed"})
    path = tmp_path / "alive.txt"
    run_ranks(what_training_leaves, num_ranks, tmp_path, values, str(path), timeout_seconds=SECONDS)
    base = (model / "model.safetensors").stat().st_size
    assert int(path.read_text()) < base / 100
