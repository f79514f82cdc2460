"""Annealed starts: all chains begin in the best basin, basins are counted and ranked, keys decide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bayes_pmm as bp
from bayes_pmm.errors import InputError
from bayes_pmm.inference import start
from bayes_pmm.inference.start import AnnealedStarts, _anneal


@pytest.fixture(scope="module")
def oscillator():
    problem = bp.problems.get("oscillator")
    posterior = bp.Posterior(
        problem.dataset(noise=1e-2, seed=0), bp.PMM(tuple(problem.outputs.values()), dim=3)
    )
    starts = bp.AnnealedStarts(candidates=16)
    return posterior, starts, starts.find(posterior, jax.random.key(0), chains=4)


@pytest.mark.parametrize("settings", [{"candidates": 0}, {"stages": 0}, {"first": 1e-4}, {"least": 0.0}])
def test_bad_settings(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        AnnealedStarts(**settings)


@pytest.mark.parametrize("method", [bp.NUTS, bp.Manifold, bp.Auto, bp.Laplace, bp.Variational])
def test_a_number_is_no_search(method):
    with pytest.raises(
        InputError, match=r"starts = 48: give a search, such as bp\.AnnealedStarts\(candidates=48\)"
    ):
        method(starts=48)


def test_every_chain_starts_at_a_good_fit(oscillator):
    posterior, _, found = oscillator
    assert len(found.sites) == 4
    sigma = 1e-2 * np.nanstd(posterior.data.values)
    for sites in found.sites:
        fitted = np.asarray(jax.jit(posterior.outputs)(sites, posterior.data.controls))
        # Twice the noise: a saddle with couplings at zero misses by ten times the noise or more.
        assert np.sqrt(np.mean((fitted - posterior.data.values) ** 2)) < 2 * sigma


def test_basins_are_ranked_and_counted(oscillator):
    _, starts, found = oscillator
    evidences = [b.log_evidence for b in found.basins]
    assert evidences == sorted(evidences, reverse=True)
    assert 1 <= sum(b.count for b in found.basins) <= starts.candidates
    assert all(np.isfinite([b.misfit, b.log_evidence]).all() for b in found.basins)


def test_the_key_decides(oscillator):
    posterior, starts, found = oscillator
    again = starts.find(posterior, jax.random.key(0), chains=4)
    for a, b in zip(found.sites, again.sites, strict=True):
        np.testing.assert_array_equal(a["gaps"], b["gaps"])
    other = starts.find(posterior, jax.random.key(1), chains=4)
    assert not np.array_equal(found.sites[0]["gaps"], other.sites[0]["gaps"])


def test_portions_change_nothing(oscillator, monkeypatch):
    """Threads and the starts that fill up the last portion are no part of the result."""
    posterior, _, _ = oscillator
    keys, path = jax.random.split(jax.random.key(5), 7), jnp.geomspace(0.3, 0.01, 4)
    whole = _anneal(posterior, keys, path, 6)
    monkeypatch.setattr(start, "PORTION", 3)
    for a, b in zip(whole, _anneal(posterior, keys, path, 6), strict=True):
        assert len(a) == 7
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("centre", ["seen", "all"])
def test_paths_begin_at_draws_of_the_prior(centre):
    """Where noise drowns the data the optimum stays at the draw, whose levels are placed as the prior says."""
    n, tau, shift = 4, 1.5, 0.7
    c = np.linspace(0.0, 1.0, 4)
    data = bp.Dataset.from_columns({"c": c}, {"E0": c, "E1": 1 + c})
    prior = bp.Prior(
        scale_median=tau, scale_spread=0.0, shift_sd=shift, growth=0.0, dilation=0.0, centre=centre
    )
    posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=n), prior)
    keys = jax.random.split(jax.random.key(0), 400)
    levels = np.linalg.eigvalsh(np.asarray(_anneal(posterior, keys, jnp.array([1e8]), 1)[0])[:, 0])
    law = stats.norm(0, np.sqrt(shift**2 + 2 * tau**2 / n))
    means = {"seen": levels[:, :2].mean(axis=1), "all": levels.mean(axis=1)}
    other = {"seen": "all", "all": "seen"}[centre]
    assert stats.kstest(means[centre], law.cdf).pvalue > 0.01
    assert stats.kstest(means[other], law.cdf).pvalue < 1e-6


@pytest.fixture(scope="module")
def two_resonances():
    """Two resonances, of which a 2x2 matrix can follow the left one or the right one."""
    c = np.linspace(-2, 2, 13)
    strength = sum(1 / (1 + ((c - at) / 0.3) ** 2) for at in (-1, 1))
    data = bp.Dataset.from_columns({"c": c}, {"strength": strength}, {"strength": 0.1})
    return bp.Posterior(data, bp.PMM(["|<0|A|1>|^2"], dim=2), noise=bp.Noise(floor=False))


@pytest.mark.parametrize("chains", [1, 2, 5, 40])
def test_basins_that_fit_about_as_well_each_get_a_chain(two_resonances, chains):
    # With this key the two best starts are in the same basin, so that evidence alone would leave the other out.
    found = bp.AnnealedStarts().find(two_resonances, jax.random.key(3), chains)
    best = found.basins[0].log_evidence
    close = [b for b in found.basins if b.log_evidence > best - start.CLOSE]
    assert len(close) == 2
    assert [b.chains >= 1 for b in close] == [chains >= 1, chains >= 2]
    # None starts in the basin that misses both resonances.
    assert sum(b.chains for b in close) == sum(b.chains for b in found.basins) == len(found.sites) == chains
    outputs = jax.jit(two_resonances.outputs)
    fitted = [np.asarray(outputs(s, np.array([[-1.0], [1.0]])))[:, 0] for s in found.sites]
    seen = {"left" if left > right else "right" for left, right in fitted}
    assert len(seen) == min(chains, 2)
    assert all(max(pair) > 0.8 > 0.6 > min(pair) for pair in fitted)


def test_starts_found_before_serve_as_many_chains_as_they_are_or_fewer():
    found = start.Starts([{"x": np.zeros(1)}, {"x": np.ones(1)}], ())
    assert found.find(None, None, 2).sites == found.sites
    assert found.find(None, None, 1).sites == found.sites[:1]
    with pytest.raises(InputError, match=r"2 were found, too few for 4 chains; .* fewer chains"):
        bp.NUTS(chains=4, starts=found).run(None, jax.random.key(0))
