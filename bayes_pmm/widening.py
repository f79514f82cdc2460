r"""Widening: outside the data a band is stretched about its mean, because no small matrix is the truth.

A posterior says how uncertain the matrices are *if* an n×n model is true. What an exact solver returns outside the
data scatters about the mean somewhat more widely than that:

.. math:: y → \bar y + k_q \, (y - \bar y), \qquad k_q = 1 + r \sqrt{d_q},

with y the PMM's output in a draw, ȳ its posterior mean at the same control, and d_q the distance from the output's data
(:func:`~bayes_pmm.defect.distances`). Inside nothing changes, and the factor begins at 1 at the edge of the data; how
it grows from there hardly matters. The rate r was chosen on problems with exact answers
(``studies/extrapolation/widening.py``). Only levels and their differences are stretched: expectation values and
strengths have bounds that a stretch could leave, and were not part of that study.

As an option, and in fits that were stored before dilations were part of the prior, nearly straight data, which show
little of the couplings that will bend the levels later, are stretched more: :math:`k_q = 1 + \min(r / b, r_\text{max})
\sqrt{d_q}`, with b the largest departure of an output from linear in the basis over the training data, as a share of
its spread (:func:`~bayes_pmm.doubts.bend`).

A stretch does not know that E_1 is never below E_0 and a line never negative. :func:`in_order` moves every draw that
has it otherwise to the nearest that can be, where a level counts the less the wider its band is.
"""

from dataclasses import dataclass

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.outputs import Output
from bayes_pmm.settings import in_range, plain_numbers

__all__ = ["Widening", "in_order", "stretch"]


@dataclass(frozen=True)
class Widening:
    """How much bands are stretched outside the data.

    Parameters
    ----------
    rate : float
        r: at a distance of one range of the training controls the band is 1 + r as wide. 0 for a model that is known
        to be exact.
    most : float, optional
        r_max; if given, the band is 1 + r/b as wide there, at most 1 + r_max.

    Raises
    ------
    InputError
        If a number is negative or not finite.
    """

    rate: float = 0.1
    most: float | None = None

    def __post_init__(self):
        plain_numbers(self)
        if not in_range(self.rate, 0.0 if self.most is None else self.most, zero=True):
            given = f"rate = {self.rate}" + ("" if self.most is None else f" and most = {self.most}")
            raise InputError(f"widening: {given} must be finite and not negative")

    def slope(self, bend: float) -> float:
        """r, or min(r/b, r_max) for the bend b: without bend r_max, unless r is 0."""
        if self.most is None:
            return self.rate
        return 0.0 if self.rate == 0 else min(self.rate / max(bend, 1e-300), self.most)

    def factors(self, outputs: tuple[Output, ...], distances: np.ndarray, bend: float) -> np.ndarray:
        """Factors k (N, Q): 1 inside the data and for outputs that are not levels or differences.

        Parameters
        ----------
        outputs : tuple of Output (Q)
        distances : array (N, Q)
            d, from :meth:`~bayes_pmm.posterior.Posterior.distances`.
        bend : float
            b.
        """
        return 1.0 + self.slope(bend) * np.sqrt(distances) * self.widens(outputs)

    @staticmethod
    def widens(outputs: tuple[Output, ...]) -> np.ndarray:
        """Whether bands of each output are stretched (Q,): those of levels and differences."""
        return np.array([o.kind in ("level", "difference") for o in outputs])


def stretch(draws: np.ndarray, factors: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Draws (chain, draw, N, Q) stretched about their mean by factors (N, Q).

    Parameters
    ----------
    weights : array (chain,), optional
        Of the chains; equal if not given.
    """
    if np.all(factors == 1.0):
        return draws
    mean = np.average(draws.mean(axis=1), axis=0, weights=weights)
    # So written, what is not stretched stays as it is to the last digit.
    return draws + (factors - 1.0) * (draws - mean)


def in_order(
    draws: np.ndarray, outputs: tuple[Output, ...], dim: int, weights: np.ndarray | None = None
) -> np.ndarray:
    r"""Draws (chain, draw, N, Q) with levels, and lines from one level, in ascending order, and no line below 0.

    A draw y becomes the y' in order that has the least :math:`\sum_q (y'_q - y_q)^2 / \mathrm{sd}_q^2`. That set is
    convex and the truth is in it, so every draw that is moved comes nearer to the truth, measured in this way, wherever
    that is. Outputs of other kinds stay as they are, and so does the order of those that are measured twice.

    Parameters
    ----------
    dim : int
        Dimension n, by which levels that are counted from above have their place.
    weights : array (chain,), optional
        Of the chains, for the standard deviations.

    References
    ----------
    Barlow, Bartholomew, Bremner, Brunk, Statistical Inference under Order Restrictions (1972), section 1.4 (isotonic
    regression by max-min means).
    """
    groups: dict[int | None, list[tuple[int, float, int]]] = {}
    for q, output in enumerate(outputs):
        places = [k % dim for k in output.levels]
        if output.kind == "level":
            groups.setdefault(None, []).append((places[0], 1.0, q))
        elif output.kind == "difference":
            sign = 1.0 if places[0] > places[1] else -1.0
            groups.setdefault(min(places), []).append((max(places), sign, q))
    result = np.array(draws)
    for lower, members in groups.items():
        places, signs, columns = map(list, zip(*sorted(members), strict=True))
        values = np.array(signs) * draws[..., columns]
        if len(set(places)) == len(places):
            values = _isotonic(values, weights)
        result[..., columns] = np.array(signs) * (values if lower is None else np.maximum(values, 0.0))
    return result


def _isotonic(y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The nearest ascending values to y (chain, draw, N, m), in units of the m standard deviations of each row."""
    wrong = np.any(np.diff(y, axis=-1) < 0, axis=-1)
    if not wrong.any():
        return y
    centre = np.average(y.mean(axis=1), axis=0, weights=weights)
    # Only ratios of variances count, and squares of very large numbers would be infinite.
    apart = (y - centre) / max(np.max(np.abs(y - centre)), 1e-300)
    variance = np.average((apart**2).mean(axis=1), axis=0, weights=weights)
    chain, draw, row = np.nonzero(wrong)
    off, w = y[chain, draw, row], 1.0 / np.maximum(variance, 1e-300)[row]
    m = y.shape[-1]
    mean = lambda a, b: np.average(off[:, a : b + 1], axis=1, weights=w[:, a : b + 1])
    means = {(a, b): mean(a, b) for a in range(m) for b in range(a, m)}
    nearest = [
        np.max([np.min([means[a, b] for b in range(j, m)], axis=0) for a in range(j + 1)], axis=0)
        for j in range(m)
    ]
    result = np.array(y)
    result[chain, draw, row] = np.stack(nearest, axis=-1)
    return result
