"""Share a small run, the environment of its ranks and a launcher among the tests of launchers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from house import ROOT
from safetensors.torch import load_file
from support import DATA, tiny_config, tiny_model, tiny_records, write_records

LAUNCH = ROOT / "launch"
SAVED = 75  # cli.SAVED
TRAIN = {
    "epochs": 4,
    "answers_per_step": 4,
    "answers_per_micro_batch": 2,
    "save_every_steps": 2,
    "evaluate_every_epochs": 0,
    "learning_rate": 0.01,
}
# what an outer launcher or shell may have left
OTHERS = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "OMPI_", "TORCHELASTIC_", "NCCL_")
# Every rank writes down where it looks for modules, when it ends.
PROBE = """
import atexit, json, os, sys
if "RANK" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ:
    rank = os.environ.get("RANK") or os.environ["OMPI_COMM_WORLD_RANK"]
    path = os.path.join(os.path.dirname(__file__), f"path-{rank}-{os.getpid()}.json")
    atexit.register(lambda: json.dump(sys.path, open(path, "w")))
"""


def written_run(folder: Path, **sections: object) -> Path:
    """Write config.yaml and beside it the run folder `run` with the answers to train on."""
    from pdtrain.config import dump

    model = folder.parent / "model"
    if not model.exists():
        tiny_model(model)
    train = TRAIN | dict(sections.pop("train", {}))
    sections = {"corpus": {"documents": str(DATA)}} | sections
    config = tiny_config(folder / "run", model, train=train, **sections)
    write_records(config, *tiny_records())
    dump(config, folder / "config.yaml")
    return folder / "config.yaml"


def train_alone(config: Path) -> dict[str, torch.Tensor]:
    """Return the adapter that one plain process trains."""
    from pdtrain.config import load
    from pdtrain.training import train

    train.run(load(config))
    return adapter(config.parent / "run")


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """Check that adapters agree within 1e-5, and return how far they are apart."""
    assert left.keys() == right.keys()
    assert all(weight.any() for weight in left.values()), "nothing was trained: B begins at 0"
    apart = max(float((left[name] - right[name]).abs().max()) for name in left)
    assert apart <= 1e-5, f"the adapters are {apart:.1e} apart"
    return apart


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return a launcher's environment on CPUs, with the probe, and no variables of others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    probe, bin_folder = folder / "probe", folder / "bin"
    probe.mkdir(exist_ok=True)
    bin_folder.mkdir(exist_ok=True)
    (probe / "sitecustomize.py").write_text(PROBE)
    scripts = Path(sys.executable).parent
    if not (scripts / "pdtrain").exists():  # run from the sources
        call = "import sys; from pdtrain.cli import main; sys.exit(main())"
        script(bin_folder / "pdtrain", f'exec {sys.executable} -Pc "{call}" "$@"')
    path = [str(bin_folder), str(scripts), os.environ["PATH"]]
    modules = [str(probe), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join(modules),
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        **more,
    }


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{body}\n")
    path.chmod(0o755)
    return path


def assert_root_is_on_no_path(folder: Path, num_ranks: int) -> None:
    """Check that the ranks do not take the folder `kernels/` for Hugging Face's package."""
    written = list((folder / "probe").glob("path-*.json"))
    assert len({path.name.split("-")[1] for path in written}) == num_ranks
    for path in written:
        places = [Path(place) for place in json.loads(path.read_text())]
        shadows = [place for place in places if place.joinpath("kernels/pdkernels").exists()]
        assert not shadows, f"{path.name}: {shadows} is on sys.path"
        path.unlink()


class Job:
    """Start a launcher and collect what it prints; it is ended by its handle."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path, cwd: Path = ROOT):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, env=env, cwd=cwd, stdout=file, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, what: Callable[[], bool], seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, f"it ended too early:\n{self.said()}"
            if time.monotonic() > deadline:
                self.process.terminate()
                raise AssertionError(f"it took too long:\n{self.said()}")
            time.sleep(0.05)

    def end(self, seconds: float = 240) -> int:
        """Return the exit status, once it has ended by itself."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            raise AssertionError(f"it did not end in {seconds} s:\n{self.said()}") from None


def launch(command: list[str], env: dict[str, str], log: Path, status: int = 0) -> str:
    """Run a launcher to its end, and return what it printed."""
    job = Job(command, env, log)
    ended = job.end()
    assert ended == status, f"status {ended}, not {status}:\n{job.said()}"
    return job.said()


def missing(*tools: str) -> list[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    return [tool for tool in tools if not shutil.which(tool, path=path)]
