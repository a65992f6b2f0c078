"""Save and resume: all or nothing, the newest whole one of the same run, no heap of old ones."""

import pytest
import torch

from pdtrain.training import checkpoint
from pdtrain.training.checkpoint import Checkpoint


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
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert kept == ["step-000015", "step-000020"]
    assert (tmp_path / "latest").read_text().strip() == "step-000020"


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


def test_a_new_run_keeps_its_own_checkpoint_beside_later_ones_of_an_old_run(tmp_path):
    for step in (100, 150):
        checkpoint.save(tmp_path, "before", state(step))
    checkpoint.save(tmp_path, "after", state(10))
    assert_same(checkpoint.load_latest(tmp_path, "after"), state(10))


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, name, damage):
    for step in (5, 10):
        checkpoint.save(tmp_path, "inputs", state(step))
    path = tmp_path / "step-000010" / name
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(5))


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


def test_what_was_just_saved_stays_beside_later_damaged_ones(tmp_path):
    for step in (100, 200):
        checkpoint.save(tmp_path, "inputs", state(step))
    for path in tmp_path.glob("step-*/adapter.safetensors"):
        path.write_bytes(b"damaged")
    assert checkpoint.load_latest(tmp_path, "inputs") is None
    checkpoint.save(tmp_path, "inputs", state(50))
    assert_same(checkpoint.load_latest(tmp_path, "inputs"), state(50))
    assert (tmp_path / "latest").read_text() == "step-000050\n"
