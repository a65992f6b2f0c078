"""The tables of systems and metrics, and that each part of the package reads them."""

from pdtrain.config import EvaluateConfig, JudgeConfig
from pdtrain.evaluation import metrics
from pdtrain.evaluation.metrics import METRICS, answer_metrics
from pdtrain.evaluation.scores import table_text
from pdtrain.evaluation.systems import (
    ADAPTER,
    BASE,
    SYSTEMS,
    TEACHER,
    UNRELATED_TEXT,
    answering_systems,
)
from pdtrain.records import Score


def test_names_are_those_on_disk():
    """Files of finished runs and other people's scripts have these names."""
    assert list(SYSTEMS) == [
        "base_closed_book",
        "teacher_open_book",
        "base_rag",
        "adapter_closed_book",
        "adapter_rag",
        "base_dense_rag",
        "adapter_dense_rag",
        "unrelated_text",
        "unrelated_questions",
    ]
    assert [name for name, metric in METRICS.items() if metric.measures == "answers"] == [
        "gold_in_answer",
        "exact_match",
        "token_f1",
        "gold_log_likelihood",
        "judged",
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
    assert [system.context for system in more[len(without) :]] == ["dense", "dense"]


def test_judged_is_a_metric_where_there_is_a_judge():
    without = answer_metrics(EvaluateConfig())
    judge = JudgeConfig(url="http://localhost/v1", model="grader")
    more = answer_metrics(EvaluateConfig(judge=judge))
    assert {metric.name for metric in more} - {metric.name for metric in without} == {"judged"}


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
