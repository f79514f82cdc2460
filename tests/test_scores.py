"""Scores against closed forms, their weights, and the table that judges a band inside and outside."""

import numpy as np
import pytest
from scipy import stats

from bayes_pmm.errors import InputError
from bayes_pmm.scores import LEVELS, coverage, crps, ece, interval_score, judge, log_score, pit, reliability


def test_coverage_counts_values_inside_the_central_interval():
    draws = np.repeat(np.linspace(0, 1, 1001)[:, None], 5, axis=1)
    truth = np.array([0.049, 0.051, 0.5, 0.949, 0.951])
    assert coverage(draws, truth, level=0.9) == pytest.approx(3 / 5)
    assert coverage(draws, truth, level=0.95) == 1.0
    truth[2] = np.nan
    assert coverage(draws, truth, level=0.9) == pytest.approx(2 / 4)


def test_coverage_along_axes_and_of_nothing():
    draws = np.repeat(np.linspace(0, 1, 101), 6).reshape(101, 3, 2)
    truth = np.array([[0.5, 2.0], [0.5, 0.5], [np.nan, 3.0]])
    np.testing.assert_allclose(coverage(draws, truth, axis=0), [1.0, 1 / 3])
    assert np.isnan(coverage(draws, truth, axis=1)[2]) is np.False_
    assert np.isnan(coverage(draws[:, :, :1], np.full((3, 1), np.nan)))


def test_crps_is_the_double_sum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=3)
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1))
    first = np.abs(x - y).mean(0)
    np.testing.assert_allclose(crps(x, y), first - pairs / (2 * 7 * 6), rtol=1e-12)
    np.testing.assert_allclose(crps(x, y, fair=False), first - pairs / (2 * 49), rtol=1e-12)


@pytest.mark.parametrize("y", [-2.0, 0.0, 1.5])
def test_fair_crps_of_few_normal_draws_is_unbiased(y):
    S, repeats = 5, 20_000
    x = np.random.default_rng(1).normal(size=(S, repeats))
    exact = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    scores = crps(x, np.full(repeats, y))
    error = scores.std() / np.sqrt(repeats)
    assert abs(scores.mean() - exact) < 4 * error
    # The unfair one is biased by E|x − x'|/(2S): the test sees it.
    assert abs(crps(x, np.full(repeats, y), fair=False).mean() - exact) > 4 * error


def test_crps_does_not_cancel_far_from_zero():
    x = np.random.default_rng(2).normal(size=(500, 1))
    np.testing.assert_allclose(crps(x + 1e9, np.array([1e9])), crps(x, np.array([0.0])), rtol=1e-5)


def test_interval_score_closed_form():
    draws = np.repeat(np.linspace(0, 1, 1001)[:, None], 3, axis=1)
    expected = [0.8 + 10 * 0.6, 0.8, 0.8 + 10 * 0.1]
    np.testing.assert_allclose(interval_score(draws, np.array([-0.5, 0.3, 1.0]), level=0.8), expected)


def test_scores_refuse_wrong_shapes_and_levels():
    with pytest.raises(InputError, match="do not fit"):
        crps(np.zeros((4, 2)), np.zeros(3))
    with pytest.raises(InputError, match="at least 2"):
        crps(np.zeros((1, 2)), np.zeros(2))
    with pytest.raises(InputError, match="not a probability"):
        coverage(np.zeros((4, 2)), np.zeros(2), level=90)


def _normal_draws(S, size, seed=6):
    return np.random.default_rng(seed).normal(size=(S, size))


def test_weights_are_repetitions():
    x, y = _normal_draws(6, 4), np.array([0.1, -0.4, 2.0, np.nan])
    w = np.array([1, 3, 0, 2, 1, 1])
    repeated = np.repeat(x, w, axis=0)
    np.testing.assert_allclose(crps(x, y, fair=False, weights=w), crps(repeated, y, fair=False), rtol=1e-12)
    np.testing.assert_allclose(pit(x, y, weights=w), pit(repeated, y), rtol=1e-12)
    np.testing.assert_allclose(pit(x, y, sd=0.3, weights=w), pit(repeated, y, sd=0.3), rtol=1e-12)
    np.testing.assert_allclose(log_score(x, y, sd=0.3, weights=w), log_score(repeated, y, sd=0.3), rtol=1e-12)
    # Quantiles of repeated draws, without interpolation.
    low, high = np.quantile(repeated, [0.05, 0.95], axis=0, method="inverted_cdf")
    expected = high - low + 20 * (np.maximum(low - y, 0) + np.maximum(y - high, 0))
    np.testing.assert_allclose(interval_score(x, y, weights=w), expected)
    assert coverage(x, y, weights=w) == np.mean((y >= low)[:3] & (y <= high)[:3])


def test_equal_weights_change_nothing():
    x, y = _normal_draws(50, 3), np.array([0.1, -0.4, 2.0])
    for score in (coverage, crps, interval_score, log_score, pit):
        np.testing.assert_allclose(score(x, y, weights=np.full(50, 7.0)), score(x, y), rtol=1e-12)


@pytest.mark.parametrize("y", [-2.0, 0.0, 6.0])
def test_log_score_and_pit_of_a_mixture_are_closed_forms(y):
    # Means N(0, 1) and known sd 0.5 are a normal of variance 1.25; nodes of a quadrature stand for draws.
    means, w = np.polynomial.hermite_e.hermegauss(100)
    law = stats.norm(0, np.sqrt(1.25))
    np.testing.assert_allclose(log_score(means, y, sd=0.5, weights=w), law.logpdf(y), atol=1e-6)
    np.testing.assert_allclose(pit(means, y, sd=0.5, weights=w), law.cdf(y), atol=1e-9)


def test_kernel_log_score_is_right_in_the_bulk_and_follows_units():
    x = _normal_draws(20_000, 1)
    for y in (0.0, 1.0):
        assert log_score(x, np.array([y]))[0] == pytest.approx(stats.norm.logpdf(y), abs=0.03)
    scaled = log_score(1e6 * x + 3, np.array([1e6 + 3]))
    np.testing.assert_allclose(scaled, log_score(x, np.array([1.0])) - np.log(1e6), rtol=1e-9)


def test_log_score_far_away_is_finite_and_needs_a_width():
    x = _normal_draws(100, 1)
    assert log_score(x, np.array([1e3]), sd=0.1)[0] < -1e6
    assert np.isfinite(log_score(x, np.array([1e3])))
    with pytest.raises(InputError, match="no density"):
        log_score(np.ones((4, 1)), np.ones(1))
    with pytest.raises(InputError, match="no density"):
        log_score(x, np.ones(1), sd=0.0)


def test_pit_is_uniform_for_a_right_band_and_counts_ties_half():
    rng = np.random.default_rng(7)
    # Truth and draws of one law each: the rank of the truth among 999 draws is uniform.
    u = pit(rng.normal(size=(999, 2000)), rng.normal(size=2000))
    assert stats.kstest(u, "uniform").pvalue > 0.01
    narrow = pit(0.5 * rng.normal(size=(999, 2000)), rng.normal(size=2000))
    assert stats.kstest(narrow, "uniform").pvalue < 1e-6
    assert pit(np.array([0.0, 1.0, 1.0, 2.0]), 1.0) == 0.5


def test_reliability_and_calibration_error():
    u = (np.arange(1000) + 0.5) / 1000
    np.testing.assert_allclose(reliability(u), LEVELS, atol=1e-3)
    assert ece(u) < 1e-3
    # Everything in the middle of the band: coverage 1 at each level.
    assert ece(np.full(5, 0.5)) == pytest.approx(np.mean(1 - np.array(LEVELS)))
    assert ece(np.array([0.0, 1.0, np.nan])) == pytest.approx(np.mean(LEVELS))
    assert np.isnan(ece([np.nan]))
    np.testing.assert_allclose(reliability([0.05, 0.95, 0.5], [0.9]), [1.0])
    with pytest.raises(InputError, match="levels"):
        reliability(u, [1.5])


def test_calibration_error_of_few_values_is_what_its_docstring_says():
    u = np.random.default_rng(8).random((3000, 50))
    assert np.mean([ece(row) for row in u]) == pytest.approx(0.34 / np.sqrt(50), rel=0.05)


def test_judge_separates_inside_from_outside_and_has_the_scores_of_each():
    rng = np.random.default_rng(9)
    x = rng.normal(size=(400, 6, 2)) * [1.0, 100.0]
    y = rng.normal(size=(6, 2)) * [1.0, 100.0]
    y[4:] += [[5.0, 500.0]]
    y[1, 1] = np.nan
    outside = np.arange(6)[:, None] >= 4
    w = rng.random(400)
    table = judge(x, y, outside, w, spread=[1.0, 100.0])
    inside = table.table["inside"]
    assert inside["count"] == 7
    assert table.table["outside"]["count"] == 4
    assert table.table["outside"]["coverage_90"] < inside["coverage_90"]
    unit = np.array([1.0, 100.0])
    assert inside["crps"] == pytest.approx(np.nanmean((crps(x, y, weights=w) / unit)[:4]))
    assert inside["interval_score_90"] == pytest.approx(
        np.nanmean((interval_score(x, y, weights=w) / unit)[:4])
    )
    assert inside["log_score"] == pytest.approx(np.nanmean(log_score(x / unit, y / unit, weights=w)[:4]))
    assert inside["coverage_90"] == pytest.approx(coverage(x[:, :4], y[:4], weights=w))
    assert inside["ece"] == pytest.approx(ece(pit(x, y, weights=w)[:4]))
    error = (np.average(x, axis=0, weights=w) - y) / unit
    assert table.table["outside"]["bias"] == pytest.approx(error[4:].mean())
    assert table.table["outside"]["rmse"] == pytest.approx(np.sqrt(np.mean(error[4:] ** 2)))
    frame = table.to_dataframe()
    assert frame.loc["outside", "rmse"] == pytest.approx(table.table["outside"]["rmse"])
    assert "coverage_90" in str(table)


def test_judge_of_an_empty_region_is_nan_and_not_a_number():
    table = judge(_normal_draws(10, 3), np.zeros(3), False).table
    assert table["outside"]["count"] == 0
    assert all(np.isnan(v) for k, v in table["outside"].items() if k != "count")
    assert not any(np.isnan(v) for v in table["inside"].values())


def test_bad_weights_and_units_are_refused():
    x, y = _normal_draws(4, 2), np.zeros(2)
    for w in (np.ones(3), [-1, 1, 1, 1], [np.nan, 1, 1, 1], [0, 0, 0, 1]):
        with pytest.raises(InputError, match="weights"):
            crps(x, y, weights=w)
    with pytest.raises(InputError, match="spread"):
        judge(x, y, False, spread=0.0)


@pytest.mark.parametrize("score", [pit, crps, coverage, log_score, interval_score])
def test_draws_that_are_not_finite_are_refused(score):
    draws = np.random.default_rng(0).normal(size=(10, 2))
    draws[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        score(draws, np.zeros(2))
