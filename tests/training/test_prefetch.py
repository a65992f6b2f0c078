"""Test that steps are prepared ahead in order, that errors show where they belong, that no thread
is left, and that nothing waits for the device between the steps that are logged."""

import threading
import time
import traceback
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from support import tiny_model
from tiny_training import NUM_STEPS, adapter, assert_same_bits, logged, on_each_call, trained

from pdkernels import TopK
from pdtrain.config import LossConfig
from pdtrain.distillation import batch as batches
from pdtrain.distillation import packing
from pdtrain.distillation.examples import Example
from pdtrain.distributed.engine import PlainEngine
from pdtrain.training import prefetch, train
from pdtrain.training.prefetch import Prefetched

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def threads():
    return [one for one in threading.enumerate() if one.name == "prefetch"]


# --- The thread -------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_items_come_in_order_and_all_of_them(ahead):
    with Prefetched(iter(range(100)), ahead) as found:
        assert list(found) == list(range(100))
    assert not threads()


@pytest.mark.parametrize("ahead", [1, 2])
def test_no_more_are_made_ahead_than_asked_for(ahead):
    made = []
    items = (made.append(i) or i for i in range(20))
    with Prefetched(items, ahead) as found:
        for i in range(5):
            assert next(found) == i
            time.sleep(0.05)
            assert len(made) <= i + 1 + ahead + 1  # those that wait, and one in the thread's hands
    assert len(made) < 20 and not threads()


def test_the_next_is_made_while_this_one_is_used():
    is_made = threading.Event()

    def items():
        yield 1
        is_made.set()
        yield 2

    with Prefetched(items(), 1) as found:
        assert next(found) == 1
        assert is_made.wait(timeout=10), "it waited to be asked"


def broken_items():
    yield 1
    raise ZeroDivisionError("in the thread")


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_is_raised_in_its_place_with_its_traceback(ahead):
    with Prefetched(broken_items(), ahead) as found:
        assert next(found) == 1
        with pytest.raises(ZeroDivisionError, match="in the thread") as raised:
            next(found)
        assert "broken_items" in "".join(traceback.format_tb(raised.value.__traceback__))
    assert not threads()


def test_an_error_or_interrupt_of_the_step_ends_the_thread():
    for kind in (ValueError, KeyboardInterrupt):
        with pytest.raises(kind), Prefetched(iter(range(10**9)), 2) as found:
            next(found)
            raise kind
        assert not threads()


# --- What is moved ----------------------------------------------------------------------------


def test_a_batch_is_moved_whole_and_its_figures_are_known_without_its_tensors():
    chosen = [Example(str(i), "p", (1, 2, i), (2, i), (3,) * (1 + i)) for i in range(3)]
    made = packing.twin_batch(chosen, LossConfig(average="answer"), CPU, with_teacher=True)
    topk = TopK.one_hot(made.targets)
    made = batches.counted(batches.replace(made, topk=topk))
    moved = batches.on_device(made, torch.device("meta"))
    tensors = (moved.student.ids, moved.teacher.rows, moved.weights, moved.topk.log_p_NK)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.student.layout == made.student.layout and moved.answer_ids == made.answer_ids
    # a tensor on meta has no value to be asked for
    assert moved.num_answer_tokens == 6 and moved.total_weight == pytest.approx(3)
    assert not moved.is_filler
    again = batches.counted(batches.replace(made, weights=made.weights * 0))
    assert again.is_filler and again.total_weight == 0


# --- Training ---------------------------------------------------------------------------------


def test_training_is_the_same_to_the_bit_as_without_a_thread(model, tmp_path, monkeypatch):
    ahead = trained(tmp_path / "ahead", model, teacher={"cache": True})
    monkeypatch.setattr(prefetch, "STEPS_AHEAD", 0)
    plain = trained(tmp_path / "plain", model, teacher={"cache": True})
    assert logged(ahead) == logged(plain)
    assert_same_bits(adapter(ahead), adapter(plain))


def test_batches_are_made_in_another_thread_and_none_is_left(model, tmp_path, monkeypatch):
    made_by, real = set(), packing.twin_batch

    def twin_batch(*arguments, **options):
        made_by.add(threading.current_thread().name)
        return real(*arguments, **options)

    monkeypatch.setattr(packing, "twin_batch", twin_batch)
    trained(tmp_path, model, train={"epochs": 1})
    assert made_by == {"prefetch"} and not threads()


def test_an_error_while_a_batch_is_made_ends_training_with_its_traceback(
    model, tmp_path, monkeypatch
):
    def twin_batch(*arguments, **options):
        raise ValueError("no such batch")

    monkeypatch.setattr(packing, "twin_batch", twin_batch)
    with pytest.raises(ValueError, match="no such batch") as raised:
        trained(tmp_path, model)
    assert "twin_batch" in "".join(traceback.format_tb(raised.value.__traceback__))
    assert not threads()


WAITS = ("item", "tolist", "__float__", "__int__", "__bool__", "__index__", "nonzero", "numpy")


@contextmanager
def waits_counted(monkeypatch):
    """Count what would wait for a GPU in the main thread, outside of the engine's own methods."""
    main, seen = threading.main_thread(), SimpleNamespace(names=[], inside=0)

    def counting(name, real):
        def called(*arguments, **options):
            if threading.current_thread() is main and not seen.inside:
                seen.names.append(name)
            return real(*arguments, **options)

        return called

    def marked(real):
        def called(*arguments, **options):
            seen.inside += 1
            try:
                return real(*arguments, **options)
            finally:
                seen.inside -= 1

        return called

    for name in WAITS:
        monkeypatch.setattr(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
    for name in ("__call__", "backward", "step"):
        monkeypatch.setattr(PlainEngine, name, marked(getattr(PlainEngine, name)))
    yield seen


def test_nothing_waits_for_the_device_between_the_steps_that_are_logged(
    model, tmp_path, monkeypatch
):
    with waits_counted(monkeypatch) as seen:
        counts = []
        on_each_call(monkeypatch, "step", lambda number: counts.append(len(seen.names)))
        real = train.take_step

        def take_step(*arguments):
            counts.append(len(seen.names))
            return real(*arguments)

        monkeypatch.setattr(train, "take_step", take_step)
        config = trained(tmp_path, model, train={"log_every_steps": 3}, retain={"weight": 0.0})
    assert [line["step"] for line in config.run.metrics()] == [3, 6, 9]
    before, within = counts[::2], counts[1::2]
    assert len(before) == NUM_STEPS
    assert before == within, "a micro-step waits"
    gained = [b - a for a, b in pairwise(before)]
    assert [number for number, more in enumerate(gained, 1) if more] == [3, 6]
    assert max(gained) <= 3, "a logged step asks for its sums at once"
