"""Several processes share what an evaluation asks: the same files as from one, to the byte."""

import threading
from contextlib import suppress

import pytest

from pdtrain import stage
from pdtrain.evaluation import evaluate, examination
from pdtrain.evaluation.batches import Batch
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.processes import leading, shares
from pdtrain.processes.leading import Follower, Leader
from pdtrain.progress import Stopped


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leading, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(shares, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(stage, "POLL_SECONDS", 0.01)
    load, lock = HuggingFaceBackend.of_student, threading.Lock()

    def one_after_the_other(*args, **more):  # transformers cannot load in several threads
        with lock:
            return load(*args, **more)

    monkeypatch.setattr(HuggingFaceBackend, "of_student", one_after_the_other)


def files(run):
    found = [*run.folder.glob("scores/*"), run.folder / "scores.json"]
    return {path.name: path.read_bytes() for path in found}


def follow(config, rank):
    with Follower(config.folder, rank, patience_seconds=60, return_seconds=0.3) as follower:
        follower.work_on("evaluate", lambda share: evaluate.score(config, share))


def start(config, rank, do=follow):
    found = threading.Thread(target=do, args=(config, rank))
    found.start()
    return found


def lead(config, num_ranks):
    with Leader(config.folder, num_ranks, goodbye_seconds=60) as leader:
        evaluate.score(config, leader.begin("evaluate"))
        leader.finish("evaluate")


@pytest.fixture
def wanted(scored_once):
    """What one process writes, undisturbed."""
    return files(scored_once)


@pytest.fixture
def worked_by(monkeypatch):
    """Which thread has worked on each batch, in the order in which they were done."""
    found, work = [], Batch.work

    def noted(batch, *rest):
        done = work(batch, *rest)
        found.append((threading.current_thread(), batch.key))
        return done

    monkeypatch.setattr(Batch, "work", noted)
    return found


def test_ranks_write_what_one_process_writes(trained, wanted, worked_by):
    config = trained.config()
    followers = [start(config, rank) for rank in (1, 2)]
    lead(config, 3)
    for follower in followers:
        follower.join(60)
        assert not follower.is_alive()
    assert files(trained) == wanted
    assert {thread for thread, _ in worked_by} == {threading.current_thread(), *followers}
    keys = [key for _, key in worked_by]
    assert len(set(keys)) == len(keys) > 20, "no batch is worked on twice"


def test_a_rank_that_is_killed_and_comes_back_is_not_missed(trained, wanted, worked_by):
    config = trained.config()
    work = Batch.work

    def killed(config, rank):
        mine = threading.current_thread()

        def once(batch, *rest):
            if threading.current_thread() is mine and len(worked_by) > 6:
                raise KeyboardInterrupt
            return work(batch, *rest)

        Batch.work = once
        with suppress(KeyboardInterrupt):
            follow(config, rank)

    first = start(config, 1, killed)
    leader = start(config, 2, lead)
    first.join(60)
    assert leader.is_alive(), "it waits for the share of the other one"
    second = start(config, 1)
    leader.join(60)
    second.join(60)
    assert not leader.is_alive() and not second.is_alive()
    assert files(trained) == wanted
    keys = [key for _, key in worked_by]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("done", [1, 9])
def test_a_kill_costs_one_batch(trained, wanted, worked_by, monkeypatch, done):
    work = Batch.work

    def killed(batch, *rest):
        if len(worked_by) == done:
            raise KeyboardInterrupt
        return work(batch, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Batch, "work", killed)
        evaluate.score(trained.config())
    evaluate.score(trained.config())
    keys = [key for _, key in worked_by]
    assert len(set(keys)) == len(keys)
    assert files(trained) == wanted


def test_a_stop_file_ends_it_after_a_batch_which_is_kept(trained, wanted, worked_by):
    config = trained.config()
    config.run.stop_file.touch()
    with pytest.raises(Stopped, match="stopped at evaluate: 1 of "):
        evaluate.score(config)
    assert len(worked_by) == 1
    config.run.stop_file.unlink()
    evaluate.score(config)
    keys = [key for _, key in worked_by]
    assert len(set(keys)) == len(keys)
    assert files(trained) == wanted


@pytest.mark.parametrize("written", [1, 5])
def test_a_kill_between_two_files_of_predictions_changes_no_byte(
    trained, wanted, worked_by, monkeypatch, written
):
    """Systems that are left alone would be asked in other batches, and rounded differently."""
    names, write = [], examination.write_headed

    def killed(path, *rest):
        if len(names) == written:
            raise KeyboardInterrupt
        names.append(path.name)
        write(path, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(examination, "write_headed", killed)
        evaluate.score(trained.config())
    before = len(worked_by)
    evaluate.score(trained.config())
    assert len(worked_by) == before, "all batches were done"
    assert files(trained) == wanted


def test_a_follower_of_an_evaluation_that_is_up_to_date_has_nothing_to_do(scored, worked_by):
    follower = start(scored.config(), 1)
    lead(scored.config(), 2)
    follower.join(20)
    assert not follower.is_alive() and not worked_by


def test_nothing_of_the_batches_is_left(scored):
    assert not (scored.folder / "scores/batches").exists()
