"""Test tiny models of many architectures, each from loading to the reloaded adapter."""

import importlib.util
from pathlib import Path

import pytest
from architectures_table import CASES, CHECKS, build, write_model

ROOT = Path(__file__).parents[2]
marks = {False: [pytest.mark.slow], True: []}
EVERY = [pytest.param(one, id=one.name, marks=marks[one.quick]) for one in CASES]


@pytest.fixture(scope="module", params=EVERY)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.name)
    write_model(request.param, folder)
    return build(request.param, folder)


def test_batches_are_packed_where_the_attention_is_known(made):
    assert made.twin.is_packed == (made.case.batching == "packed")


@pytest.mark.parametrize("check", CHECKS)
def test_an_architecture(made, check, tmp_path):
    CHECKS[check](made, *([tmp_path] if check == "export" else []))


def test_the_matrix_in_the_docs_is_up_to_date():
    """Lines of slow cases are as the command wrote them; those of quick ones passed here."""
    matrix = load_matrix()
    text = (ROOT / "docs" / "models-matrix.md").read_text(encoding="utf-8")
    assert text.startswith(matrix.HEAD)
    lines = text.removeprefix(matrix.HEAD).strip().split("\n")
    assert len(lines) == len(CASES)
    for one, found in zip(CASES, lines, strict=True):
        assert f"`{one.model_type}` | {one.layers} | {one.batching} |" in found
        if one.quick:
            assert found == matrix.line(one, {}, matrix.on_ranks())


def load_matrix():
    path = ROOT / "docs" / "models_matrix.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_enough_architectures():
    assert len({one.model_type for one in CASES}) >= 35
    assert sum(one.quick for one in CASES) >= 8
