"""What a table of scores says about an adapter that answers worse than its base."""

import pytest
from support import tiny_config, write_records

from pdtrain.evaluation.scores import advice, cut_short, faults, harm, table_text
from pdtrain.records import Answer, Score


def table(system, base, metric, ours, theirs):
    """Return the scores of an adapter and of the base that reads the same: (value, low, high)."""
    gold = {"gold_in_answer": Score(0.5, 0.4, 0.6, 96), "gold_log_likelihood": Score(-1, -2, 0, 96)}
    names = ("base_closed_book", "teacher_open_book", "adapter_closed_book", system, base)
    found = {name: dict(gold) for name in names}
    found[system][metric] = Score(*ours, 96)
    found[base][metric] = Score(*theirs, 96)
    return found


PAIRS = [
    ("adapter_closed_book", "base_closed_book"),
    ("adapter_open_book", "teacher_open_book"),
    ("adapter_rag", "base_rag"),
    ("adapter_rag_3", "base_rag_3"),
    ("adapter_unrelated_reading", "base_unrelated_reading"),
]
LESS, MORE = (0.2, 0.1, 0.3), (0.5, 0.4, 0.6)
BETWEEN = (0.35, 0.25, 0.45)  # its interval meets both


@pytest.mark.parametrize("system, base", PAIRS)
def test_fewer_finished_answers_than_the_bases_are_said(system, base):
    found = table(system, base, "finished", LESS, MORE)
    text = (
        "leaves more answers unfinished than the base that reads the same: finished "
        "0.200 [0.100, 0.300] against 0.500 [0.400, 0.600]"
    )
    assert faults(found) == {system: [text]}
    assert f"{system} {text}" in table_text(found).split("\n\n")
    assert not faults(table(system, base, "finished", MORE, LESS))


@pytest.mark.parametrize("metric", ["invented", "recited", "repeated"])
def test_more_of_what_is_a_fault_is_said(metric):
    found = faults(table("adapter_rag", "base_rag", metric, MORE, LESS))
    (text,) = found["adapter_rag"]
    assert text.endswith(f"{metric} 0.500 [0.400, 0.600] against 0.200 [0.100, 0.300]")
    assert not faults(table("adapter_rag", "base_rag", metric, LESS, MORE))


@pytest.mark.parametrize("metric", ["finished", "invented", "recited", "repeated"])
@pytest.mark.parametrize("other", [LESS, MORE])
def test_intervals_that_meet_say_nothing(metric, other):
    assert not faults(table("adapter_rag", "base_rag", metric, BETWEEN, other))
    assert not faults(table("adapter_rag", "base_rag", metric, other, BETWEEN))


def test_a_longer_answer_is_no_fault():
    longer, shorter = (40.0, 39.0, 41.0), (10.0, 9.0, 11.0)
    assert not faults(table("adapter_rag", "base_rag", "answer_tokens", longer, shorter))


def test_a_base_that_was_not_asked_says_nothing():
    found = table("adapter_rag", "base_rag", "finished", LESS, MORE)
    del found["base_rag"]
    assert not faults(found)


def test_an_adapter_is_worse_where_its_whole_gain_lies_below_zero():
    found = table("adapter_rag", "base_rag", "gain", (-0.2, -0.3, -0.1), MORE)
    assert harm(found) == {
        "adapter_rag": "worse than the base that reads the same, by 0.200 of gold_in_answer "
        "[0.100, 0.300]"
    }
    assert not harm(table("adapter_rag", "base_rag", "gain", (-0.2, -0.4, 0.1), MORE))


def test_who_reads_worse_is_told_what_holds_an_adapter_to_reading():
    worse = table("adapter_rag", "base_rag", "gain", (-0.2, -0.3, -0.1), MORE)
    assert "retain.reading" in advice(worse)
    assert "retain.reading" not in table_text(worse), "it stands in the adapter's card, too"
    assert "retain.reading" in advice(table("adapter_rag", "base_rag", "finished", LESS, MORE))
    assert not advice(table("adapter_rag", "base_rag", "finished", MORE, LESS))
    from_memory = table("adapter_closed_book", "base_closed_book", "finished", LESS, MORE)
    assert faults(from_memory) and not advice(from_memory)


def test_training_answers_that_are_longer_than_an_answer_may_be_are_counted(tmp_path):
    run = tiny_config(tmp_path, tmp_path).run
    assert cut_short(run, 4) == "", "there are no answers"
    answers = [Answer(f"a{n}", "q", "p", "-", (1,) * n, True) for n in (3, 4, 5, 7)]
    write_records(tiny_config(tmp_path, tmp_path), [], [], answers)
    assert cut_short(run, 4).startswith(
        "2 of 4 training answers have more than evaluate.max_new_tokens=4 tokens"
    )
    assert "evaluate.max_new_tokens=7 lets it end them" in cut_short(run, 4)
    assert cut_short(run, 7) == ""
