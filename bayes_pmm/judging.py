"""A fit's bands against exact values: its predictive distribution as a mixture of normals, and all scores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bayes_pmm import scores
from bayes_pmm.columns import check_same_rows
from bayes_pmm.errors import InputError
from bayes_pmm.fit import Fit, as_fit
from bayes_pmm.inference.protocol import floors_of
from bayes_pmm.predict import check_controls, check_exact, outputs_at, widened
from bayes_pmm.settings import in_range, stream

__all__ = ["judge_fit", "mixture"]


def mixture(fit: Fit, controls: Any, errors: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The predictive distribution as a mixture of normals, for exact densities.

    Parameters
    ----------
    fit : Fit
    controls : array (N, p)
    errors : array (N, Q), optional
        Known errors of what is predicted; 0 (the latent kind) if not given.

    Returns
    -------
    mean, sd : array (S, N, Q)
        Of each draw's normal, with widening, floor, learned defect and known error; S = chains times draws. That of a
        strength is not cut off at 0, as bands are.
    weights : array (S,)
    """
    c = check_controls(as_fit(fit).posterior, controls)
    outputs = outputs_at(fit.posterior, fit.draws, c)
    outputs = widened(fit.posterior, outputs, c, fit.training_outputs, fit.weights)
    S = outputs.shape[0] * outputs.shape[1]
    floor = floors_of(fit.posterior, fit.draws).reshape(S, 1, -1)
    error = 0.0 if errors is None else np.asarray(errors, float)
    mean = outputs.reshape(S, *outputs.shape[2:])
    sd = np.broadcast_to(np.sqrt(floor**2 + _defect_sd(fit, controls, S) ** 2 + error**2), mean.shape)
    return mean, sd, np.repeat(fit.weights, outputs.shape[1])


def _defect_sd(fit: Fit, controls: Any, S: int) -> np.ndarray:
    """Standard deviation (S, N, Q) of a learned defect, each draw with a scale of its own; 0 (1, 1, 1) if none."""
    if fit.defect is None:
        return np.zeros((1, 1, 1))
    posterior, c = fit.posterior, check_controls(fit.posterior, controls)
    which = jax.random.choice(
        stream(fit.key, "scale of the defect"),
        len(fit.defect.scales),
        (S,),
        p=np.asarray(fit.defect.probabilities),
    )
    kernels = [
        posterior.covariance_of_defect(fit.defect.growth, c, q) for q in range(posterior.data.n_outputs)
    ]
    width = np.asarray(posterior.scaling.spread) * np.sqrt(np.stack([np.diag(K) for K in kernels], axis=1))
    return np.asarray(fit.defect.scales)[np.asarray(which), None, None] * width


def judge_fit(
    fit: Fit,
    controls: Any,
    exact: Any,
    *,
    spread: Any = None,
    key: jax.Array | int | np.integer | None = None,
    levels: float | Sequence[float] | np.ndarray = (0.5, 0.9),
) -> scores.Scores:
    """Scores of a fit's latent bands against exact values, inside and outside its data.

    Parameters
    ----------
    fit : Fit
    controls : array (N, p), DataFrame or mapping of names to columns
    exact : array (N, Q), DataFrame or mapping of names to columns
        NaN is left out. For one output also (N,).
    spread : array (Q,), optional
        Unit of the scores; the standard deviation of each output's training data if not given.
    key : PRNG key or int, optional
        For the floor's noise; the fit's own if not given.
    levels : float or sequence of float
        Of the intervals whose coverage is wanted; the interval score is the one of the highest.

    Returns
    -------
    Scores
        Log score and PIT are exact if the fit has a floor, and kernel or sample estimates if not; those of a strength
        are of a normal that may be negative, where the band ends at 0. They are those of each value by itself, so the
        correlation of a defect between points does not enter.

    Raises
    ------
    InputError
        For bad controls, exact values of another shape or with other row labels than the controls, or a spread that is
        not Q positive numbers.
    """
    data = as_fit(fit).posterior.data
    check_same_rows(controls, exact)
    controls = check_controls(fit.posterior, controls)
    truth = check_exact(exact, data.output_names, len(controls))
    draws = fit.sample(controls, "latent", key=key)
    draws = draws.reshape(-1, *draws.shape[2:])
    mean, sd, weights = mixture(fit, controls)
    densities = {}
    if np.all(sd > 0):
        densities = {
            "log_density": scores.log_score(mean, truth, sd=sd, weights=weights),
            "pits": scores.pit(mean, truth, sd=sd, weights=weights),
        }
    if spread is None:
        spread = fit.posterior.scaling.spread
    elif np.shape(spread) != (data.n_outputs,) or not in_range(*np.asarray(spread).tolist()):
        raise InputError(f"spread = {spread!r}: give {data.n_outputs} positive numbers, one for each output")
    outside = fit.posterior.extrapolated(controls)
    found = scores.judge(
        draws, truth, outside, weights, spread=spread, levels=np.atleast_1d(levels), **densities
    )
    return replace(found, status=fit.status, reasons=fit.reasons)
