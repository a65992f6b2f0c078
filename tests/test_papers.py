"""What README and CONTRIBUTING say is there, is there; their commands run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from house import MODULES, ROOT, python, tracked

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(markdown: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL)


def commands(markdown: str) -> str:
    """The blocks and the inline code, which is where a reader finds something to type."""
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    typed = [*blocks(markdown, "bash"), *blocks(markdown, "text")]
    return "\n".join(typed + re.findall(r"`([^`\n]+)`", prose))


def test_make_targets_in_the_papers_exist():
    named = set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", commands(README + CONTRIBUTING)))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"quickstart", "test"} <= named
    assert named <= targets, f"no such make target: {sorted(named - targets)}"


def test_stages_in_the_papers_exist(tmp_path):
    named = set(
        re.findall(r"(?:^|bin/|`)pdtrain ([a-z]+)\b", commands(README + CONTRIBUTING), re.MULTILINE)
    )
    assert {"run", "train", "chat"} <= named
    usage = python("from pdtrain.cli import main; main(['--help'])", tmp_path)
    missing = {name for name in named if not re.search(rf"\b{name}\b", usage)}
    assert not missing, f"`pdtrain --help` knows nothing of {sorted(missing)}"


def test_configs_in_the_papers_exist():
    for name in set(re.findall(r"\bconfigs/[\w./-]+\.yaml", README + CONTRIBUTING)):
        assert (ROOT / name).is_file(), f"{name} is named in the papers and does not exist"


def test_links_in_the_papers_lead_somewhere():
    for page in [path for path in tracked() if path.suffix == ".md"]:
        if "data" in page.parts:
            continue  # documents for the tests, not papers
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                there = (page.parent / target).exists()
                assert there, f"{page.relative_to(ROOT)} links to {target}, which does not exist"


def layout() -> str:
    """The tree of the repository in CONTRIBUTING.md."""
    (tree,) = (block for block in blocks(CONTRIBUTING, "text") if block.startswith("pdtrain/ "))
    return tree


def test_the_layout_tree_names_every_folder():
    named = {line.split()[0].rstrip("/") for line in layout().splitlines()}
    folders = {path.parent.relative_to(ROOT).as_posix() for path in MODULES}
    assert all((ROOT / name).is_dir() for name in named), "the layout names what does not exist"
    assert folders <= named, f"the layout does not name {sorted(folders - named)}"


SET_UP = re.compile(r"^(git clone|cd|pip install|python3? -m venv|source|sudo|apt)\b")


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path):
    """The bash block that begins with `# Try it`, in a copy, with the environment of this test."""
    stamp = Path(sys.prefix) / ".installed"
    if not stamp.exists():
        pytest.skip("`make test-slow` runs this: it needs the environment that make set up")
    (block,) = (block for block in blocks(README, "bash") if block.startswith("# Try it"))
    copy = tmp_path / "copy"
    for path in tracked():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)  # keeps the times, or make would install again
    script = "\n".join(line for line in block.splitlines() if not SET_UP.match(line))
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "VENV": sys.prefix}
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=copy, env=environment, check=True
    )
    assert list(copy.glob("runs/*")), "the commands left no run behind"
