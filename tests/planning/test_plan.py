"""The plan's arithmetic against what DeepSpeed does with tiny models, and what the command says."""

import json
import math
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from architectures_table import case, write_model
from house import ROOT
from support import Collectives, needs_compiler, run_ranks, tiny_config, tiny_model, tiny_records

from pdtrain.cli import main
from pdtrain.config import PlanConfig, load
from pdtrain.distillation import micro_batches, packing, schedule, teacher_cache
from pdtrain.distributed.world import World
from pdtrain.models.base import skeleton
from pdtrain.models.shape import adapter_weights, shape_of, sizes_of
from pdtrain.planning import estimate, memory_model, plan, proposals, step_time, traffic, workload

SHAPES = ROOT / "tests" / "shapes"
CONFIGS = {  # a shipped config, and the shape of the model it names
    "llama-8b-one-node": "llama-3.1-8b",
    "llama-70b-two-nodes": "llama-3.3-70b",
    "llama-70b-eight-nodes": "llama-3.3-70b",
}
NOTHING_KEPT = {  # tiny models are never released otherwise
    "stage3_param_persistence_threshold": 0,
    "stage3_max_reuse_distance": 0,
    "stage3_prefetch_bucket_size": 0,
    "stage3_max_live_parameters": 0,
}
ADAPTER_KEPT = {"stage3_param_persistence_threshold": 2000}  # between its weights and the base's


def shipped(name, *overrides):
    """One of our configs, with the local config.json of the model that it names."""
    model = f"model.name={SHAPES / CONFIGS[name]}"
    config = load(ROOT / "configs" / f"{name}.yaml", [model, *overrides])
    return config, shape(config)


CHOSEN = ("engine.zero_stage=3", "train.gradient_checkpointing=true")  # what auto is for 70B


def shape(config):
    return shape_of(skeleton(config.model), config.adapter.target_modules)


@pytest.fixture(scope="module")
def big():
    return shipped("llama-70b-two-nodes", *CHOSEN)


# --- Against real runs of tiny models ---------------------------------------------------------


def deepspeed_steps(rank, num_ranks, ranks_per_node, folder, config):
    """Two steps of two micro-batches under ZeRO-3; what the second moved, and what is held."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    from pdtrain.distillation.examples import from_answers
    from pdtrain.distillation.losses import TopKLoss
    from pdtrain.distillation.twin import Twin
    from pdtrain.distributed import zero
    from pdtrain.distributed.deepspeed_engine import DeepSpeedEngine
    from pdtrain.distributed.world import publish
    from pdtrain.models.adapters.lora import add_adapter
    from pdtrain.models.base import load_model, load_tokenizer
    from pdtrain.models.chat.chat_template import prove
    from pdtrain.training.step import train_step

    world = World(rank, num_ranks, rank % ranks_per_node, ranks_per_node, "test")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    publish(world)
    settings = zero.settings(config, sizes_of(config.model), world, torch.float32)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    examples = from_answers(*tiny_records(), chat)
    model = add_adapter(load_model(config.model), config.adapter, 1)
    twin = Twin(model, TopKLoss(config.loss), checkpointing=True)
    engine = DeepSpeedEngine(twin, config.train, 10, world, settings)
    cuts = schedule.split_evenly(examples, 2 * num_ranks)[rank::num_ranks]
    for _ in range(2):
        batches = [
            packing.twin_batch(cut, config.loss, engine.device, with_teacher=True) for cut in cuts
        ]
        with Collectives() as seen:
            train_step(engine, batches)
    with Collectives() as saved:
        engine.adapter_state()
        engine.optimizer_state()
    moments = [
        value
        for state in engine.optimizer.optimizer.state.values()
        for value in state.values()
        if value.numel() > 1
    ]
    masters = engine.optimizer.fp32_partitioned_groups_flat
    gradients = engine.optimizer.grad_partitions_flat_buffer
    found = {
        "counts": seen.counts,
        "saving": saved.bytes("gather"),
        "base_shard": sum(p.ds_tensor.nbytes for p in twin.parameters() if not p.requires_grad),
        "second_shard": sum(
            p.ds_secondary_tensor.nbytes
            for p in twin.parameters()
            if not p.requires_grad and p.ds_secondary_tensor is not None
        ),
        "optimizer": sum(t.nbytes for t in [*masters, *moments]),
        "gradients": gradients.nbytes,
        "adapter_parameters": sum(p.ds_numel for p in twin.parameters() if p.requires_grad),
    }
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))


def measured(tmp_path, knobs, num_ranks=2, ranks_per_node=2, batching="auto", **model):
    """(config, shape, world, found by rank 0, its collectives)."""
    sizes = {"hidden_size": 64, "intermediate_size": 256, "head_dim": 16}
    tiny_model(tmp_path / "model", **(sizes | model))
    config = tiny_config(
        tmp_path / "run",
        tmp_path / "model",
        deepspeed={"zero_optimization": knobs},
        model={"batching": batching},
    )
    run_ranks(
        deepspeed_steps,
        num_ranks,
        tmp_path,
        num_ranks,
        ranks_per_node,
        str(tmp_path),
        config,
        timeout_seconds=300,
    )
    found = json.loads((tmp_path / "0.json").read_text())
    seen = Collectives()
    seen.counts = [tuple(count) for count in found["counts"]]
    world = World(num_ranks=num_ranks, ranks_per_node=ranks_per_node)
    return config, shape(config), world, found, seen


def gathered(planned, micro_steps=2):
    each = planned.base_per_micro_step + planned.adapter_per_micro_step
    return micro_steps * each + planned.adapter_per_step


@needs_compiler
@pytest.mark.parametrize(
    "knobs, model",
    [
        pytest.param(
            NOTHING_KEPT, {"num_hidden_layers": 4}, id="nothing_kept", marks=pytest.mark.slow
        ),
        pytest.param(
            NOTHING_KEPT, {"tie_word_embeddings": True}, id="tied_head", marks=pytest.mark.slow
        ),
        pytest.param(ADAPTER_KEPT, {"num_hidden_layers": 8}, id="as_in_real_runs"),
    ],
)
def test_bytes_and_parameters_are_as_planned(knobs, model, tmp_path):
    config, planned_shape, world, found, seen = measured(tmp_path, knobs, **model)
    planned = traffic.traffic_of(config, planned_shape, world)
    assert seen.bytes("gather") == pytest.approx(gathered(planned), rel=0.05)
    assert seen.bytes("reduce") == pytest.approx(2 * planned.gradients_per_micro_step, rel=0.05)
    weights = adapter_weights(config, planned_shape)
    assert found["adapter_parameters"] == weights
    memory = memory_model.memory_of(config, planned_shape, world)
    assert found["base_shard"] == pytest.approx(memory.base_shard, rel=0.05)
    assert found["optimizer"] == pytest.approx(memory.optimizer, rel=0.05)
    assert found["gradients"] == pytest.approx(weights * 4 / 2, rel=0.05)
    # to save, the adapter's masters and moments are gathered, and nothing of the base
    assert found["saving"] == pytest.approx(memory_model.MASTER_AND_MOMENTS * weights, rel=0.05)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("is_tied", [False, True])
def test_padded_batches_gather_the_layers_once_more(is_tied, tmp_path):
    """The teacher's pass is one of its own: 3P where packed sequences need 2P."""
    config, planned_shape, world, _, seen = measured(
        tmp_path, NOTHING_KEPT, batching="padded", num_hidden_layers=4, tie_word_embeddings=is_tied
    )
    planned = traffic.traffic_of(config, planned_shape, world)
    assert seen.bytes("gather") == pytest.approx(gathered(planned), rel=0.05)
    packed = replace(config, model=replace(config.model, batching="packed"))
    of_packed = traffic.traffic_of(packed, planned_shape, world)
    assert 1.4 < planned.base_per_micro_step / of_packed.base_per_micro_step < 1.6


def test_a_plan_of_padded_batches_reads_a_passage_for_every_answer(tmp_path):
    tiny_model(tmp_path)
    sections = {"teacher": {"cache": False}, "train": {"answers_per_group": 4}}
    works = []
    for batching in ("packed", "padded"):
        config = tiny_config(tmp_path, tmp_path, model={"batching": batching}, **sections)
        works.append(workload.work_of(config, 1))
    packed, padded = works
    passages = math.ceil(packed.answers / 4)
    longest = tiny_config(tmp_path, tmp_path).corpus.max_passage_tokens
    branch = (packed.teacher - passages * longest) // packed.answers
    assert padded.teacher == padded.answers * (longest + branch)
    assert (padded.student // padded.answers) == (packed.student // packed.answers)


def test_a_model_that_cannot_be_packed_is_planned_as_padded(tmp_path, capsys):
    write_model(case("lfm2"), tmp_path)
    config = tiny_config(tmp_path, tmp_path)
    assert workload.with_batching(config, shape(config)).model.batching == "padded"
    plan.report(config)
    assert "batches are padded" in capsys.readouterr().out


@needs_compiler
@pytest.mark.slow
def test_with_hpz_no_weight_of_the_base_crosses_nodes(tmp_path):
    config, planned_shape, world, found, seen = measured(
        tmp_path, NOTHING_KEPT, num_ranks=4, ranks_per_node=2
    )
    planned = traffic.traffic_of(config, planned_shape, world)
    assert planned.is_base_inside_nodes
    inside, across = seen.bytes("gather", 2), seen.bytes("gather", 4)
    # the adapter's second copies expire at the step: it alone is gathered from all ranks, once
    assert across == pytest.approx(adapter_weights(config, planned_shape) * 4, rel=0.02)
    assert inside + across == pytest.approx(gathered(planned), rel=0.05)
    assert inside >= 0.95 * 2 * planned.base_per_micro_step
    memory = memory_model.memory_of(config, planned_shape, world)
    assert found["second_shard"] == pytest.approx(memory.second_shard, rel=0.05)


def saved_bytes(folder, dtype, num_layers):
    """(what autograd keeps of a student's forward, weights left out; the config; the side)."""
    from pdtrain.distillation.examples import from_answers
    from pdtrain.distillation.losses import TopKLoss
    from pdtrain.distillation.twin import Twin
    from pdtrain.models.adapters.lora import add_adapter
    from pdtrain.models.base import load_model, load_tokenizer
    from pdtrain.models.chat.chat_template import prove

    sizes = {"hidden_size": 256, "intermediate_size": 1024, "head_dim": 64}
    tiny_model(folder, num_hidden_layers=num_layers, **sizes)
    model = {"name": str(folder), "dtype": dtype, "device": "cpu"}
    config = tiny_config(folder / "run", folder, model=model)
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    examples = from_answers(*tiny_records(), chat)
    adapted = add_adapter(load_model(config.model), config.adapter, 1, in_fp32=False)
    twin = Twin(adapted, TopKLoss(config.loss))
    side = packing.student_side(examples, torch.device("cpu"))
    weights = {p.untyped_storage().data_ptr() for p in twin.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        twin.hidden_rows(None, side)
    return sum(storage.nbytes() for storage in kept.values()), config, side


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_a_layer_keeps_for_backward_is_at_most_as_planned(dtype, tmp_path):
    (less, _, _), (more, config, side) = (
        saved_bytes(tmp_path / str(layers), dtype, layers) for layers in (2, 3)
    )
    ((prefix, branches),) = side.layout
    context = replace(config.plan, question_tokens=prefix + max(branches) - 1, answer_tokens=1)
    planned = memory_model.saved_by_layer(replace(config, plan=context), shape(config))
    found = (more - less) / len(side.ids)
    # without ZeRO a frozen bf16 matrix keeps no input: a seventh less
    assert 0.85 * planned < found <= planned


# --- Properties -------------------------------------------------------------------------------


def on(config, nodes, gpus_per_node=8):
    return World(num_ranks=nodes * gpus_per_node, ranks_per_node=gpus_per_node)


@pytest.mark.parametrize("hpz", [True, False])
def test_more_gpus_never_need_more_memory_for_the_base(big, hpz):
    config, shape = big
    config = replace(config, engine=replace(config.engine, hpz=hpz))
    for gpus in (2, 4, 8):
        taken = [
            memory_model.memory_of(config, shape, on(config, nodes, gpus))
            for nodes in (2, 3, 4, 8, 16)
        ]
        bases = [one.base_shard + one.second_shard for one in taken]
        assert bases == sorted(bases, reverse=True)


def test_hpz_takes_the_base_off_the_network_and_a_second_shard_for_it(big):
    config, shape = big
    world = on(config, 2)
    without = replace(config, engine=replace(config.engine, hpz=False))
    base = {"adapter_per_micro_step": 0, "adapter_per_step": 0, "gradients_per_micro_step": 0}
    crossed = [
        traffic.moved(replace(traffic.traffic_of(c, shape, world), **base), 1, world)
        for c in (config, without)
    ]
    assert crossed[0].between_per_node == 0 < crossed[1].between_per_node
    memory = memory_model.memory_of(config, shape, world)
    assert memory.second_shard == pytest.approx(2 * memory.base_shard)
    assert memory_model.memory_of(without, shape, world).second_shard == 0


def test_twice_the_micro_batch_takes_twice_the_activations(big):
    config, shape = big
    world = on(config, 2)
    sizes = (8, 16)
    taken = [
        memory_model.memory_of(
            replace(config, train=replace(config.train, answers_per_micro_batch=size)), shape, world
        )
        for size in sizes
    ]
    assert taken[1].layer_inputs == 2 * taken[0].layer_inputs
    assert taken[1].layer_at_work == 2 * taken[0].layer_at_work
    assert taken[1].gathered == taken[0].gathered


def test_checkpointing_keeps_the_layers_inputs_alone(big):
    config, shape = big
    world = on(config, 2)
    work = workload.work_of(config, world.num_ranks)
    memory = memory_model.memory_of(config, shape, world)
    assert memory.layer_inputs == 80 * work.student * 8192 * 2
    without = replace(config, train=replace(config.train, gradient_checkpointing=False))
    assert memory_model.memory_of(without, shape, world).layer_inputs > 20 * memory.layer_inputs


def test_the_shape_of_70b_is_the_published_one(big):
    config, shape = big
    assert shape.sizes.total == 70_553_706_496  # meta-llama/Llama-3.3-70B-Instruct
    # rank 16 on q, k, v, o, gate, up and down of 80 layers
    linears = 2 * (8192 + 8192) + 2 * (8192 + 1024) + 3 * (8192 + 28672)
    assert adapter_weights(config, shape) == 80 * 16 * linears


@pytest.mark.parametrize("objective", ["sft", "raw_text"])
def test_an_objective_without_a_teacher_is_planned_without_one(objective, big):
    config, shape = big
    other = replace(config, train=replace(config.train, objective=objective))
    made = estimate.estimate_of(other, shape)
    assert made.caching_bytes == 0 and made.caching.worst == 0
    assert workload.work_of(other, 16).teacher == 0
    held = replace(other, retain=replace(other.retain, weight=1.0))
    assert estimate.estimate_of(held, shape).caching_bytes > 0, (
        "what holds to the base has a teacher"
    )


def test_raw_text_is_planned_in_windows(big):
    config, _ = big
    raw = replace(config, train=replace(config.train, objective="raw_text"))
    window, overlap = raw.raw_text.window_tokens, raw.raw_text.overlap
    work = workload.work_of(raw, 16)
    assert work.student == work.answers * window and work.rows == work.answers * (window - 1)
    starts = range(0, raw.corpus.max_passage_tokens - overlap, window - overlap)
    assert workload.num_answers(raw) == raw.plan.passages * len(starts)


def test_a_passage_is_read_again_for_answers_beyond_one_call(big):
    config, shape = big
    world = estimate.world_of(config)
    few, many = (
        replace(config, plan=replace(config.plan, answers_per_passage=n))
        for n in (micro_batches.ANSWERS_PER_CALL // 2, micro_batches.ANSWERS_PER_CALL * 2)
    )
    calls = [
        -(-c.plan.answers_per_passage // workload.largest_call(c).answers) for c in (few, many)
    ]
    assert calls[0] < calls[1]
    links = [step_time.caching_time(c, shape, world).links for c in (few, many)]
    assert links[1] / links[0] == pytest.approx(calls[1] / calls[0])


def test_online_the_teacher_reads_and_from_the_cache_it_does_not(big):
    config, shape = big
    online = replace(config, teacher=replace(config.teacher, cache=False))
    works = [workload.work_of(c, 16) for c in (config, online)]
    assert works[0].teacher == 0 < works[1].teacher
    flops = [
        step_time.micro_step_flops(c, shape, work)
        for c, work in zip((config, online), works, strict=True)
    ]
    # 2 FLOPs a weight and token, and a few per cent for attention and the head
    taught = 2 * shape.matmuls * works[1].teacher
    assert taught < flops[1] - flops[0] < 1.05 * taught


def test_adapters_on_experts_travel_where_those_on_linear_layers_stay_gathered(tmp_path):
    """A factor on a linear layer has 128 weights at most, and one on four experts up to 512."""
    write_model(case("qwen3_moe"), tmp_path)
    fused = "experts.gate_up_proj,experts.down_proj"
    config = tiny_config(
        tmp_path / "run",
        tmp_path,
        adapter={"rank": 4, "target_parameters": fused},
        deepspeed={"zero_optimization": {"stage3_param_persistence_threshold": 200}},
        engine={"zero_stage": 3},
    )
    bare, planned = (shape_of(skeleton(config.model), "all-linear", more) for more in ("", fused))
    found = traffic.traffic_of(config, planned, World(num_ranks=2, ranks_per_node=2))
    stays, both = adapter_weights(config, bare), adapter_weights(config, planned)
    width = memory_model.adapter_bytes(config)
    assert found.adapter_per_step == stays * width
    assert found.adapter_per_micro_step == 2 * (both - stays) * width  # in forward and backward
    assert found.gradients_per_micro_step == both * 4


def test_offloading_frees_the_gpu_of_the_base_and_costs_time(big):
    config, shape = big
    slow = replace(
        config,
        engine=replace(config.engine, offload_base=True),
        plan=replace(config.plan, host_gb_per_second=1.0),
    )
    world = on(config, 2)
    memory = memory_model.memory_of(slow, shape, world)
    assert memory.base_shard == memory.second_shard == 0
    # half of the base in each of two nodes, and all of it for hpZ
    assert memory_model.host_memory(slow, shape, world) == 1.5 * 2 * shape.sizes.total
    times = [step_time.step_time(c, shape, world) for c in (config, slow)]
    assert times[1].links > times[0].links and times[1].compute == times[0].compute


def test_one_plain_process_keeps_its_base_where_it_computes(big):
    """Nothing but DeepSpeed offloads, so that one GPU needs room for the base or DeepSpeed."""
    config, shape = big
    alone = World()
    offloaded = replace(config, engine=replace(config.engine, kind="auto", offload_base=True))
    assert memory_model.memory_of(offloaded, shape, alone).base_shard > 0
    assert memory_model.host_memory(offloaded, shape, alone) == 0
    asked = replace(offloaded, engine=replace(offloaded.engine, kind="deepspeed"))
    assert memory_model.memory_of(asked, shape, alone).base_shard == 0
    one = replace(config, plan=replace(config.plan, nodes=1, gpus_per_node=1))
    ((changes, lighter),) = list(proposals._lighter(one))[-1:]
    assert changes == ("engine.kind=deepspeed", "engine.offload_base=true")
    assert lighter.engine.kind == "deepspeed" and lighter.engine.offload_base


# --- The command ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_every_cluster_config_fits_the_gpus_it_is_for(name, capsys):
    config, shape = shipped(name)
    assert plan.report(config, shape=shape) == 0
    said = capsys.readouterr().out
    assert "never measured on a GPU" in said and "per million passage tokens" in said
    assert all(meaning in said for meaning in memory_model.MEANINGS.values())


def test_the_shapes_are_those_of_the_models_the_configs_name():
    for name, folder in CONFIGS.items():
        named = load(ROOT / "configs" / f"{name}.yaml", []).model.name
        assert named.lower() == f"meta-llama/{folder}-instruct"


def test_the_parts_add_up(big):
    made = estimate.estimate_of(*big)
    parts = [getattr(made.memory, f.name) for f in fields(made.memory)]
    assert made.memory.total == sum(parts) and set(memory_model.MEANINGS) == {
        f.name for f in fields(made.memory)
    }


def test_what_does_not_fit_is_refused_and_what_is_proposed_fits(big, capsys):
    config, shape = big
    tight = replace(config, plan=replace(config.plan, gpu_memory_gib=40.0))
    assert plan.report(tight, shape=shape) == 1
    said = capsys.readouterr().out
    assert "This does not fit: " in said and "the largest part is base, second part (hpZ)" in said
    proposed = list(proposals.proposals(tight, shape))
    assert ("engine.hpz=false",) in [changes for changes, _ in proposed]
    for changes, other in proposed:
        again = load(
            ROOT / "configs" / "llama-70b-two-nodes.yaml",
            [
                f"model.name={SHAPES / 'llama-3.3-70b'}",
                "plan.gpu_memory_gib=40.0",
                *CHOSEN,
                *changes,
            ],
        )
        assert estimate.estimate_of(again, shape) == other and other.fits
        assert " ".join(changes) in said


def test_a_base_that_is_not_spread_is_told_to_be(big, capsys):
    config, shape = big
    whole = replace(config, engine=replace(config.engine, zero_stage=2))
    assert plan.report(whole, shape=shape) == 1
    said = capsys.readouterr().out
    assert "the largest part is base, this GPU's part, 131.4 GiB" in said
    assert "  engine.zero_stage=3: " in said


def test_a_cache_that_cannot_be_filled_is_proposed_to_be_left_out(big, capsys, monkeypatch):
    config, shape = big
    long = replace(config, plan=replace(config.plan, answers_per_passage=1000, passages=1000))
    assert plan.report(long, shape=shape) == 0, "so many are asked for in several calls"
    monkeypatch.setattr(micro_batches, "ANSWERS_PER_CALL", 1000)
    long = replace(long, train=replace(long.train, tokens_per_micro_batch=10**6))
    assert plan.report(long, shape=shape) == 1
    said = capsys.readouterr().out
    assert "while passages are put before the teacher" in said
    assert "  teacher.cache=false: " in said


def test_what_cannot_fit_anywhere_says_so(big, capsys):
    config, shape = big
    hopeless = replace(config, plan=replace(config.plan, gpu_memory_gib=12.0))
    assert plan.report(hopeless, shape=shape) == 1
    assert "Nothing tried fits either" in capsys.readouterr().out


def test_nodes_and_gpus_are_taken_from_the_command_line(capsys):
    command = ["plan", str(ROOT / "configs" / "llama-70b-two-nodes.yaml"), "--nodes", "4"]
    model = f"model.name={SHAPES / 'llama-3.3-70b'}"
    assert main([*command, "--gpus-per-node", "4", model]) == 0
    said = capsys.readouterr().out
    assert "4 x 4 GPUs of 80 GiB" in said and "not counted" not in said
    assert main([*command, model, "retain.weight=1", "rounds.most=2"]) == 0
    said = capsys.readouterr().out
    assert "not counted: what retain.weight and rounds.most add to it" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--nodes", "0"], "plan.nodes must be > 0, got 0"),
        (["--gpus-per-node", "-1"], "plan.gpus_per_node must be > 0, got -1"),
        (["--nodes", "100"], "leaves most of 800 GPUs without an answer; set it to 800 or more"),
        (["plan.compute_reached=40"], "plan.compute_reached is a part of a rate: at most 1"),
        (["adapter.target_modules=query"], "names no linear layer of the model"),
        (["engine.kind=plain"], "engine.kind=plain runs in one process, but the plan is for 16"),
        (["plan.node=2"], "did you mean plan.nodes?"),
    ],
)
def test_a_plan_that_makes_no_sense_is_answered_in_one_line(arguments, message, capsys):
    config = str(ROOT / "configs" / "llama-70b-two-nodes.yaml")
    assert main(["plan", config, f"model.name={SHAPES / 'llama-3.3-70b'}", *arguments]) == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("pdtrain plan: ") and said.count("\n") == 1


def test_a_model_that_cannot_be_trained_is_not_planned(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "dory", "num_hidden_layers": 2}')
    config = str(ROOT / "configs" / "llama-8b-one-node.yaml")
    assert main(["plan", config, f"model.name={tmp_path}"]) == 1
    assert "the head of DoryForCausalLM is a DoryLMHead" in capsys.readouterr().err


def test_planning_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = str(ROOT / "configs" / "llama-8b-one-node.yaml")
    assert main(["plan", config, f"model.name={SHAPES / 'llama-3.1-8b'}"]) == 0
    assert not list(tmp_path.iterdir())


def test_every_rate_has_a_default_that_is_printed_or_used():
    assert all(f.default is not f.default_factory for f in fields(PlanConfig))
    assert teacher_cache.bytes_per_token(64, 128_256) == 64 * (4 + 2) + 2 * 2 + 4 + 4


def test_what_comes_before_the_first_step_is_planned(big, capsys):
    config, shape = big
    start = estimate.estimate_of(config, shape).startup
    base = 2 * shape.sizes.total
    assert (start.pinned, start.base_files) == (0, base)
    assert start.load_seconds == 2 * base / 1e9, "read by the first rank, then compared by all"
    answers = workload.num_answers(config)
    assert start.token_files > answers * 4 * (config.plan.question_tokens + 40)
    more = estimate.estimate_of(replace(config, plan=replace(config.plan, nodes=4)), shape).startup
    assert more.tokenise_seconds == start.tokenise_seconds, "once a run, whatever the ranks"
    memory = estimate.estimate_of(config, shape).memory
    assert memory.gathered_ahead == 2 * shape.sizes.matrices * 2, "two layers in bf16"
    assert plan.report(shipped("llama-70b-two-nodes")[0], shape=shape) == 0
    said = capsys.readouterr().out
    for text in (
        "engine.zero_stage=3 (auto): the fastest that fits on 16 GPUs of 80 GiB",
        "train.gradient_checkpointing=true (auto): ",
        "  base's files, mapped while loading       131.42\n",
        "  reading the base, at every start           4.70\n",
    ):
        assert text in said
