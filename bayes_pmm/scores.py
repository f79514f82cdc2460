r"""Scores of bands against exact or left-out values: coverage, interval score, CRPS, log score, PIT, calibration error.

Draws come first, (S, ...), and are compared with values of shape (...); NaN among these is left out. Wherever
``weights`` (S,) are taken, they are those of the draws and need not add up to 1; chains in different modes have
different ones. Where the draws are means of normals with known standard deviations, as the outputs of a PMM with
floor and measurement error are, ``sd`` makes density and PIT exact instead of estimated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, ndtr

from bayes_pmm.errors import InputError, status_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LEVELS",
    "Scores",
    "against",
    "coverage",
    "crps",
    "ece",
    "interval_score",
    "judge",
    "log_score",
    "pit",
    "reliability",
]

LEVELS = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Probabilities of the central intervals whose coverage is compared with them: 10 % to 90 %."""


def quantiles(draws: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
    """Quantiles (K, ...) of draws (S, ...): interpolated where all weights are alike, else of the weighted draws.

    Parameters
    ----------
    draws : array (S, ...)
    probabilities : array (K,)
    weights : array (S,), optional
        Equal if not given.
    """
    x, at = np.asarray(draws), np.asarray(probabilities)
    w = None if weights is None else np.asarray(weights)
    if w is None or np.ptp(w) == 0:
        return np.quantile(x, at, axis=0)
    return np.quantile(x, at, axis=0, weights=w, method="inverted_cdf")


def coverage(
    draws: ArrayLike, truth: ArrayLike, *, level: float = 0.9, axis=None, weights: ArrayLike | None = None
) -> np.ndarray:
    """Fraction of values inside the central interval of the draws.

    Parameters
    ----------
    draws : array (S, ...)
    truth : array (...)
        NaN is left out.
    level : float
        Probability of the interval; its ends are quantiles of the draws.
    axis : int or tuple of int, optional
        Axes of ``truth`` to average over; default all.
    weights : array (S,), optional

    Returns
    -------
    array
        Shape of ``truth`` without ``axis``; NaN where nothing was left.
    """
    draws, truth, w = _checked(draws, truth, weights)
    low, high = _interval(draws, level, w)
    known = ~np.isnan(truth)
    inside = known & (truth >= low) & (truth <= high)
    count = known.sum(axis=axis)
    return np.where(count > 0, inside.sum(axis=axis) / np.maximum(count, 1), np.nan)


def crps(
    draws: ArrayLike, truth: ArrayLike, *, fair: bool = True, weights: ArrayLike | None = None
) -> np.ndarray:
    r"""Continuous ranked probability score of the draws, in the units of the output; smaller is better.

    .. math::
        Σ_i w_i |x_i − y| − \frac{Σ_{ij} w_i w_j |x_i − x_j|}{2 (1 − Σ_i w_i^2)} , \qquad Σ_i w_i = 1,

    computed from the sorted draws in O(S log S). The fair variant is an unbiased estimate of the score of the
    distribution that independent draws come from and can be negative; the other, without the denominator
    1 − Σ w², is the score of the draws' own empirical distribution.

    Parameters
    ----------
    draws : array (S, ...)
    truth : array (...)
    fair : bool
    weights : array (S,), optional

    Returns
    -------
    array (...)
        NaN where ``truth`` is.

    References
    ----------
    Gneiting and Raftery, JASA 102, 359 (2007); Ferro, Q. J. R. Meteorol. Soc. 140, 1917 (2014).
    """
    draws, truth, w = _checked(draws, truth, weights)
    order = np.argsort(draws, axis=0)
    ordered, w_sorted = np.take_along_axis(draws, order, axis=0), w[order]
    # Σ_ij w_i w_j |x_i − x_j| = 2 Σ_i w_i (2 W_i − w_i − 1) x_(i), W cumulative; centred against cancellation.
    slope = w_sorted * (2 * np.cumsum(w_sorted, axis=0) - w_sorted - 1)
    spread = np.sum(slope * (ordered - ordered.mean(axis=0)), axis=0)
    return np.tensordot(w, np.abs(draws - truth), axes=1) - spread / (1 - np.sum(w**2) if fair else 1.0)


def interval_score(
    draws: ArrayLike, truth: ArrayLike, *, level: float = 0.9, weights: ArrayLike | None = None
) -> np.ndarray:
    r"""Score of the central interval [l, u]: u − l + 2/α · distance of the value from it.

    Parameters
    ----------
    draws : array (S, ...)
    truth : array (...)
    level : float
    weights : array (S,), optional

    Returns
    -------
    array (...)
        In the units of the output, smaller is better; NaN where ``truth`` is.

    References
    ----------
    Gneiting and Raftery, JASA 102, 359 (2007), eq. 43.
    """
    draws, truth, w = _checked(draws, truth, weights)
    low, high = _interval(draws, level, w)
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return high - low + 2 / (1 - level) * outside


def log_score(
    draws: ArrayLike, truth: ArrayLike, *, sd: ArrayLike | None = None, weights: ArrayLike | None = None
) -> np.ndarray:
    r"""Log density of the values, log Σ_s w_s N(y; x_s, sd_s²); larger is better.

    Parameters
    ----------
    draws : array (S, ...)
        Means of the normals. With ``sd``: outputs without noise.
    truth : array (...)
    sd : array that broadcasts to the draws' shape, optional
        Positive. The mixture is then exact, also far from all draws. If not given, it is a kernel estimate, with
        Scott's bandwidth, of the density that the draws come from; its tail is that of the kernel, so outside the
        range of the draws it says only that the value is far away.
    weights : array (S,), optional

    Returns
    -------
    array (...)
        In log of 1/unit of the output; NaN where ``truth`` is.

    Raises
    ------
    InputError
        If a standard deviation is not positive, or the draws of a kernel estimate are all equal.

    References
    ----------
    Gneiting and Raftery, JASA 102, 359 (2007), section 4.1; Scott, Multivariate Density Estimation (1992).
    """
    draws, truth, w = _checked(draws, truth, weights)
    if sd is None:
        mean = np.tensordot(w, draws, axes=1)
        variance = np.tensordot(w, (draws - mean) ** 2, axes=1)
        sd = np.sqrt(variance) * np.sum(w**2) ** 0.2
    sd = np.broadcast_to(np.asarray(sd, float), draws.shape)
    if not np.all(sd > 0):
        raise InputError(
            "log score: a standard deviation is not positive, so there is no density; give draws that differ,"
            " or a positive sd"
        )
    terms = -0.5 * ((truth - draws) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    return logsumexp(terms, axis=0, b=w.reshape(-1, *(1,) * truth.ndim))


def pit(
    draws: ArrayLike, truth: ArrayLike, *, sd: ArrayLike | None = None, weights: ArrayLike | None = None
) -> np.ndarray:
    """Probability integral transform: probability that the band puts below the value, uniform if it is right.

    Parameters
    ----------
    draws : array (S, ...)
    truth : array (...)
    sd : array that broadcasts to the draws' shape, optional
        As in :func:`log_score`: the exact distribution function of the mixture. If not given, the share of the
        draws below the value, ties counted half.
    weights : array (S,), optional

    Returns
    -------
    array (...)
        Between 0 and 1; NaN where ``truth`` is.
    """
    draws, truth, w = _checked(draws, truth, weights)
    if sd is None:
        below = (draws < truth) + 0.5 * (draws == truth)
    else:
        below = ndtr((truth - draws) / np.broadcast_to(np.asarray(sd, float), draws.shape))
    return np.where(np.isnan(truth), np.nan, np.clip(np.tensordot(w, below, axes=1), 0.0, 1.0))


def reliability(pits: ArrayLike, levels: ArrayLike = LEVELS) -> np.ndarray:
    """Share of values inside the central interval of each level, from their PIT values.

    Parameters
    ----------
    pits : array (...)
        NaN is left out.
    levels : array (K,)

    Returns
    -------
    array (K,)
        NaN if nothing is left.

    Raises
    ------
    InputError
        If a level is not a probability.
    """
    u = np.asarray(pits, float).ravel()
    u, levels = u[~np.isnan(u)], np.asarray(levels, float)
    if not np.all((levels > 0) & (levels < 1)):
        raise InputError(f"levels = {levels.tolist()}: use numbers between 0 and 1")
    if not len(u):
        return np.full(levels.shape, np.nan)
    # A level such as 0.9 and twice the distance of 0.05 from the middle differ by rounding.
    return np.mean(np.abs(2 * u - 1) <= levels[:, None] + 1e-12, axis=1)


def ece(pits: ArrayLike, levels: ArrayLike = LEVELS) -> float:
    """Expected calibration error: mean distance of the coverage from the level, over central intervals.

    Never 0 for few values: of n independent ones of a right band it is about 0.34/√n in the mean.

    Parameters
    ----------
    pits : array (...)
        From :func:`pit`; NaN is left out.
    levels : array (K,)

    Returns
    -------
    float
        Between 0 and 1, smaller is better; NaN if nothing is left.

    References
    ----------
    Kuleshov, Fenner, Ermon, ICML 2018, arXiv:1807.00263.
    """
    return float(np.mean(np.abs(reliability(pits, levels) - np.asarray(levels, float))))


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores in the mean over the values of a region.

    Parameters
    ----------
    table : mapping from region ("inside", "outside") to mapping from score to float
        ``count`` values; ``coverage_50``, ``coverage_90`` and their mean ``interval_score_90``, or those of other
        levels, the interval score of the highest one; ``crps``;
        ``log_score``; ``ece``; ``bias`` and ``rmse`` of the mean. Scores in the output's units are divided by its
        ``spread``. All but the count are NaN where a region has no value.
    pits : array (...)
        Of every value.
    outside : array (...) of bool
    status : {"ok", "suspect", "failed"}
        Of the fit whose bands these are; ``ok`` for draws that come from none.
    reasons : tuple of str
    """

    table: Mapping[str, Mapping[str, float]]
    pits: np.ndarray
    outside: np.ndarray
    status: str = "ok"
    reasons: tuple[str, ...] = ()

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per region, as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame.from_dict(self.table, orient="index")

    def __str__(self):
        table = self.to_dataframe().to_string(float_format="{:.3g}".format)
        return "\n".join([*status_lines(self.status, self.reasons), table])

    __repr__ = __str__


def judge(
    draws: ArrayLike,
    truth: ArrayLike,
    outside: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    spread: ArrayLike = 1.0,
    log_density: ArrayLike | None = None,
    pits: ArrayLike | None = None,
    levels: Sequence[float] | np.ndarray = (0.5, 0.9),
) -> Scores:
    """All scores of a band, inside and outside separately.

    The errors at neighbouring points of one curve are nearly one number, so the values of one fit are not
    independent tests: judge many problems before a coverage means anything.

    Parameters
    ----------
    draws : array (S, ...)
        Of what is compared: latent draws with exact values, predictive ones with measurements.
    truth : array (...)
        NaN is left out.
    outside : array of bool that broadcasts to the truth's shape
        Where the band is extrapolated.
    weights : array (S,), optional
    spread : array that broadcasts to the truth's shape
        Unit of the scores; the outputs' spreads where outputs of different units are averaged.
    log_density, pits : array (...), optional
        From :func:`log_score` and :func:`pit`, where they are known exactly; estimated from the draws if not given.
    levels : sequence of float
        Of the central intervals whose coverage is wanted; the interval score is the one of the highest.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        If the shapes do not fit, no value is left, or a level is not a probability.
    """
    draws, truth, w = _checked(draws, truth, weights)
    spread = np.broadcast_to(np.asarray(spread, float), truth.shape)
    outside = np.broadcast_to(np.asarray(outside, bool), truth.shape)
    if not np.all(spread > 0):
        raise InputError("spread: the unit of the scores must be positive")
    pits = pit(draws, truth, weights=w) if pits is None else np.asarray(pits, float)
    density = log_score(draws, truth, weights=w) if log_density is None else np.asarray(log_density, float)
    error = (np.tensordot(w, draws, axes=1) - truth) / spread
    highest = max(levels)
    each = {f"coverage_{100 * v:g}": _covered(draws, truth, v, w) for v in levels} | {
        f"interval_score_{100 * highest:g}": interval_score(draws, truth, level=highest, weights=w) / spread,
        "crps": crps(draws, truth, weights=w) / spread,
        "log_score": density + np.log(spread),
    }
    known = ~np.isnan(truth)
    if not known.any():
        raise InputError("every exact value is missing (NaN): there is nothing to judge; give at least one")
    table = {}
    for region, chosen in (("inside", known & ~outside), ("outside", known & outside)):
        count = int(chosen.sum())
        found = {k: float(np.mean(v[chosen])) if count else np.nan for k, v in each.items()}
        found["ece"] = ece(pits[chosen])
        found["bias"] = float(np.mean(error[chosen])) if count else np.nan
        found["rmse"] = float(np.sqrt(np.mean(error[chosen] ** 2))) if count else np.nan
        table[region] = {"count": count} | found
    return Scores(table, pits, outside)


def _covered(draws: np.ndarray, truth: np.ndarray, level: float, w: np.ndarray) -> np.ndarray:
    low, high = _interval(draws, level, w)
    return (truth >= low) & (truth <= high)


def _checked(
    draws: ArrayLike, truth: ArrayLike, weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float arrays, and weights (S,) that add up to 1."""
    draws, truth = np.asarray(draws, float), np.asarray(truth, float)
    if draws.ndim == 0 or draws.shape[1:] != truth.shape:
        raise InputError(
            f"draws of shape {draws.shape} do not fit exact values of shape {truth.shape};"
            " give draws of shape (S, ...) with the exact values' shape after S"
        )
    if len(draws) < 2:
        raise InputError(f"{len(draws)} draws cannot be scored; give at least 2")
    if not np.isfinite(draws).all():
        raise InputError("draws are not finite and cannot be scored; predict where the basis is finite")
    if weights is None:
        return draws, truth, np.full(len(draws), 1 / len(draws))
    w = np.asarray(weights, float)
    if w.shape != (len(draws),) or not np.isfinite(w).all() or w.min() < 0 or np.sum(w > 0) < 2:
        raise InputError(
            f"weights of shape {w.shape}: give one for each of the {len(draws)} draws, none negative and at least"
            " two positive"
        )
    return draws, truth, w / w.sum()


def _interval(draws: np.ndarray, level: float, w: np.ndarray) -> np.ndarray:
    if not 0 < level < 1:
        raise InputError(f"level = {level} is not a probability; use a number between 0 and 1")
    ends = [(1 - level) / 2, (1 + level) / 2]
    return quantiles(draws, ends, w)


def against(value: float, spread: float) -> str:
    """A number as text, with as many digits as show the second digit of a spread, at least three.

    Examples
    --------
    >>> against(12345.678, 0.012), against(0.123456, 3.0)
    ('12345.678', '0.123')
    """
    digits = 3
    if np.isfinite(value) and np.isfinite(spread) and spread > 0 and value != 0:
        digits = max(digits, 2 + int(np.floor(np.log10(abs(value))) - np.floor(np.log10(spread))))
    return f"{value:.{min(digits, 17)}g}"
