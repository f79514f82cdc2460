"""Bands are stretched outside the data, by the stated factor, about their mean, and nowhere else."""

import dataclasses
import json

import numpy as np
import pytest
from line import Exact, line, predictive
from scipy import optimize

import bayes_pmm as bp
from bayes_pmm import arviz_io, doubts, predict
from bayes_pmm.data import Dataset
from bayes_pmm.defect import distances
from bayes_pmm.errors import InputError
from bayes_pmm.judging import mixture
from bayes_pmm.outputs import as_outputs
from bayes_pmm.widening import Widening, in_order, stretch

BEYOND = np.array([[1.0], [2.5], [4.0]])  # distance 0, 1/4 and 1 from rows on [0, 2]


def wide(rate, **options):
    """A line, which has no bend: its slope is the largest allowed, here ``rate`` or 0.6."""
    return dataclasses.replace(line(**options), widening=Widening(rate, most=0.6))


def test_factors_follow_the_distance_from_the_rows_of_each_output_and_the_bend():
    values = np.array(
        [[0.0, 1.0, 1.0], [1.0, np.nan, 1.0], [2.0, 2.0, 1.0], [3.0, 3.0, 1.0], [4.0, np.nan, 1.0]]
    )
    data = Dataset(np.arange(5.0)[:, None], values, None, ("g",), ("E0", "f1", "x"))
    outputs = as_outputs(["E0", "E1-E0", "<0|X|0>"])
    at = np.array([[-1.0], [2.5], [8.0]])
    root = np.sqrt([[0.25, 1 / 3, 0.0], [0.0, 0.0, 0.0], [1.0, 5 / 3, 0.0]])
    for bend, slope in ((0.1, 0.5), (0.05, 1.0), (0.01, 3.0), (0.0, 3.0)):
        found = Widening(0.05, most=3.0).factors(outputs, distances(data, at), bend)
        np.testing.assert_allclose(found, 1 + slope * root)
        np.testing.assert_allclose(
            Widening(0.05).factors(outputs, distances(data, at), bend), 1 + 0.05 * root
        )
    for none in (Widening(0.0), Widening(0.0, most=3.0)):
        np.testing.assert_array_equal(none.factors(outputs, distances(data, at), 0.1), np.ones((3, 3)))


def test_outside_bands_are_stretched_about_their_mean_and_inside_they_stay():
    plain, stretched = (bp.fit(wide(r), Exact(500), key=0).predict(BEYOND) for r in (0.0, 0.6))
    np.testing.assert_allclose(stretched.mean["latent"], plain.mean["latent"], rtol=1e-12)
    for values in ("sd", "quantiles"):
        a, b = getattr(plain, values)["latent"], getattr(stretched, values)["latent"]
        centre = 0.0 if values == "sd" else plain.mean["latent"]
        np.testing.assert_allclose(
            b[..., :, 0] - np.ravel(centre), (a[..., :, 0] - np.ravel(centre)) * [1, 1.3, 1.6]
        )
    np.testing.assert_array_equal(stretched.quantiles["latent"][:, 0], plain.quantiles["latent"][:, 0])


def test_with_a_largest_factor_the_more_the_data_bend_the_less_is_stretched():
    posterior = wide(0.06)
    x = posterior.data.controls
    outputs = np.random.default_rng(0).normal(size=(2, 50, 3, 1))
    for curve, straight in ((x, True), (x + 0.5 * x**2, False)):
        training = np.broadcast_to(curve, (2, 50, *curve.shape)) * posterior.scaling.spread[0]
        b = doubts.bend(posterior, training)[0]
        assert (b < 1e-9) == straight
        slope = 0.6 if straight else 0.06 / b
        assert slope <= 0.6
        found = predict.widened(posterior, outputs, BEYOND, training)
        factors = 1 + slope * np.sqrt([[0.0], [0.25], [1.0]])
        np.testing.assert_allclose(found.std((0, 1)), outputs.std((0, 1)) * factors)


def test_a_fit_speaks_of_stretched_bands_only_where_there_are_some():
    words = "bands outside the data stretched"
    assert words in str(bp.fit(wide(0.6), Exact(50), key=0))
    data = Dataset.from_columns({"g": [0.0, 1.0, 2.0]}, {"x": [0.1, 0.2, 0.4]})
    posterior = bp.Posterior(data, bp.PMM(["<0|A|0>"], dim=2), widening=Widening(0.6, most=0.6))
    few = bp.NUTS(chains=1, warmup=5, draws=8, starts=bp.AnnealedStarts(candidates=4))
    assert words not in str(bp.fit(posterior, few, key=0))


def test_chains_with_little_weight_do_not_move_the_centre():
    draws = np.random.default_rng(0).normal(size=(2, 50, 1, 1))
    draws[1] += 10.0
    found = stretch(draws, np.array([[2.0]]), np.array([1.0, 0.0]))
    centre = draws[0].mean()
    np.testing.assert_allclose(found, centre + 2 * (draws - centre))


def _draws(*columns):
    return np.stack(columns, axis=-1)[None, :, None, :]


def test_draws_out_of_order_move_to_the_nearest_in_order():
    rng = np.random.default_rng(0)
    y = rng.normal([0.0, 0.5, 1.0], [0.1, 1.0, 0.5], size=(200, 3))
    levels = as_outputs(["E0", "E1", "E2"])
    found = in_order(_draws(*y.T), levels, 5)[0, :, 0]
    assert (np.diff(found, axis=1) >= 0).all()
    kept = (np.diff(y, axis=1) >= 0).all(axis=1)
    np.testing.assert_array_equal(found[kept], y[kept])
    # Against a general solver, in the metric of the standard deviations.
    precision = 1 / y.var(0)
    ascending = {"type": "ineq", "fun": np.diff}
    for i in np.flatnonzero(~kept)[:20]:
        best = optimize.minimize(
            lambda x, i=i: np.sum(precision * (x - y[i]) ** 2),
            np.sort(y[i]),
            constraints=ascending,
            tol=1e-12,
        )
        np.testing.assert_allclose(found[i], best.x, atol=1e-4)
    # So every draw comes nearer to any truth that is in order.
    for truth in np.sort(rng.normal(size=(20, 3)), axis=1):
        before, after = (np.sum(precision * (v - truth) ** 2, axis=1) for v in (y, found))
        assert (after <= before + 1e-12).all()


@pytest.mark.filterwarnings("error")
def test_order_is_kept_whatever_the_unit():
    y = np.random.default_rng(0).normal([0.0, 0.5, 1.0], [0.1, 1.0, 0.5], size=(200, 3))
    levels = as_outputs(["E0", "E1", "E2"])
    found = in_order(_draws(*y.T), levels, 5)
    assert np.any(found != _draws(*y.T))
    for unit in (1e200, 1e-200):
        np.testing.assert_allclose(in_order(_draws(*(unit * y).T), levels, 5), unit * found, rtol=1e-9)


def test_order_follows_the_levels_and_not_the_columns():
    y = np.array([[2.0, 1.0], [1.0, 3.0]])
    top_first = in_order(_draws(*y.T), as_outputs(["E[-1]", "E0"]), 3)[0, :, 0]
    np.testing.assert_array_equal(top_first[0], y[0])
    assert top_first[1, 0] == top_first[1, 1]
    # Measured twice: nothing says which is the larger one.
    np.testing.assert_array_equal(in_order(_draws(*y.T), as_outputs(["E0", "E0"]), 3)[0, :, 0], y)


def test_lines_keep_their_sign_and_the_order_of_their_upper_levels():
    y = np.array([[-1.0, 2.0, 0.5], [1.0, -2.0, -0.5], [3.0, 1.0, -1.0]])
    lines = as_outputs(["E1-E0", "E2-E0", "E1-E2"])
    found = in_order(_draws(*y.T), lines, 4)[0, :, 0]
    assert (found[:, 0] >= 0).all()
    assert (found[:, 1] >= found[:, 0]).all()
    assert (found[:, 2] <= 0).all()
    np.testing.assert_array_equal(found[0], [0.0, 2.0, 0.0])
    np.testing.assert_array_equal(found[2, 2], -1.0)
    other = as_outputs(["<0|A|0>", "|<0|A|1>|^2", "E0"])
    np.testing.assert_array_equal(in_order(_draws(*y.T), other, 4)[0, :, 0], y)


def test_bands_of_a_fit_are_in_order():
    data = Dataset(
        np.arange(5.0)[:, None],
        np.stack([np.arange(5.0), np.arange(5.0) + 0.2], 1),
        None,
        ("g",),
        ("E0", "E1"),
    )
    posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=2), widening=Widening(4.0))
    rng = np.random.default_rng(1)
    outputs = np.sort(data.values[-1] + rng.normal(0, 0.1, size=(2, 100, 2, 2)), axis=-1)
    training = np.broadcast_to(data.values, (2, 100, 5, 2))
    found = predict.widened(posterior, outputs, np.array([[4.0], [9.0]]), training)
    np.testing.assert_array_equal(found[:, :, 0], outputs[:, :, 0])
    assert found[:, :, 1].std() > 2 * outputs[:, :, 1].std()
    assert (np.diff(found, axis=-1) >= 0).all()


def test_scores_see_the_stretched_band():
    fit = bp.fit(wide(0.6), Exact(), key=0)
    mean, _, weights = mixture(fit, BEYOND)
    samples = fit.sample(BEYOND).reshape(mean.shape)
    np.testing.assert_allclose(mean, samples)  # no floor: the latent value is the output
    exact = predictive(fit.posterior, BEYOND, np.zeros((3, 1)))
    # The standard deviation of S draws has the relative error 1/√(2S).
    np.testing.assert_allclose(
        samples.std(0)[:, 0], exact.std() * [1, 1.3, 1.6], rtol=4 / np.sqrt(2 * len(weights))
    )
    np.testing.assert_allclose(
        fit.sample(BEYOND, "model").std((0, 1))[:, 0], exact.std(), rtol=4 / np.sqrt(2 * 8000)
    )


def test_a_stored_fit_keeps_its_widening_and_an_older_file_has_none(tmp_path):
    fit = bp.fit(wide(0.6), Exact(50), key=0)
    fit.save(tmp_path / "fit.nc")
    again = bp.load(tmp_path / "fit.nc")
    assert again.posterior.widening == Widening(0.6, most=0.6)
    np.testing.assert_array_equal(again.sample(BEYOND), fit.sample(BEYOND))
    tree = arviz_io.read_tree(tmp_path / "fit.nc")
    about = json.loads(tree.attrs["bayes_pmm"])
    del about["widening"]
    tree.attrs["bayes_pmm"] = json.dumps(about)
    assert arviz_io.restore(tree)[0].widening == Widening(0.0)


def test_a_fit_stored_when_dilations_were_sites_is_read_without_them(tmp_path):
    fit = bp.fit(wide(0.6), Exact(50), key=0)
    fit.save(tmp_path / "fit.nc")
    tree = arviz_io.read_tree(tmp_path / "fit.nc")
    about = json.loads(tree.attrs["bayes_pmm"])
    about["sites"].append("dilation")
    tree.attrs["bayes_pmm"] = json.dumps(about)
    assert set(arviz_io.restore(tree)[1].sites) == set(fit.draws.sites)


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf])
def test_a_bad_rate_is_refused(rate):
    with pytest.raises(InputError, match="widening: rate"):
        Widening(rate)
