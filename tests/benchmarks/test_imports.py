"""Test that every benchmark can be imported, so that none is left behind when modules move."""

from importlib import import_module

import pytest
from house import ROOT

BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(ROOT / "benchmarks").with_suffix("").parts)


def test_there_are_benchmarks():
    assert len(BENCHMARKS) > 20


@pytest.mark.parametrize("path", BENCHMARKS, ids=module_name)
def test_a_benchmark_can_be_imported(path):
    try:
        import_module(module_name(path).removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("trl", "liger_kernel"):
            pytest.skip(f"needs the package {error.name}")
        raise
