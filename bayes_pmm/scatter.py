"""How much data scatter about a smooth curve that knows nothing of matrices: a model that fits comes near to that."""

import itertools

import numpy as np
from scipy.special import chdtrc, chdtri

from bayes_pmm.data import Dataset

__all__ = ["residuals", "scatter", "scatter_of"]

FREE = 3
"""Fewest degrees of freedom left over: with fewer a polynomial may follow the noise."""

MOST_PARAMETERS = 0.6
"""Most coefficients, as a share of the number of data."""

TAIL = 0.05
"""The scatter that is returned is exceeded by the true one with about this probability, if a polynomial is right."""


def scatter(data: Dataset) -> np.ndarray:
    """Upper 95 % limit of each output's standard deviation about a polynomial in the controls: (Q,).

    The total degree is chosen by generalised cross-validation (Golub, Heath, Wahba, Technometrics 21, 215, 1979).
    Infinite where there are too few data for a line.
    """
    return np.array(
        [scatter_of(data.controls[seen], y[seen]) for y, seen in zip(data.values.T, data.mask.T, strict=True)]
    )


def residuals(data: Dataset, training: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square residual of each output's mean curve in units of its known errors, and its χ² probability: (Q,).

    Zeros and ones where no error is known.

    Parameters
    ----------
    data : Dataset
    training : array (chain, draw, N, Q)
        Outputs at the training controls.
    weights : array (chain,)
    """
    mean = np.average(training.mean(axis=1), axis=0, weights=weights)
    known = data.mask & (data.errors > 0)
    z = np.where(known, (data.values - mean) / np.where(known, data.errors, 1.0), 0.0)
    count, square = known.sum(axis=0), np.sum(z**2, axis=0)
    return np.sqrt(square / np.maximum(count, 1)), np.where(
        count > 0, chdtrc(np.maximum(count, 1), square), 1.0
    )


def scatter_of(controls: np.ndarray, y: np.ndarray) -> float:
    """The same for values (N,) at controls (N, p)."""
    N = len(y)
    best, found, degree = np.inf, np.inf, 0
    while True:
        degree += 1
        V = _polynomials(controls, degree)
        p = V.shape[1]
        if p > MOST_PARAMETERS * N or N - p < FREE:
            return found
        rss = np.sum((y - V @ np.linalg.lstsq(V, y, rcond=None)[0]) ** 2)
        if (gcv := rss / (N - p) ** 2) < best:
            best, found = gcv, float(np.sqrt(rss / chdtri(N - p, 1 - TAIL)))


def _polynomials(controls: np.ndarray, degree: int) -> np.ndarray:
    """Products (N, p) of Chebyshev polynomials of all controls, up to a total degree."""
    low, high = controls.min(0, initial=np.inf), controls.max(0, initial=-np.inf)
    x = 2 * (controls - low) / np.where(high > low, high - low, 1.0) - 1
    each = [np.polynomial.chebyshev.chebvander(column, degree) for column in x.T]
    powers = [k for k in itertools.product(range(degree + 1), repeat=len(each)) if sum(k) <= degree]
    return np.stack(
        [np.prod([v[:, i] for v, i in zip(each, k, strict=True)], axis=0) for k in powers], axis=1
    )
