"""How much data scatter about a polynomial."""

import numpy as np
import pytest

from bayes_pmm.data import Dataset
from bayes_pmm.diagnostics import misfits
from bayes_pmm.inference.protocol import Draws
from bayes_pmm.model import PMM
from bayes_pmm.posterior import Posterior
from bayes_pmm.scatter import scatter


def data_of(controls, values):
    return Dataset(controls, values, None, tuple("ab")[: controls.shape[1]], ("y",))


@pytest.mark.parametrize(("points", "controls"), [(8, 1), (12, 1), (25, 2)])
def test_an_upper_limit_of_the_noise(points, controls):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        c = rng.uniform(-1, 1, (points, controls))
        y = 3 + c @ np.ones(controls) + 0.5 * c[:, 0] ** 2 + 0.01 * rng.normal(size=points)
        found.append(scatter(data_of(c, y[:, None]))[0])
    # The choice of the degree costs some of the 95 %.
    assert np.mean(np.array(found) > 0.01) > 0.85
    assert np.median(found) < 0.05


def test_curves_without_noise():
    c = np.linspace(0, 2, 12)[:, None]
    assert scatter(data_of(c, 1e4 + np.exp(c)))[0] < 1e-4
    assert scatter(data_of(c, 2 * c))[0] < 1e-12


def test_units_and_missing_cells():
    rng = np.random.default_rng(1)
    c, y = np.linspace(5, 6, 10)[:, None], rng.normal(size=(10, 1))
    one = scatter(data_of(c, y))
    np.testing.assert_allclose(scatter(data_of(1e3 * c, 1e-5 * y)), 1e-5 * one)
    more = Dataset(np.vstack([c, [[7.0]]]), np.vstack([y, [[np.nan]]]), None, ("a",), ("y",))
    np.testing.assert_allclose(scatter(more), one)


def test_too_few_data_for_a_line():
    c = np.arange(4.0)[:, None]
    assert scatter(data_of(c, c))[0] == np.inf


def said_of(values, floors, errors=None):
    """What the diagnosis says of a model whose learned floors are these."""
    c = np.linspace(0, 1, len(values))[:, None]
    names = ("E0", "E1")[: values.shape[1]]
    posterior = Posterior(Dataset(c, values, errors, ("g",), names), PMM(names, dim=len(names)))
    draws = Draws({"floor": np.broadcast_to(floors, (2, 10, len(names)))}, {}, {})
    return misfits(posterior, draws, np.broadcast_to(values, (2, 10, *values.shape)))


def test_a_constant_output_needs_no_more_than_rounding():
    """Its data lie on a polynomial to the last digit, and the least floor that there is lies above."""
    for constant in (0.0, 3.5):
        values = np.stack([-3 + 2 * np.linspace(0, 1, 8), np.full(8, constant)], axis=1)
        assert not said_of(values, [1e-11, 2e-11])
        assert any("E1 is 0.01, " in text for text in said_of(values, [1e-11, 1e-2]))


def test_known_errors_speak_where_rows_are_too_few_for_a_polynomial():
    values = np.array([[0.0], [1.0], [-1.0], [0.5]])
    (text,) = said_of(values, [0.94], np.full((4, 1), 1e-4))
    assert "in too few rows to compare it with a polynomial and 9400 times its known errors" in text
    assert not said_of(values, [2e-4], np.full((4, 1), 1e-4))
    assert not said_of(values, [0.94])
