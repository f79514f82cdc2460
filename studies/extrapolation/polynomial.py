"""Bayesian polynomial: conjugate regression, averaged over degree and width of the prior by evidence."""

from itertools import combinations_with_replacement

import numpy as np
from scipy.special import gammaln

from bayes_pmm.basis import parse_basis
from studies.extrapolation.forecast import Forecast, standardise

DRAWS = 1000
DEGREES = range(9)
WIDTHS = np.geomspace(1.0, 1e10, 21)
"""Prior variance of a coefficient over that of the noise."""
SHAPE, RATE = 0.5, 0.5e-8
"""Of the inverse gamma prior of the noise's variance, in standardised units."""


def features(x: np.ndarray, degree: int) -> np.ndarray:
    """All monomials (N, P) up to a total degree."""
    columns = [np.ones(len(x))]
    for d in range(1, degree + 1):
        columns += [x[:, list(p)].prod(1) for p in combinations_with_replacement(range(x.shape[1]), d)]
    return np.stack(columns, axis=1)


def posterior(A: np.ndarray, y: np.ndarray, width: float):
    """Mean (P,), root R with covariance σ² R Rᵀ, rate of σ², log evidence: β ~ N(0, width·σ²), σ² ~ IG."""
    U, sv, Vt = np.linalg.svd(A, full_matrices=False)
    shrink = width * sv**2 / (1 + width * sv**2)
    z = U.T @ y
    mean = Vt.T @ (shrink * z / np.where(sv > 0, sv, 1.0))
    # Outside the row space of A the prior stays as it is.
    root = np.sqrt(width) * (np.eye(A.shape[1]) + Vt.T @ ((1 / np.sqrt(1 + width * sv**2) - 1)[:, None] * Vt))
    rate = RATE + 0.5 * (y @ y - np.sum(shrink * z**2))
    shape = SHAPE + 0.5 * len(y)
    evidence = gammaln(shape) - shape * np.log(rate) - 0.5 * np.sum(np.log1p(width * sv**2))
    return mean, root, rate, evidence


def by_evidence(task, rng: np.random.Generator) -> Forecast:
    """Each draw: a degree and a width by their evidence, then Student-t coefficients; every output for itself."""
    s = standardise(task.data, parse_basis(task.basis), task.controls)
    out = np.empty((DRAWS, len(s.at), s.y.shape[1]))
    degrees = []
    for q in range(s.y.shape[1]):
        seen = s.mask[:, q]
        error = s.error[seen, q]
        weight = np.mean(error) / error if np.all(error > 0) else np.ones(seen.sum())
        fits = []
        for degree in DEGREES:
            A = features(s.x[seen], degree)
            if A.shape[1] > max(seen.sum() - 1, 1):
                break
            fits += [(degree, posterior(weight[:, None] * A, weight * s.y[seen, q], v)) for v in WIDTHS]
        evidence = np.array([fit[3] for _, fit in fits])
        p = np.exp(evidence - evidence.max())
        counts = rng.multinomial(DRAWS, p / p.sum())
        degrees.append(float(sum(c * d for c, (d, _) in zip(counts, fits, strict=True)) / DRAWS))
        parts = []
        for count, (degree, (mean, root, rate, _)) in zip(counts, fits, strict=True):
            if count:
                sigma = np.sqrt(rate / rng.gamma(SHAPE + 0.5 * seen.sum(), size=count))
                beta = mean + sigma[:, None] * (rng.standard_normal((count, len(mean))) @ root.T)
                parts.append(beta @ features(s.at, degree).T)
        out[:, :, q] = np.concatenate(parts)
    return Forecast(s.to_user(out), {"degree": degrees})
