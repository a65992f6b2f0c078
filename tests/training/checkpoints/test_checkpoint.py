"""Save and resume: all or nothing, the newest whole one of the same inputs, no heap of old ones."""

import pytest
import torch

from pdtrain.storage import read_json, write_checked
from pdtrain.training.checkpoints import checkpoint
from pdtrain.training.checkpoints.checkpoint import Checkpoint


def state(step):
    noise = torch.Generator().manual_seed(step)
    return Checkpoint(
        step,
        {"a": torch.randn(3, 2, generator=noise), "b": torch.randn(4, generator=noise)},
        {"a.exp_avg": torch.randn(3, 2, generator=noise), "a.step": torch.tensor(float(step))},
    )


def assert_same(found, wanted):
    assert found is not None and found.step == wanted.step
    for part in ("adapter", "optimizer"):
        left, right = getattr(found, part), getattr(wanted, part)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_what_was_saved_is_loaded_to_the_bit(tmp_path):
    checkpoint.save(tmp_path, "inputs", state(3))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(3))


def test_there_is_none_before_the_first(tmp_path):
    assert checkpoint.load_latest(tmp_path / "absent", "inputs") is None


def test_the_newest_counts_and_old_ones_go(tmp_path):
    for step in (5, 10, 15, 20):
        checkpoint.save(tmp_path, "inputs", state(step))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(20))
    assert steps(tmp_path) == [15, 20]
    assert (tmp_path / (tmp_path / "latest").read_text().strip() / "manifest.json").is_file()


def steps(folder, inputs="inputs"):
    """The steps of the checkpoints that stand in a folder with these inputs."""
    manifests = [read_json(path) for path in folder.glob("step-*/manifest.json")]
    return sorted(m["step"] for m in manifests if m["inputs"] == inputs)


def only(folder, step):
    (path,) = folder.glob(f"step-{step:06d}*")
    return path


def test_steps_beyond_a_million_are_still_in_order(tmp_path):
    for step in (999_999, 1_000_000):
        checkpoint.save(tmp_path, "inputs", state(step))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(1_000_000))


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoint.save(tmp_path, "inputs", Checkpoint(5, {"a": torch.zeros(1)}, {}))
    checkpoint.save(tmp_path, "inputs", state(5))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(5))


def test_a_checkpoint_of_other_inputs_is_left_alone(tmp_path):
    checkpoint.save(tmp_path, "other", state(5))
    assert checkpoint.load_latest(tmp_path, "inputs") is None


def test_saving_leaves_the_checkpoints_of_other_inputs_alone(tmp_path):
    """Also that of the same step, and those that come before and after it."""
    for step in (5, 10, 150):
        checkpoint.save(tmp_path, "before", state(step))
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, "after", state(step + 1000))
        checkpoint.save(tmp_path, "after", state(step))
    assert steps(tmp_path, "before") == [10, 150] and steps(tmp_path, "after") == [20, 30]
    assert_same(checkpoint.load_latest(tmp_path, "after"), state(30))
    assert_same(checkpoint.load_latest(tmp_path, "before"), state(150))
    checkpoint.save(tmp_path, "before", state(30))
    assert_same(checkpoint.load_latest(tmp_path, "after"), state(30))


@pytest.mark.parametrize("number", [0, 2, None])
def test_a_checkpoint_of_another_format_is_refused(tmp_path, number):
    checkpoint.save(tmp_path, "inputs", state(5))
    path = only(tmp_path, 5) / "manifest.json"
    manifest = read_json(path) | {"format": number}
    if number is None:
        del manifest["format"]
    write_checked(path, manifest)
    said = rf"has format {'unknown' if number is None else number}, .* reads format 1; .* delete"
    with pytest.raises(ValueError, match=said):
        checkpoint.load_latest(tmp_path, "inputs")
    assert checkpoint.load_latest(tmp_path, "other") is None


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, name, damage):
    for step in (5, 10):
        checkpoint.save(tmp_path, "inputs", state(step))
    path = only(tmp_path, 10) / name
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(5))


@pytest.mark.parametrize("damage", ["cut", "another step", "another hash", "emptied", "a folder"])
def test_a_damaged_manifest_counts_as_a_damaged_checkpoint(tmp_path, damage, capsys):
    for step in (5, 10):
        checkpoint.save(tmp_path, "inputs", state(step))
    path = only(tmp_path, 10) / "manifest.json"
    text = path.read_text()
    digest = read_json(path)["sha256"]["adapter.safetensors"]
    new = {"cut": text[:40], "another step": text.replace('"step": 10', '"step": 11')}
    new["another hash"] = text.replace(digest, digest[::-1])
    path.write_text(new.get(damage, ""))
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(5))
    assert f"{path} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("survives", [0, 1])
def test_a_kill_while_saving_leaves_the_one_before(survives, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, "inputs", state(5))
    written, real = [], checkpoint.save_file

    def killed(tensors, path):
        if len(written) == survives:
            raise KeyboardInterrupt
        written.append(path)
        real(tensors, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save_file", killed)
        checkpoint.save(tmp_path, "inputs", state(10))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(5))
    checkpoint.save(tmp_path, "inputs", state(10))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(10))
    assert not list(tmp_path.glob(".tmp-*"))


def test_what_was_just_saved_stays_beside_later_damaged_ones(tmp_path):
    for step in (100, 200):
        checkpoint.save(tmp_path, "inputs", state(step))
    for path in tmp_path.glob("step-*/adapter.safetensors"):
        path.write_bytes(b"damaged")
    assert checkpoint.load_latest(tmp_path, "inputs") is None
    checkpoint.save(tmp_path, "inputs", state(50))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(50))
    assert (tmp_path / "latest").read_text() == f"{only(tmp_path, 50).name}\n"
