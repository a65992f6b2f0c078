"""The scripts in launch/: what they say, and that ranks they start train as one process does."""

import json
import os
import re
import shutil
import signal
import subprocess
from itertools import pairwise

import pytest
import torch
import yaml
from house import ROOT
from launching import (
    LAUNCH,
    SAVED,
    Job,
    adapter,
    assert_close,
    assert_root_is_on_no_path,
    environment,
    launch,
    missing,
    script,
    train_alone,
    written_run,
)
from support import DATA

from pdtrain.keys import all_keys

SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix in {".sh", ".sbatch"})
SECRET = re.compile(r"token|secret|password|api_key", re.IGNORECASE)


def code(path):
    """Without comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(re.sub(r"(^|\s)#(?!SBATCH).*", "", line) for line in lines)


# --- What they say ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash_that_stops_at_errors(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in path.read_text()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)


@pytest.mark.parametrize("path", [*SCRIPTS, LAUNCH / "kubernetes.yaml"], ids=lambda path: path.name)
def test_no_hyper_parameter_stands_in_a_script(path):
    keys = {key for key in all_keys() if key != "out_dir"}
    named = {key for key in keys if "." in key and key in code(path)}
    named |= set(re.findall(r"(?<![\w-])(\w+(?:\.\w+)*)=", code(path))) & keys
    assert not named, f"{path.name} sets {sorted(named)}: these belong into CONFIG"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_secret_passes_through_a_script(path):
    """Allow HF_TOKEN_PATH, which names a file and holds no secret."""
    assert not SECRET.search(code(path).replace("HF_TOKEN_PATH", ""))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_without_words_says_how_it_is_used(path):
    said = subprocess.run(["bash", path], capture_output=True, text=True)
    assert said.returncode and "usage: " in said.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "given, wanted",
    [
        ({}, ["PDTRAIN_TRACEBACK=1", "PYTORCH_ALLOC_CONF=expandable_segments:True"]),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64", "PDTRAIN_TRACEBACK": ""},
            ["PDTRAIN_TRACEBACK=", "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:64"],
        ),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, ["PYTORCH_ALLOC_CONF=backend:native"]),
    ],
    ids=["unset", "the_old_name", "set"],
)
def test_ranks_get_growing_segments_unless_the_user_says_otherwise(path, given, wanted, tmp_path):
    """What starts the ranks is replaced by `env`, which prints what they would be given."""
    (tmp_path / "c.yaml").touch()
    seen = 'env; [ ! -e .deepspeed_env ] || sed "s/^/there:/" .deepspeed_env'
    for tool in ("deepspeed", "torchrun", "srun", "mpirun", "pdtrain", "setsid"):
        body = '"$@"' if tool == "setsid" else f'printf "%s\\n" "$@"; {seen}'
        script(tmp_path / tool, body)
    script(tmp_path / "scontrol", "echo node-0")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTORCH", "PDTRAIN"))}
    env = {**kept, **given, "PATH": f"{tmp_path}:{kept['PATH']}"}
    env |= {"SLURM_JOB_NODELIST": "node-0", "SLURM_JOB_ID": "7"}
    words = [LAUNCH / "hostfile.example"] if path.stem in ("hostfile", "mpirun") else []
    words += ["train", tmp_path / "c.yaml", tmp_path / "run"]
    said = subprocess.run(["bash", path, *words], capture_output=True, text=True, env=env)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert set(wanted) <= set(lines)
    ours = {line for line in lines if line.startswith("PYTORCH_") and "=" in line}
    assert len(ours) == 1
    if path.stem == "hostfile":  # DeepSpeed's launcher takes its variables from this file
        assert {f"there:{line}" for line in (*ours, *wanted)} <= set(lines)
    if path.stem == "mpirun":
        assert {line.partition("=")[0] for line in (*ours, *wanted)} <= set(lines)


@pytest.mark.parametrize("name", ["hostfile.sh", "mpirun.sh"])
def test_the_ranks_learn_where_models_lie_and_no_token(name, tmp_path):
    """The launcher is replaced by one that does nothing, or prints what it is told."""
    (tmp_path / "c.yaml").touch()
    script(tmp_path / "pdtrain", ":")
    script(tmp_path / "setsid", 'printf "%s\\n" "$@"')
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTORCH", "PDTRAIN", "HF_"))}
    given = {
        "HF_HOME": "/models/hub",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN_PATH": "/keys/hub",
        "PDTRAIN_SILENCE_SECONDS": "30",
    }
    env = {**kept, **given, "HF_TOKEN": "word", "PATH": f"{tmp_path}:{kept['PATH']}"}
    command = ["bash", LAUNCH / name, LAUNCH / "hostfile.example", "train"]
    command += [tmp_path / "c.yaml", tmp_path / "run"]
    said = subprocess.run(command, capture_output=True, text=True, env=env)
    assert said.returncode == 0, said.stderr
    if name == "hostfile.sh":
        lines = (tmp_path / "run/.deepspeed_env").read_text().splitlines()
        assert {f"{key}={value}" for key, value in given.items()} <= set(lines)
        assert not any(line.startswith("HF_TOKEN=") for line in lines)
        env["HF_HOME"] = "/models/$(hostname)"
        said = subprocess.run(command, capture_output=True, text=True, env=env)
        assert said.returncode == 2 and "the value of HF_HOME" in said.stderr
        with (tmp_path / "run/.deepspeed_env").open("a") as file:
            file.write("HF_HOME=/my/own\n")
        said = subprocess.run(command, capture_output=True, text=True, env=env)
        lines = (tmp_path / "run/.deepspeed_env").read_text().splitlines()
        assert said.returncode == 0 and "HF_HOME=/my/own" in lines
        assert not any("hostname" in line for line in lines)
    else:
        words = said.stdout.splitlines()
        told = {word for option, word in pairwise(words) if option == "-x"}
        assert given.keys() <= told and "HF_TOKEN" not in told


def test_the_readme_lists_every_file():
    readme = (LAUNCH / "README.md").read_text(encoding="utf-8")
    for path in LAUNCH.iterdir():
        if path.name != "README.md":
            assert f"`{path.name}`" in readme, f"launch/README.md does not name {path.name}"


def test_the_kubernetes_job_starts_torchrun_in_every_pod():
    """RANK and WORLD_SIZE number the pods there; torchrun's own variables begin with PET_."""
    job = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text(encoding="utf-8"))
    for replica in job["spec"]["pytorchReplicaSpecs"].values():
        pod = replica["template"]["spec"]
        (container,) = pod["containers"]
        assert container["command"][0] == "torchrun"
        assert not SECRET.search(" ".join(container["command"] + container["args"]))
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["shm"] == "/dev/shm"
        assert {volume["name"] for volume in pod["volumes"]} == mounts.keys()
        gpus = container["resources"]["limits"]["nvidia.com/gpu"]
        assert job["spec"]["nprocPerNode"] == str(gpus)


def test_the_indexed_job_says_how_many_pods_there_are():
    text = (LAUNCH / "kubernetes-data.yaml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["spec"]
    assert job["completionMode"] == "Indexed"
    (container,) = job["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert told["WORLD_SIZE"] == str(job["completions"])
    assert job["parallelism"] == job["completions"], "ranks wait for one another"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in job["template"]["spec"]["volumes"]} == mounts
    assert "exec pdtrain answers " in container["args"][0]


def test_slurm_signals_the_script_and_starts_a_task_a_gpu():
    text = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8")
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", text, flags=re.MULTILINE))
    assert options["signal"].startswith("B:USR1@")
    assert options["ntasks-per-node"] == options["gpus-per-node"]


def test_what_a_remote_shell_would_read_is_refused(tmp_path):
    (tmp_path / "c.yaml").touch()
    words = [
        LAUNCH / "hostfile.example",
        "train",
        tmp_path / "c.yaml",
        tmp_path / "run",
        "name=$HOME",
    ]
    said = subprocess.run(
        ["bash", LAUNCH / "hostfile.sh", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    assert said.returncode == 2 and "write the value into CONFIG" in said.stderr


def test_variables_of_an_earlier_start_are_set_anew_and_the_users_lines_stay(tmp_path):
    """DeepSpeed's launcher is replaced by nothing: what counts is the file that it would read."""
    (tmp_path / "c.yaml").touch()
    for tool in ("pdtrain", "setsid"):
        script(tmp_path / tool, ":")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTORCH", "PDTRAIN", "HF_"))}
    kept["PATH"] = f"{tmp_path}:{kept['PATH']}"
    run = tmp_path / "run"
    words = [LAUNCH / "hostfile.example", "train", tmp_path / "c.yaml", run]

    def lines(**given):
        subprocess.run(["bash", LAUNCH / "hostfile.sh", *words], check=True, env=kept | given)
        return (run / ".deepspeed_env").read_text().splitlines()

    run.mkdir()
    (run / ".deepspeed_env").write_text("NCCL_DEBUG=INFO")  # the user's, without a line's end
    first = lines(PYTORCH_ALLOC_CONF="a:1", PYTORCH_OTHER="x")
    assert first == [
        "NCCL_DEBUG=INFO",
        "PDTRAIN_TRACEBACK=1",
        "PYTORCH_ALLOC_CONF=a:1",
        "PYTORCH_OTHER=x",
    ]
    second = lines(PYTORCH_ALLOC_CONF="b:2", PDTRAIN_TRACEBACK="")
    assert second == ["NCCL_DEBUG=INFO", "PDTRAIN_TRACEBACK=", "PYTORCH_ALLOC_CONF=b:2"]
    (run / ".deepspeed_env").write_text("PYTORCH_ALLOC_CONF=c:3\nPDTRAIN_TRACEBACK=\n")
    for value in ("d:4", "e:5"):  # the user has changed a line of the script's
        third = lines(PYTORCH_ALLOC_CONF=value)
        assert third == ["PYTORCH_ALLOC_CONF=c:3", "PDTRAIN_TRACEBACK=1"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_without_an_active_environment_says_so_and_starts_nothing(path, tmp_path):
    """The tools that it needs are there; what starts the ranks would say that it was called."""
    (tmp_path / "c.yaml").touch()
    tools = "basename bash cat grep mkdir mv realpath rm sed touch"
    for tool in tools.split():
        (tmp_path / tool).symlink_to(shutil.which(tool))
    script(tmp_path / "scontrol", "echo node-0")
    for tool in ("deepspeed", "torchrun", "srun", "mpirun", "setsid"):
        (tmp_path / tool).write_text(f"#!{shutil.which('bash')}\necho started\n")
        (tmp_path / tool).chmod(0o755)
    env = {"PATH": str(tmp_path), "SLURM_JOB_NODELIST": "node-0", "SLURM_JOB_ID": "7"}
    words = [LAUNCH / "hostfile.example"] if path.stem in ("hostfile", "mpirun") else []
    words += ["train", tmp_path / "c.yaml", tmp_path / "run"]
    bash = shutil.which("bash")
    said = subprocess.run([bash, path, *words], capture_output=True, text=True, env=env)
    assert (said.returncode, said.stdout) == (2, ""), said.stderr
    assert said.stderr.startswith(f"{path.name}: there is no command pdtrain here; activate ")
    assert not (tmp_path / "run").exists()


# --- Slurm's part, with a Slurm of a few lines ------------------------------------------------


@pytest.mark.parametrize(
    ("status", "signalled", "requeued"),
    [(0, False, False), (1, False, False), (75, False, True), (75, True, True), (143, True, True)],
)
def test_a_stopped_slurm_job_is_queued_again(tmp_path, status, signalled, requeued):
    """`srun` and `scontrol` are stand-ins: what is tested is the script's own part."""
    run, bin_folder, done = tmp_path / "run", tmp_path / "bin", tmp_path / "requeued"
    bin_folder.mkdir()
    run.mkdir()
    (tmp_path / "c.yaml").touch()
    (run / "STOP").touch()  # of an earlier end: it must not end this job
    script(bin_folder / "pdtrain", "exit 1")
    wait = f'until [ -e "{run}/STOP" ]; do sleep 0.05; done' if signalled else ":"
    script(
        bin_folder / "srun",
        f'[ ! -e "{run}/STOP" ]; echo "$MASTER_ADDR $*" > "{tmp_path}/srun"\n{wait}\nexit {status}',
    )
    nodes = "printf '%s\\n' node-{0..9999}"  # more than a pipe holds
    script(
        bin_folder / "scontrol",
        f'case $1 in show) {nodes} ;; requeue) echo "$2" > "{done}" ;; esac',
    )
    env = environment(tmp_path, SLURM_JOB_ID="123456", SLURM_JOB_NODELIST="node-[0-9999]")
    command = ["bash", str(LAUNCH / "slurm.sbatch"), "train", str(tmp_path / "c.yaml"), str(run)]
    job = Job([*command, "seed=1"], env, tmp_path / "log", cwd=tmp_path)
    if signalled:
        job.wait_for((tmp_path / "srun").exists, 20)
        job.process.send_signal(signal.SIGUSR1)
    assert job.end(30) == status, job.said()
    assert done.exists() == requeued
    started = (tmp_path / "srun").read_text()
    assert started.startswith("node-0 ") and started.endswith(f"out_dir={run} seed=1\n")
    assert "--wait=0" in started, "a site's WaitTime would end the first rank's evaluation"
    assert "--cpu-bind=none" in started, "a site's binding would leave a rank one core"


@pytest.mark.parametrize("name", ["one_node.sh", "slurm.sbatch"])
def test_stages_that_look_at_no_file_are_told_to_stop(tmp_path, name):
    """The launcher is a stand-in, which ends as a stage does that a signal interrupts."""
    run, bin_folder = tmp_path / "run", tmp_path / "bin"
    bin_folder.mkdir()
    (tmp_path / "c.yaml").touch()
    script(bin_folder / "pdtrain", "exit 1")
    script(bin_folder / "scontrol", "case $1 in show) echo node-0 ;; esac")
    launcher = "deepspeed" if name == "one_node.sh" else "srun"
    waits = (
        f"trap 'exit 75' TERM\ntouch '{tmp_path}/started'\nfor i in $(seq 300); do sleep 0.1; done"
    )
    script(bin_folder / launcher, waits)
    env = environment(tmp_path, SLURM_JOB_ID="1", SLURM_JOB_NODELIST="node-0")
    command = ["bash", str(LAUNCH / name), "answers", str(tmp_path / "c.yaml"), str(run)]
    job = Job(command, env, tmp_path / "log", cwd=tmp_path)
    job.wait_for((tmp_path / "started").exists, 20)
    job.process.send_signal(signal.SIGTERM)
    assert job.end(10) == 75, job.said()


@pytest.mark.slow
def test_a_signal_to_the_script_ends_a_whole_run_in_a_stage_that_does_not_train(tmp_path):
    """The launcher is a stand-in that starts one rank, and passes no signal on to it."""
    env = environment(tmp_path, WORLD_SIZE="1")
    script(tmp_path / "bin" / "deepspeed", 'trap "" TERM\n[ "$1" = --no_python ]\nshift\n"$@"')
    corpus = {"documents": str(DATA), "max_passage_tokens": 48}
    config = written_run(tmp_path / "run", corpus=corpus, questions={"per_sentence": 2})
    run = config.parent / "run"
    shutil.rmtree(run)  # it has answers already
    command = ["bash", str(LAUNCH / "one_node.sh"), "run", str(config), str(run)]
    job = Job(command, env, tmp_path / "log")
    job.wait_for((run / "answers" / "journal.jsonl").exists)
    job.process.send_signal(signal.SIGTERM)
    assert job.end(60) == SAVED, job.said()
    said = job.said()
    assert re.search(r"stopped at answers: \d+ of \d+ passages", said), said


# --- Ranks ------------------------------------------------------------------------------------

# its launcher sets CUDA_VISIBLE_DEVICES itself
needs_deepspeed = pytest.mark.skipif(
    bool(missing("deepspeed")) or torch.cuda.is_available(),
    reason="needs deepspeed, and ranks that see no GPU",
)
LONG = {"train": {"epochs": 12}}


@pytest.mark.slow
def test_torchrun_trains_as_one_process_and_resumes_to_the_bit(tmp_path):
    env = environment(tmp_path, RANKS_PER_NODE="2", MASTER_PORT="0")
    whole, halves = (written_run(tmp_path / name, **LONG) for name in ("whole", "halves"))
    alone = written_run(tmp_path / "alone", **LONG)
    log = tmp_path / "log"

    def command(config):
        return [
            "bash",
            str(LAUNCH / "torchrun.sh"),
            "train",
            str(config),
            str(config.parent / "run"),
        ]

    launch(command(whole), env, log)
    assert_root_is_on_no_path(tmp_path, 2)
    run = halves.parent / "run"
    first = Job(command(halves), env, log)
    first.wait_for((run / "checkpoints" / "latest").exists)
    (run / "STOP").touch()
    assert first.end() == 1, first.said()  # torchrun's own; of the ranks it says:
    assert re.search(rf"exitcode\s*: {SAVED}\b", first.said()), first.said()
    assert "saved after step" in first.said() and not (run / "adapter").exists()
    (run / "STOP").unlink()
    assert "resuming after step" in launch(command(halves), env, log)

    there, again = adapter(whole.parent / "run"), adapter(run)
    assert all(torch.equal(there[name], again[name]) for name in there)
    assert_close(again, train_alone(alone))


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_script_saves_on_all_ranks(tmp_path, number):
    env = environment(tmp_path, LOCAL_SIZE="2")
    config = written_run(tmp_path / "run", train={"epochs": 200})
    run = config.parent / "run"
    command = ["bash", str(LAUNCH / "one_node.sh"), "train", str(config), str(run)]
    job = Job(command, env, tmp_path / "log")
    job.wait_for((run / "checkpoints" / "latest").exists)
    job.process.send_signal(number)
    assert job.end() == SAVED, job.said()
    assert "saved after step" in job.said()
    assert_root_is_on_no_path(tmp_path, 2)


# One after the other of the hosts that -w names, on this machine, as pdsh would on each.
PDSH = """
[ "$1 $2 $4" = "-S -f -w" ]
IFS=, read -ra hosts <<< "$5"
shift 5
ranks=()
for n in "${!hosts[@]}"; do
  bash -c "${*//%n/$n}" &
  ranks+=($!)
done
worst=0
for rank in "${ranks[@]}"; do
  status=0; wait "$rank" || status=$?
  [ "$status" -le "$worst" ] || worst=$status
done
exit "$worst"
"""


@pytest.mark.slow
@needs_deepspeed
def test_a_hostfile_keeps_the_repository_off_the_path(tmp_path):
    """With stand-ins for ssh and pdsh; test_two_nodes.py has the real ones."""
    env = environment(tmp_path, MASTER_ADDR="127.0.0.1")
    script(tmp_path / "bin" / "pdsh", PDSH)
    script(tmp_path / "bin" / "ssh", "true")
    config, alone = (written_run(tmp_path / name) for name in ("nodes", "alone"))
    run, hostfile = config.parent / "run", tmp_path / "hostfile"
    hostfile.write_text("# two\nnode-a slots=1\nnode-b slots=1\n")
    command = ["bash", str(LAUNCH / "hostfile.sh"), hostfile, "train", config, run]
    launch([str(word) for word in command], env, tmp_path / "log")  # from the repository's root
    assert (ROOT / "kernels").is_dir()
    assert_root_is_on_no_path(tmp_path, 2)
    assert_close(adapter(run), train_alone(alone))


@pytest.mark.slow
@pytest.mark.skipif(bool(missing("mpirun")), reason="needs Open MPI: apt-get install openmpi-bin")
def test_mpirun_trains_as_one_process(tmp_path):
    env = environment(
        tmp_path,
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29617",
        GLOO_SOCKET_IFNAME="lo",
    )
    config, alone = (written_run(tmp_path / name) for name in ("ranks", "alone"))
    run, hostfile = config.parent / "run", tmp_path / "hostfile"
    hostfile.write_text("localhost slots=2\n")
    command = ["bash", str(LAUNCH / "mpirun.sh"), hostfile, "train", config, run]
    launch([str(word) for word in command], env, tmp_path / "log")
    assert_root_is_on_no_path(tmp_path, 2)
    assert_close(adapter(run), train_alone(alone))


# Two tasks on this machine, as Slurm numbers them.
SRUN = """
for n in 0 1; do
  SLURM_PROCID=$n SLURM_LOCALID=$n SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=2 "$@" &
  ranks[n]=$!
done
wait "${ranks[0]}"; wait "${ranks[1]}"
"""
COMMANDS = {
    "deepspeed": "deepspeed --module pdtrain",
    "torchrun": "torchrun --nproc-per-node 2 --master-port 29631 -m pdtrain",
    "srun": "srun pdtrain",  # a stand-in for Slurm's
}


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("launcher", COMMANDS)
def test_the_same_command_trains_under_any_launcher(launcher, tmp_path):
    env = environment(tmp_path, LOCAL_SIZE="2")
    script(tmp_path / "bin" / "srun", SRUN)
    config, alone = (written_run(tmp_path / name) for name in ("ranks", "alone"))
    job = Job([*COMMANDS[launcher].split(), "train", str(config)], env, tmp_path / "log", tmp_path)
    assert job.end() == 0, job.said()
    assert_root_is_on_no_path(tmp_path, 2 if launcher != "srun" else 0)
    assert_close(adapter(config.parent / "run"), train_alone(alone))


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [4])
def test_ranks_ask_and_answer_what_one_process_does(tmp_path, num_ranks):
    """In each stage one of them is killed in the midst of its share, like a pod, and comes back."""
    env = environment(tmp_path)
    held_out = tmp_path / "held_out.jsonl"
    records = [{"question": f"What is number {i}?", "answers": [str(i)]} for i in range(80)]
    held_out.write_text("".join(json.dumps(record) + "\n" for record in records))
    asks = {
        "questions": {"per_sentence": 2, "per_entity": 0},
        "corpus": {"documents": str(DATA), "max_passage_tokens": 48},
        "retain": {"weight": 1.0, "per_topic": 4, "sampling": {"max_new_tokens": 24}},
        "evaluate": {"questions": str(held_out), "batch_size": 4, "max_new_tokens": 24},
    }
    alone, shared = (written_run(tmp_path / name, **asks) for name in ("alone", "shared"))
    for config in (alone, shared):  # that of the fixture has answers to train on
        shutil.rmtree(config.parent / "run")
    launch(["pdtrain", "run", str(alone)], env, tmp_path / "log")  # starting takes most of the time
    launch(["pdtrain", "passages", str(shared)], env, tmp_path / "log")

    def start(rank, stage):
        place = {"JOB_COMPLETION_INDEX": str(rank), "WORLD_SIZE": str(num_ranks)}
        log = tmp_path / f"log-{rank}"
        return Job(["pdtrain", stage, str(shared)], env | place, log)

    one, many = (config.parent / "run" for config in (alone, shared))
    journals = {"evaluate": "scores/batches", "questions": "questions", "answers": "answers"}
    for stage in ("questions", "answers", "retain", "evaluate"):
        if stage == "evaluate":
            shutil.copytree(one / "adapter", many / "adapter")
        ranks = [start(rank, stage) for rank in range(num_ranks)]
        journal = many / journals.get(stage, stage) / "journal-1.jsonl"
        ranks[1].wait_for(lambda path=journal: path.exists() and path.stat().st_size > 100)
        ranks[1].process.kill()
        ranks[1].process.wait()
        ranks[1] = start(1, stage)
        assert [rank.end() for rank in ranks] == [0] * num_ranks, ranks[0].said()
        folder = "scores" if stage == "evaluate" else stage
        found = [
            {path.name: path.read_bytes() for path in (run / folder).iterdir()}
            for run in (one, many)
        ]
        found[1].pop("agreed.json", None)
        assert found[0] == found[1], stage
    assert (one / "scores.json").read_bytes() == (many / "scores.json").read_bytes()


@pytest.mark.slow
def test_the_doctor_looks_at_all_ranks(tmp_path):
    env = environment(tmp_path, RANKS_PER_NODE="2", MASTER_PORT="0")
    config = written_run(tmp_path / "run")
    words = ["doctor", str(config), str(tmp_path / "new")]
    told = launch(["bash", str(LAUNCH / "torchrun.sh"), *words], env, tmp_path / "log")
    assert told.count("Python 3") == 1, "the first rank alone talks"
    assert "2 ranks by torchrun" in told and "all ranks see it" in told and "GB/s" in told
    assert not (tmp_path / "new").exists()
