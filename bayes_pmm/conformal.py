r"""Conformal correction of Bayesian bands: one factor that makes a band of stated probability hold its coverage.

Each calibration value y that the fit has not seen is scored by how far it lies from the median in units of the half of
the band on its side,

.. math:: r = (y − m)/(u − m) \text{ above the median } m, \qquad r = (m − y)/(m − l) \text{ below,}

so r ≤ 1 inside. The factor is the ⌈(n + 1) · level⌉-th smallest of n scores, and both halves of every band are
multiplied by it: where the posterior is wide, the corrected band stays wide.

What that buys. If the calibration points and a new point are exchangeable, that is, drawn in the same way, the
corrected band contains the new value with probability at least ``level``, whatever the model. The probability is in
the mean over calibration sets and new points from *their* distribution; it is not a statement about one place. It says
nothing outside: a point beyond the data is not exchangeable with points inside, and no factor found inside corrects an
extrapolation. Scores of left-out outer points (:func:`~bayes_pmm.validation.leave_future_out`) give a heuristic that
assumes the band is wrong by the same factor further out. Scores of cross-validation come from other fits than the one
that is corrected, so the guarantee holds only roughly. Values of one row, and neighbours on a smooth curve, share their
errors, and then n is smaller than it looks.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bayes_pmm.bands import QUANTILES, Bands, probabilities_of
from bayes_pmm.columns import numbers
from bayes_pmm.errors import InputError
from bayes_pmm.predict import check_exact
from bayes_pmm.validation import LeftOut

__all__ = ["Conformal", "conformal"]


@dataclass(frozen=True)
class Conformal:
    """A correction of bands.

    Parameters
    ----------
    level : float
        Probability that the corrected band is to hold.
    factor : float
        On both halves of the band; infinite if there were too few values for the level.
    count : int
        Calibration values n.
    kind : {"predictive", "latent"}
        Of the bands that it was learned from, and corrects.
    """

    level: float
    factor: float
    count: int
    kind: str = "predictive"

    def interval(
        self, quantiles: ArrayLike | Bands | LeftOut, *, probabilities: Sequence[float] = QUANTILES
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (...) of the corrected bands.

        Parameters
        ----------
        quantiles : Bands, LeftOut, or array (K, ...)
            Of the bands to correct; an array has one kind, which must be that of the correction.
        probabilities : sequence of float (K,)
            Of the quantiles in an array.
        """
        low, middle, high = _ends(quantiles, self.level, self.kind, probabilities)
        # A half without width stays one, whatever the factor: infinity times nothing would be NaN.
        below, above = (np.where(half > 0, self.factor, 0.0) * half for half in (middle - low, high - middle))
        return middle - below, middle + above


def conformal(
    values: ArrayLike,
    quantiles: ArrayLike | Bands | LeftOut,
    level: float = 0.9,
    *,
    kind: str = "predictive",
    probabilities: Sequence[float] = QUANTILES,
) -> Conformal:
    """Correction from values that the fit has not seen and the bands that it predicted for them.

    Parameters
    ----------
    values : array (...), for ``Bands`` (N, Q), DataFrame or mapping of names to columns
        Measured values with predictive bands, exact ones with latent bands. NaN is left out. With ``Bands`` columns
        with names are found by these, and one output may be (N,); rows belong to the bands' controls in their order.
    quantiles : Bands, LeftOut, or array (K, ...)
        Bands for a split of the data, or what :mod:`bayes_pmm.validation` left out. A datum that several refits left
        out counts once, with the band of the refit that it was furthest from.
    level : float
        A band whose ends are stored: 0.9 or 0.5 unless ``Fit.predict`` was given other ``levels``.
    kind : {"predictive", "latent"}
        Of the bands. Those of ``LeftOut`` and of an array are what they are, and this says what.
    probabilities : sequence of float (K,)
        Of the quantiles in an array.

    Returns
    -------
    Conformal
        Its factor is infinite if there are too few values for the level.

    Warns
    -----
    UserWarning
        If it is; the warning says how many values are needed. And if refits that predicted the values are not ``ok``.

    Raises
    ------
    InputError
        If the shapes do not fit, no value is left, or a band has no width.

    References
    ----------
    Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, JASA 113, 1094 (2018), section 5.2 (scores in units of a width);
    Romano, Patterson, Candès, NeurIPS 2019, arXiv:1905.03222; Barber, Candès, Ramdas, Tibshirani, Ann. Stat. 49,
    486 (2021) (cross-validation).
    """
    if isinstance(values, Bands):
        raise InputError("the values come first; write conformal(values, bands)")
    low, middle, high = _ends(quantiles, level, kind, probabilities)
    if isinstance(quantiles, Bands):
        y = check_exact(values, quantiles.output_names, len(quantiles.controls), "values")
    else:
        y = numbers(values, "values")
    if low.shape != y.shape:
        raise InputError(
            f"values of shape {y.shape} do not fit bands of shape {low.shape}; give one band a value"
        )
    refits = quantiles.refits if isinstance(quantiles, LeftOut) else ()
    unsure = [r for r in refits if r.status != "ok"]
    if unsure:
        warnings.warn(
            f"{len(unsure)} of {len(refits)} refits are not ok ({unsure[0].name}: {unsure[0].status}), and"
            " the factor rests on their bands; leave out with longer chains",
            stacklevel=2,
        )
    known = ~np.isnan(y)
    if isinstance(quantiles, LeftOut):
        # A refit that failed has no band, and another may have predicted the same datum.
        known &= _furthest(quantiles, np.isfinite(low) & np.isfinite(high))
    if not known.any():
        raise InputError("no calibration value is left; give values that the fit has not seen")
    half = np.where(y > middle, high - middle, middle - low)[known]
    if not np.all(half > 0):
        raise InputError(
            "a band at a calibration value has no width or is not finite; check the fit's status"
        )
    scores = np.sort(np.abs(y - middle)[known] / half)
    n = len(scores)
    # Rounding must not lift (n + 1) · level above a whole number.
    k = int(np.ceil((n + 1) * level - 1e-9))
    if k > n:
        least = int(np.ceil(level / (1 - level) - 1e-9))
        warnings.warn(
            f"{n} calibration values are too few for the level {level:g}: the corrected band is infinite; give at least"
            f" {least}, or a lower level",
            stacklevel=2,
        )
    return Conformal(level, float(scores[k - 1]) if k <= n else np.inf, n, kind)


def _furthest(left_out: LeftOut, usable: np.ndarray) -> np.ndarray:
    """Which predictions (M,) to keep so that each datum has one: of the usable ones that of the furthest rows."""
    order = np.lexsort((-np.nan_to_num(left_out.distance), ~usable))
    _, first = np.unique(np.stack([left_out.row, left_out.output])[:, order], axis=1, return_index=True)
    kept = np.zeros(len(order), bool)
    kept[order[first]] = True
    return kept & usable


def _ends(
    quantiles: ArrayLike | Bands | LeftOut, level: float, kind: str, probabilities: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower end, median and upper end of the band of a level."""
    if isinstance(quantiles, Bands):
        low, high = quantiles.interval(level, kind)
        return low, quantiles.quantile(0.5, kind), high
    if isinstance(quantiles, LeftOut):
        probabilities, quantiles = quantiles.probabilities, quantiles.quantiles
    if isinstance(quantiles, Mapping) or hasattr(quantiles, "columns"):
        raise InputError(
            f"quantiles: {type(quantiles).__name__} is neither Bands nor an array; give what fit.predict returned"
        )
    q, stored = numbers(quantiles, "quantiles"), np.array(probabilities, float)
    if q.ndim == 0 or len(q) != len(stored):
        raise InputError(
            f"quantiles of shape {q.shape}: the first axis must have the {len(stored)} stored ones; give their"
            " probabilities if they are others"
        )
    places = [np.flatnonzero(np.abs(stored - p) < 1e-9) for p in probabilities_of(level)]
    if not all(map(len, places)):
        levels = ", ".join(f"{1 - 2 * p:g}" for p in stored[stored < 0.5][::-1])
        raise InputError(
            f"level = {level:g}: only the bands of {levels} are stored; use one, or predict, or"
            f" leave out, with levels=({level:g},)"
        )
    low, middle, high = (q[i[0]] for i in places)
    return low, middle, high
