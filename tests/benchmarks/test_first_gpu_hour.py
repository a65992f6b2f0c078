"""The first GPU hour: its limits, its page, and parts that fail or hang; slowly, all of it dry."""

import json
import math
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import first_gpu_hour
import pytest
import torch
from gpu_hour import hour, measure, page, plan, processes, rank
from gpu_hour.hour import Hour
from gpu_hour.parts import corpus, trace
from gpu_hour.parts import tests as tests_part
from gpu_hour.plan import PARTS, Part
from gpu_hour.report import Column, Report, Task
from house import ROOT

# --- Limits -----------------------------------------------------------------------------------


def test_parts_share_the_time_and_none_gets_more_than_its_most():
    left = 60 * plan.MINUTES
    for number, part in enumerate(PARTS):
        seconds = plan.limit(part, PARTS[number + 1 :], left)
        assert 0 < seconds <= 60 * plan.MOST_MINUTES
        left -= seconds  # each takes all that it may
    assert left == pytest.approx(0)
    assert plan.limit(PARTS[0], [], 3600) == 60 * plan.MOST_MINUTES
    # what the first ones leave over goes to the later ones
    assert plan.limit(PARTS[-1], [], 300) > plan.limit(PARTS[-1], PARTS[:2], 300)


def test_parts_are_chosen_by_name_and_run_in_order():
    assert [part.name for part in plan.chosen(["loss", "tests"])] == ["tests", "loss"]
    assert plan.chosen([]) == list(PARTS)
    with pytest.raises(ValueError, match=r"no such part: lost; the parts are tests, loss"):
        plan.chosen(["lost"])
    assert first_gpu_hour.main(["--parts", "lost"]) == 2


def test_a_part_without_its_packages_or_gpus_is_skipped(monkeypatch):
    part = Part("x", "X", "x", 1, ("torch", "no_such_package"), least_gpus=2)
    assert plan.obstacle(part, 2, is_dry=False) == "no_such_package is not installed"
    part = Part("x", "X", "x", 1, ("torch",), least_gpus=2)
    assert plan.obstacle(part, 1, is_dry=False) == "needs 2 GPUs, and 1 can be seen"
    assert plan.obstacle(part, 0, is_dry=True) is None


# --- Parts that fail --------------------------------------------------------------------------

PREAMBLE = "import json, sys, time, pathlib; result = pathlib.Path({result!r}); "
FOUND = {"status": "done", "reason": "", "tables": [], "headlines": ["all is well"]}
CODE = {
    "fine": f"result.write_text({json.dumps(FOUND)!r})",
    "raising": "print('about to'); raise RuntimeError('an illegal memory access')",
    "partial": f"result.write_text({json.dumps(FOUND | {'status': 'running'})!r}); time.sleep(60)",
    "hanging": "import subprocess; p = subprocess.Popen([sys.executable, '-c', 'import time, "
    "signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)']); "
    "print('child', p.pid, flush=True); time.sleep(60)",
}
FACTS = {
    "card": "NVIDIA H100 80GB HBM3",
    "num_gpus": 1,
    "gpus": "NVIDIA H100 80GB HBM3 (80 GiB)",
    "machine": "a machine",
    "driver": "580.1",
    "cuda": "13.0",
    "versions": {"torch": "2.11.0", "omegaconf": "not installed"},
    "notes": [],
}


class Faked(Hour):
    """Runs a line of code in the place of each part."""

    def facts(self):
        return json.loads(json.dumps(FACTS))

    def command(self, name, result, folder, seconds=0.0):
        return [sys.executable, "-c", PREAMBLE.format(result=str(result)) + CODE[name]]


@pytest.fixture
def faked(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(hour, "ROOT", tmp_path)  # where its logs go

    def run(*names, seconds):
        parts = [Part(name, name.title(), name, 1) for name in names]
        made = Faked(parts, is_dry=False, minutes=seconds / 60, out=tmp_path / "out")
        status = made.run()
        return status, made

    return run


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_part_that_fails_or_hangs_stops_no_other(faked):
    status, made = faked("raising", "hanging", "partial", "fine", seconds=16)
    found = {part["name"]: part for part in made.hour["parts"]}
    assert status == 1
    assert [part["status"] for part in found.values()] == [
        "failed",
        "timed out",
        "timed out",
        "done",
    ]
    assert "RuntimeError: an illegal memory access" in found["raising"]["reason"]
    assert found["partial"]["headlines"] == ["all is well"], "what it had found is kept"
    (line,) = found["hanging"]["output"]
    deadline = time.monotonic() + 5
    while is_running(int(line.split()[1])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(line.split()[1])), "a process of a part has outlived it"
    text = made.page.read_text(encoding="utf-8")
    assert "| `fine` | done |" in text and "all is well" in text
    assert "**It ended with status 1: RuntimeError: an illegal memory access.**" in text
    assert "about to" in text and "OmegaConf is not installed" in text
    raw = json.loads(made.page.with_suffix(".json").read_text(encoding="utf-8"))
    assert raw["parts"][3]["headlines"] == ["all is well"]
    assert raw["about"]["versions"]["torch"] == "2.11.0"


def test_pages_are_named_by_card_and_never_written_over(faked):
    names = [faked("fine", seconds=30)[1].page.name for _ in range(2)]
    first, second = (name.removesuffix(".md") for name in names)
    assert first.startswith("gpu_h100-80gb-hbm3_20") and second == f"{first}_2"
    assert hour.slug("NVIDIA RTX A6000", 8) == "8x-rtx-a6000"


def test_without_a_gpu_nothing_is_written(faked, monkeypatch, capsys):
    monkeypatch.setitem(FACTS, "num_gpus", 0)
    status, made = faked("fine", seconds=30)
    assert status == 2 and not made.out.exists()
    assert "torch sees no GPU here" in capsys.readouterr().err


def test_an_interrupted_hour_keeps_what_was_found(faked, monkeypatch):
    real = processes.run_limited

    def interrupted(command, variables, seconds, log):
        if log.stem == "partial":
            real([*command[:-1], command[-1].replace("sleep(60)", "sleep(0)")], variables, 9, log)
            raise KeyboardInterrupt
        return real(command, variables, seconds, log)

    monkeypatch.setattr(processes, "run_limited", interrupted)
    status, made = faked("fine", "partial", "hanging", seconds=30)
    assert status == 130
    found = [(part["status"], part.get("headlines")) for part in made.hour["parts"]]
    kept = ["all is well"]
    assert found == [("done", kept), ("failed", kept), ("not reached", None)]
    assert "**It was interrupted.**" in made.page.read_text(encoding="utf-8")


def test_what_a_part_breaks_is_kept_from_those_that_follow(faked, monkeypatch):
    broken = json.dumps(FOUND | {"avoid": ["triton"]})
    monkeypatch.setitem(CODE, "fine", f"result.write_text({broken!r})")
    asks = f"f = dict({FOUND!r}, headlines=sys.argv[1:]); result.write_text(json.dumps(f))"
    monkeypatch.setitem(CODE, "asking", asks)
    _, made = faked("fine", "asking", seconds=40)
    assert made.hour["parts"][1]["headlines"] == ["--avoid", "triton"]


# --- The page ---------------------------------------------------------------------------------


def about(**changes):
    facts = {"date": "2026-01-02", "started": "2026-01-02 10:00", "seconds": 90.0, "minutes": 25}
    facts |= {"command": "python x", "commit": "abc", "raw": "gpu.json"}
    return FACTS | facts | changes


def part(name, **changes):
    empty = {"name": name, "title": name.title(), "status": "done", "reason": "", "seconds": 9.0}
    return empty | {"limit": 60.0, "output": [], "tables": []} | changes


def test_the_page_shows_tables_in_the_units_of_their_columns(tmp_path):
    report = Report(tmp_path / "x.json")
    table = report.table(
        "Times",
        [Column("name", "way"), Column("s", "ms", "ms"), Column("w", "MFU", "percent"),
         Column("b", "GiB", "gib"), Column("nothing", "unused", "int")],
        "How to read it.",
    )  # fmt: skip
    table.add(name="a | b", s=0.0123456, w=0.412, b=3 * 2**30)
    table.add(name="c", s=1.5, w=math.nan, b=None)
    report.problem("a number is off")
    report.about("What is measured.")
    report.finish()
    found = json.loads((tmp_path / "x.json").read_text())
    text = page.write({"about": about(), "is_dry": False, "parts": [part("loss", **found)]})
    assert "# First GPU hour: NVIDIA H100 80GB HBM3, 2026-01-02" in text
    assert "dry run" not in text
    assert "| way | ms | MFU | GiB |" in text, "a column without any value is left out"
    assert "| a \\| b | 12.3 | 41 % | 3.00 |" in text
    assert "| c | 1,500 | nan % | – |" in text
    assert "| `loss` | **wrong** | 9 of 60 | a number is off |" in text
    assert "- **Wrong:** a number is off" in text
    assert text.index("What is measured.") < text.index("How to read it.")


def test_the_page_of_a_dry_run_says_so_and_output_cannot_break_out():
    parts = [
        part("tests", status="skipped", reason="pytest is not installed"),
        part("loss", status="failed", reason="it ended with status -9", output=["```", "# no"]),
        part("trace", status="not reached", reason="no time was left for it", limit=0.0),
    ]
    parts += [part("step-8b", headlines=["MFU 99 %"])]
    text = page.write({"about": about(), "is_dry": True, "parts": parts})
    assert "MFU 99 %" not in text, "a toy's figures are no headline"
    assert "No figure on this page says anything about a GPU" in text
    assert "Skipped: pytest is not installed." in text
    assert "Not reached: no time was left for it." in text
    assert text.count("```") == 2 and "'''\n# no" in text


def test_numbers_are_rounded_to_three_digits():
    shown = [page._rounded(x) for x in (0, 0.0001234, 0.99999, 12.345, 99.99, 123.4, 45678.9)]
    assert shown == ["0", "0.000123", "1.00", "12.3", "100", "123", "45,679"]


def test_what_a_log_says_is_fit_for_a_page(tmp_path):
    log = tmp_path / "x.log"
    link = f"{ROOT}/runs/gpu-hour/work-1-2/path/pdtrain/cli.py"
    other = os.sep + "srv/data/me/secret/lib/torch/nn.py"
    log.write_text(
        f'10 %\r20 %\r\n\x1b[31mred\x1b[0m\n  File "{link}", line 3\n    ~~~^^^\n  in {other}\n'
        f"{ROOT}/tests/x.py and/or 3 tokens/s\n\n"
    )
    assert processes.last_lines(log) == [
        "20 %",
        "red",
        '  File "pdtrain/cli.py", line 3',
        "  in …/torch/nn.py",
        "tests/x.py and/or 3 tokens/s",
    ]


# --- What the parts are made of ---------------------------------------------------------------


def test_the_folder_of_imports_holds_our_packages_alone(tmp_path):
    """The repository's root would offer `kernels/`, which passes for another package."""
    folder = processes.import_folder(tmp_path / "path")
    assert {path.name for path in folder.iterdir()} <= {"pdtrain", "pdkernels", "omegaconf"}
    variables = processes.environment(folder, is_dry=True)
    assert str(ROOT) not in variables["PYTHONPATH"].split(os.pathsep)
    code = "import pdtrain, pdkernels, importlib.util as u; print(u.find_spec('kernels'), pdtrain)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=ROOT, capture_output=True, text=True
    )
    spec, _, module = found.stdout.partition(" ")
    assert str(folder) in module, found.stderr
    assert spec == "None" or str(ROOT / "kernels") not in found.stdout


def test_configs_can_be_made_without_omegaconf(tmp_path):
    (tmp_path / "omegaconf").symlink_to(ROOT / "benchmarks" / "gpu_hour" / "omegaconf_stand_in")
    code = (
        "from pdtrain.config import RunConfig, load\n"
        "assert RunConfig().hash_for('train')\n"
        "try:\n    load('configs/quickstart.yaml')\n"
        "except ModuleNotFoundError as error:\n    assert error.name == 'omegaconf'\n"
        "else:\n    raise SystemExit('a file was read')\n"
    )
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_time_and_memory_of_a_gpu_are_read_from_its_events(monkeypatch):
    """The calls that a CPU never makes, on a CUDA that is none."""
    calls = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            calls.append("record")

        def synchronize(self):
            calls.append("wait")

        def elapsed_time(self, other):
            return 2500.0

    fake = SimpleNamespace(
        Event=Event,
        synchronize=lambda device: calls.append("idle"),
        reset_peak_memory_stats=lambda device: None,
        memory_allocated=lambda device: 100,
        max_memory_allocated=lambda device: 164,
        is_available=lambda: False,
    )
    monkeypatch.setattr(torch, "cuda", fake)
    device = torch.device("cuda")
    assert measure.seconds_of(lambda: calls.append("work"), device) == 2.5
    assert calls == ["idle", "record", "work", "record", "wait"]
    assert measure.peak_bytes(lambda: None, device) == 64
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    calls.clear()
    found = measure.interleaved(works, device, rounds=2, seconds=60)
    assert found == {"a": [2.5, 2.5], "b": [2.5, 2.5]}
    assert [call for call in calls if call in works] == ["a", "b"] * 3

    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    found = measure.interleaved(works | {"c": too_large}, device, rounds=1, seconds=60)
    assert found == {"a": [2.5], "b": [2.5]}


def test_a_variant_that_fails_is_a_line_and_a_broken_cuda_is_the_end():
    def out_of_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    def broken():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def wrong():
        raise ValueError("no\nsuch thing")

    assert measure.attempt(lambda: 3) == (3, "")
    assert measure.attempt(out_of_memory) == (None, "out of memory")
    assert measure.attempt(wrong) == (None, "ValueError: no")
    with pytest.raises(RuntimeError, match="illegal memory"):
        measure.attempt(broken)


def test_the_data_sheet_knows_a_card_by_a_part_of_its_name():
    assert measure.data_sheet_per_second("NVIDIA H100 80GB HBM3") == 989e12
    assert measure.data_sheet_per_second("NVIDIA H100 PCIe") == 756e12
    assert measure.data_sheet_per_second("Quadro") is None


def test_a_wrong_kernel_is_not_timed():
    from gpu_hour.parts import loss
    from topk_kl_variants import Variant

    def found(name, value, gradient):
        return loss.Found(Variant(name, None, "bucket", False), value, gradient)

    chunked, right = found("pdkernels chunked", 1e-6, 3e-3), found("pdkernels triton", 1e-5, 5e-3)
    wrong, no_number = found("pdkernels triton", 1e-6, 7e-3), found("eager", math.nan, math.nan)
    all_of_them = [chunked, right, wrong, no_number]
    loss.judge(all_of_them, torch.bfloat16)
    assert ["is wrong" in one.outcome for one in all_of_them] == [False, False, True, True]


@pytest.mark.parametrize(("dtype", "is_wrong"), [(torch.bfloat16, False), (torch.float32, True)])
def test_tensor_cores_may_cut_off_where_fp32_units_round(dtype, is_wrong):
    from gpu_hour.parts import loss
    from topk_kl_variants import Variant

    def found(name, value):
        return loss.Found(Variant(name, None, "bucket", False), value, 1e-5)

    kernel = found("pdkernels triton", 3e-5)  # as at a hidden size of 8,192
    loss.judge([found("pdkernels chunked", 1e-6), kernel], dtype)
    assert ("is wrong" in kernel.outcome) == is_wrong


@pytest.mark.parametrize(
    "kernel, name",
    [
        ("void at::native::reduce_kernel<4, at::native::Add>(int, float*)", "reduce_kernel"),
        ("void (anonymous namespace)::softmax<float, 3>(float*)", "softmax"),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, 7>(T)", "kernel"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT", "nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT"),
        ("sweep_slab", "sweep_slab"),
    ],
)  # fmt: skip
def test_a_kernel_has_a_name_for_nsight(kernel, name):
    assert trace.base_name(kernel) == name
    assert f"--kernel-name {name} --launch-skip 7 " in trace.nsight(kernel, 7)


def test_kernels_are_told_from_what_launches_them():
    from torch.autograd import DeviceType

    def event(key, device, micros, **more):
        more = {"is_user_annotation": False, "count": 2} | more
        times = {"self_device_time_total": micros, "self_cpu_time_total": 9}
        return SimpleNamespace(key=key, device_type=device, **times, **more)

    events = [
        event("aten::mm", DeviceType.CPU, 30),
        event("gemm", DeviceType.CUDA, 30),
        event("x" * 90, DeviceType.CUDA, 10),
        event("Optimizer.step#AdamW.step", DeviceType.CUDA, 99),
        event("note", DeviceType.CUDA, 99, is_user_annotation=True),
    ]
    found = trace.slowest(SimpleNamespace(key_averages=lambda: events), on_gpu=True)
    assert [line["share"] for line in found] == [0.75, 0.25]
    assert found[0]["each"] == pytest.approx(15)
    assert len(found[1]["name"]) == 80 and found[1]["full_name"] == "x" * 90


def test_pytests_counts_are_read_from_its_closing_line():
    output = "9 passed somewhere\nSKIPPED [2] tests/x.py:3: needs a GPU\n"
    output += "=== 2 failed, 10 passed, 3 skipped, 5 deselected, 1 error in 9.1s ===\n"
    found = {"passed": 10, "failed": 2, "errors": 1, "skipped": 3}
    assert tests_part.counts(output) == found
    assert tests_part.skip_reasons(output) == ["needs a GPU (2)"]


def test_all_files_with_tests_for_gpus_are_found():
    assert "tests/kernels/test_triton.py" in tests_part.files()
    assert "tests/benchmarks/test_first_gpu_hour.py" not in tests_part.files()


def test_the_cpus_scores_are_on_their_page():
    found = corpus.cpu_scores()
    assert set(found) == {
        (system, metric) for system in corpus.SYSTEMS for metric in corpus.METRICS
    }
    for value, low, high in found.values():
        assert low <= value <= high


def test_ranks_pretend_to_be_nodes_with_gpus_of_their_own():
    variables = {"RANK": "5", "LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8"}
    rank.split_into_nodes(4, variables)
    assert (variables["LOCAL_RANK"], variables["LOCAL_WORLD_SIZE"]) == ("1", "4")
    assert variables["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
    variables = {"RANK": "1", "CUDA_VISIBLE_DEVICES": "6,2,3,0"}
    rank.split_into_nodes(2, variables)
    assert variables["CUDA_VISIBLE_DEVICES"] == "6,2"


# --- The parts themselves ---------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_can_be_imported(part):
    """What they use of the package and of the tests' support is there under its name."""
    assert callable(import_module(f"gpu_hour.parts.{part.module}").run)
    import_module("gpu_hour.tiny")


@pytest.mark.parametrize("name", ["attention", "step-8b", "generation", "trace"])
def test_a_part_runs_at_toy_size(name, tmp_path):
    """The quicker ones; the slow test below runs all, each in a process of its own."""
    (part,) = plan.chosen([name])
    task = Task(name, True, tmp_path, time.monotonic() + 60, avoid=("triton",))
    report = Report(tmp_path / "found.json")
    import_module(f"gpu_hour.parts.{part.module}").run(task, report)
    report.finish()
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["status"] == "done", found["problems"]
    assert found["headlines"] and all(table["records"] for table in found["tables"])


# --- All of it --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_runs_every_part(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "first_gpu_hour.py"), "--dry-run"]
    before = set((ROOT / "benchmarks" / "results").iterdir())
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--minutes", "20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    (written,) = tmp_path.glob("gpu_*.md")
    text = written.read_text(encoding="utf-8")
    assert done.returncode == 0, text[-6000:] + done.stderr[-2000:]
    found = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))
    assert [part["name"] for part in found["parts"]] == [part.name for part in PARTS]
    for one in found["parts"]:
        assert one["status"] == "done", f"{one['name']}: {one['status']}, {one['reason']}"
    assert "pdkernels triton" in text and "teacher cached" in text and "ZeRO-3" in text
    assert "No figure on this page says anything about a GPU" in text
    assert str(ROOT) not in text and str(tmp_path) not in text
    assert len(list(tmp_path.glob("*_trace.json.gz"))) == 1
    assert set((ROOT / "benchmarks" / "results").iterdir()) == before
