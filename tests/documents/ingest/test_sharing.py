"""The ranks of a launcher share the files of a corpus, and may be killed at any moment."""

import json
import os
import random
import subprocess
import sys
import time
from functools import partial

import pytest
import rank_processes
from launching import environment
from rank_processes import lead_or_follow

from pdtrain.documents import passages as stage
from pdtrain.documents.ingest import parts, sharing, workers
from pdtrain.documents.ingest.parts import PartWriter
from pdtrain.processes import leading, shares
from pdtrain.processes.shares import Share
from pdtrain.progress import Stopped

OLD = time.time() - 3600  # a date that is long before anything is read


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leading, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(shares, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sharing, "POLL_SECONDS", 0.01)


def fill(corpus, count=30):
    """Write files of several sizes, some of them bad or copies, with old dates."""
    rng = random.Random(0)
    for number in range(count):
        sentences = [f"The pier {rng.random()} of Osk is {number} metres long." for _ in range(9)]
        corpus.write(f"{number % 3}/{number}.txt", " ".join(sentences[: rng.randrange(10)]))
    corpus.write("2/copy.txt", (corpus.documents / "1/1.txt").read_bytes())
    corpus.write("2/broken.pdf", b"%PDF-1.4 nothing")
    for path in corpus.documents.rglob("*.*"):
        os.utime(path, (OLD, OLD))


def run_rank(config, rank, num_ranks, seconds=0.0):
    """Do what a rank of a launcher does: lead, or follow."""
    if seconds:
        real = workers.FileReader.read

        def slow(self, *request):
            time.sleep(seconds)
            return real(self, *request)

        workers.FileReader.read = slow
    lead_or_follow(
        config.folder,
        "passages",
        rank,
        num_ranks,
        lambda share: stage.split(config, share, num_ranks),
    )


start = partial(rank_processes.start, run_rank)
join = partial(rank_processes.join, seconds=60)


def output(corpus):
    """Return every file of the finished stage, by name, but for what ranks agreed on."""
    folder = corpus.run / "passages"
    files = (path for path in folder.iterdir() if path.is_file())
    return {path.name: path.read_bytes() for path in files if path.name != "agreed.json"}


def files_read(corpus):
    """Return the names of the files that each process has read."""
    found = []
    for path in (corpus.run / "passages/files").glob("*.part"):
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        found.append([line["file"] for line in lines if "file" in line])
    return found


def writers(corpus):
    """Return how many processes have left parts."""
    return len(list((corpus.run / "passages/files").glob("*.part")))


@pytest.fixture
def alone(corpus):
    """Return what one process writes."""
    fill(corpus)
    corpus.split(workers=1)
    found = output(corpus)
    corpus.run.rename(corpus.folder / "alone")
    return found


def test_ranks_write_what_one_process_writes(corpus, alone):
    join(start(corpus.config(workers=1), range(2), 2))
    assert output(corpus) == alone
    assert writers(corpus) == 2, "both have read"


def test_each_rank_reads_its_files_alone(corpus, alone):
    join(start(corpus.config(workers=1), range(3), 3))
    assert output(corpus) == alone
    read = [*map(set, files_read(corpus))]
    assert [*map(len, sorted(read, key=len))] == [10, 11, 11]
    assert len(set.union(*read)) == 32, "no file was read twice"


@pytest.mark.parametrize("number", range(4))
def test_a_rank_that_is_killed_and_comes_back_is_not_missed(corpus, alone, number):
    rng, rank = random.Random(number), number % 2
    config = corpus.config(workers=1)
    processes = start(config, range(2), 2, seconds=0.05)
    time.sleep(rng.uniform(0.2, 0.7))
    processes[rank].kill()
    processes[rank].join()
    assert processes[rank].exitcode, "it was meant to be at work"
    processes |= start(config, [rank], 2)
    join(processes)
    assert output(corpus) == alone


def test_a_kill_of_all_ranks_goes_on_with_another_number(corpus, alone):
    config = corpus.config(workers=1)
    killed = start(config, range(3), 3, seconds=0.05)
    time.sleep(0.4)
    for process in killed.values():
        process.kill()
        process.join()
    join(start(config, range(2), 2))
    assert output(corpus) == alone


def test_what_ended_a_process_of_a_follower_is_in_the_report(corpus, alone, monkeypatch):
    def crashing(requests, reader):
        crash = workers.Crash("the process was ended by SIGKILL")
        for request in requests:
            yield request.file, crash if request.file.name == "1/4.txt" else reader.read(*request)
        reader.part.close()

    monkeypatch.setattr(stage, "read_here", crashing)
    for number in range(
        2
    ):  # one file more moves the shares: it is the first rank's, or the other's
        corpus.write(f"0/0-{number}.txt", f"The mill is {number} years old.")
        join(start(corpus.config(workers=1), range(2), 2))
        entry = corpus.report["1/4.txt"]
        assert (entry["state"], entry["detail"]) == ("skipped", "the process was ended by SIGKILL")
    assert not [*(corpus.run / "passages").glob("failed-*")]


def test_changed_files_are_read_and_unchanged_ones_are_not(corpus, alone):
    config = corpus.config(workers=1)
    join(start(config, range(2), 2))
    corpus.write("0/3.txt", "The mill is new.")
    os.utime(corpus.documents / "2/2.txt", (OLD + 5, OLD + 5))
    (corpus.documents / "1/1.txt").unlink()
    corpus.write("new.txt", "The tower is tall.")
    join(start(config, range(2), 2))
    texts = corpus.texts
    assert texts["0/3.txt"] == "The mill is new." and texts["new.txt"] == "The tower is tall."
    shared = output(corpus)
    corpus.run.rename(corpus.folder / "shared")
    corpus.split(workers=1)
    assert output(corpus) == shared


@pytest.mark.parametrize("count", [1, 2])
def test_a_stop_file_ends_it_after_a_file_and_what_was_read_is_kept(corpus, alone, count):
    config = corpus.config(workers=count)
    config.folder.mkdir()
    config.run.stop_file.touch()
    with pytest.raises(Stopped, match="stopped at passages: 1 of 32 files"):
        stage.split(config)
    config.run.stop_file.unlink()
    assert 0 < sum(map(len, files_read(corpus))) < 32
    corpus.split(workers=count)
    assert output(corpus) == alone


def test_ranks_that_are_stopped_lose_no_file_that_was_read(corpus, alone):
    config = corpus.config(workers=1)
    ranks = start(config, range(2), 2, seconds=0.05)
    time.sleep(0.6)
    config.run.stop_file.touch()
    for process in ranks.values():
        process.join(20)
        assert process.exitcode == 1, "Stopped, which the command line gives status 75"
    config.run.stop_file.unlink()
    assert 0 < sum(map(len, files_read(corpus))) < 32
    join(start(config, range(2), 2))
    assert output(corpus) == alone
    assert sum(map(len, files_read(corpus))) == 32, "no file was read twice"


def test_ranks_that_see_other_files_are_refused(corpus, alone):
    folder = corpus.run / "passages"
    leads, follows = Share(0, 2, "s"), Share(1, 2, "s")
    leads.agree(folder, "settings", "others")
    with pytest.raises(ValueError, match="read other inputs"):
        stage.split(corpus.config(workers=1), follows)


def test_a_line_that_is_being_written_is_no_damage(tmp_path, caplog):
    writer = PartWriter(tmp_path, "here", "settings")
    begin = writer.begin()
    writer.add({"text": "The pier of Osk."})
    about = {"file": "a.txt", "size": 1, "mtime_ns": 1, "looked_at_ns": 1, "sha256": "0"}
    writer.end(begin, about)
    whole = writer.path.read_bytes()
    for size in range(len(whole)):
        writer.path.write_bytes(whole[:size])
        assert [*parts.scan(writer.path, "settings", 0)] == []
    writer.path.write_bytes(whole)
    assert [name for name, _ in parts.scan(writer.path, "settings", 0)] == ["a.txt"]
    assert not caplog.records


def test_a_launcher_s_ranks_share_the_stage(corpus, alone, tmp_path):
    """As `torchrun` and others start them: the command line, with the variables of a launcher."""
    config = tmp_path / "c.yaml"
    config.write_text(
        f"model: {{name: {corpus.model}}}\nout_dir: {corpus.run}\n"
        "corpus: {documents: docs, max_passage_tokens: "
        f"{corpus.config().corpus.max_passage_tokens}, workers: 1}}"
    )
    command = [sys.executable, "-P", "-m", "pdtrain", "passages", str(config)]
    ranks = [
        subprocess.Popen(
            command,
            env=environment(
                tmp_path, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2"
            ),
        )
        for rank in range(2)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    assert writers(corpus) == 2
    shards = {name: data for name, data in output(corpus).items() if name.endswith(".jsonl")}
    assert shards == {name: data for name, data in alone.items() if name.endswith(".jsonl")}
