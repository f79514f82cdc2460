r"""The defect: what an n×n model cannot represent, as a Gaussian process that vanishes inside the data.

Statisticians call it the model discrepancy (Kennedy, O'Hagan, J. R. Stat. Soc. B 63, 425, 2001). Inside, the learned
floor stands for it. Outside, the error of a wrong model grows with the distance from the data, and
neighbouring points share it:

.. math:: δ_q(c) = κ \, s_q \, d_q(c)^a \, g_q(c), \qquad
    \mathrm{Cov}[g_q(c), g_q(c')] = \exp\bigl(-|c - c'|^2 / 2 ℓ^2\bigr),

with d_q the distance from the convex hull of the rows in which output q was observed, and c in units of each control's
range there; s_q is the output's spread. The data cannot tell κ, since δ is 0 at all of them. It is learned from
rows that are left out (:func:`~bayes_pmm.defect_learning.learn_defect`).
"""

from dataclasses import dataclass, field

import jax
import numpy as np

from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.hull import distance_to_hull
from bayes_pmm.settings import in_range, plain_numbers

__all__ = ["Defect", "Growth", "distances"]

JITTER = 1e-9


def distances(data: Dataset, controls: np.ndarray) -> np.ndarray:
    """Distance (K, Q) of controls (K, p) from the hull of each output's rows, in units of the controls' ranges there.

    Where an output was observed at one value only of a control, the unit is the range of that control over all rows.
    """
    result = np.zeros((len(controls), data.n_outputs))
    done: dict[bytes, np.ndarray] = {}
    for q in range(data.n_outputs):
        rows = data.mask[:, q]
        if rows.tobytes() not in done:
            unit = _unit(data, q)
            done[rows.tobytes()] = distance_to_hull(data.controls[rows] / unit, controls / unit)
        result[:, q] = done[rows.tobytes()]
    return result


def _unit(data: Dataset, output: int) -> np.ndarray:
    """Ranges (p,) of the controls where an output was observed, or of all rows that have a value."""
    own = np.ptp(data.controls[data.mask[:, output]], axis=0)
    return np.where(own > 0, own, np.ptp(data.controls[data.mask.any(axis=1)], axis=0))


@dataclass(frozen=True)
class Growth:
    """How the defect grows outside.

    Parameters
    ----------
    power : float
        Exponent a of the distance.
    length : float
        Correlation length ℓ, in units of the controls' ranges.
    prior : float
        Scale of κ's half-Cauchy prior, in units of the outputs' spreads.

    Raises
    ------
    InputError
        If a number is not positive and finite.
    """

    power: float = 1.5
    length: float = 1.0
    prior: float = 0.05

    def __post_init__(self):
        plain_numbers(self)
        if not in_range(self.power, self.length, self.prior):
            raise InputError("defect: power, length and prior must be positive and finite")

    def covariance(self, data: Dataset, controls: np.ndarray, output: int) -> np.ndarray:
        """Covariance (N, N) of δ/(κ s) of one output at controls (N, p)."""
        d = distances(data, controls)[:, output] ** self.power
        c = controls / _unit(data, output)
        square = np.sum((c[:, None, :] - c[None, :, :]) ** 2, axis=-1)
        return d[:, None] * d[None, :] * np.exp(-0.5 * square / self.length**2)


@dataclass(frozen=True)
class Defect:
    """A defect whose scale has been learned.

    Parameters
    ----------
    scales : tuple of float
        Grid of κ.
    probabilities : tuple of float
        Posterior probability of each.
    growth : Growth

    Raises
    ------
    InputError
        If a scale is negative, or the probabilities do not add up to 1.
    """

    scales: tuple[float, ...]
    probabilities: tuple[float, ...]
    growth: Growth = field(default_factory=Growth)

    def __post_init__(self):
        for name in ("scales", "probabilities"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        p = np.asarray(self.probabilities)
        fits = len(p) == len(self.scales) and np.isclose(p.sum(), 1)
        if not (fits and in_range(*self.scales, zero=True) and in_range(*p, zero=True)):
            raise InputError("defect: give non-negative scales, with one probability each that add up to 1")

    @property
    def scale(self) -> float:
        """Posterior median of κ, in units of the outputs' spreads."""
        return float(self.scales[int(np.searchsorted(np.cumsum(self.probabilities), 0.5 - 1e-12))])

    def sample(
        self, kernels: list[np.ndarray], spread: np.ndarray, shape: tuple[int, int], key: jax.Array
    ) -> np.ndarray:
        """Joint draws (chain, draw, N, Q) of δ, in the outputs' units; exactly 0 inside the hull.

        Parameters
        ----------
        kernels : list of array (N, N)
            Covariance of each output's δ/(κ s) at the controls, :meth:`Growth.covariance`.
        spread : array (Q,)
        shape : (chain, draw)
        key : PRNG key
        """
        k1, k2 = jax.random.split(key)
        p = np.asarray(self.probabilities)
        which = np.asarray(jax.random.choice(k1, len(p), shape, p=p))
        kappa = np.asarray(self.scales)[which]
        x = np.asarray(jax.random.normal(k2, (*shape, len(kernels[0]), len(spread))))
        result = np.zeros_like(x)
        for q, K in enumerate(kernels):
            outside = np.flatnonzero(np.diag(K) > 0)
            if outside.size:
                # Neighbouring controls make it singular to rounding.
                w, v = np.linalg.eigh(K[np.ix_(outside, outside)])
                root = v * np.sqrt(np.clip(w, 0.0, None))
                result[:, :, outside, q] = spread[q] * kappa[:, :, None] * (x[:, :, outside, q] @ root.T)
        return result


def scale_posterior(
    growth: Growth, residuals: list[np.ndarray], covariances: list[np.ndarray], kernels: list[np.ndarray]
) -> Defect:
    r"""Posterior of κ from residuals of left-out data, on a grid.

    Each residual vector r is taken as N(0, C + κ² K): C the covariance of what the model predicted without these data,
    noise included, K that of the defect at κ = 1.

    Parameters
    ----------
    growth : Growth
    residuals : list of array (m,)
        In units of the outputs' spreads, one for each refit and output.
    covariances, kernels : list of array (m, m)
    """
    grid = np.append(0.0, np.geomspace(1e-3, 30.0, 60)) * growth.prior * 10
    # Cells of the half-Cauchy's distribution function, so that the grid's spacing does not matter.
    edges = np.concatenate([[0.0], 0.5 * (grid[1:] + grid[:-1]), [np.inf]])
    log_p = np.log(np.diff(2 / np.pi * np.arctan(edges / growth.prior)))
    for r, C, K in zip(residuals, covariances, kernels, strict=True):
        # In units of C, where κ² only scales: beside a tiny C the sum is no longer definite to rounding.
        L = np.linalg.cholesky(C + JITTER * np.trace(C) / len(C) * np.eye(len(C)))
        w, v = np.linalg.eigh(np.linalg.solve(L, np.linalg.solve(L, K).T))
        # K is singular where rows are repeated or dense; what rounding leaves of it is none.
        w = np.where(w > len(w) * np.finfo(float).eps * w[-1], w, 0.0)
        variance = 1.0 + grid[:, None] ** 2 * w
        log_p += -0.5 * np.sum((v.T @ np.linalg.solve(L, r)) ** 2 / variance + np.log(variance), axis=1)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    return Defect(tuple(map(float, grid)), tuple(map(float, p)), growth)
