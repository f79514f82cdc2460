"""One object with all groups, opened by the installed ArviZ, whichever generation it is."""

import json

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import bayes_pmm as bp
from bayes_pmm import arviz_io
from bayes_pmm.convergence import import_arviz, rhat_and_ess

mpl.use("Agg")
az = import_arviz()
pytestmark = pytest.mark.arviz
OLD = not hasattr(az, "loo_moment_match")

GROUPS = {
    "posterior", "sample_stats", "log_likelihood", "log_prior", "posterior_predictive", "predictions", "prior",
    "prior_predictive", "observed_data", "constant_data", "predictions_constant_data",
}  # fmt: skip


@pytest.fixture(scope="module")
def fits():
    """Fits of dimension 2 and 3 to the same data, with a missing cell."""
    problem = bp.problems.get("exceptional_point")
    data = problem.dataset(noise=2e-2, seed=0, missing=np.arange(len(problem.train) * 2).reshape(-1, 2) == 3)
    result = []
    for dim in (2, 3):
        posterior = bp.Posterior(data, bp.PMM(tuple(problem.outputs.values()), dim=dim))
        result.append(
            bp.fit(posterior, bp.NUTS(chains=2, warmup=150, draws=150), key=0, controls=problem.outside)
        )
    return result


def test_groups_and_flat_observations(fits):
    tree = fits[0].tree
    assert set(tree.children) >= GROUPS
    data = fits[0].posterior.data
    assert tree["observed_data"]["y"].dims == ("obs_id",)
    assert tree["observed_data"].sizes["obs_id"] == data.n_observed == 2 * data.n_rows - 1
    for name in (*data.control_names, "output"):
        assert tree["observed_data"].coords[name].dims == ("obs_id",)
    for group in ("log_likelihood", "posterior_predictive"):
        assert tree[group]["y"].dims == ("chain", "draw", "obs_id")
    assert list(tree["posterior_predictive"].data_vars) == ["y"]
    rows, columns = np.nonzero(data.mask)
    np.testing.assert_array_equal(tree["observed_data"]["y"].values, data.values[rows, columns])


def test_summary_says_which_output_and_where(fits):
    data = fits[0].posterior.data
    labels = list(tree_labels(fits[0], "posterior", "obs_id"))
    assert labels[:2] == [
        f"{n} at {data.control_names[0]} = {data.controls[0, 0]:.6g}" for n in data.output_names
    ]
    assert len(set(labels)) == data.n_observed
    assert list(az.summary(fits[0].idata, var_names=["model"]).index) == [
        f"model[{label}]" for label in labels
    ]
    assert len(set(tree_labels(fits[0], "predictions", "pred_id"))) == len(
        fits[0].tree["predictions"]["pred_id"]
    )


def tree_labels(fit, group, dim):
    return fit.tree[group][dim].values


def test_labels_of_repeated_measurements_differ():
    data = bp.Dataset.from_columns({"g": [0.5, 0.5, 1.0]}, {"E0": [1.0, 1.1, 2.0]})
    labels = arviz_io._labels(data, data.controls, np.arange(3), np.zeros(3, int))
    assert labels.tolist() == ["E0 at g = 0.5", "E0 at g = 0.5 (2)", "E0 at g = 1"]


def test_log_likelihood_is_the_posteriors_own(fits):
    fit = fits[0]
    rows, columns = np.nonzero(fit.posterior.data.mask)
    one = {k: v[1, 7] for k, v in fit.draws.sites.items()}
    expected = np.asarray(fit.posterior.pointwise(one))[rows, columns]
    np.testing.assert_allclose(fit.tree["log_likelihood"]["y"].values[1, 7], expected, rtol=1e-10)


def test_log_prior_by_site_is_the_posteriors_own(fits):
    fit = fits[1]
    group = fit.tree["log_prior"].dataset
    assert set(group.data_vars) == set(fit.draws.sites)
    one = {k: v[1, 7] for k, v in fit.draws.sites.items()}
    scale, medians = one["scale"], fit.posterior.matrix_prior.hyperparameters()
    expected = stats.lognorm(s=medians[1], scale=medians[0]).logpdf(scale).sum()
    np.testing.assert_allclose(group["scale"].values[1, 7], expected, rtol=1e-10)
    # All of them together, with the Jacobians of logarithms (a floor's is of what is above the least) and soft gaps.
    above = one["floor"] - np.asarray(fit.posterior.scaling.least_floor)
    jacobian = np.log(scale).sum() + np.log(above).sum() + np.log1p(-np.exp(-one["gaps"])).sum()
    whole = float(fit.posterior.log_prior(fit.posterior.unconstrain(one)))
    total = sum(float(v.values[1, 7]) for v in group.data_vars.values())
    np.testing.assert_allclose(total + jacobian, whole, rtol=1e-9)


def test_power_scaling_of_the_prior(fits):
    idata = fits[0].idata
    if OLD:
        found = az.psens(idata, component="prior", component_var_names=["scale"], var_names=["trace"])
        assert np.isfinite(found["trace"].values if hasattr(found, "data_vars") else found.values).all()
    else:
        table = az.psense_summary(idata, var_names=["trace"], prior_var_names=["scale"])
        assert np.isfinite(table["prior"].astype(float)).all()


def test_summary_loo_and_compare(fits):
    summary = az.summary(fits[0].idata, var_names=["model", "floor"])
    assert len(summary) == fits[0].posterior.data.n_observed + 2
    loo = [az.loo(f.idata, pointwise=True) for f in fits]
    elpd = [float(x["elpd_loo"] if OLD else x.elpd) for x in loo]
    assert np.isfinite(elpd).all()
    table = az.compare({"n=2": fits[0].idata, "n=3": fits[1].idata})
    assert set(table.index) == {"n=2", "n=3"}


def test_plots_open(fits):
    idata = fits[0].idata
    if OLD:
        az.plot_trace(idata, var_names=["floor"])
        az.plot_ppc(idata)
    else:
        az.plot_trace(idata, var_names=["floor"])
        az.plot_ppc_dist(idata)
        az.plot_ppc_pit(idata)


def test_save_and_load_give_the_same_fit(fits, tmp_path):
    fit = fits[0]
    path = tmp_path / "fit.nc"
    fit.save(path)
    again = bp.load(path)
    new = fit.controls
    np.testing.assert_array_equal(
        again.predict(new).quantiles["latent"], fit.predict(new).quantiles["latent"]
    )
    np.testing.assert_array_equal(again.sample(new, "predictive"), fit.sample(new, "predictive"))
    np.testing.assert_array_equal(again.controls, new)
    assert again.diagnosis == fit.diagnosis
    assert str(again) == str(fit)
    before = path.read_bytes()
    with pytest.raises(bp.InputError, match="exists already"):
        fit.save(path)
    assert path.read_bytes() == before


def test_a_file_of_an_earlier_version_keeps_its_prior(fits):
    tree = fits[0].tree.copy()
    about = json.loads(tree.attrs["bayes_pmm"])
    for name in ("terms_unit", "growth", "centre"):  # options that did not exist
        del about["prior"][name]
    tree.attrs["bayes_pmm"] = json.dumps(about)
    prior = arviz_io.restore(tree)[0].prior
    assert (prior.terms_unit, prior.growth, prior.centre) == ("spread", 0.0, "all")


def test_arviz_opens_the_stored_file(fits, tmp_path):
    path = tmp_path / "fit.nc"
    fits[0].save(path)
    stored = az.from_netcdf(path)
    np.testing.assert_array_equal(
        stored["posterior"]["model"].values, fits[0].tree["posterior"]["model"].values
    )
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert set(tree.children) >= GROUPS


def test_rhat_and_ess_against_known_chains():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4, 1000, 3))
    draws[0, :, 1] += 1.0
    draws[:, :, 2] = 7.0
    rhat, ess = rhat_and_ess(draws)
    assert rhat[0] < 1.01
    assert ess[0] > 2000
    assert rhat[1] > 1.05
    assert np.isnan(rhat[2])
    assert np.isnan(ess[2])
    # A half of a single chain needs four draws too.
    for few in (rng.normal(size=(2, 3, 1)), rng.normal(size=(1, 7, 1))):
        assert np.isnan(rhat_and_ess(few)).all()
    assert np.isfinite(rhat_and_ess(rng.normal(size=(1, 8, 1)))).all()
