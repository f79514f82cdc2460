r"""Widening: outside the data a band is stretched about its mean, because no small matrix is the truth.

A posterior says how uncertain the matrices are *if* an n×n model is true. What an exact solver returns outside the
data scatters about the mean more widely than that, the more so the further out and the less the data bend: nearly
straight levels show little of the couplings that will bend them later, and what the posterior says about these is the
prior's word. So

.. math:: y → \bar y + k_q \, (y - \bar y), \qquad k_q = 1 + \min(r / b, r_\text{max}) \sqrt{d_q},

with y the PMM's output in a draw, ȳ its posterior mean at the same control, d_q the distance from that output's data
(:func:`~bayes_pmm.defect.distances`), and b the largest departure of an output from linear in the basis over the
training data, as a share of its spread (:func:`~bayes_pmm.doubts.bend`). Inside nothing changes. The rate was chosen
on problems with exact answers (``studies/extrapolation/widening.py``). Only levels and their differences are
stretched: expectation values and strengths have bounds that a stretch could leave, and were not part of that study.
"""

from dataclasses import dataclass

import numpy as np

from bayes_pmm.data import Dataset
from bayes_pmm.defect import distances
from bayes_pmm.errors import InputError
from bayes_pmm.outputs import Output
from bayes_pmm.settings import in_range, plain_numbers

__all__ = ["Widening", "stretch"]


@dataclass(frozen=True)
class Widening:
    """How much bands are stretched outside the data.

    Parameters
    ----------
    rate : float
        r: at a distance of one range of the training controls the band is 1 + r/b as wide. 0 for a model that is known
        to be exact.
    most : float
        r_max, the largest r/b.
    """

    rate: float = 0.015
    most: float = 5.0

    def __post_init__(self):
        plain_numbers(self)
        if not in_range(self.rate, self.most, zero=True):
            raise InputError(
                f"widening: rate = {self.rate} and most = {self.most} must be numbers that are not negative"
            )

    def slope(self, bend: float) -> float:
        """min(r/b, r_max) for the bend b; without bend r_max, unless r is 0."""
        return 0.0 if self.rate == 0 else min(self.rate / max(bend, 1e-300), self.most)

    def factors(
        self, data: Dataset, outputs: tuple[Output, ...], controls: np.ndarray, bend: float
    ) -> np.ndarray:
        """Factors k (N, Q) at controls (N, p): 1 inside the data and for outputs that are not levels or differences.

        Parameters
        ----------
        bend : float
            b.
        """
        return 1.0 + self.slope(bend) * np.sqrt(distances(data, controls)) * self.widens(outputs)

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
