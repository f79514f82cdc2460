"""The uniformity test, and the structure of small calibration runs under the prior and given data."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayes_pmm import calibration
from bayes_pmm.calibration import _twice, labels, ranks, sbc, uniformity
from bayes_pmm.data import Dataset
from bayes_pmm.diagnostics import Diagnosis
from bayes_pmm.errors import InputError
from bayes_pmm.fit import Fit, fit
from bayes_pmm.inference import NUTS, Draws
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.simulation import _Simulated


def _ranks(pit, n_ranks=100):
    return np.minimum((pit * n_ranks).astype(int), n_ranks - 1)


def test_uniformity_has_its_nominal_size():
    rng = np.random.default_rng(3)
    u = uniformity(rng.integers(0, 100, size=(300, 4000)), 100)
    for p in (u.chi2, u.smooth):
        assert abs(np.mean(p < 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000)
    # 50 families of 80 quantities, 160 tests each: few of them are rejected at 5 %.
    rejected = [
        not uniformity(rng.integers(0, 100, size=(300, 80)), 100, alpha=0.05).uniform for _ in range(50)
    ]
    assert sum(rejected) <= 8


@pytest.mark.parametrize("n_ranks", [2, 7, 100])
def test_smooth_statistic_is_exact_for_any_number_of_ranks(n_ranks):
    # Every rank equally often: no deviation at all.
    u = uniformity(np.tile(np.arange(n_ranks), 100), n_ranks)
    assert u.smooth == pytest.approx(1.0)
    assert u.chi2 > 0.5
    assert u.uniform


WRONG = {
    "too narrow": lambda r: stats.norm.cdf(1.5 * r.normal(size=250)),
    "too wide": lambda r: stats.norm.cdf(0.7 * r.normal(size=250)),
    "shifted": lambda r: stats.norm.cdf(0.4 + r.normal(size=250)),
    "stuck": lambda r: r.integers(0, 2, size=250) * 1.0,
}


@pytest.mark.parametrize("name", WRONG)
def test_uniformity_rejects(name):
    rng = np.random.default_rng(4)
    r = rng.integers(0, 100, size=(250, 20))
    assert uniformity(r, 100).uniform
    r[:, 7] = _ranks(WRONG[name](rng))
    u = uniformity(r, 100)
    assert not u.uniform
    assert np.flatnonzero(u.adjusted < u.alpha).tolist() == [7]


def test_a_bump_is_seen_by_bins_alone():
    rng = np.random.default_rng(5)
    pit = np.where(rng.random(400) < 0.5, rng.random(400) * 0.05 + 0.2, rng.random(400))
    pit = np.where(rng.random(400) < 0.5, 1 - pit, pit)
    assert uniformity(_ranks(pit), 100).chi2 < 1e-6


def test_uniformity_refuses_what_is_no_rank():
    for wrong in (np.array([0, 100]), np.array([-1, 3]), np.array([0.5, 0.2])):
        with pytest.raises(InputError, match="ranks must be integers"):
            uniformity(wrong, 100)
    with pytest.raises(InputError, match="5 data sets a bin"):
        uniformity(np.arange(9), 100)


@pytest.fixture(scope="module")
def small():
    c = np.linspace(-1, 1, 5)[:, None]
    y = np.array([[-1.0, 0.9], [-0.8, 1.0], [-0.6, np.nan], [-0.7, 1.1], [-0.9, 1.4]])
    data = Dataset(c, y, np.full((5, 2), 0.2), ("g",), ("E0", "E1"))
    return Posterior(data, PMM(["E0", "E1"], dim=2), Prior(), Noise(floor_scale=0.3))


@pytest.fixture(scope="module")
def tree(small):
    return sbc(
        small,
        key=jax.random.key(0),
        n_datasets=6,
        controls=[[2.0]],
        n_ranks=10,
        warmup=60,
        draws=95,
        rounds=2,
    )


def test_sbc_gives_integer_ranks_in_the_form_of_simuk(tree, small):
    group = tree["prior_sbc"].to_dataset()
    sizes = {"output": (12,), "floor": (2,), "scale": (2,), "log_likelihood": ()}
    assert set(group.data_vars) == set(sizes)
    for name, tail in sizes.items():
        assert group[name].dims[:2] == ("chain", "draw")
        assert group[name].shape == (1, 6, *tail)
        assert group[name].dtype.kind == "i"
        assert int(group[name].min()) >= 0
        assert int(group[name].max()) <= 9
    assert group["sbc_output"].values.tolist() == ["E0", "E1"] * 6
    np.testing.assert_array_equal(group["controls"].values[::2, 0], [*small.data.controls[:, 0], 2.0])
    assert group["added"].values.tolist() == [0] * 10 + [1, 1]
    assert group.attrs["n_ranks"] == 10
    assert ranks(tree).shape == (6, 17)
    assert labels(group)[:3] == ["floor E0", "floor E1", "log_likelihood"]
    assert labels(group)[3] == "E0 at -1"
    # Not all the same: the ranks are of different data sets.
    assert len(np.unique(ranks(tree), axis=0)) > 1


def test_sbc_reports_its_effective_sample_size(tree):
    statistics = tree["sbc_stats"].to_dataset()
    assert statistics["ess"].shape == (6, 17)
    worst = statistics["ess"].mean("draw").min()
    assert tree.attrs["ess_mean"] == pytest.approx(float(worst))
    short = statistics["ess"].min("quantity") < 9
    assert tree.attrs["ess_short"] == pytest.approx(float(short.mean()))
    assert tree.attrs["thinned_enough"] == int(worst >= 9 and short.mean() <= 0.05)
    # Chains go on in whole rounds until the effective sample size suffices, here at most twice.
    draws = statistics["draws"].values
    assert set(draws.tolist()) <= {90, 180}
    assert not np.any(short.values & (draws == 90))


def test_correlated_draws_are_not_called_independent(small):
    tree = sbc(
        small,
        key=jax.random.key(0),
        n_datasets=6,
        controls=[[2.0]],
        n_ranks=91,
        warmup=60,
        draws=90,
        rounds=1,
    )
    assert not tree.attrs["thinned_enough"]


def test_sbc_survives_netcdf(tree, tmp_path):
    tree.to_netcdf(tmp_path / "sbc.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "sbc.nc", engine="h5netcdf") as back:
        np.testing.assert_array_equal(ranks(back), ranks(tree))
        assert labels(back["prior_sbc"].to_dataset()) == labels(tree["prior_sbc"].to_dataset())
        assert back.attrs["n_ranks"] == 10


def test_sbc_compiles_once_and_is_reproducible(small, tree, monkeypatch):
    traced = []
    potential = Posterior.potential
    monkeypatch.setattr(Posterior, "potential", lambda *a: traced.append(1) or potential(*a))
    options = {"controls": [[2.0]], "n_ranks": 10, "warmup": 60, "draws": 95, "rounds": 2}
    sbc(small, key=jax.random.key(1), n_datasets=1, **options)
    once, traced[:] = len(traced), []
    again = sbc(small, key=jax.random.key(0), n_datasets=6, **options)
    assert len(traced) == once > 0
    np.testing.assert_array_equal(ranks(again), ranks(tree))


@pytest.fixture(scope="module")
def fitted(small):
    """A fit whose draws are the prior's: what is tested is what calibration does with given draws."""
    sites = jax.jit(jax.vmap(jax.vmap(small.prior_sites)))(jax.random.split(jax.random.key(3), (2, 40)))
    draws = Draws({k: np.asarray(v) for k, v in sites.items()}, {}, {"modes": MODES})
    return Fit(small, draws, Diagnosis("ok", (), 1.0, 80.0, 0), jax.random.key(4))


MODES = [{"chains": [0], "mass": 1.0}, {"chains": [1], "mass": 0.0}]


def test_data_given_observed_ones_keep_them_and_repeat_their_pattern(small, fitted):
    twice = _twice(small)
    simulated = _Simulated(twice, small, small.data.controls, (fitted.draws.sites, fitted.weights))
    z, y = jax.jit(jax.vmap(simulated.draw))(jax.random.split(jax.random.key(5), 300))
    sites = jax.jit(jax.vmap(small.constrain))(z)
    assert y.shape == (300, 10, 2)
    np.testing.assert_array_equal(y[:, :5], np.broadcast_to(small.data.values, (300, 5, 2)))
    np.testing.assert_array_equal(np.isnan(y[:, 5:]), np.isnan(y[:, :5]))
    # Truths are given draws, and none comes from the chain without weight.
    floor = np.asarray(sites["floor"])[:, 0]
    assert np.isclose(floor[:, None], fitted.draws.sites["floor"][0, :, 0]).any(1).all()
    assert len(np.unique(floor.round(12))) > 20
    # New data scatter around the truth's own outputs with its own floor and the known errors.
    mean = jax.jit(jax.vmap(lambda s: small.outputs(s, small.data.controls)))(sites)
    r = (y[:, 5:] - mean) / np.sqrt(np.asarray(sites["floor"])[:, None] ** 2 + 0.2**2)
    r = np.asarray(r)[~np.isnan(r)]
    assert abs(r.mean()) < 4 / np.sqrt(r.size)
    assert abs(r.std() - 1) < 4 / np.sqrt(2 * r.size)


def test_units_of_doubled_data_are_those_of_the_fit(small):
    twice = _twice(small)
    assert twice.scaling is small.scaling
    sites = small.prior_sites(jax.random.key(0))
    single = small.pointwise(sites)
    np.testing.assert_allclose(twice.pointwise(sites), np.concatenate([single, single]), rtol=1e-12)


def test_sbc_of_another_fit_is_refused(small, fitted):
    other = Posterior(small.data, small.pmm, small.prior, small.noise, small.scaling)
    changed = Posterior(small.data.select([0, 1, 3, 4]), small.pmm)
    assert other.scaling == small.scaling
    assert calibration._differing(fitted.posterior, other) is None
    for posterior, what in (
        (changed, "data set"),
        (replace(small, prior=replace(small.prior, scale_median=7.0)), "prior"),
        (replace(small, noise=Noise(floor_scale=30.0)), "noise model"),
        (replace(small, pmm=replace(small.pmm, dim=small.pmm.dim + 1)), "model"),
    ):
        with pytest.raises(InputError, match=f"fit with another {what}"):
            sbc(posterior, key=jax.random.key(0), n_datasets=2, given=fitted)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "uniform"), [("nuts", True), ("prior", False)])
def test_ranks_given_the_data_are_uniform_if_the_draws_are_the_posterior(small, fitted, method, uniform):
    given = fitted
    if method == "nuts":
        given = fit(small, NUTS(chains=4, warmup=500, draws=1000), key=1)
    tree = sbc(small, key=jax.random.key(6), n_datasets=120, n_ranks=30, warmup=300, draws=290, given=given)
    assert tree.attrs["thinned_enough"], tree.attrs
    assert "posterior_sbc" in tree.children
    assert labels(tree["posterior_sbc"].to_dataset())[3] == "E0 at -1"
    result = uniformity(ranks(tree), tree.attrs["n_ranks"])
    assert result.uniform == uniform, (result.chi2, result.smooth)


def test_the_kernel_of_the_manifold_sampler_runs_and_learns_its_step(small):
    posterior = replace(small, noise=Noise(floor=False), scaling=None)
    tree = sbc(posterior, key=0, n_datasets=2, n_ranks=4, warmup=60, draws=30, sampler="manifold")
    assert ranks(tree).shape[0] == 2
    assert np.isfinite(ranks(tree)).all()
    # A step that had not been learned would be turned down, or accepted always.
    assert 0.4 < float(tree["sbc_stats"]["acceptance_rate"].mean()) < 0.999


def test_sbc_refuses_what_it_cannot_use(small):
    key = jax.random.key(0)
    with pytest.raises(InputError, match="this needs draws, and a posterior has none yet"):
        sbc(small, key=key, n_datasets=2, given=small)
    with pytest.raises(InputError, match="int is neither a posterior nor a fit"):
        sbc(small, key=key, n_datasets=2, generator=3)
    with pytest.raises(InputError, match="n_ranks - 1 draws"):
        sbc(small, key=key, n_datasets=4, n_ranks=100, draws=50)
    with pytest.raises(InputError, match=r"shape \(M, 1\)"):
        sbc(small, key=key, n_datasets=4, controls=[2.0])
    with pytest.raises(InputError, match="settings of 'nuts'"):
        sbc(small, key=key, n_datasets=4, sampler="manifold", target_accept=0.9)
    other = Posterior(Dataset(np.eye(3)[:, :1], np.eye(3)[:, :2], None, ("g",), ("E0", "E1")), small.pmm)
    with pytest.raises(InputError, match="same rows"):
        sbc(small, key=key, n_datasets=4, generator=other)
