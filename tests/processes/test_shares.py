"""Several processes share a stage through its folder alone, and may be killed at any moment."""

import errno
import os
import random
import signal
import threading
import time
from contextlib import suppress
from functools import partial

import pytest
import rank_processes
from rank_processes import fork, lead_or_follow

from pdtrain import stage
from pdtrain.files import journal
from pdtrain.files.notes import read_note
from pdtrain.files.spans import Spans, index_of
from pdtrain.processes import followers, leading, shares
from pdtrain.processes.leading import Follower, Leader
from pdtrain.processes.shares import Share
from pdtrain.processes.workers import UnitFailed
from pdtrain.progress import Interrupted, StopFileFound, Stopped
from pdtrain.storage import hash_json, read_json, read_shards

UNITS = {f"unit-{number}": number % 4 for number in range(40)}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leading, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(shares, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(stage, "POLL_SECONDS", 0.01)


def make(key, size, seconds=0.0):
    time.sleep(seconds)
    return [{"id": f"{key}/{place}", "text": key * place} for place in range(size)]


def run_rank(folder, rank, num_ranks, seconds=0.0, units=UNITS, work=make, settings=None):
    """Do what a rank of a launcher does: lead, or follow."""

    def run(share):
        stage.run_units(
            folder / "records",
            "records",
            settings or {"knob": 1},
            units,
            lambda key, size: work(key, size, seconds),
            "units",
            share=share,
            records_per_shard=7,
            stop_file=folder / "STOP",
        )

    lead_or_follow(folder, "records", rank, num_ranks, run)


start = partial(rank_processes.start, run_rank)
join = partial(rank_processes.join, seconds=30)


def output(folder):
    """Return every file of the finished stage, by name, but for what ranks agreed on."""
    folder = folder / "records"
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "agreed.json"}


@pytest.fixture
def alone(tmp_path):
    stage.run_units(
        tmp_path / "alone" / "records",
        "records",
        {"knob": 1},
        UNITS,
        make,
        "units",
        records_per_shard=7,
    )
    return output(tmp_path / "alone")


@pytest.mark.parametrize("num_ranks", [2, 4, 7])
def test_ranks_write_what_one_process_writes(tmp_path, alone, num_ranks):
    join(start(tmp_path, range(num_ranks), num_ranks))
    assert output(tmp_path) == alone
    ids = [record["id"] for record in read_shards(tmp_path / "records")]
    assert len(ids) == len(set(ids)) == sum(UNITS.values())


def test_each_unit_is_worked_on_once(tmp_path):
    done, lock = [], threading.Lock()

    def work(key, size, seconds):
        with lock:
            done.append(key)
        return make(key, size, seconds)

    ranks = [
        threading.Thread(target=run_rank, args=(tmp_path, rank, 4), kwargs={"work": work})
        for rank in range(4)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(20)
    assert sorted(done) == sorted(UNITS)


@pytest.mark.parametrize("number", range(10))
def test_a_kill_of_all_ranks_goes_on_with_another_number(tmp_path, alone, number):
    rng = random.Random(number)
    killed = start(tmp_path, range(4), 4, seconds=0.02)
    time.sleep(rng.uniform(0.01, 0.15))
    for process in rng.sample(list(killed.values()), 4):
        process.kill()
        process.join()
    join(start(tmp_path, range(2 + number % 2), 2 + number % 2))
    assert output(tmp_path) == alone


@pytest.mark.parametrize("number", range(10))
def test_a_rank_that_is_killed_and_comes_back_is_not_missed(tmp_path, alone, number):
    rng, rank = random.Random(number), number % 4
    processes = start(tmp_path, range(4), 4, seconds=0.02)
    time.sleep(rng.uniform(0.01, 0.15))
    processes[rank].kill()
    processes[rank].join()
    assert processes[rank].exitcode == -signal.SIGKILL, "it was meant to be at work"
    time.sleep(rng.uniform(0, 0.05))
    processes |= start(tmp_path, [rank], 4)
    join(processes)
    assert output(tmp_path) == alone


def test_a_follower_may_read_journals_while_the_leader_removes_them(tmp_path, alone, monkeypatch):
    """All units were done by an earlier session, so that the leader does not wait for followers."""
    names = journal.paths_of

    def removed_at_once(folder):
        found = names(folder)
        if threading.current_thread() is threading.main_thread() and not leader.ident:
            leader.start()
            leader.join(20)
        return found

    def run(share):
        stage.run_units(
            tmp_path / "records",
            "records",
            {"knob": 1},
            UNITS,
            make,
            "units",
            share=share,
            records_per_shard=7,
        )

    leads, follows = Share(0, 2, "one"), Share(1, 2, "one")
    leads.agree(tmp_path / "records", hash_json({"knob": 1}), hash_json(list(UNITS)))
    for rank in range(2):  # what an earlier session had done
        with journal.Journal(tmp_path / "records", hash_json({"knob": 1}), rank) as file:
            for unit in list(UNITS)[rank::2]:
                file.add(unit, make(unit, UNITS[unit]))
    monkeypatch.setattr(journal, "paths_of", removed_at_once)
    leader = threading.Thread(target=run, args=(leads,))
    run(follows)
    assert not leader.is_alive() and not names(tmp_path / "records")
    assert output(tmp_path) == alone


def test_a_follower_does_not_believe_what_an_earlier_launch_said(tmp_path):
    """The file says that the stage is finished: that was before the corpus changed."""
    with Leader(tmp_path, 1) as leader:
        leader.begin("records")
        leader.finish("records")
    seen = []
    follower = threading.Thread(
        target=Follower(tmp_path, 1).work_on, args=("records", lambda share: seen.append(share))
    )
    follower.start()
    time.sleep(0.1)
    assert follower.is_alive() and not seen
    with Leader(tmp_path, 2) as leader:
        share = leader.begin("records")
        while not seen:
            time.sleep(0.01)
        leader.finish("records")
    follower.join(5)
    assert not follower.is_alive() and (seen[0].rank, seen[0].size) == (1, 2)
    assert seen[0].session == share.session


def test_a_follower_that_comes_late_to_a_finished_stage_ends(tmp_path, alone):
    leader = start(tmp_path, [0], 1)
    join(leader)
    late = start(tmp_path, [0], 2)
    time.sleep(0.1)
    join(late | start(tmp_path, [1], 2))
    assert output(tmp_path) == alone


def test_a_follower_that_was_killed_and_comes_back_when_all_is_done_ends(tmp_path):
    with Leader(tmp_path, 1) as leader, pytest.raises(KeyboardInterrupt):
        share = leader.begin("records")
        killed = Follower(tmp_path, 1)
        killed._first = leading.Saying()  # it was there before
        assert killed._hear().session == share.session
        leader.finish("records")
        raise KeyboardInterrupt
    with Follower(tmp_path, 1, patience_seconds=5, return_seconds=0.1) as back:
        back.work_on("records", lambda _: pytest.fail("nothing is left to do"))


def test_a_follower_that_was_interrupted_and_comes_back_when_all_is_done_ends(tmp_path):
    with Leader(tmp_path, 1) as leader, pytest.raises(KeyboardInterrupt):
        share = leader.begin("records")
        with Follower(tmp_path, 1) as stopped:
            stopped._first = leading.Saying()  # it was there before
            assert stopped._hear().session == share.session
            leader.finish("records")
            raise KeyboardInterrupt
    with Follower(tmp_path, 1, patience_seconds=5, return_seconds=0.1) as back:
        back.work_on("records", lambda _: pytest.fail("nothing is left to do"))


def test_a_follower_without_a_leader_gives_up_and_says_where_it_looked(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"rank 3 has waited 0 s .*ranks; look at its output, and start all processes",
    ):
        Follower(tmp_path, 3, patience_seconds=0.05).work_on("records", lambda _: None)


def test_a_leader_that_fails_takes_its_followers_along(tmp_path):
    follower = fork.Process(target=expect_an_end, args=(tmp_path,))
    follower.start()
    with pytest.raises(ValueError, match="no such model"), Leader(tmp_path, 2) as leader:
        leader.begin("records")
        time.sleep(0.2)
        raise ValueError("no such model")
    follower.join(10)
    assert follower.exitcode == 0


def expect_an_end(folder):
    with pytest.raises(ValueError, match="the first process has ended: no such model"):
        Follower(folder, 1).work_on("records", lambda _: None)


def test_a_follower_asks_elsewhere_for_a_leader_that_failed_before_it_said_anything(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(leading, "ASK_SECONDS", 0.02)
    follower = Follower(tmp_path, 1, ask=partial(refuse, "the run is another config's"))
    with pytest.raises(ValueError, match="another config's"):
        follower.work_on("records", lambda _: pytest.fail("there is no leader"))


def refuse(reason):
    raise ValueError(reason)


def test_a_follower_gives_up_a_leader_that_was_killed_and_does_not_come_back(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(leading, "SECONDS_UNTIL_SAID", 0.1)
    leader, asked = Leader(tmp_path, 2), []
    leader.begin("records")
    follower = Follower(tmp_path, 1, patience_seconds=0.3, ask=lambda: asked.append(1))
    follower._first = leading.Saying()  # it was there before

    def work(_):
        follower._looked -= 100  # as after long work, or after all were suspended: no silence

    with pytest.raises(ValueError, match="rank 1 has waited 0 s for the first process, which says"):
        follower.work_on("records", work)
    assert "rank 1: the first process says nothing in" in capsys.readouterr().err
    assert follower._silent < 1


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("no such model"), "rank 2 has failed: no such model"),
        (
            OSError(errno.ENOSPC, "full", "/x/cache"),
            "rank 2 has failed: /x/cache: the disk is full",
        ),
    ],
)
def test_a_leader_does_not_wait_for_units_of_a_follower_that_failed(tmp_path, error, said):
    leader = Leader(tmp_path, 3, return_seconds=0.05)
    share = leader.begin("records")
    with pytest.raises(type(error)), Follower(tmp_path, 2) as follower:
        follower._show(share.session)
        raise error
    with pytest.raises(ValueError, match=said):
        for _ in range(50):
            share.reported(tmp_path / "records")
            time.sleep(0.01)


def test_a_follower_that_failed_and_comes_back_is_waited_for(tmp_path):
    leader = Leader(tmp_path, 2, return_seconds=0.2)
    share = leader.begin("records")
    with pytest.raises(ValueError, match="the network"), Follower(tmp_path, 1) as follower:
        follower._show(share.session)
        raise ValueError("the network is away")
    share.reported(tmp_path / "records")
    with Follower(tmp_path, 1) as back:
        back._show(share.session)
        time.sleep(0.3)
        share.reported(tmp_path / "records")


def test_a_follower_that_failed_before_it_followed_is_not_waited_for(tmp_path):
    """It could not read its config, so that it does not even know the run folder."""
    leader = Leader(tmp_path, 3, return_seconds=0.1, told=lambda: "rank 2 failed: no config")
    share = leader.begin("records")
    with pytest.raises(ValueError, match="rank 2 has failed: no config"):
        look_after(share, tmp_path)
    with Follower(tmp_path, 2) as back:
        back._show(share.session)
        look_after(share, tmp_path, seconds=0.5)


def look_after(share, folder, seconds=5.0):
    """Do what a leader does that waits for followers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        share.reported(folder / "records")
        time.sleep(0.01)


def a_follower_is_waited_for_until_its_signs_end(share, folder, session, said):
    """Do what a follower of a session and its leader do until the follower is killed."""
    with Follower(folder, 1) as follower:
        follower._show(session)
        look_after(share, folder, seconds=1.5)
        follower._over.set()  # as after a kill
        with pytest.raises(ValueError, match=said):
            look_after(share, folder)


def test_a_follower_that_gives_no_sign_of_life_is_named_and_given_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(followers, "SIGN_SECONDS", 0.02)
    monkeypatch.setattr(followers, "SECONDS_UNTIL_SAID", 0.3)
    share = Leader(tmp_path, 2, return_seconds=0.01, patience_seconds=0.6).begin("records")
    with pytest.raises(ValueError, match=r"rank 1 has not come for .*look at its output"):
        look_after(share, tmp_path)
    assert "waiting for rank 1, which has not come for" in capsys.readouterr().err
    share = Leader(tmp_path, 2, return_seconds=0.01, patience_seconds=0.6).begin("records")
    a_follower_is_waited_for_until_its_signs_end(
        share, tmp_path, share.session, "rank 1 has given no sign of life for"
    )


def test_a_follower_at_work_for_a_leader_that_was_killed_is_not_given_up(tmp_path, monkeypatch):
    """It hears of the leader that came back as soon as its unit is done."""
    monkeypatch.setattr(followers, "SIGN_SECONDS", 0.02)
    killed = Leader(tmp_path, 2).begin("records")
    share = Leader(tmp_path, 2, return_seconds=0.01, patience_seconds=0.6).begin("records")
    a_follower_is_waited_for_until_its_signs_end(
        share, tmp_path, killed.session, "rank 1 has not come for"
    )


def test_a_leader_that_was_busy_takes_its_own_time_for_no_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(followers, "ASK_SECONDS", 0.01)
    leader = Leader(tmp_path, 2, patience_seconds=0.5)
    share = leader.begin("records")
    share.reported(tmp_path / "records")
    for _ in range(3):
        leader._followers._looked -= 100
        share.reported(tmp_path / "records")


def test_a_leader_hears_what_was_told_elsewhere_while_it_waits(tmp_path):
    share = Leader(tmp_path, 2, hear=partial(refuse, "rank 1 failed: no config")).begin("records")
    with pytest.raises(ValueError, match="rank 1 failed: no config"):
        share.reported(tmp_path / "records")


@pytest.mark.parametrize("asker", [0, 1, 2])
def test_a_stop_file_ends_all_ranks_as_stopped_and_no_finished_unit_is_lost(tmp_path, alone, asker):
    """It does not matter which of them is the first to see it."""
    done, ends, stop = [], {}, tmp_path / "STOP"

    def work(rank, key, size, seconds):
        place = list(UNITS).index(key)
        if rank is not None and rank == asker and place > 9:
            stop.touch()
        elif rank is not None and place > 20:
            time.sleep(0.2)  # they are at work when it comes
        done.append(key)
        return make(key, size)

    def run(rank):
        try:
            run_rank(tmp_path, rank, 3, work=partial(work, rank))
        except Stopped as stopped:
            ends[rank] = str(stopped)

    ranks = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(20)
        assert not rank.is_alive()
    assert ends.keys() == {0, 1, 2} and "stopped at records: " in ends[0]
    stop.unlink()
    finished = set(done)
    assert 0 < len(finished) < len(UNITS)
    run_rank(tmp_path, 0, 1, work=partial(work, None))
    assert output(tmp_path) == alone and sorted(done) == sorted(UNITS), "none was done twice"


def test_a_leader_that_waits_for_units_of_others_looks_for_the_stop_file(tmp_path):
    """They are stopped as well, and may be gone: their units would never come."""
    (tmp_path / "STOP").touch()
    units, share = {"a": 1}, Share(0, 2, "one")
    with pytest.raises(Stopped, match="1 of 1 units left to other processes; what was finished"):
        stage._wait_for_others(
            tmp_path,
            "records",
            units,
            Spans(index_of(units)),
            {},
            journal.Reader(tmp_path, "settings"),
            share,
            tmp_path / "STOP",
        )


def test_a_follower_whose_leader_was_stopped_is_stopped_too(tmp_path):
    said = []

    def follow():
        try:
            Follower(tmp_path, 1).work_on("records", lambda _: None)
        except Stopped as stopped:
            said.append(str(stopped))

    follower = threading.Thread(target=follow)
    follower.start()
    with pytest.raises(Stopped), Leader(tmp_path, 2) as leader:
        leader.begin("records")
        time.sleep(0.2)
        raise Stopped("stopped at records: 1 of 2 units")
    follower.join(10)
    assert said == ["the first process has ended: stopped at records: 1 of 2 units"]


@pytest.mark.parametrize(
    "error, said", [(Interrupted("SIGTERM"), "SIGTERM"), (KeyboardInterrupt(), "Ctrl-C")]
)
def test_a_follower_whose_leader_was_interrupted_is_stopped_too(tmp_path, error, said):
    """A scheduler may end the machine of one rank alone, and start all of them again."""
    follower = Follower(tmp_path, 1, patience_seconds=5)
    follower._first = leading.Saying()  # it was there before
    with pytest.raises(type(error)), Leader(tmp_path, 2) as leader:
        leader.begin("records")
        raise error
    follower._session = leader._said.session
    with pytest.raises(Stopped, match=f"the first process has ended: stopped by {said}"):
        follower.work_on("records", lambda _: None)


def test_a_leader_that_cannot_write_any_more_ends_with_its_first_error(tmp_path, monkeypatch):
    def full(path, _):
        raise OSError(errno.ENOSPC, "full", str(path))

    with (
        pytest.raises(Stopped, match="stopped at records"),
        Leader(tmp_path, 2, farewell_seconds=0) as leader,
    ):
        leader.begin("records")
        leader._over.set()
        monkeypatch.setattr(leading, "write_note", full)
        raise Stopped("stopped at records")


def test_tasks_of_an_array_that_torchrun_joins_are_one_launch():
    joined = {"TORCHELASTIC_RUN_ID": "osk", "SLURM_ARRAY_JOB_ID": "41"}
    first, other = ({**joined, "SLURM_JOB_ID": number} for number in ("41", "42"))
    assert leading.launch_of(first) == leading.launch_of(other) == {"TORCHELASTIC_RUN_ID": "osk"}


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "MASTER_PORT"])
def test_a_follower_follows_no_leader_of_another_launch(tmp_path, monkeypatch, name):
    """The same job was started twice, and the first process of the second found a lock."""
    monkeypatch.setattr(leading, "ASK_SECONDS", 0.02)
    monkeypatch.setenv(name, "1")
    with suppress(KeyboardInterrupt), Leader(tmp_path, 2) as leader:
        leader.begin("records")
        monkeypatch.setenv(name, "2")
        other = Follower(tmp_path, 1, ask=partial(refuse, "another pdtrain is working"))
        with pytest.raises(ValueError, match="another pdtrain is working"):
            other.work_on("records", lambda _: pytest.fail("it is another launch's"))
        monkeypatch.delenv(name)  # one that does not know may be of any
        seen = []
        one = Follower(tmp_path, 1)
        one.work_on("records", lambda share: (seen.append(share), leader.finish("records")))
        assert [share.rank for share in seen] == [1]
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [Stopped("stopped at records"), ValueError("no such model")])
def test_a_follower_that_comes_after_its_leader_has_failed_still_hears_why(tmp_path, error):
    def lead():
        with suppress(type(error)), Leader(tmp_path, 2) as leader:
            leader.begin("records")
            raise error

    leader = threading.Thread(target=lead)
    leader.start()
    time.sleep(0.3)
    with pytest.raises(type(error), match=f"the first process has ended: {error}"):
        Follower(tmp_path, 1, patience_seconds=5).work_on("records", lambda _: None)
    leader.join(5)
    assert not leader.is_alive(), "it goes once it was heard"


def test_a_leader_that_failed_does_not_wait_for_long(tmp_path):
    started = time.monotonic()
    with (
        pytest.raises(ValueError, match="no such model"),
        Leader(tmp_path, 2, goodbye_seconds=60, farewell_seconds=0.2),
    ):
        raise ValueError("no such model")
    assert 0.2 <= time.monotonic() - started < 10


def test_a_leader_that_could_not_write_for_a_moment_goes_on_saying_where_it_is(
    tmp_path, monkeypatch
):
    """A full disk or a lost server may pass: a follower that starts later must still find it."""
    failures = iter([errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
    write = leading.write_note

    def written(path, value):
        if threading.current_thread() is not threading.main_thread() and (n := next(failures, 0)):
            raise OSError(n, os.strerror(n), str(path))
        write(path, value)

    monkeypatch.setattr(leading, "write_note", written)
    with Leader(tmp_path, 1) as leader:
        session = leader.begin("records").session
        deadline = time.monotonic() + 20
        while read_note(tmp_path / "ranks" / "leader.json")["beat"] < 8:
            assert time.monotonic() < deadline, "its thread has ended"
            time.sleep(0.01)
        follower = Follower(tmp_path, 1, patience_seconds=20)
        assert follower._hear().session == session


def test_what_followers_cannot_do_is_named_by_the_leader_and_done_the_next_time(tmp_path, alone):
    def work(key, size, seconds):
        if key in ("unit-3", "unit-9", "unit-10"):
            raise UnitFailed("the server answered with status 500")
        return make(key, size, seconds)

    def follow(rank):
        with suppress(ValueError):  # the leader's end
            run_rank(tmp_path, rank, 4, work=work)

    followers = [threading.Thread(target=follow, args=(rank,)) for rank in (1, 2, 3)]
    for follower in followers:
        follower.start()
    with pytest.raises(ValueError, match="3 of 40 units are missing"):
        run_rank(tmp_path, 0, 4, work=work)
    for follower in followers:
        follower.join(10)
        assert not follower.is_alive()
    failed = read_json(tmp_path / "records" / "failed.json")
    assert sorted(failed) == ["unit-10", "unit-3", "unit-9"]
    join(start(tmp_path, range(3), 3))
    assert output(tmp_path) == alone


def test_a_follower_whose_model_has_another_date_takes_the_leaders_settings(tmp_path, alone):
    """A machine may have the same files of a model with other times of writing."""
    follower = threading.Thread(
        target=run_rank, args=(tmp_path, 1, 2), kwargs={"settings": {"knob": 1, "date": 2}}
    )
    follower.start()
    run_rank(tmp_path, 0, 2)
    follower.join(10)
    assert output(tmp_path) == alone


def test_a_follower_with_other_units_is_refused(tmp_path):
    said = []

    def follow():
        try:
            run_rank(tmp_path, 1, 2, units={"other": 1})
        except ValueError as error:
            said.append(str(error))

    follower = threading.Thread(target=follow)
    follower.start()
    with Leader(tmp_path, 2, goodbye_seconds=0) as leader:
        share = leader.begin("records")
        assert share.agree(tmp_path / "records", "settings", "units") == "settings"
        follower.join(10)
    assert "rank 1 and the first process read other inputs" in said[0]


@pytest.mark.parametrize(
    "num_ranks, each, wanted", [(8, 1, [*range(8)]), (8, 4, [0, 4]), (4, 4, [0])]
)
def test_a_worker_may_be_several_ranks(tmp_path, num_ranks, each, wanted):
    seen = {}

    def follow(rank):
        Follower(tmp_path, rank).work_on("records", lambda share: seen.update({rank: share.rank}))

    followers = [threading.Thread(target=follow, args=(rank,)) for rank in range(1, num_ranks)]
    for follower in followers:
        follower.start()
    with Leader(tmp_path, num_ranks) as leader:
        share = leader.begin("records", each)
        seen[0] = share.rank
        time.sleep(0.3)
        leader.finish("records")
    for follower in followers:
        follower.join(10)
    assert seen == {rank: place for place, rank in enumerate(wanted)}
    assert share.size == len(wanted)


def test_shares_are_even_and_leave_nothing_out():
    names = [str(number) for number in range(11)]
    parts = [list(Share(rank, 4).of(names)) for rank in range(4)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert {len(part) for part in parts} == {2, 3}


class StopFile:
    """Work on a part that finds the stop file, as a unit of work does."""

    def __init__(self, folder):
        self.path, self.shares = folder / "STOP", []

    def __call__(self, share):
        self.shares.append(share)
        if len(self.shares) == 1:
            raise StopFileFound("stopped at records")


def follow_two_parts(folder, work, ends):
    """Follow the first process through two parts, and write down how that ended."""
    try:
        with Follower(folder, 1, patience_seconds=20, return_seconds=0.1) as follower:
            follower.work_on("first", work)
            ends.append("first")
            follower.work_on("second", lambda _: ends.append("second"))
    except Stopped as stopped:
        ends.append(f"Stopped: {stopped}")


@pytest.fixture
def following(tmp_path, monkeypatch):
    """Return what starts a follower that finds the stop file, and waits until it waits for it."""
    wait_where_asked = Follower._wait_where_asked_to_stop
    waits = threading.Event()

    def wait(self, is_over):
        waits.set()
        wait_where_asked(self, is_over)

    monkeypatch.setattr(Follower, "_wait_where_asked_to_stop", wait)

    def start():
        work, ends = StopFile(tmp_path), []
        work.path.touch()
        thread = threading.Thread(target=follow_two_parts, args=(tmp_path, work, ends))
        thread.start()
        assert waits.wait(10)
        return work, ends, thread

    return start


def wait_for(is_there):
    deadline = time.monotonic() + 10
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_follower_that_finds_the_stop_file_goes_on_as_its_leader_does(tmp_path, following):
    """Else the leader would wait for it in the next part, or in a collective."""
    with Leader(tmp_path, 2) as leader:
        leader.begin("first")
        work, ends, follower = following()
        time.sleep(0.1)
        assert follower.is_alive() and not ends
        leader.finish("first")
        leader.begin("second")
        wait_for(lambda: ends[-1:] == ["second"])
        leader.finish("second")
    follower.join(10)
    assert ends == ["first", "second"] and len(work.shares) == 1


def test_a_follower_that_finds_the_stop_file_ends_as_its_leader_does(tmp_path, following):
    with pytest.raises(Stopped), Leader(tmp_path, 2) as leader:
        leader.begin("first")
        work, ends, follower = following()
        raise Stopped("stopped at first: 1 of 2 units left")
    follower.join(10)
    assert not follower.is_alive() and len(work.shares) == 1
    assert ends == ["Stopped: the first process has ended: stopped at first: 1 of 2 units left"]


def test_a_follower_works_on_where_the_stop_file_is_gone_again(tmp_path, following):
    with Leader(tmp_path, 2) as leader:
        leader.begin("first")
        work, ends, follower = following()
        work.path.unlink()
        wait_for(lambda: len(work.shares) == 2)
        leader.finish("first")
        leader.begin("second")
        leader.finish("second")
    follower.join(10)
    assert ends[0] == "first"


def test_a_follower_that_hears_of_a_stop_elsewhere_does_not_wait(tmp_path):
    (tmp_path / "STOP").touch()

    def stopped(_):
        raise Stopped("rank 2 has ended: stopped by SIGTERM")

    with Leader(tmp_path, 2, goodbye_seconds=0) as leader:
        leader.begin("first")
        with pytest.raises(Stopped, match="SIGTERM"):
            Follower(tmp_path, 1, patience_seconds=20).work_on("first", stopped)
