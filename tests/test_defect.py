"""The defect: zero inside, growing outside, its scale learned from rows that are left out."""

import dataclasses

import jax
import numpy as np
import pytest
from line import Exact, line

import bayes_pmm as bp
from bayes_pmm.data import Dataset
from bayes_pmm.defect import Defect, Growth, distances, scale_posterior
from bayes_pmm.defect_learning import learn_defect, with_defect
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.hull import distance_to_hull

SQUARE = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 0.5]])


def test_distance_to_a_hull():
    where = np.array([[4.0, 0.5], [1.0, 0.2], [3.0, 2.0], [2.0, 1.0], [-0.5, 0.5]])
    np.testing.assert_allclose(distance_to_hull(SQUARE, where), [2.0, 0.0, np.sqrt(2), 0.0, 0.5], atol=1e-7)
    np.testing.assert_allclose(distance_to_hull(SQUARE[:, :1], where[:, :1]), [2.0, 0, 1, 0, 0.5], atol=1e-12)
    # A flat hull: the diagonal of the plane.
    flat = np.array([[0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(distance_to_hull(flat, np.array([[1.0, 0.0], [2.0, 2.0]])), [0.5**0.5, 2**0.5])


def test_distances_are_in_ranges_of_the_rows_in_which_the_output_was_seen():
    values = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 2.0], [3.0, 3.0], [4.0, np.nan]])
    data = Dataset(np.arange(5.0)[:, None], values, None, ("g",), ("E0", "E1"))
    found = distances(data, np.array([[-1.0], [2.5], [6.0]]))
    np.testing.assert_allclose(found, [[0.25, 1 / 3], [0.0, 0.0], [0.5, 1.0]])


def test_draws_vanish_inside_and_have_the_stated_covariance_outside():
    data = line().data
    growth = Growth(power=1.5, length=1.0, prior=0.1)
    defect = Defect((0.0, 0.4), (0.25, 0.75), growth)
    controls = np.array([[1.0], [3.0], [4.0]])  # distance 0, 1/2 and 1 from rows on [0, 2]
    kernels = [growth.covariance(data, controls, 0)]
    x = defect.sample(kernels, np.array([2.0]), (4, 5000), jax.random.key(0))
    assert x.shape == (4, 5000, 3, 1)
    assert np.all(x[:, :, 0] == 0)
    flat = x.reshape(-1, 3)[:, 1:]
    kappa2 = 0.75 * 0.4**2
    expected = (
        kappa2 * 4.0 * np.array([[0.5**3, 0.5**1.5 * np.exp(-0.125)], [0.5**1.5 * np.exp(-0.125), 1.0]])
    )
    # The kurtosis of this mixture of normals is 4.
    tolerance = 4 * np.sqrt((4 - 1) / len(flat)) * np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.all(np.abs(flat.T @ flat / len(flat) - expected) < tolerance)
    again = defect.sample(kernels, np.array([2.0]), (4, 5000), jax.random.key(0))
    np.testing.assert_array_equal(x, again)


def test_the_correlation_length_is_in_ranges_of_the_outputs_own_rows():
    """Neither the rows of another output nor a row without any value change it."""
    c = np.array([0.0, 0.5, 1.0, 10.0, 1000.0])
    values = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [np.nan, 3.0], [np.nan, np.nan]])
    at = np.array([[2.0], [5.0]])
    K = Growth(length=1.0).covariance(Dataset(c[:, None], values, None, ("g",), ("E0", "E1")), at, 0)
    assert K[0, 1] / np.sqrt(K[0, 0] * K[1, 1]) == pytest.approx(np.exp(-4.5))
    np.testing.assert_allclose(
        distances(Dataset(c[:, None], values, None, ("g",), ("E0", "E1")), at)[:, 0], [1, 4]
    )


def test_the_scale_of_simulated_residuals_is_recovered():
    data, growth, rng = line().data, Growth(prior=0.2), np.random.default_rng(0)
    controls = np.array([[2.5], [3.0], [3.5]])
    K, C = growth.covariance(data, controls, 0), 1e-4 * np.eye(3)
    truth = 0.3

    def residuals(kappa):
        root = np.linalg.cholesky(C + kappa**2 * K)
        return [root @ rng.normal(size=3) for _ in range(200)]

    found = scale_posterior(growth, residuals(truth), [C] * 200, [K] * 200)
    # 200 vectors, each with one number that matters at least: the relative error is below 1/√400.
    assert found.scale == pytest.approx(truth, rel=4 / np.sqrt(400) + 0.1)  # the grid's steps are 19 %
    none = scale_posterior(growth, residuals(0.0), [C] * 200, [K] * 200)
    assert none.scale < 0.01
    nothing = scale_posterior(growth, [], [], [])
    assert nothing.scale == pytest.approx(growth.prior, rel=0.2)  # the half-Cauchy's median


@pytest.mark.parametrize("noise", [1e-3, 1e-6, 1e-9])
def test_almost_exact_residuals_of_dense_and_repeated_rows_have_a_scale(noise):
    data, growth, rng = line().data, Growth(prior=0.2), np.random.default_rng(0)
    for controls in (np.linspace(2.2, 3.5, 9)[:, None], np.repeat([[2.5], [3.0], [3.5]], 3, axis=0)):
        K, C = growth.covariance(data, controls, 0), noise**2 * np.eye(9)
        w, v = np.linalg.eigh(K)
        root = v * np.sqrt(np.clip(w, 0.0, None))
        r = [0.3 * root @ rng.normal(size=9) + noise * rng.normal(size=9) for _ in range(100)]
        assert scale_posterior(growth, r, [C] * 100, [K] * 100).scale == pytest.approx(0.3, rel=0.25)
        none = scale_posterior(growth, [noise * rng.normal(size=9) for _ in range(100)], [C] * 100, [K] * 100)
        assert none.scale < max(10 * noise, 0.01)


def test_a_wrong_model_learns_a_defect_and_a_right_one_does_not():
    right = line(n=20, size=0.005)
    data = right.data
    bent = Dataset(
        data.controls,
        data.values + 0.5 * data.controls**2,
        data.errors,
        data.control_names,
        data.output_names,
    )
    wrong = dataclasses.replace(right, data=bent, scaling=None)
    good, bad = (learn_defect(p, Exact(), key=0) for p in (right, wrong))
    assert good.scale < 0.05 < 0.2 < bad.scale
    # A straight line through a parabola leaves 0.5 d² of curvature outside, and the widened band reaches it.
    beyond = np.array([[2.5], [3.0]])
    truth = (1.5 - 0.8 * beyond + 0.5 * beyond**2)[:, 0]
    plain = bp.fit(wrong, Exact(), key=1, controls=beyond)
    wide = with_defect(plain, bad)
    distance = [
        np.abs(b.mean["latent"][:, 0] - truth) / b.sd["latent"][:, 0]
        for b in (plain.predict(beyond), wide.predict(beyond))
    ]
    assert np.all(distance[0] > 30)
    assert np.all(distance[1] < 3)
    inside = data.controls[5:8]
    np.testing.assert_array_equal(
        plain.predict(inside).quantiles["latent"], wide.predict(inside).quantiles["latent"]
    )
    assert "defect" in str(wide)
    assert "defect" not in str(plain)
    assert wide.predict(beyond).doubts["defect"].all()
    # Known errors alone tell that much too, and a right model is not doubted.
    assert plain.predict(beyond).doubts["defect"].all()
    assert any("times their known errors" in reason for reason in plain.reasons)
    fine = bp.fit(right, Exact(), key=1, controls=beyond)
    assert not fine.predict(beyond).doubts["defect"].any()
    assert not any("known errors" in reason for reason in fine.reasons)


def test_a_stored_fit_keeps_its_defect(tmp_path):
    fit = with_defect(bp.fit(line(), Exact(50), key=0), Defect((0.0, 0.4), (0.25, 0.75)))
    fit.save(tmp_path / "fit.nc")
    again = bp.load(tmp_path / "fit.nc")
    assert again.defect == fit.defect
    beyond = np.array([[3.0]])
    np.testing.assert_array_equal(again.sample(beyond), fit.sample(beyond))


def test_a_refit_that_failed_is_reported():
    with pytest.warns(UserWarning, match="refit without the upper end of g is failed"):
        learn_defect(line(), Exact(10), key=0)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="must be positive"):
        Growth(power=0.0)
    with pytest.raises(InputError, match="add up to 1"):
        Defect((0.1, 0.2), (0.1, 0.2))
    with pytest.raises(InputError, match=r"growth = 0\.5 is no Growth"):
        learn_defect(line(), Exact(), growth=0.5, key=0)
    with pytest.raises(BayesPMMError, match="no outermost rows"):
        learn_defect(line(n=3), Exact(), share=0.9, key=0)
