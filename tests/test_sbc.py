"""Simulation-based calibration of whole posteriors: right ones pass, wrong ones are rejected."""

import importlib.util
import sys
from pathlib import Path

import jax
import pytest

from bayes_pmm.calibration import ranks, uniformity

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).parent.parent / "studies" / "sbc.py"
    spec = importlib.util.spec_from_file_location("sbc_study", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "2x2-8",
        "3x3-8",
        "complex",
        "known",
        "half-noise",
        "tau-power",
        "manifold-2x2-1e-02",
        "manifold-3x3-1e-08",
        "manifold-expectation",
        "given-2x2",
    ],
)
def test_ranks_are_uniform_if_and_only_if_the_posterior_is_right(study, name):
    case = study.cases()[name]
    tree = case.run(jax.random.key(7), 200)
    assert tree.attrs["thinned_enough"], tree.attrs
    result = uniformity(ranks(tree), tree.attrs["n_ranks"])
    assert result.uniform == case.right, (result.chi2, result.smooth)
