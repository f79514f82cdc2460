"""Tempered SMC agrees with NUTS, its evidence with quadrature, and random images change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference import smc
from bayes_pmm.inference.checkpoint import ChainFile
from bayes_pmm.inference.smc import TemperedSMC


def spins(noise=5e-2, dim=2, field="real"):
    data = problems.get("spins").dataset(noise=noise, seed=0, known_errors=True)
    return bp.Posterior(data, bp.PMM(["E0"], dim=dim, field=field), noise=bp.Noise(floor=False))


def test_agrees_with_nuts():
    posterior = spins(noise=0.1)
    c = np.linspace(-1, 3, 9)[:, None]
    a = bp.fit(posterior, TemperedSMC(chains=4, draws=300), key=0, controls=c)
    b = bp.fit(posterior, bp.NUTS(warmup=300, draws=300, max_tree_depth=7), key=1, controls=c)
    x, y = (f.sample(c, "model").reshape(1200, -1) for f in (a, b))
    # SMC's members are correlated through resampling: the runs' own spread is the honest error.
    runs = a.sample(c, "model").mean(1).reshape(4, -1)
    error = np.sqrt(runs.var(0, ddof=1) / 4 + y.var(0) / 300)
    assert np.max(np.abs(x.mean(0) - y.mean(0)) / error) < 6
    spreads = np.log(a.sample(c, "model").std(1).reshape(4, -1))
    error = np.sqrt(spreads.var(0, ddof=1) / 4 + 1 / (2 * 300))
    assert np.max(np.abs(spreads.mean(0) - np.log(y.std(0))) / error) < 6
    assert a.draws.info["sampler"] == "smc"
    assert a.diagnosis.max_rhat < 1.05


def test_evidence_by_quadrature():
    """One level of a 1x1 model: two unknowns, so that a grid gives the evidence."""
    c = np.array([[-1.0], [0.0], [1.0]])
    data = bp.Dataset(c, np.array([[-1.2], [0.1], [1.1]]), np.full((3, 1), 0.3), ("c",), ("E0",))
    posterior = bp.Posterior(
        data, bp.PMM(["E0"], dim=1), prior=bp.Prior(scale_spread=0.0), noise=bp.Noise(floor=False)
    )
    z = posterior.unconstrain(posterior.prior_sites(jax.random.key(0)))
    assert sorted(z) == ["anchor", "shift"]
    grid = jnp.linspace(-6, 6, 401)
    args = tuple(jnp.asarray(v) for v in posterior.training)

    def density(a, b):
        return -posterior.potential({"anchor": a, "shift": b[None]}, *args)

    values = jax.vmap(lambda a: jax.vmap(lambda b: density(a, b))(grid))(grid)
    exact = float(jax.scipy.special.logsumexp(values) + 2 * np.log(grid[1] - grid[0]))
    info = bp.fit(posterior, TemperedSMC(chains=4, draws=1000), key=0).draws.info
    assert abs(info["log_evidence"] - exact) < max(4 * info["log_evidence_sd"] / 2, 0.1)


def test_draws_are_of_the_posterior_and_not_of_a_warmer_density():
    """One level of a 1x1 model is linear in two normal unknowns: the posterior's widths are known."""
    c = np.linspace(-1, 1, 6)[:, None]
    data = bp.Dataset(c, 1.0 + 0.5 * c, np.full((6, 1), 0.1), ("c",), ("E0",))
    posterior = bp.Posterior(
        data,
        bp.PMM(["E0"], dim=1),
        prior=bp.Prior(scale_spread=0.0, growth=0.0, dilation=0.0),
        noise=bp.Noise(floor=False),
    )
    draws = TemperedSMC(chains=4, draws=1000, ess=0.5).run(posterior, jax.random.key(0))
    args = tuple(jnp.asarray(v) for v in posterior.training)
    z = {"anchor": jnp.zeros(()), "shift": jnp.zeros(1)}
    H = jax.hessian(lambda a, b: posterior.potential(z | {"anchor": a, "shift": b}, *args), argnums=(0, 1))
    (aa, ab), (ba, bb) = H(z["anchor"], z["shift"])
    exact = np.linalg.inv(
        np.block([[np.atleast_2d(aa), np.atleast_2d(ab)], [np.atleast_2d(ba), np.atleast_2d(bb)]])
    )
    for name, variance in zip(("anchor", "shift"), np.diag(exact), strict=True):
        ratios = draws.sites[name].reshape(4, 1000).std(axis=1) / np.sqrt(variance)
        # One stage too few gives 1.08.
        assert ratios.mean() == pytest.approx(1.0, abs=max(4 * ratios.std(ddof=1) / 2, 0.03))


@pytest.mark.parametrize(("field", "dim"), [("real", 3), ("complex", 3), ("complex", 2)])
def test_random_image_changes_neither_density_nor_outputs(field, dim):
    data = problems.get("two_couplings").dataset(noise=1e-2, seed=0)
    names = list(problems.get("two_couplings").outputs.values())
    posterior = bp.Posterior(data, bp.PMM(names, dim=dim, field=field))
    args = tuple(jnp.asarray(a) for a in posterior.training)
    moved = 0
    for seed in range(6):
        sites = posterior.prior_sites(jax.random.key(seed))
        image = posterior.matrix_prior.random_image(sites, jax.random.key(100 + seed))
        moved += any(not np.array_equal(sites[k], image[k]) for k in sites)
        a, b = (posterior.potential(posterior.unconstrain(s), *args) for s in (sites, image))
        assert float(a) == pytest.approx(float(b), rel=1e-10)
        np.testing.assert_allclose(
            posterior.outputs(sites, args[0]), posterior.outputs(image, args[0]), rtol=1e-9, atol=1e-9
        )
    assert moved


def test_too_small_noise_is_said(monkeypatch):
    monkeypatch.setattr(smc, "MOST_STAGES", 2)
    with pytest.raises(BayesPMMError, match=r"temperature .* use manifold"):
        TemperedSMC(chains=1, draws=50).run(spins(1e-3), jax.random.key(0))


def test_bad_settings():
    with pytest.raises(InputError, match="ess"):
        TemperedSMC(ess=1.5)
    with pytest.raises(InputError, match="draws"):
        TemperedSMC(draws=3)


def test_killed_run_goes_on_from_its_last_stage(tmp_path, monkeypatch):
    posterior, method = spins(), TemperedSMC(chains=2, draws=60, moves=2, steps=4)
    saved, save = [], ChainFile.save

    def noted(file, state, at, records, seconds):
        save(file, state, at, records, seconds)
        saved.append((file.path.name, at))

    monkeypatch.setattr(ChainFile, "save", noted)
    key = jax.random.key(0)
    whole = method.run(posterior, key, checkpoint=tmp_path / "whole")
    stages = [("chain_0.npz", i + 1) for i in range(whole.info["stages"][0])]
    stages += [("chain_1.npz", i + 1) for i in range(whole.info["stages"][1])]
    assert saved == stages
    without = method.run(posterior, key)
    for kill in (2, whole.info["stages"][0] + 1):
        saved.clear()

        def dying(*args, kill=kill):
            if len(saved) == kill:
                raise KeyboardInterrupt
            noted(*args)

        folder = tmp_path / str(kill)
        monkeypatch.setattr(ChainFile, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            method.run(posterior, key, checkpoint=folder)
        monkeypatch.setattr(ChainFile, "save", noted)
        resumed = method.run(posterior, key, checkpoint=folder)
        assert saved == stages, "stages that had been saved were computed again"
        for draws in (resumed, without):
            assert draws.info["log_evidence"] == whole.info["log_evidence"]
            assert draws.info["stages"] == whole.info["stages"]
            for name, values in whole.sites.items():
                np.testing.assert_array_equal(draws.sites[name], values)
