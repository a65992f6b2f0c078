"""Check that a run can be made, read and asked from Python as from the command line."""

import threading

import pytest
from house import python
from support import DATA, tiny_model

import pdtrain
from pdtrain.records import Answer, Passage, Question

KNOBS = {
    "corpus.max_passage_tokens": 200,
    "questions.per_sentence": 1,
    "answers.grounded": "false",
    "answers.sampling.max_new_tokens": 8,
    "questions.sampling.max_new_tokens": 8,
    "train.epochs": 1,
    "adapter.rank": 4,
    "model.device": "cpu",
}


@pytest.fixture(scope="module")
def yaml(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    model = tiny_model(folder / "model")
    path = folder / "tiny.yaml"
    path.write_text(
        f"name: tiny\nmodel: {{name: {model}}}\ncorpus: {{documents: {DATA}}}\n"
        f"out_dir: {folder / 'run'}\n"
    )
    return path


@pytest.fixture(scope="module")
def run(yaml):
    overrides = [f"{key}={value}" for key, value in KNOBS.items()]
    return pdtrain.run(pdtrain.load_config(yaml, *overrides))


def test_importing_the_package_brings_neither_torch_nor_the_config(tmp_path):
    code = "import sys, pdtrain; print({'torch', 'omegaconf', 'transformers'} & sys.modules.keys())"
    assert python(code, tmp_path).strip() == "set()"


def test_everything_that_is_listed_is_there_and_nothing_else():
    assert all(callable(getattr(pdtrain, name)) for name in pdtrain.__all__)
    assert {*pdtrain.__all__} <= {*dir(pdtrain)}
    with pytest.raises(AttributeError, match="no_such_name"):
        pdtrain.no_such_name  # noqa: B018 - the access is what is tested


def test_a_run_yields_its_records(run):
    passages = list(run.passages())
    questions, answers = list(run.questions()), list(run.answers())
    assert {type(x) for x in passages} == {Passage}
    assert {type(x) for x in questions} == {Question}
    assert {type(x) for x in answers} == {Answer}
    assert {q.passage_id for q in questions} <= {p.id for p in passages}
    assert [step["step"] for step in run.metrics()]


def test_overrides_reach_the_config(run):
    assert run.config.adapter.rank == 4 and run.config.train.epochs == 1


def test_the_student_answers_with_and_without_its_adapter(run):
    student = run.load_adapter()
    with_adapter = student.ask_all(["What is a harbour?", "Who?"], max_new_tokens=8)
    without = student.ask_all(["What is a harbour?", "Who?"], with_adapter=False, max_new_tokens=8)
    assert len(with_adapter) == len(without) == 2
    assert with_adapter != without, "one epoch on a random model changes what it says"
    assert student.ask("Who?", max_new_tokens=8) == with_adapter[1]


def test_a_second_run_in_the_same_process_does_nothing(run):
    weights = run.folder.best_adapter / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    again = pdtrain.run(run.config)
    assert weights.stat().st_mtime_ns == before and again == run


def test_a_run_works_in_a_thread(run, tmp_path):
    from dataclasses import replace

    found = []
    config = replace(run.config, out_dir=str(tmp_path / "threaded"))
    thread = threading.Thread(target=lambda: found.append(pdtrain.run(config)))
    thread.start()
    thread.join()
    (threaded,) = found
    weights = [r.folder.adapter / "adapter_model.safetensors" for r in (run, threaded)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_is_opened_from_its_folder(run):
    opened = pdtrain.open_run(run.folder.path)
    assert opened.config.adapter == run.config.adapter
    assert list(opened.answers()) == list(run.answers())


def test_one_stage_at_a_time(run):
    assert pdtrain.run_stage(run.config, "questions") == run


@pytest.mark.parametrize("name", ["quesions", "run", ""])
def test_an_unknown_stage_is_refused_with_the_known_ones(run, name):
    with pytest.raises(ValueError, match="expected one of passages, questions"):
        pdtrain.run_stage(run.config, name)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a run folder"):
        pdtrain.open_run(tmp_path)
