"""The stage as a whole: what is read again, how it goes on after a kill, and who reads."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pdtrain.documents.ingest import listing, reading, workers
from pdtrain.documents.passages import is_unchanged

OLD = time.time() - 3600  # a date that is long before anything is read


def fill(corpus, count=40, seed=0):
    """Write files of several sizes with old dates."""
    rng = random.Random(seed)
    for number in range(count):
        sentences = [f"The pier {rng.random()} of Osk is {number} metres long." for _ in range(9)]
        path = corpus.write(f"{number % 3}/{number}.txt", " ".join(sentences[: rng.randrange(10)]))
        os.utime(path, (OLD, OLD))


@pytest.fixture
def read(monkeypatch):
    """Return a list of the names of files that are read from here on."""
    names = []
    real = reading.FileReader._read

    def noting(self, file, documents):
        names.append(file.name)
        return real(self, file, documents)

    monkeypatch.setattr(reading.FileReader, "_read", noting)
    return names


def test_unchanged_files_are_not_read_again_and_deleted_ones_go(corpus, read):
    fill(corpus, 6)
    corpus.split(workers=1)
    before = corpus.texts
    read.clear()
    corpus.split(workers=1)
    assert read == [], "up to date"
    corpus.write("0/3.txt", "The mill is new.")
    corpus.write("new.txt", "The tower is tall.")
    (corpus.documents / "1/1.txt").unlink()
    os.utime(corpus.documents / "2/2.txt", (OLD + 5, OLD + 5))
    corpus.split(workers=1)
    assert sorted(read) == ["0/3.txt", "new.txt"], "a new date alone is not a change"
    after = corpus.texts
    assert after.pop("new.txt") == "The tower is tall." and after.pop("0/3.txt")
    assert after == {n: t for n, t in before.items() if n not in ("0/3.txt", "1/1.txt")}


def test_files_with_old_dates_are_not_even_opened(corpus, monkeypatch):
    fill(corpus, 4)
    corpus.split(workers=1)
    monkeypatch.setattr(reading, "sha256_file", lambda path: pytest.fail(f"{path} was opened"))
    monkeypatch.setattr("pdtrain.models.tokenizer.load_tokenizer", lambda _: pytest.fail("slow"))
    assert corpus.split(workers=1)


def test_a_change_without_a_new_date_is_noticed_where_it_can_happen(corpus):
    path = corpus.write("a.txt", "The pier is old.")
    corpus.split()
    stat = path.stat()
    path.write_text("The pier is new.")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [p["text"] for p in corpus.split()] == ["The pier is new."]


def test_settings_that_only_join_read_nothing_again(corpus, read):
    fill(corpus, 4)
    corpus.write("copy.txt", "The mill.")
    corpus.write("copy2.txt", "The mill.")
    corpus.split(workers=1)
    read.clear()
    all_of_them = corpus.split(workers=1, duplicates="off")
    assert len(all_of_them) == 1 + len(corpus.split(workers=1))
    assert read == []
    corpus.split(workers=1, max_passage_tokens=20)
    assert len(read) == 6, "another budget splits again"


def test_the_number_of_processes_does_not_show(corpus):
    fill(corpus)
    outputs = []
    for count in (1, 2, 3):
        shutil.rmtree(corpus.run, ignore_errors=True)
        corpus.split(workers=count)
        outputs.append((corpus.shards, corpus.report))
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_process_that_dies_costs_its_file_alone(corpus, monkeypatch):
    """The file is named, the others are read, and the next run tries it again."""
    fill(corpus, 12)
    real = workers._Worker.ask

    def killing(self, request):
        if request.file.name == "1/4.txt":
            self._process.send_signal(signal.SIGKILL)
        real(self, request)

    monkeypatch.setattr(workers._Worker, "ask", killing)
    corpus.split(workers=2)
    entry = corpus.report["1/4.txt"]
    assert (entry["state"], entry["reason"]) == ("skipped", "broken")
    assert entry["detail"] == "the process that read it was ended by SIGKILL"
    monkeypatch.setattr(workers._Worker, "ask", real)
    corpus.split(workers=2)
    assert corpus.report["1/4.txt"]["state"] == "kept"


def test_num_workers_follows_the_work():
    def files(*sizes):
        return [workers.Request(listing.CorpusFile("a", "a", size, 0), "") for size in sizes]

    assert workers.num_workers(0, files(10, 10)) == 1, "too little for a second process"
    assert workers.num_workers(5, files(10, 10)) == 2, "no more than files"
    assert workers.num_workers(0, files(*[10**9] * 99)) == len(os.sched_getaffinity(0))
    assert workers.num_workers(0, files(*[10**9] * 99), ranks_here=10**6) == 1


def test_documents_are_read_without_torch_and_transformers(corpus, tmp_path):
    """They would hold some hundred megabytes while documents are read."""
    fill(corpus)
    config = tmp_path / "c.yaml"
    config.write_text(
        f"model: {{name: {corpus.model}}}\nout_dir: {corpus.run}\ncorpus: {{documents: docs}}"
    )
    program = (
        "import sys\nfrom pdtrain.cli import main\n"
        f"status = main(['passages', {str(config)!r}])\n"
        "print(status, *sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["0"], done.stderr
    alone = corpus.shards
    shutil.rmtree(corpus.run)
    corpus.split(workers=1)
    assert corpus.shards == alone, "the tokenizer is the same, whoever loads it"


def test_a_model_that_cannot_be_loaded_is_named_by_the_process_that_tries(corpus, tmp_path):
    fill(corpus, 1)
    config = tmp_path / "c.yaml"
    config.write_text("model: {name: ./nothing}\nout_dir: run\ncorpus: {documents: docs}")
    command = [sys.executable, "-P", "-m", "pdtrain", "passages", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "is not a folder on this machine" in done.stderr


# --- Kills ------------------------------------------------------------------------------------


def truncated_at(corpus, share):
    """Leave what a kill at some byte of the part would have left."""
    (part,) = (corpus.run / "passages/files").glob("*.part")
    keep = int(part.stat().st_size * share)
    for path in [*(corpus.run / "passages").glob("*.json*"), part.with_name("index.json")]:
        path.unlink()
    with part.open("r+b") as stream:
        stream.truncate(keep)


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_at_any_byte_leaves_identical_shards(corpus, seed):
    fill(corpus, 12)
    corpus.split(workers=1)
    undisturbed = corpus.shards, corpus.report
    rng = random.Random(seed)
    for _ in range(3):
        truncated_at(corpus, rng.random())
        corpus.split(workers=1)
        assert (corpus.shards, corpus.report) == undisturbed
        shutil.rmtree(corpus.run)
        corpus.split(workers=1)


def test_parts_with_much_that_no_longer_counts_are_rewritten(corpus, monkeypatch):
    fill(corpus, 10)
    corpus.split(workers=1)
    monkeypatch.setattr("pdtrain.documents.ingest.parts.WASTE_ALLOWED", 0)
    for number in range(4):
        for path in corpus.documents.glob("*/*.txt"):
            path.write_text(f"The mill of {path.stem} is {number} years old.")
        corpus.split(workers=1)
        parts = list((corpus.run / "passages/files").glob("*.part"))
        assert len(parts) == 1
    assert len(corpus.texts) == 10
    corpus.split(workers=1, duplicates="off")
    assert len(corpus.texts) == 10, "what was moved is still found"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kills_at_twenty_random_points(corpus, tmp_path, workers):
    """Kill the whole process group, again and again, until the stage comes to its end."""
    fill(corpus, 400)
    corpus.split(workers=1)
    undisturbed = corpus.shards, corpus.report
    config = tmp_path / "c.yaml"
    config.write_text(
        f"model: {{name: {corpus.model}}}\nout_dir: {tmp_path / 'killed'}\n"
        f"corpus: {{documents: docs, workers: {workers}}}"
    )
    command = [sys.executable, "-P", "-m", "pdtrain", "passages", str(config)]
    rng = random.Random(workers)
    corpus.run = tmp_path / "killed"
    kills = 0
    while kills < 20:
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        parts = corpus.run / "passages/files"
        before = sum(p.stat().st_size for p in parts.glob("*.part")) if parts.exists() else 0
        wanted = before + rng.randrange(1, 12_000)
        while process.poll() is None and time.monotonic() < deadline:
            size = sum(p.stat().st_size for p in parts.glob("*.part")) if parts.exists() else 0
            if size > wanted:
                break
            time.sleep(0.001)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        if (corpus.run / "passages/manifest.json").exists():
            shutil.rmtree(corpus.run)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert (corpus.shards, corpus.report) == undisturbed


def test_a_file_is_surely_unchanged_only_long_after_it_was_written():
    file = listing.CorpusFile("a", "a", 3, 10**18)
    before = reading.Finished(3, 10**18, 10**18 + 10**10, "h", None, 0, 0)
    assert is_unchanged(file, before)
    assert not is_unchanged(file, before._replace(looked_at_ns=10**18 + 10**9))
    assert not is_unchanged(file, before._replace(size=4))
    assert not is_unchanged(file, before._replace(mtime_ns=10**18 - 1))
