"""Annealed starts: all chains begin in the best basin, basins are counted and ranked, keys decide."""

import jax
import numpy as np
import pytest

import bayes_pmm as bp


@pytest.fixture(scope="module")
def oscillator():
    problem = bp.problems.get("oscillator")
    posterior = bp.Posterior(
        problem.dataset(noise=1e-2, seed=0), bp.PMM(tuple(problem.outputs.values()), dim=3)
    )
    starts = bp.AnnealedStarts(candidates=16)
    return posterior, starts, starts.find(posterior, jax.random.key(0), chains=4)


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
