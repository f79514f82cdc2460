"""R-hat, effective sample size and Pareto-smoothed weights of draws, by ArviZ of either generation."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import logsumexp

__all__ = [
    "DIVERGENT_SHARE",
    "ESS",
    "FEWEST",
    "PARETO_K",
    "RHAT",
    "divergent_share",
    "import_arviz",
    "judged",
    "psis",
    "rhat_and_ess",
]

RHAT, ESS = 1.01, 400.0
"""R-hat that draws should not exceed and effective sample size that they should have (Vehtari, Gelman, Simpson,
Carpenter, Bürkner, Bayesian Analysis 16, 667, 2021)."""

PARETO_K = 0.7
"""Tail index of importance weights above which they are not trusted, however many they are (Vehtari, Simpson, Gelman,
Yao, Gabry, JMLR 25, 72, 2024)."""

DIVERGENT_SHARE = 0.01
"""Divergent transitions that are tolerated, as a share of all."""

FEWEST = 4
"""Draws of a chain that R-hat and ESS need; ArviZ says so in the log and gives NaN for fewer."""

NEGLIGIBLE = 1e-6
"""A floor below this share of the spread is nothing in any band."""


def import_arviz():
    """ArviZ, without the notice that 0.x prints on import."""
    with warnings.catch_warnings():
        # ArviZ 0.x announces its successor on every import.
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def rhat_and_ess(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank-normalised split R-hat, and the smaller of bulk and tail ESS, of draws (chain, draw, ...): two (...).

    A quantity that never moves has R-hat NaN and ESS NaN, and so has any of fewer than ``FEWEST`` draws. The two halves
    of a single chain count as two.
    """
    az = import_arviz()
    shape = draws.shape[2:]
    values = draws.reshape(*draws.shape[:2], -1)
    if len(values) == 1:
        half = values.shape[1] // 2
        values = values[0, : 2 * half].reshape(2, half, -1)
    if values.shape[1] < FEWEST:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    flat = xr.Dataset({"x": (("chain", "draw", "k"), values)})
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat = az.rhat(flat)["x"].values
        bulk, tail = (az.ess(flat, method=m)["x"].values for m in ("bulk", "tail"))
    constant = np.ptp(flat["x"].values, axis=(0, 1)) == 0
    rhat, ess = np.where(constant, np.nan, rhat), np.where(constant, np.nan, np.fmin(bulk, tail))
    return rhat.reshape(shape), ess.reshape(shape)


def psis(log_ratios: np.ndarray, r_eff: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed, normalised log weights (..., S) and Pareto k (...) from log ratios (..., S).

    Parameters
    ----------
    log_ratios : array (..., S)
        Up to a constant; −∞ for a weight of 0.
    r_eff : float
        Effective sample size of the draws over their number.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao, Gabry, Pareto smoothed importance sampling, JMLR 25 (2024); computed by ArviZ.
    """
    az = import_arviz()
    if hasattr(az, "psislw"):
        weights, k = az.psislw(np.array(log_ratios), r_eff)
    else:
        rows = np.reshape(log_ratios, (-1, np.shape(log_ratios)[-1]))
        found = [_psis_of_arviz_1(row, r_eff) for row in rows]
        weights = np.reshape([w for w, _ in found], np.shape(log_ratios))
        k = np.reshape([k for _, k in found], np.shape(log_ratios)[:-1])
    # ArviZ 1.x has NaN where too few weights are left for a tail, which is as bad as can be.
    k = np.where(np.isnan(k), np.inf, k)
    return weights - logsumexp(weights, axis=-1, keepdims=True), k


def _psis_of_arviz_1(log_ratios: np.ndarray, r_eff: float) -> tuple[np.ndarray, float]:
    from arviz_stats.base import array_stats

    try:
        # It takes log likelihoods, whose ratios are their inverses.
        weights, k = array_stats.psislw(-log_ratios, r_eff, axis=-1)
    except ValueError:
        # The largest ratios are all the same, as of a chain that stuck: there is no tail to fit.
        return log_ratios, np.inf
    return weights, float(k)


def divergent_share(stats: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> float:
    """Share of divergent transitions; a draw of several counts as one that diverged if any did."""
    diverging = stats.get("diverging")
    return 0.0 if diverging is None else float(np.sum(diverging)) / (diverging.size * info.get("thin", 1))


def judged(outputs: np.ndarray, floor: np.ndarray | None, spread: ArrayLike) -> np.ndarray:
    """All that should have converged, (chain, draw, R): outputs, and the learned floors that matter for the bands.

    Parameters
    ----------
    outputs : array (chain, draw, ...)
    floor : array (chain, draw, Q) or None
    spread : array (Q,)
    """
    outputs = outputs.reshape(*outputs.shape[:2], -1)
    if floor is None:
        return outputs
    matters = np.quantile(floor, 0.95, axis=(0, 1)) > NEGLIGIBLE * np.asarray(spread)
    return np.concatenate([outputs, floor[..., matters]], axis=-1)
