"""Two configs never overwrite one another's run without being asked."""

import shutil

import pytest
from support import tiny_model

from pdtrain.cli import main


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """Write two YAML files without a name, for two document folders."""
    monkeypatch.chdir(tmp_path)
    model = tiny_model(tmp_path / "model")
    for name in ("pier", "mill"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(f"The {name} is old.")
        (tmp_path / f"{name}.yaml").write_text(
            f"model: {{name: {model}}}\ncorpus: {{documents: {name}}}\n"
        )
    return tmp_path


def test_files_without_a_name_have_runs_of_their_own(configs):
    assert main(["passages", "pier.yaml"]) == main(["passages", "mill.yaml"]) == 0
    assert (configs / "runs/pier/passages").is_dir() and (configs / "runs/mill/passages").is_dir()


def test_a_folder_that_another_file_made_is_refused(configs, capsys):
    assert main(["passages", "pier.yaml", "out_dir=runs/x"]) == 0
    before = (configs / "runs/x/config.yaml").read_text()
    assert main(["passages", "mill.yaml", "out_dir=runs/x"]) == 1
    said = capsys.readouterr().err
    assert "runs/x holds the run of" in said and "pier.yaml, and this config is" in said
    assert (configs / "runs/x/config.yaml").read_text() == before
    assert main(["passages", "pier.yaml", "out_dir=runs/x", "seed=1"]) == 0, "its own file"
    assert main(["passages", "runs/x"]) == 0, "the run's own folder"
    assert main(["passages", "mill.yaml", "out_dir=runs/x", "take_over=true"]) == 0
    assert main(["passages", "pier.yaml", "out_dir=runs/x"]) == 1, "the folder has a new owner"


def test_a_config_that_was_moved_keeps_its_run(configs):
    assert main(["passages", "pier.yaml", "out_dir=runs/x"]) == 0
    (configs / "pier.yaml").rename(configs / "harbour.yaml")
    assert main(["passages", "harbour.yaml", "out_dir=runs/x"]) == 0


def test_a_config_that_is_reached_by_two_paths_is_one(configs, monkeypatch):
    """A home is often a link: a path begins with the link, the working folder does not."""
    (configs / "home").mkdir()
    shutil.move(configs / "pier.yaml", configs / "home/pier.yaml")
    shutil.move(configs / "pier", configs / "home/pier")
    (configs / "link").symlink_to(configs / "home")
    assert main(["passages", "link/pier.yaml", "out_dir=x"]) == 0
    assert main(["passages", "home/pier.yaml", "out_dir=x"]) == 0


def test_a_link_to_a_config_in_another_folder_is_another_config(configs, capsys):
    """Its documents lie beside the link."""
    (configs / "other").mkdir()
    shutil.copytree(configs / "mill", configs / "other/pier")
    (configs / "other/pier.yaml").symlink_to(configs / "pier.yaml")
    assert main(["passages", "pier.yaml", "out_dir=x"]) == 0
    assert main(["passages", "other/pier.yaml", "out_dir=x"]) == 1
    assert "x holds the run of" in capsys.readouterr().err


def test_files_of_one_name_and_content_in_two_folders_are_two_projects(configs, capsys):
    """Both name their documents relative to themselves, so equal files are different configs."""
    for name in ("here", "there"):
        (configs / name / "docs").mkdir(parents=True)
        (configs / name / "docs/a.txt").write_text(f"The lamp {name} is lit.")
        text = (configs / "pier.yaml").read_text().replace("documents: pier", "documents: docs")
        (configs / name / "lamp.yaml").write_text(text)
    assert main(["passages", "here/lamp.yaml"]) == 0
    before = (configs / "runs/lamp/config.yaml").read_text()
    assert main(["passages", "there/lamp.yaml"]) == 1, "both are runs/lamp in this folder"
    assert "here/lamp.yaml, and this config is" in capsys.readouterr().err
    assert main(["passages", "here/lamp.yaml", f"out_dir={configs}/x"]) == 0
    assert main(["passages", "there/lamp.yaml", f"out_dir={configs}/x"]) == 1
    assert (configs / "runs/lamp/config.yaml").read_text() == before
    assert main(["passages", "there/lamp.yaml", "take_over=true"]) == 0


def test_a_copied_project_goes_on_with_its_copied_run(configs, monkeypatch):
    for change in ("", "train: {epochs: 3}\n"):  # as it was copied, and edited there
        project = configs / f"first{len(change)}"
        (project / "pier").mkdir(parents=True)
        (project / "pier/a.txt").write_text("The pier is old.")
        shutil.copy(configs / "pier.yaml", project)
        out = f"out_dir={project / 'runs/pier'}" if change else "out_dir=runs/pier"
        monkeypatch.chdir(project)
        assert main(["passages", "pier.yaml", out]) == 0
        copy = shutil.copytree(project, configs / f"second{len(change)}")
        monkeypatch.chdir(copy)
        with (copy / "pier.yaml").open("a") as stream:
            stream.write(change)
        assert main(["passages", "pier.yaml", "out_dir=runs/pier"]) == 0
