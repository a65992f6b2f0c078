"""Test tiny models of many architectures, each from loading to the reloaded adapter."""

import pytest
from architectures_table import CASES, CHECKS, build, write_model

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


def test_the_table_has_enough_architectures():
    assert len({one.model_type for one in CASES}) >= 35
    assert sum(one.quick for one in CASES) >= 8
