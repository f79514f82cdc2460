"""The conformal factor: its definition, its finite-sample guarantee, and what it does not repair."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bayes_pmm.bands import QUANTILES, Bands
from bayes_pmm.conformal import Conformal, conformal
from bayes_pmm.errors import InputError


def _bands(mean, sd):
    return np.asarray(mean) + np.asarray(sd) * stats.norm.ppf(QUANTILES).reshape(-1, *(1,) * np.ndim(mean))


def test_factor_is_the_order_statistic_of_the_scores():
    y = np.arange(1.0, 10.0)
    quantiles = np.stack([np.full(9, v) for v in (-1.0, -0.5, 0.0, 0.5, 2.0)])
    # Above the median in units of 2: 0.5, 1, ..., 4.5, and the ⌈10 · 0.9⌉ = 9th is the largest.
    found = conformal(y, quantiles)
    assert (found.factor, found.count, found.level) == (4.5, 9, 0.9)
    low, high = found.interval(quantiles[:, :1])
    assert (low[0], high[0]) == (-4.5, 9.0)
    # Below in units of 1, and of the inner band in units of 0.5.
    assert conformal(-y, quantiles).factor == 9.0
    assert conformal(-y, quantiles, 0.5).factor == 2 * 5.0


def test_too_few_values_give_an_infinite_band():
    with pytest.warns(UserWarning, match="8 calibration values are too few .* at least 9"):
        assert conformal(np.zeros(8), _bands(np.zeros(8), 1.0)).factor == np.inf
    assert np.isfinite(conformal(np.zeros(9), _bands(np.zeros(9), 1.0)).factor)


def test_missing_values_are_left_out():
    y = np.where(np.arange(20) % 2 == 0, np.nan, np.linspace(-2, 2, 20))
    found = conformal(y, _bands(np.zeros(20), 1.0))
    assert found == conformal(y[1::2], _bands(np.zeros(10), 1.0))


@pytest.mark.parametrize("too", [0.3, 1.0, 3.0])
def test_coverage_holds_for_bands_of_any_wrong_width(too):
    rng = np.random.default_rng(0)
    repeats, n = 3000, 19
    sd = rng.lognormal(size=(repeats, n + 1))
    y = sd * rng.normal(size=(repeats, n + 1))
    bands = _bands(np.zeros((repeats, n + 1)), too * sd)
    inside = []
    for row in range(repeats):
        low, high = conformal(y[row, :n], bands[:, row, :n]).interval(bands[:, row, n])
        inside.append(low <= y[row, n] <= high)
    # Between 0.9 and 0.9 + 1/(n + 1); here the order statistic is exact: 18/20.
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / repeats))


def test_points_outside_are_not_exchangeable_and_nothing_is_bought():
    rng = np.random.default_rng(1)
    inside = rng.normal(size=500)
    correction = conformal(inside, _bands(np.zeros(500), 1.0))
    outside = 5.0 + rng.normal(size=500)
    low, high = correction.interval(_bands(np.zeros(500), 1.0))
    assert np.mean((outside >= low) & (outside <= high)) < 0.1


def test_bad_input_is_refused():
    q = _bands(np.zeros(10), 1.0)
    with pytest.raises(InputError, match="do not fit"):
        conformal(np.zeros(9), q)
    with pytest.raises(InputError, match="only the bands"):
        conformal(np.zeros(10), q, 0.8)
    with pytest.raises(InputError, match="no calibration value"):
        conformal(np.full(10, np.nan), q)
    with pytest.raises(InputError, match="no width"):
        conformal(np.ones(10), np.zeros((5, 10)))
    with pytest.raises(InputError, match="first axis"):
        conformal(np.zeros(10), q[:4])


def test_a_half_without_width_stays_one():
    found = Conformal(0.9, np.inf, 3)
    low, high = found.interval(np.array([[0.0, 1.0], [0.5, 1.0], [1.0, 1.0], [2.0, 3.0], [2.5, 4.0]]))
    np.testing.assert_array_equal(low, [-np.inf, 1.0])
    np.testing.assert_array_equal(found.interval(np.ones((5, 1))), [[1.0], [1.0]])
    np.testing.assert_array_equal(high, [np.inf, np.inf])


def bands_of_two(controls):
    """Bands of E0 and E1 at controls (N,), as `Fit.predict` gives them."""
    middle = np.stack([controls, 10 + controls], axis=1)
    quantiles = np.stack([middle + w for w in (-1.0, -0.5, 0.0, 0.5, 1.0)])
    of = lambda x: {"latent": x, "predictive": x}
    outside = np.zeros(middle.shape, bool)
    return Bands(
        controls[:, None], ("g",), ("E0", "E1"), of(middle), of(0 * middle + 0.6), of(quantiles), outside
    )


class TestOfTables:
    controls = np.linspace(0, 1, 40)
    bands = bands_of_two(controls)
    values = bands.quantile(0.5) + np.random.default_rng(0).normal(scale=0.7, size=(40, 2))
    table = pd.DataFrame({"E1": values[:, 1], "E0": values[:, 0], "note": "x"})

    def test_columns_are_found_by_their_names(self):
        found = conformal(self.table, self.bands).factor
        assert found == conformal(self.values, self.bands).factor
        assert found == conformal({"E0": self.values[:, 0], "E1": self.values[:, 1]}, self.bands).factor

    def test_what_is_masked_is_missing(self):
        mask = np.zeros(self.values.shape, bool)
        mask[:3, 0] = True
        masked = np.ma.array(np.where(mask, 999.0, self.values), mask=mask)
        expected = conformal(np.where(mask, np.nan, self.values), self.bands)
        assert conformal(masked, self.bands) == expected
        assert expected.count == 77

    def test_one_output_may_be_flat(self):
        one = self.bands["E0"]
        assert conformal(self.table["E0"], one) == conformal(self.values[:, :1], one)

    def test_what_is_something_else_is_said(self):
        with pytest.raises(InputError, match=r"values come first; write conformal\(values, bands\)"):
            conformal(self.bands, self.values)
        with pytest.raises(InputError, match="column E0: expected real numbers"):
            conformal({"E0": ["a"] * 40, "E1": self.values[:, 1]}, self.bands)
        with pytest.raises(InputError, match="DataFrame is neither Bands nor an array"):
            conformal(self.values, self.bands).interval(self.bands.to_dataframe())
