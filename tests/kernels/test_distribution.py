"""Build the wheel of pdkernels by itself, and run it where there is torch and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from house import KERNELS, ROOT

SOURCE = ROOT / "kernels"
PROJECT = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
# what torch itself needs to be imported, and what those need
TORCHS = ("torch", "torchgen", "functorch", "typing_extensions.py", "filelock", "sympy", "mpmath",
          "networkx", "jinja2", "markupsafe", "fsspec")  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> list[Path]:
    """Return two folders of packages: the unpacked wheel, and torch with what it needs."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "kernels"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg*"))
    code = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = work.glob("*.whl")
    site, torchs = work / "site", work / "torchs"
    zipfile.ZipFile(wheel).extractall(site)
    torchs.mkdir()
    packages = Path(torch.__file__).parents[1]
    for name in TORCHS:
        if (packages / name).exists():
            (torchs / name).symlink_to(packages / name)
    return [site, torchs]


def run_alone(installed: list[Path], code: str, cwd: Path) -> str:
    """Return what a Python prints that sees these folders and its standard library alone."""
    path = [str(folder) for folder in installed]
    code = f"import sys, warnings\nwarnings.simplefilter('ignore')\nsys.path[:0] = {path}\n{code}"
    command = [sys.executable, "-I", "-S", "-c", code]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_the_wheel_holds_every_module_and_says_that_it_is_typed(installed):
    modules = {path.relative_to(SOURCE).as_posix() for path in KERNELS}
    found = {path.relative_to(installed[0]).as_posix() for path in installed[0].rglob("*.py")}
    assert found == modules
    assert (installed[0] / "pdkernels" / "py.typed").exists()
    (metadata,) = installed[0].glob("pdkernels-*.dist-info/METADATA")
    text = metadata.read_text()
    assert f"Version: {PROJECT['version']}" in text and "Requires-Python: >=3.10" in text
    assert re.findall(r"Requires-Dist: (\w+)[^;]*$", text, re.M) == ["torch"]


def test_it_runs_with_torch_alone(installed, tmp_path):
    code = (SOURCE / "recipes" / "torch_loop.py").read_text()
    printed = run_alone(installed, f"__name__ = '__main__'\n{code}", tmp_path)
    assert re.search(r"loss \d\.\d+ -> \d\.\d+ online, -> \d\.\d+ cached", printed)
    assert (tmp_path / "teacher.safetensors").exists()
    alone = "import importlib.util as u\nprint([n for n in {} if u.find_spec(n)])".format(
        ["numpy", "triton", "transformers", "safetensors", "pdtrain"]
    )
    assert run_alone(installed, alone, tmp_path).strip() == "[]"


def test_every_version_of_the_kernels_is_one():
    import pdkernels

    assert pdkernels.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (SOURCE / "CHANGELOG.md").read_text()
    needed = [line for line in distribution("pdtrain").requires if line.startswith("torch>")]
    assert [line.split()[0] for line in PROJECT["dependencies"]] == needed
    assert (SOURCE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_it_is_written_for_python_310():
    """Syntax alone; ast reads the grammar of that version."""
    import ast

    for path in KERNELS:
        ast.parse(path.read_text(), feature_version=(3, 10))
