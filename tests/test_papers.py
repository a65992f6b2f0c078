"""Hold the documentation to its word: what it names exists, and the commands it shows run."""

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
KNOBS = ROOT / "docs" / "knobs.md"
MOST_WORDS = 900  # of the README, counted as `wc -w` does; all else belongs in docs/

PAPERS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "configs" / "README.md",
        ROOT / "kernels" / "README.md",
        ROOT / "launch" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
ALL = "\n".join(PAPERS.values())


def blocks(markdown: str, language: str) -> list[str]:
    """Return the contents of the fenced blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL)


def commands(markdown: str) -> str:
    """Return the blocks and the inline code, where a reader finds something to type."""
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    typed = [*blocks(markdown, "bash"), *blocks(markdown, "text")]
    return "\n".join(typed + re.findall(r"`([^`\n]+)`", prose))


# --- What is named exists ---------------------------------------------------------------------


def test_make_targets_in_the_papers_exist():
    named = set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", commands(ALL)))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"quickstart", "test"} <= named
    assert named <= targets, f"no such make target: {sorted(named - targets)}"


def test_stages_in_the_papers_exist(tmp_path):
    found = re.findall(r"(?:^|bin/|`)pdtrain ([a-z]+)\b", commands(ALL), re.MULTILINE)
    assert {"run", "train", "chat"} <= set(found)
    usage = python("from pdtrain.cli import main; main(['--help'])", tmp_path)
    missing = {name for name in found if not re.search(rf"\b{name}\b", usage)}
    assert not missing, f"`pdtrain --help` does not list {sorted(missing)}"


FOLDERS = "pdtrain|tests|benchmarks|configs|docs|kernels|launch"


@pytest.mark.parametrize("paper", PAPERS)
def test_files_in_the_papers_exist(paper):
    """Check that configs, scripts and modules that are named with their folder exist."""
    pattern = rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]+\.(?:py|yaml|sh|md|toml)\b"
    named = set(re.findall(pattern, PAPERS[paper]))
    missing = sorted(name for name in named if not (ROOT / name).is_file())
    assert not missing, f"{paper} names {missing}, which do not exist"


def anchors(page: Path) -> set[str]:
    """Return the names by which a link reaches the headings of a Markdown page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_in_the_papers_lead_somewhere():
    for page in [path for path in tracked() if path.suffix == ".md"]:
        if "data" in page.parts:
            continue  # documents for the tests, not papers
        for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = page.parent / name if name else page
            where = f"{page.relative_to(ROOT)} links to {target}"
            assert there.exists(), f"{where}, which does not exist"
            assert not anchor or anchor in anchors(there), f"{where}, which has no such heading"


@pytest.mark.parametrize("paper", PAPERS)
def test_keys_in_the_papers_exist(paper):
    """Check that every `section.key` is a key of the config, or a mapping of keys."""
    from pdtrain.keys import all_keys

    known = set(all_keys())
    known |= {key.rpartition(".")[0] for key in known if key.count(".") > 1}
    sections = "|".join(sorted({key.split(".")[0] for key in known if "." in key}))
    pattern = rf"(?<![\w./-])((?:{sections})\.[a-z_0-9]+(?:\.[a-z_0-9]+)*)(?![\w(/])"
    named = set(re.findall(pattern, commands(PAPERS[paper])))
    named = {key for key in named if not re.search(r"\.(py|yaml|jsonl|json|md|html)$", key)}
    assert named <= known, f"{paper} names keys that do not exist: {sorted(named - known)}"


@pytest.mark.parametrize("paper", [name for name in PAPERS if blocks(PAPERS[name], "yaml")])
def test_configs_shown_in_the_papers_load(paper, tmp_path):
    from pdtrain.config import load

    for block in blocks(PAPERS[paper], "yaml"):
        path = tmp_path / "shown.yaml"
        path.write_text(block, encoding="utf-8")
        load(path)


@pytest.mark.parametrize("paper", ["README.md", "docs/own-documents.md"])
def test_python_shown_in_the_papers_uses_what_is_public(paper):
    """Check that the blocks compile, and that what they take from the package exists."""
    import pdtrain

    (block,) = blocks(PAPERS[paper], "python")
    compile(block, paper, "exec")
    used = {"pdtrain": set(pdtrain.__all__), "run": {*dir(pdtrain.Run)}}
    used["student"] = {*dir(pdtrain.Student)}
    for owner, known in used.items():
        named = set(re.findall(rf"\b{owner}\.([a-z_]+)\(", block))
        assert named <= known, f"{paper}: {owner} has no {sorted(named - known)}"
    assert "pdtrain.load_config(" in block


def test_the_key_test_sees_a_key_that_does_not_exist(monkeypatch):
    monkeypatch.setitem(PAPERS, "sample", "Set `train.epochs=3` or `train.epoch`.")
    with pytest.raises(AssertionError, match=r"train\.epoch'"):
        test_keys_in_the_papers_exist("sample")


# --- What is said is current ------------------------------------------------------------------


def test_the_readme_is_short():
    num_words = len(README.split())
    assert num_words <= MOST_WORDS, f"README.md has {num_words} words; move some of it to docs/"


def test_the_knob_reference_is_current():
    """Check that the committed page is what the schema gives now."""
    command = [sys.executable, str(ROOT / "docs" / "knobs.py")]
    written = subprocess.run(command, capture_output=True, check=True, cwd=ROOT / "docs")
    assert KNOBS.read_text(encoding="utf-8") == written.stdout.decode(), (
        "docs/knobs.md differs from pdtrain/schema/: run `make docs`"
    )


def layout() -> str:
    """Return the tree of the repository in CONTRIBUTING.md."""
    (tree,) = (block for block in blocks(CONTRIBUTING, "text") if block.startswith("pdtrain/ "))
    return tree


def test_the_layout_tree_names_every_folder():
    named = {line.split()[0].rstrip("/") for line in layout().splitlines()}
    folders = {path.parent.relative_to(ROOT).as_posix() for path in MODULES}
    assert all((ROOT / name).is_dir() for name in named), "the layout names what does not exist"
    assert folders <= named, f"the layout does not name {sorted(folders - named)}"


# --- What is shown runs -----------------------------------------------------------------------

SET_UP = re.compile(r"^(git clone|cd|pip install|python3? -m venv|source|sudo|apt)\b")


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path):
    """Run the bash block that begins with `# Try it` in a copy, in the environment of this test."""
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
