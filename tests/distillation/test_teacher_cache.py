"""Test that the teacher's cache is exact, survives a kill, and is redone for other teachers."""

import tracemalloc
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from support import tiny_records, tiny_tokenizer

from pdkernels import TopK, teacher_topk
from pdtrain.config import PromptConfig
from pdtrain.distillation import teacher_cache
from pdtrain.distillation.examples import from_answers
from pdtrain.distillation.teacher_spans import (
    Spans,
    damaged_shards,
    drop_damaged_shards,
    shard_name,
)
from pdtrain.models.chat.chat_template import prove
from pdtrain.storage import read_json, write_json

CPU = torch.device("cpu")
HEAD_VD = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def examples():
    chat = prove(tiny_tokenizer(), PromptConfig(), None)
    return from_answers(*tiny_records(num_passages=4, answers_per_passage=3), chat)


class Teacher:
    """Return distributions that depend on the answer alone, and remember what was asked."""

    def __init__(self, die_after=10**9):
        self.asked, self.die_after = [], die_after

    def __call__(self, group):
        if len(self.asked) >= self.die_after:
            raise KeyboardInterrupt
        self.asked += [e.answer_id for e in group]
        return self.topk(group)

    def topk(self, group):
        seeds = [int(e.answer_id, 16) + i for e in group for i in range(len(e.answer))]
        rows_ND = torch.stack(
            [torch.randn(6, generator=torch.Generator().manual_seed(s % 2**31)) for s in seeds]
        )
        return teacher_topk(rows_ND, HEAD_VD, 5, 1.5)


def assert_same(found, wanted):
    for field in ("log_p_NK", "lse_N", "log_p_tail_N"):
        # the teacher sees other neighbours here, which may round otherwise
        torch.testing.assert_close(getattr(found, field), getattr(wanted, field))
    assert torch.equal(found.ids_NK.long(), wanted.ids_NK.long())
    assert found.temperature == wanted.temperature == 1.5


def build(folder, examples, teacher, inputs="inputs", num_ranks=1):
    teacher_cache.open_folder(folder, inputs)
    missing = teacher_cache.missing(folder, examples)
    calls = by_passage(missing)
    for rank in range(num_ranks):
        fill(folder, calls, teacher, rank=rank, num_ranks=num_ranks)
    return teacher_cache.read(folder, inputs, 1.5, examples)


def fill(folder, calls, teacher, **options):
    """Fill a cache with shards that hold two passages, which have three answers each."""
    options["answers_per_shard"] = 4
    return teacher_cache.fill(folder, len(HEAD_VD), calls, teacher, **options)


def by_passage(examples):
    return [list(group) for _, group in groupby(examples, key=lambda e: e.passage_id)]


def assert_complete(cache, examples):
    for chosen in (examples, examples[::-1], examples[3:8:2]):
        assert_same(cache.topk(chosen, CPU), TopK.cat([Teacher().topk([e]) for e in chosen]))


def test_what_is_read_is_what_the_teacher_said_in_any_order(tmp_path, examples):
    assert_complete(build(tmp_path, examples, Teacher()), examples)


@pytest.mark.parametrize("vocab", [40, 65_536, 65_537, 200_000])
def test_what_is_stored_is_exact(vocab, tmp_path):
    generator = torch.Generator().manual_seed(0)
    ids_NK = torch.stack([torch.randperm(vocab, generator=generator)[:17] for _ in range(50)])
    logits_NB = torch.randn(50, 18, generator=generator)
    log_p_NK, log_p_tail_N = logits_NB.log_softmax(-1).tensor_split([17], -1)
    lse_N = logits_NB.logsumexp(-1)
    topk = TopK(log_p_NK, ids_NK.sort(-1).values, lse_N, log_p_tail_N[:, 0], 1.5)
    found = teacher_cache.decode(teacher_cache.encode(topk, vocab), 1.5)
    for field in ("log_p_NK", "ids_NK", "lse_N", "log_p_tail_N"):
        assert torch.equal(getattr(found, field), getattr(topk, field).to(getattr(found, field)))


def test_its_size_is_what_was_promised():
    topk = teacher_topk(torch.randn(10, 8), torch.randn(70_000, 8), 64)
    stored = teacher_cache.encode(topk, 70_000)
    num_bytes = sum(t.numel() * t.itemsize for t in stored.values())
    assert num_bytes == 10 * teacher_cache.bytes_per_token(64, 70_000)
    assert teacher_cache.bytes_per_token(64, 2**18) <= 420


def test_the_teacher_is_asked_once_and_passage_by_passage(tmp_path, examples):
    teacher = Teacher()
    build(tmp_path, examples, teacher)
    assert sorted(teacher.asked) == sorted(e.answer_id for e in examples)
    again = Teacher()
    assert_complete(build(tmp_path, examples, again), examples)
    assert again.asked == []


@pytest.mark.parametrize("num_ranks", [2, 3, 5])
def test_ranks_ask_equally_often_and_their_shards_are_one_cache(tmp_path, examples, num_ranks):
    calls = []
    teacher = Teacher()
    cache = build(
        tmp_path,
        examples,
        lambda group: calls.append([e.answer_id for e in group]) or teacher(group),
        num_ranks=num_ranks,
    )
    assert len(calls) == -(-4 // num_ranks) * num_ranks
    assert {answer for call in calls for answer in call} == {e.answer_id for e in examples}
    assert_complete(cache, examples)


def test_one_number_of_ranks_finishes_what_another_began(tmp_path, examples):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, examples, Teacher(die_after=9), num_ranks=2)
    rest = Teacher()
    assert_complete(build(tmp_path, examples, rest, num_ranks=1), examples)
    assert 0 < len(rest.asked) < 12


def test_the_order_of_the_answers_does_not_matter(tmp_path, examples):
    build(tmp_path, examples, Teacher())
    again = Teacher()
    assert_complete(build(tmp_path, examples[::-1], again), examples)
    assert again.asked == []


@pytest.mark.parametrize("die_after", [0, 3, 6, 9])
def test_a_killed_build_keeps_its_finished_shards(tmp_path, examples, die_after):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, examples, Teacher(die_after))
    rest = Teacher()
    assert_complete(build(tmp_path, examples, rest), examples)
    assert len(rest.asked) == 12 - die_after // 6 * 6  # shards hold six answers


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_build_that_was_asked_to_stop_keeps_all_it_knows(tmp_path, examples, num_ranks):
    """This includes half a shard; and every rank has asked equally often."""
    teacher_cache.open_folder(tmp_path, "inputs")
    missing, asked = teacher_cache.missing(tmp_path, examples), []
    for rank in range(num_ranks):
        teacher, answers = Teacher(), iter((False, True))
        is_finished = fill(
            tmp_path,
            by_passage(missing),
            teacher,
            rank=rank,
            num_ranks=num_ranks,
            is_to_stop=lambda answers=answers: next(answers),
        )
        assert not is_finished and len(teacher.asked) == 3  # one passage
        asked += teacher.asked
    rest = Teacher()
    assert_complete(build(tmp_path, examples, rest), examples)
    assert sorted(asked + rest.asked) == sorted(e.answer_id for e in examples)


def test_what_changed_is_asked_for_and_no_more(tmp_path, examples):
    build(tmp_path, examples[:7], Teacher())
    changed = replace(examples[0], teacher_prompt=(5, *examples[0].teacher_prompt))
    teacher = Teacher()
    assert_complete(build(tmp_path, [changed, *examples[1:]], teacher), examples)
    assert sorted(teacher.asked) == sorted(
        [changed.answer_id] + [e.answer_id for e in examples[7:]]
    )


def test_another_teacher_is_refused(tmp_path, examples):
    build(tmp_path, examples, Teacher(), inputs="before")
    with pytest.raises(ValueError, match="another teacher"):
        build(tmp_path, examples, Teacher(), inputs="after")


def test_a_damaged_shard_and_a_lost_one_are_noticed(tmp_path, examples):
    build(tmp_path, examples, Teacher())
    path = next(tmp_path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="is damaged"):
        teacher_cache.read(tmp_path, "inputs", 1.5, examples)
    path.unlink()
    with pytest.raises(ValueError, match="lacks 6 of 12 answers"):
        teacher_cache.read(tmp_path, "inputs", 1.5, examples)
    rest = Teacher()
    assert_complete(build(tmp_path, examples, rest), examples)
    assert len(rest.asked) == 6


@pytest.mark.parametrize("which", [".safetensors", ".json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "gone"])
def test_a_damaged_shard_is_dropped_with_a_word_and_asked_for_again(
    tmp_path, examples, which, damage, capsys
):
    build(tmp_path, examples, Teacher())
    wanted = {path.name: path.read_bytes() for path in tmp_path.glob("shard-*")}
    path = sorted(tmp_path.glob(f"shard-*{which}"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes({"flipped": bytes(data), "cut": data[:-9]}.get(damage, b""))
    if damage == "gone":
        path.unlink()
    else:
        assert [found for found, _ in damaged_shards(tmp_path)] == [path]
        drop_damaged_shards(tmp_path)
        assert f"{path} is damaged" in capsys.readouterr().err
    rest = Teacher()
    assert_complete(build(tmp_path, examples, rest), examples)
    assert len(rest.asked) == 6
    assert {path.name: path.read_bytes() for path in tmp_path.glob("shard-*")} == wanted


def test_a_damaged_header_is_written_again_where_the_folder_says_whose_it_is(tmp_path, capsys):
    inputs = "0123456789abcdef"
    folder = tmp_path / inputs[:12]
    teacher_cache.open_folder(folder, inputs)
    (folder / "inputs.json").write_text('{"format": 2, "inputs": "0123456789abcdee", "check": "x"}')
    teacher_cache.open_folder(folder, inputs)
    assert "inputs.json is damaged" in capsys.readouterr().err
    assert read_json(folder / "inputs.json")["inputs"] == inputs


def test_where_an_answer_is_takes_20_bytes(tmp_path):
    """A shard is listed once for all of its answers; ids of 16 digits are held as 8 bytes."""

    def held(count):
        folder = tmp_path / str(count)
        paths = []
        for first in range(0, count, 250):
            answers = [[f"{i * 7919:016x}", 3 + i % 5] for i in range(first, first + 250)]
            path = folder / f"{shard_name(answers)}.safetensors"
            write_json(path.with_suffix(".json"), {"answers": answers, "sha256": "x"})
            path.touch()
            paths.append(path)
        tracemalloc.start()
        spans = Spans.read(folder)
        size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert spans.find(f"{7919 * 251:016x}") == (paths[1], 3, 7)
        with pytest.raises(KeyError):
            spans.find(f"{1:016x}")
        assert (np.diff(spans.keys) > 0).all()
        return size, peak

    (_, _), few, many = held(500), held(2_000), held(10_000)
    size, peak = ((b - a) / 8_000 for a, b in zip(few, many, strict=True))
    assert size < 24 and peak < 100
