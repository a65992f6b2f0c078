"""The teacher on disk: the same numbers as online, continued after a kill, redone for others."""

import pytest
import torch
from support import tiny_lesson, tiny_tokenizer

from pdkernels import TopK, teacher_topk
from pdtrain import rows, teacher_cache
from pdtrain.chat import prove
from pdtrain.config import PromptConfig

CPU = torch.device("cpu")
HEAD_VD = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def examples():
    chat = prove(tiny_tokenizer(), PromptConfig(), None)
    return rows.examples(*tiny_lesson(num_passages=4, answers_per_passage=3), chat)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(teacher_cache, "ANSWERS_PER_SHARD", 4)  # two passages a shard


class Teacher:
    """Distributions that depend on the answer's tokens alone; counts the answers it was asked."""

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


def build(folder, examples, teacher, inputs="inputs"):
    return teacher_cache.build(folder, inputs, 1.5, examples, teacher)


def assert_complete(cache, examples):
    for chosen in (examples, examples[::-1], examples[3:8:2]):
        found = cache.topk([e.answer_id for e in chosen], CPU)
        assert_same(found, TopK.cat([Teacher().topk([e]) for e in chosen]))


def test_what_is_read_is_what_the_teacher_said_in_any_order(tmp_path, examples):
    assert_complete(build(tmp_path, examples, Teacher()), examples)


def test_the_teacher_is_asked_once_and_passage_by_passage(tmp_path, examples):
    teacher = Teacher()
    build(tmp_path, examples, teacher)
    assert sorted(teacher.asked) == sorted(e.answer_id for e in examples)
    again = Teacher()
    assert_complete(build(tmp_path, examples, again), examples)
    assert again.asked == []


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


def test_other_inputs_are_asked_for_anew(tmp_path, examples):
    build(tmp_path, examples, Teacher(), inputs="before")
    teacher = Teacher()
    assert_complete(build(tmp_path, examples[:7], teacher, inputs="after"), examples[:7])
    assert len(teacher.asked) == 7
    back = Teacher()
    assert_complete(build(tmp_path, examples, back, inputs="before"), examples)
    assert len(back.asked) == 12


def test_a_kill_between_two_inputs_mixes_nothing(tmp_path, examples):
    build(tmp_path, examples, Teacher(), inputs="before")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, examples[2:], Teacher(die_after=1), inputs="after")
    assert_complete(build(tmp_path, examples[2:], Teacher(), inputs="after"), examples[2:])
