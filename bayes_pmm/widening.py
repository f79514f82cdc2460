r"""Widening: outside the data a band is stretched about its mean, because no small matrix is the truth.

A posterior says how uncertain the matrices are *if* an n×n model is true. What an exact solver returns outside the data
scatters about the mean more widely than that, by about the same factor at any noise, and the more the further out:

.. math:: y → \bar y + (1 + r \sqrt{d_q}) \, (y - \bar y),

with y the PMM's output in a draw, ȳ its posterior mean at the same control, and d_q the distance from that output's
data (:func:`~bayes_pmm.defect.distances`). Inside nothing changes. The rate r was chosen on problems with exact answers
(``studies/extrapolation/widening.py``). Only levels and their differences are stretched: expectation values and
strengths have bounds that a stretch could leave, and were not part of that study.
"""

from dataclasses import dataclass

import numpy as np

from bayes_pmm.data import Dataset
from bayes_pmm.defect import distances
from bayes_pmm.errors import InputError
from bayes_pmm.outputs import Output

__all__ = ["Widening"]


@dataclass(frozen=True)
class Widening:
    """How much bands are stretched outside the data.

    Parameters
    ----------
    rate : float
        r: at a distance of one range of the training controls the band is 1 + r times as wide. 0 for a model that is
        known to be exact.
    """

    rate: float = 0.35

    def __post_init__(self):
        if not 0 <= self.rate < np.inf:
            raise InputError(f"widening: rate = {self.rate} must be a number that is not negative")

    def factors(self, data: Dataset, outputs: tuple[Output, ...], controls: np.ndarray) -> np.ndarray:
        """Factors (N, Q) at controls (N, p): 1 inside the data and for outputs that are not levels or differences."""
        if self.rate == 0:
            return np.ones((len(controls), len(outputs)))
        spectral = np.array([o.kind in ("level", "difference") for o in outputs])
        return 1.0 + self.rate * np.sqrt(distances(data, controls)) * spectral

    def stretch(
        self,
        data: Dataset,
        outputs: tuple[Output, ...],
        controls: np.ndarray,
        draws: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Stretched draws (chain, draw, N, Q) of the PMM's outputs at controls (N, p).

        Parameters
        ----------
        weights : array (chain,), optional
            Of the chains; equal if not given.
        """
        k = self.factors(data, outputs, controls)
        if np.all(k == 1.0):
            return draws
        mean = np.average(draws.mean(axis=1), axis=0, weights=weights)
        # So written, what is not stretched stays as it is to the last digit.
        return draws + (k - 1.0) * (draws - mean)
