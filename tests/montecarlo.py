"""Monte Carlo errors, shared by the tests that compare draws with a law or with other draws."""

import numpy as np
import xarray as xr

from bayes_pmm.convergence import import_arviz

PROBABILITIES = (0.05, 0.5, 0.95)


def mean_and_error(series):
    """Mean and its standard error from the effective sample size, of series (chain, draw, K): two (K,)."""
    flat = xr.Dataset({"x": (("chain", "draw", "k"), np.asarray(series, float))})
    ess = import_arviz().ess(flat, method="mean")["x"].values
    values = flat["x"].values
    return values.mean((0, 1)), values.std((0, 1)) / np.sqrt(ess)


def features(draws, centre, width, quantiles):
    """Series whose means are the mean, the variance and the shares below quantiles: (chain, draw, K (2 + P)).

    Parameters
    ----------
    draws : array (chain, draw, K)
    centre, width : array (K,)
    quantiles : array (P, K)
    """
    z = (draws - centre) / width
    below = [draws <= q for q in quantiles]
    return np.concatenate([z, z**2, *below], axis=-1)


def z_of_law(draws, mean, sd, quantiles):
    """Distances (K (2 + P),), in standard errors, of draws (chain, draw, K) from a law known by these numbers."""
    K = len(mean)
    found, error = mean_and_error(features(draws, mean, sd, quantiles))
    return (
        found - np.concatenate([np.zeros(K), np.ones(K), *(np.full(K, p) for p in PROBABILITIES)])
    ) / error


def z_of_draws(one, two):
    """Distances, in standard errors, of draws from other draws, both (chain, draw, K)."""
    both = np.concatenate([one.reshape(-1, one.shape[-1]), two.reshape(-1, two.shape[-1])])
    frame = both.mean(0), both.std(0), np.quantile(both, PROBABILITIES, axis=0)
    (a, error_a), (b, error_b) = (mean_and_error(features(x, *frame)) for x in (one, two))
    return (a - b) / np.hypot(error_a, error_b)


def assert_agrees(z, limit=5.0):
    """All of the distances are below the limit; one that is not a number is not."""
    assert np.all(np.abs(z) < limit), f"off by {np.round(z[~(np.abs(z) < limit)], 1)} standard errors"
