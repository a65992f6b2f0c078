"""The tables of systems and metrics, and that each part of the package reads them."""

import pytest

from pdtrain.config import EvaluateConfig, JudgeConfig
from pdtrain.evaluation.grading import metrics
from pdtrain.evaluation.grading.metrics import METRICS, answer_metrics
from pdtrain.evaluation.scores import table_text
from pdtrain.evaluation.systems import (
    ADAPTER,
    BASE,
    SYSTEMS,
    TEACHER,
    UNRELATED_TEXT,
    answering_systems,
    counterpart,
    named,
)
from pdtrain.records import Score


def test_names_are_those_on_disk():
    """Files of finished runs and other people's scripts have these names."""
    assert list(SYSTEMS) == [
        "base_closed_book",
        "teacher_open_book",
        "base_rag",
        "adapter_closed_book",
        "adapter_open_book",
        "adapter_rag",
        "base_dense_rag",
        "adapter_dense_rag",
        "base_unrelated_reading",
        "adapter_unrelated_reading",
        "unrelated_text",
        "unrelated_questions",
    ]
    assert [name for name, metric in METRICS.items() if "answers" in metric.measures] == [
        "gold_in_answer",
        "exact_match",
        "token_f1",
        "gold_log_likelihood",
        "judged",
        "unjudged",
        "gain",
        "invented",
        "finished",
        "recited",
        "repeated",
        "answer_tokens",
    ]


def test_the_teacher_is_the_base_that_reads_the_gold_passage():
    assert (TEACHER.with_adapter, TEACHER.context) == (False, "gold")
    roles = {name: system.role for name, system in SYSTEMS.items()}
    assert [name for name, role in roles.items() if role == "teacher"] == [TEACHER.name]
    assert all((role == "adapter") == SYSTEMS[n].with_adapter for n, role in roles.items())


def test_dense_retrieval_takes_part_where_a_model_is_named():
    without = answering_systems(EvaluateConfig())
    assert {system.context for system in without} == {"none", "gold", "bm25"}
    more = answering_systems(EvaluateConfig(dense="embedded"))
    assert more[: len(without)] == without
    added = more[len(without) :]
    assert [system.context for system in added] == ["dense"] * 6
    assert [system.num_passages for system in added] == [1, 3, 5] * 2


def test_retrieval_takes_part_once_for_each_number_of_passages():
    names = [system.name for system in answering_systems(EvaluateConfig(rag_passages=[2, 1]))]
    assert [name for name in names if "rag" in name] == [
        "base_rag_2",
        "base_rag",
        "adapter_rag_2",
        "adapter_rag",
    ]


@pytest.mark.parametrize("numbers", [[0], [3, 3], [1, -1]])
def test_numbers_of_passages_are_different_and_positive(numbers):
    with pytest.raises(ValueError, match="rag_passages must be different numbers > 0"):
        EvaluateConfig(rag_passages=numbers)


def test_every_system_is_found_by_its_name():
    for system in [*SYSTEMS.values(), *answering_systems(EvaluateConfig(dense="embedded"))]:
        assert named(system.name) == system
    for name in ("base_rag_1", "base_rag_x", "adapter_closed_book_3", "nothing", ""):
        assert named(name) is None


def test_the_counterpart_reads_the_same_without_the_adapter():
    for system in answering_systems(EvaluateConfig(dense="embedded")):
        other = counterpart(system)
        assert (other is not None) == system.with_adapter
        if other:
            assert not other.with_adapter
            wanted = (system.context, system.num_passages)
            assert (other.context, other.num_passages) == wanted
    assert counterpart(UNRELATED_TEXT) is None


def test_judged_is_a_metric_where_there_is_a_judge():
    without = answer_metrics(EvaluateConfig())
    judge = JudgeConfig(url="http://localhost/v1", model="grader")
    more = answer_metrics(EvaluateConfig(judge=judge))
    added = {metric.name for metric in more} - {metric.name for metric in without}
    assert added == {"judged", "unjudged"}


def test_labels_tell_the_systems_apart():
    for names in ([s.label for s in SYSTEMS.values()], [s.text for s in SYSTEMS.values()]):
        assert len(set(names)) == len(names) and all(names)


def test_answers_and_forgetting_have_tables_of_their_own():
    score = Score(0.5, 0.25, 0.75, 4)
    answers = {m.name: score for m in answer_metrics(EvaluateConfig())}
    table = {system.name: answers for system in (BASE, TEACHER, ADAPTER)}
    table[UNRELATED_TEXT.name] = {m.name: score for m in metrics.forgetting_metrics()}
    found = table_text(table)
    answered, unrelated = found.split("recovered", 1)
    assert "adapter_closed_book" in answered and "unrelated_text" not in answered
    assert "unrelated_text" in unrelated and "kl_to_base" in unrelated
