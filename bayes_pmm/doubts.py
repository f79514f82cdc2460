r"""Where a band outside the data should not be believed, point by point, and why.

Sampling can be perfect and the band wrong all the same, because outside the data a band speaks about what the data have
not shown. Each doubt below has a reason that a user can check, and is judged only where a point is extrapolated:

``uncurved``
    Levels of M(c) are linear in φ(c) as long as they do not interact. Where none of the outputs departs from linear in
    the training data by more than a small part of its variation, or by more than the noise, the data know little about
    couplings, and what bends the levels further out is a surprise.
``wide``
    The standard deviation of the band, with widening, floor and defect, exceeds four times the output's own spread in
    the data: it is a guess.
``far``
    The distance from the data is far more than their own range.
``prior``
    Another prior scale would move the band: the derivative of its mean with respect to the log of the scales'
    prior median, in units of its own width.
``chains``
    The chains disagree here, or sit in modes whose bands differ.
``defect``
    What the model cannot represent is a large part of the band: the learned floor far above the known errors, or
    above what the data scatter about a polynomial where no errors are known, or a learned defect that dominates.

How often they come true is measured in ``studies/extrapolation``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpyro.diagnostics import split_gelman_rubin

from bayes_pmm.diagnostics import LIMITS as OF_FITS
from bayes_pmm.diagnostics import noticeable_floor
from bayes_pmm.inference.modes import median_floor
from bayes_pmm.inference.protocol import Draws, floors_of
from bayes_pmm.posterior import Posterior
from bayes_pmm.scatter import residuals, scatter

__all__ = ["DOUBTS", "LIMITS", "bend", "curvature", "find_doubts", "prior_sensitivity", "strengths"]

DOUBTS: Mapping[str, str] = {
    "uncurved": "the training data are nearly straight and show little interaction of levels",
    "wide": "the band is wider than what it extrapolates varies in the data",
    "far": "much further from the data than their own range",
    "prior": "another prior scale would move the band",
    "chains": "the chains disagree here",
    "defect": "what the model cannot represent dominates the band",
}
"""Names of the doubts and what they mean."""


@dataclass(frozen=True)
class _Limits:
    curvature: float = 1.0
    bend: float = 0.11
    width: float = 4.0
    distance: float = 1.5
    prior: float = 1.0
    rhat: float = 1.1
    floor: float = OF_FITS.floor_of_errors
    scatter: float = OF_FITS.floor_of_scatter
    defect: float = 0.7


LIMITS = _Limits()
"""From where on there is doubt; the study shows what each is worth."""


def find_doubts(strength: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Doubts (N, Q) of bool from :func:`strengths`: where they exceed 1."""
    return {name: strength[name] > 1.0 for name in DOUBTS}


def strengths(
    posterior: Posterior,
    draws: Draws,
    controls: np.ndarray,
    outputs: np.ndarray,
    training: np.ndarray,
    weights: np.ndarray,
    defect: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """How strong each doubt is at new controls, in units of its limit.

    Parameters
    ----------
    posterior : Posterior
    draws : Draws
    controls : array (N, p)
    outputs : array (chain, draw, N, Q)
        Of the PMM alone, at ``controls``.
    training : array (chain, draw, N0, Q)
        The same at the training controls.
    weights : array (chain,)
        Of the chains.
    defect : array (chain, draw, N, Q), optional
        Draws of a learned defect.

    Returns
    -------
    dict of name to array (N, Q)
        In the order of :data:`DOUBTS`; above 1 there is doubt, and 0 wherever the point is not extrapolated.
    """
    limits = LIMITS
    outside = posterior.extrapolated(controls)
    w = np.repeat(weights, outputs.shape[1])
    w = w / w.sum()
    model_sd = _deviation(outputs, w)
    defect_sd = 0.0 if defect is None else _deviation(defect, w)
    floors = floors_of(posterior, draws)
    floor_sd = np.sqrt(np.average(np.mean(floors**2, axis=1), axis=0, weights=weights))
    apart = posterior.distances(controls)
    by_noise = np.max(curvature(posterior, draws, training, weights))
    by_spread = np.max(bend(posterior, training, weights))
    straight = max(limits.curvature / max(by_noise, 1e-12), limits.bend / max(by_spread, 1e-12))
    factors = posterior.widening.factors(posterior.pmm.outputs, apart, by_spread)
    found = {
        "uncurved": np.full(outside.shape, straight),
        "wide": np.sqrt((factors * model_sd) ** 2 + floor_sd**2 + defect_sd**2)
        / (limits.width * np.asarray(posterior.scaling.spread)),
        "far": apart / limits.distance,
        "prior": np.abs(prior_sensitivity(posterior, draws, outputs, weights)) / limits.prior,
        "chains": _disagreement(outputs) / (limits.rhat - 1.0),
        "defect": _misfit(posterior, draws, training, weights, model_sd, defect_sd),
    }
    return {name: np.where(outside, found[name], 0.0) for name in DOUBTS}


def _misfit(
    posterior: Posterior,
    draws: Draws,
    training: np.ndarray,
    weights: np.ndarray,
    model_sd: np.ndarray,
    defect_sd: np.ndarray | float,
) -> np.ndarray:
    """How much of the band (N, Q) is what the model cannot represent, in units of the limits."""
    data, limits = posterior.data, LIMITS
    if posterior.noise.floor:
        floor = median_floor(posterior, draws, weights)
        known = limits.floor * data.rms_errors
        # What a polynomial leaves of data without noise is nothing, and known errors may be tiny: a floor counts from
        # some share of the spread on.
        beside = np.where(known > 0, known, limits.scatter * scatter(data))
        least = np.maximum(beside, noticeable_floor(posterior))
        large = floor / np.where(least > 0, least, np.inf)
    else:
        z, _ = residuals(data, training, weights)
        large = z / limits.floor
    total = defect_sd**2 + model_sd**2
    share = np.divide(defect_sd**2, total, out=np.zeros_like(total), where=total > 0)
    return np.maximum(large, share / limits.defect)


def bend(posterior: Posterior, training: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Departure of each output's mean curve from linear in the basis, over the standard deviation of its data: (Q,).

    Root mean square over the training controls.

    0 for expectation values and strengths, which do not show couplings in this way, unless nothing else is measured.

    Parameters
    ----------
    training : array (chain, draw, N, Q)
        Outputs of the PMM at the training controls.
    weights : array (chain,), optional
        Of the chains; equal if not given.
    """
    data = posterior.data
    departures = _departures(posterior, training, weights)
    mean = np.average(training.mean(axis=1), axis=0, weights=weights)
    residuals = np.sqrt(np.nanmean((mean - data.values) ** 2, axis=0))
    # Spread is not below 1e-3 of the distance between levels. A level that varies less may bend all the same, but what
    # does not exceed the residuals is no bend.
    unit = np.where(departures > residuals, np.nanstd(data.values, axis=0), posterior.scaling.spread)
    return departures / unit


def _departures(posterior: Posterior, training: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    data = posterior.data
    mean = np.average(training.mean(axis=1), axis=0, weights=weights)
    phi = np.asarray(posterior.scaling.coefficients(posterior.pmm.basis, data.controls))
    spectral = np.array([o.kind in ("level", "difference") for o in posterior.pmm.outputs])
    result = np.zeros(data.n_outputs)
    for q in np.flatnonzero(spectral | ~spectral.any()):
        seen = data.mask[:, q]
        coefficients = np.linalg.lstsq(phi[seen], mean[seen, q], rcond=None)[0]
        result[q] = np.sqrt(np.mean((mean[seen, q] - phi[seen] @ coefficients) ** 2))
    return result


def curvature(posterior: Posterior, draws: Draws, training: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same over the noise, (Q,)."""
    data = posterior.data
    floor = median_floor(posterior, draws, weights)
    noise = np.sqrt(floor**2 + data.rms_errors**2)
    return _departures(posterior, training, weights) / noise


def prior_sensitivity(
    posterior: Posterior, draws: Draws, outputs: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    r"""Derivative of the bands' mean with respect to the log of the prior's scale median, in the bands' sd: (N, Q).

    With scales τ_k ~ LogNormal(log m_k, s_k) it is the posterior covariance of the output with Σ_k log τ_k / s_k², so
    no other fit is needed. 0 where all scales are fixed.

    References
    ----------
    Kallioinen, Paananen, Bürkner, Vehtari, Stat. Comput. 34, 57 (2024) (power-scaling sensitivity).
    """
    _, spreads = posterior.matrix_prior.hyperparameters()
    free = spreads > 0
    if not free.any():
        return np.zeros(outputs.shape[2:])
    scale = draws.sites["scale" if free.all() else "free_scale"]
    lever = np.sum(np.log(scale) / spreads[free] ** 2, axis=-1).ravel()
    w = np.repeat(weights, outputs.shape[1])
    w = w / w.sum()
    flat = outputs.reshape(-1, *outputs.shape[2:])
    centred = flat - np.tensordot(w, flat, axes=1)
    covariance = np.tensordot(w * (lever - w @ lever), centred, axes=1)
    sd = _deviation(outputs, w)
    return np.divide(covariance, sd, out=np.zeros_like(sd), where=sd > 0)


def _disagreement(outputs: np.ndarray) -> np.ndarray:
    """Split R-hat minus 1 (N, Q) of draws (chain, draw, N, Q), 0 for constants and too few draws."""
    if outputs.shape[1] < 4:
        return np.zeros(outputs.shape[2:])
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat = np.asarray(split_gelman_rubin(outputs))
    return np.where(np.ptp(outputs, axis=(0, 1)) > 0, np.nan_to_num(rhat, nan=1.0, posinf=1e6) - 1.0, 0.0)


def _deviation(draws: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weighted standard deviation (N, Q) of draws (chain, draw, N, Q)."""
    flat = draws.reshape(-1, *draws.shape[2:])
    return np.sqrt(np.tensordot(w, (flat - np.tensordot(w, flat, axes=1)) ** 2, axes=1))
