"""Stored fits: names that netCDF does not take, bases, and disks that are full."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from line import line

import bayes_pmm as bp
from bayes_pmm.inference.protocol import Draws, silent


class Anything:
    """Draws that are no posterior's, since what is tested is what becomes of them."""

    def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
        rng, terms = np.random.default_rng(0), posterior.matrix_prior.n_matrices
        sites = {"anchor": rng.normal(size=(2, 10)), "shift": rng.normal(size=(2, 10, terms - 1))}
        return Draws(sites, {}, {"sampler": "none", "chains": 2, "draws": 10, "seconds": 0.0})


def fit_of(names, basis=None):
    rng = np.random.default_rng(len(names))
    data = bp.Dataset(
        rng.normal(size=(6, len(names))), rng.normal(size=(6, 1)), np.ones((6, 1)), names, ["E0"]
    )
    pmm = bp.PMM(["E0"], dim=1, basis=bp.Affine() if basis is None else basis)
    posterior = bp.Posterior(data, pmm, bp.Prior(scale_spread=0.0), bp.Noise(floor=False))
    return bp.fit(posterior, Anything(), key=0, controls=rng.normal(size=(3, len(names))))


@pytest.mark.parametrize(
    "names",
    [
        ["y", "error", "latent", "output", "output_index", "obs_id", "pred_id", "chain", "draw", "chain_"],
        ["U/W", "J/t", "J_t", "c_J_t", "/", "."],
        ["x", "c_x", "c_c_x", "c_y", "y"],
    ],
    ids=" ".join,
)
def test_controls_of_any_name_are_stored(names, tmp_path):
    fit = fit_of(names)
    fit.save(tmp_path / "fit.nc")
    again = bp.load(tmp_path / "fit.nc")
    assert again.posterior.data.control_names == tuple(names)
    np.testing.assert_array_equal(again.posterior.data.controls, fit.posterior.data.controls)
    np.testing.assert_array_equal(again.controls, fit.controls)
    for group, dim in (("observed_data", "obs_id"), ("predictions", "pred_id")):
        # One for each control beside the cell's number and the output.
        coords = [c for c in fit.tree[group].coords.values() if c.dims == (dim,)]
        assert len(coords) == 2 + len(names)


def test_ordinary_names_stay():
    tree = fit_of(["g", "h"]).tree
    assert {"g", "h", "c_g", "c_h"} <= set(tree["constant_data"].variables)
    assert {"g", "h", "c_g", "c_h"} <= set(tree["predictions_constant_data"].variables)


def root(c):
    return jnp.stack([jnp.ones_like(c[:, 0]), jnp.sqrt(1 + c[:, 0] ** 2)], axis=1)


class Nameless(bp.Basis):
    def __call__(self, c):
        return root(c)


def test_a_custom_basis_is_known_by_its_name_and_terms(tmp_path):
    path = tmp_path / "fit.nc"
    fit_of(["g"], bp.Custom(root, name="root")).save(path)
    assert bp.load(path, bp.Custom(root, name="root")).posterior.pmm.basis.name == "root"
    three = bp.Custom(lambda c: jnp.concatenate([root(c), c], axis=1), name="root")
    for other in (bp.Custom(root, name="square"), three, bp.Affine(), "root"):
        with pytest.raises(
            bp.InputError, match=r"fit\.nc: the fit's basis is 'root' with 2 terms, and basis = "
        ):
            bp.load(path, other)
    with pytest.raises(bp.InputError, match=r"pass basis= when loading it"):
        bp.load(path)


def test_a_custom_basis_with_other_values_is_refused(tmp_path):
    path = tmp_path / "fit.nc"
    fit_of(["g"], bp.Custom(root)).save(path)
    assert bp.load(path, bp.Custom(root)).posterior.pmm.basis.function is root
    other = bp.Custom(lambda c: jnp.stack([jnp.ones_like(c[:, 0]), jnp.exp(-c[:, 0])], axis=1))
    with pytest.raises(bp.InputError, match="has other terms at the training controls"):
        bp.load(path, other)


def test_a_basis_that_is_not_needed_must_be_the_stored_one(tmp_path):
    path = tmp_path / "fit.nc"
    fit_of(["g"]).save(path)
    assert bp.load(path, bp.Affine()).posterior.pmm.basis == bp.Affine()
    for other in (bp.Polynomial(2), bp.Custom(root), bp.InversePowers(1)):
        with pytest.raises(bp.InputError, match="the fit's basis is 'affine' with 2 terms"):
            bp.load(path, other)


def test_a_basis_without_a_name_is_taken_by_its_terms(tmp_path):
    path = tmp_path / "fit.nc"
    fit_of(["g"], Nameless()).save(path)
    assert isinstance(bp.load(path, Nameless()).posterior.pmm.basis, Nameless)


def test_weights_labels_and_keys_come_back(tmp_path):
    c = np.linspace(0, 1, 6)[:, None]
    labels = [f"line {i}" for i in range(2, 8)]
    data = bp.Dataset(c, c, np.ones((6, 1)), ["g"], ["E0"], "levels.csv", labels)
    posterior = bp.Posterior(data, bp.PMM(["E0"], dim=1), bp.Prior(scale_spread=0.0), bp.Noise(floor=False))
    fit = bp.fit(posterior, Anything(), key=jax.random.key(3, impl="rbg"))
    modes = [{"chains": [0], "mass": 0.75}, {"chains": [1], "mass": 0.25}]
    fit = dataclasses.replace(
        fit, draws=dataclasses.replace(fit.draws, info=fit.draws.info | {"modes": modes})
    )
    fit.save(tmp_path / "fit.nc")
    again = bp.load(tmp_path / "fit.nc")
    assert again.posterior.data.source == "levels.csv"
    assert again.posterior.data.row_labels == tuple(labels)
    np.testing.assert_array_equal(jax.random.key_data(again.key), jax.random.key_data(fit.key))
    np.testing.assert_allclose(again.weights, [1.5, 0.5])
    assert again.draws.stats == {}
    np.testing.assert_array_equal(again.predict([[2.0]]).mean["latent"], fit.predict([[2.0]]).mean["latent"])
    # ArviZ does not know of modes; what it needs is among the statistics.
    with pytest.warns(UserWarning, match="ArviZ pools them"):
        statistics = again.idata["sample_stats"]
    np.testing.assert_allclose(statistics["weight"].values[:, 0], [1.5, 0.5])


def test_a_fit_with_numpys_numbers_is_stored(tmp_path):
    posterior = line()
    pmm = bp.PMM(["E0"], dim=np.int64(1), basis=bp.Fourier(np.int64(1), np.float64(2.0)))
    fit = bp.fit(
        bp.Posterior(posterior.data, pmm, posterior.prior, posterior.noise), Anything(), key=np.int64(0)
    )
    fit.save(tmp_path / "fit.nc")
    assert bp.load(tmp_path / "fit.nc").posterior.pmm == bp.PMM(["E0"], dim=1, basis=bp.Fourier(1, 2.0))
