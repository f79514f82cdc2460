r"""Validation by the user's own data: leave the outermost points out, or parts of them, refit and predict.

Every left-out datum is judged by its exact predictive density, the mean over draws s of
N(y; f_s(c), floor_s² + s_i²) with its own known error s_i.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bayes_pmm import scores
from bayes_pmm.bands import LEVELS, QUANTILES, probabilities_of, quantile_column
from bayes_pmm.data import Dataset
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.fit import Fit, as_posterior, fit
from bayes_pmm.inference import Laplace, Method, Variational, as_method
from bayes_pmm.judging import mixture
from bayes_pmm.posterior import Posterior
from bayes_pmm.predict import outputs_at
from bayes_pmm.scaling import fit_scaling
from bayes_pmm.settings import as_key, as_whole, in_range, stream

ENDS = ("both", "upper", "lower")

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LeftOut",
    "Refit",
    "k_fold",
    "leave_future_out",
    "outer_rows",
    "refit_without",
]


@dataclass(frozen=True)
class Refit:
    """One refit without some of the data.

    Parameters
    ----------
    name : str
        What was left out.
    status : {"ok", "suspect", "failed"}
    reasons : tuple of str
    rows : tuple of int
        Rows of the data with left-out values.
    """

    name: str
    status: str
    reasons: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictions of left-out data, one entry for each pair of a refit and a datum that it did not see.

    Parameters
    ----------
    data : Dataset
        All the data.
    refits : tuple of Refit
    skipped : tuple of str
        What could not be left out, and why.
    refit, row, output : integer array (M,)
        Which refit, row and output.
    value : array (M,)
    log_density : array (M,)
        Log predictive density, in log of 1/unit of the output. It is too low where the value lies so far out that
        only few draws come near, from ``|z| = 6`` on or so. NaN where the refit found no draws.
    pit : array (M,)
    z : array (M,)
        Value minus predictive mean, in predictive standard deviations.
    crps : array (M,)
        In the output's units.
    quantiles : array (K, M)
        Of the predictive band, with the datum's own known error, at the ``probabilities``.
    distance : array (M,)
        From the kept rows, along the direction in which rows were left out, in units of the kept rows' range; NaN
        where there is no direction.
    extrapolated : array (M,) of bool
        Outside the convex hull of the rows that the refit saw of this output.
    probabilities : tuple of float (K,)
        Of the quantiles, ascending: the median and the ends of the intervals that were asked for.
    """

    data: Dataset
    refits: tuple[Refit, ...]
    skipped: tuple[str, ...]
    refit: np.ndarray
    row: np.ndarray
    output: np.ndarray
    value: np.ndarray
    log_density: np.ndarray
    pit: np.ndarray
    z: np.ndarray
    crps: np.ndarray
    quantiles: np.ndarray
    distance: np.ndarray
    extrapolated: np.ndarray
    probabilities: tuple[float, ...] = QUANTILES

    @property
    def pointwise(self) -> np.ndarray:
        """Log predictive density (N, Q) of each datum, in the mean over the refits that predicted it; else NaN."""
        shape = self.data.values.shape
        total, count = np.zeros(shape), np.zeros(shape)
        np.add.at(total, (self.row, self.output), self.log_density)
        np.add.at(count, (self.row, self.output), 1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    @property
    def elpd(self) -> float:
        """Sum of :attr:`pointwise` over all data that were left out; NaN if a refit found no draws."""
        return float(self.pointwise[self._seen].sum())

    @property
    def se(self) -> float:
        """Standard error of :attr:`elpd` as of independent data; too small where neighbours share their error."""
        each = self.pointwise[self._seen]
        return float(np.sqrt(each.size) * each.std(ddof=1)) if each.size > 1 else np.nan

    @property
    def status(self) -> str:
        """The worst of the refits."""
        return max((r.status for r in self.refits), key=("ok", "suspect", "failed").index)

    @property
    def _seen(self) -> np.ndarray:
        seen = np.zeros(self.data.values.shape, bool)
        seen[self.row, self.output] = True
        return seen

    def coverage(self, level: float = 0.9) -> float:
        """Share of the left-out data inside the central predictive interval."""
        return float(scores.reliability(self.pit, [level])[0])

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per prediction, as a pandas DataFrame."""
        import pandas as pd

        columns: dict[str, Any] = {
            "refit": [self.refits[i].name for i in self.refit],
            "status": [self.refits[i].status for i in self.refit],
            "row": self.row,
        }
        scores = {"output": np.array(self.data.output_names)[self.output]}
        for name in ("value", "log_density", "pit", "z", "crps", "distance", "extrapolated"):
            scores[name] = getattr(self, name)
        scores |= {quantile_column(q): v for q, v in zip(self.probabilities, self.quantiles, strict=True)}
        return pd.DataFrame(columns | self.data.control_columns(self.row, (*columns, *scores)) | scores)

    def __str__(self):
        lines = [
            f"elpd {self.elpd:.1f} ± {self.se:.1f} of {int(self._seen.sum())} left-out data,"
            f" {100 * self.coverage():.0f} % inside the 90 % band"
        ]
        lines += [
            f"  {r.name}: {r.status}" + "".join(f"\n    - {reason}" for reason in r.reasons)
            for r in self.refits
        ]
        return "\n".join(lines + [f"  not done: {text}" for text in self.skipped])

    __repr__ = __str__


def without(posterior: Posterior, left: np.ndarray, *, keep_units: bool = False) -> Posterior:
    """The posterior of what is left of the data.

    Parameters
    ----------
    posterior : Posterior
    left : array (N, Q) of bool
        Data to leave out.
    keep_units : bool
        Keep the scaling that was fitted to all data. It sets the prior's units, so by default it is fitted again: who
        did not have the left-out data would not have known it. A reference that is not the mean of the controls was
        chosen, and stays, and so does the dimension: it is this model that is judged.

    Raises
    ------
    InputError
        If what is left is not a data set, or cannot be scaled.
    """
    data = posterior.data
    values = np.where(left, np.nan, data.values)
    kept = replace(data, values=values).select(np.flatnonzero(~np.isnan(values).all(axis=1)))
    scaling = posterior.scaling
    if not keep_units:
        chosen, seen = np.asarray(scaling.control_reference), data.controls[data.mask.any(axis=1)]
        # In units of the controls, whatever these are.
        own = np.any(np.abs(chosen - seen.mean(axis=0)) > 1e-9 * np.ptp(seen, axis=0))
        scaling = fit_scaling(kept, posterior.pmm.outputs, posterior.pmm.basis, chosen if own else None)
    # With a scaling of its own: what was said of the posterior's data is not said again of each refit's.
    return replace(posterior, data=kept, scaling=scaling)


def refit_without(
    posterior: Posterior, left: np.ndarray, method: Method | str, key: jax.Array, *, keep_units: bool = False
) -> Fit:
    """Fit :func:`without` some of the data; its status counts what was left out.

    Raises
    ------
    InputError
        If what is left is not a data set, or cannot be scaled.
    BayesPMMError
        If no start fits it, or draws or their outputs are not finite.
    """
    if isinstance(method, Laplace | Variational):
        # Nobody sees how a refit compares with exact draws, which take far longer than it.
        method = replace(method, exact=None)
    # Chains must agree at what was left out too, not only where they saw data.
    data = posterior.data
    there = data.controls[(left & data.mask).any(axis=1)]
    found = fit(without(posterior, left, keep_units=keep_units), method, key=key, controls=there)
    values = (
        *found.draws.sites.values(),
        found.training_outputs,
        outputs_at(found.posterior, found.draws, there),
    )
    if not all(np.isfinite(v).all() for v in values):
        raise BayesPMMError(
            "some draws of the refit, or their outputs, are not finite, so that nothing can be predicted from them; try"
            " another key or more warm-up"
        )
    return found


def leave_future_out(
    posterior: Posterior | Fit,
    method: Method | str = "auto",
    *,
    key: jax.Array | int | np.integer,
    control: str | None = None,
    end: str = "both",
    direction: Sequence[float] | np.ndarray | None = None,
    share: float = 0.3,
    steps: int = 1,
    levels: float | Sequence[float] | np.ndarray = LEVELS,
) -> LeftOut:
    """Refit without the outermost rows and predict them: the question that extrapolation asks.

    Parameters
    ----------
    posterior : Posterior or Fit
        Of a fit its posterior. Its units are fitted again to the kept rows of each refit, since leaving data out
        changes what the user would have known.
    method : Method or str
        For the refits.
    key : PRNG key or int
    control : str, optional
        Leave out along this control only; default each control in turn.
    end : {"both", "upper", "lower"}
        At which ends of a control; a direction has one only.
    direction : array (p,), optional
        Leave out along this direction instead, in controls divided by their standard deviations; it points outwards.
    share : float
        Share of the rows left out, at least; rows that tie along the direction stay together.
    steps : int
        Refits at each end: step j of J leaves out j/J of the share, so the inner refits predict near points and the
        last one all of them.
    levels : float or sequence of float
        Probabilities of the central intervals whose ends are kept.

    Returns
    -------
    LeftOut
        An end at which the kept rows are no data set (a control that becomes constant, an output without a value) is
        listed in ``skipped``, and a refit that found no draws is ``failed`` with NaN for its predictions.

    Raises
    ------
    InputError
        For settings that cannot be used, or if no end can be left out.

    References
    ----------
    Bürkner, Gabry, Vehtari, J. Stat. Comput. Simul. 90, 2499 (2020), arXiv:1902.06281 (for time series).
    """
    posterior = as_posterior(posterior)
    data = posterior.data
    if not (in_range(share) and share < 1) or as_whole("steps", steps) < 1 or end not in ENDS:
        raise InputError(
            f"share = {share!r}, steps = {steps}, end = {end!r}: use a share between 0 and 1, at least one step, and"
            f" one of {', '.join(ENDS)}"
        )
    if direction is not None and end != "both":
        raise InputError(
            f"end = {end!r} beside a direction: a direction has one end, where it points to; leave end out, and turn"
            " the direction's signs for the other one"
        )
    key = as_key(key)
    plan, skipped = [], []
    for name, t in _directions(data, control, end, direction):
        used = set()
        for step in range(1, steps + 1):
            rows = _outermost(t, share * step / steps)
            if rows.sum() in used:
                continue
            used.add(rows.sum())
            kept = t[~rows & ~np.isnan(t)]
            title = f"{name}, {int(rows.sum())} of {len(t)} rows"
            if len(kept) == 0 or np.ptp(kept) == 0:
                skipped.append(f"{title}: no range is left along it")
                continue
            distance = np.where(rows, (t - kept.max()) / np.ptp(kept), np.nan)
            plan.append((title, np.repeat(rows[:, None], data.n_outputs, axis=1), distance))
    return _left_out(posterior, method, key, plan, skipped, levels)


def k_fold(
    posterior: Posterior | Fit,
    method: Method | str = "auto",
    folds: int | Sequence[int] | np.ndarray = 5,
    *,
    key: jax.Array | int | np.integer,
    levels: float | Sequence[float] | np.ndarray = LEVELS,
) -> LeftOut:
    """Exact K-fold cross-validation: refit without each part of the rows and predict them.

    It scores prediction *among* the data. For bands outside use :func:`leave_future_out`.

    Parameters
    ----------
    posterior : Posterior or Fit
        Of a fit its posterior. Its units are fitted again to the kept rows.
    method : Method or str
    folds : int or integer array (N,)
        Number of parts, drawn at random and of sizes that differ by at most one row; or the part of each row.
    key : PRNG key or int
    levels : float or sequence of float
        Probabilities of the central intervals whose ends are kept.

    Returns
    -------
    LeftOut

    Raises
    ------
    InputError
        If there are fewer than two folds, more folds than rows, or labels that do not fit the rows.
    """
    posterior = as_posterior(posterior)
    data = posterior.data
    key = as_key(key)
    key, key_folds = jax.random.split(key)
    if isinstance(folds, int | np.integer):
        count = int(folds)
        if not 2 <= count <= data.n_rows:
            raise InputError(f"folds = {count}: use 2 to the number of rows, {data.n_rows}")
        labels = np.asarray(jax.random.permutation(key_folds, np.arange(data.n_rows) % count))
    else:
        labels = np.asarray(folds)
        if labels.shape != (data.n_rows,) or len(np.unique(labels)) < 2:
            raise InputError(
                f"folds of shape {labels.shape}: give one label for each of {data.n_rows} rows, two at least"
            )
    nowhere = np.full(data.n_rows, np.nan)
    plan = [
        (
            f"fold {label}, {int(np.sum(labels == label))} of {data.n_rows} rows",
            np.repeat((labels == label)[:, None], data.n_outputs, axis=1),
            nowhere,
        )
        for label in np.unique(labels)
    ]
    return _left_out(posterior, method, key, plan, [], levels)


def outer_rows(data: Dataset, share: float = 0.3) -> list[tuple[str, np.ndarray]]:
    """Name and mask (N,) of the outermost rows at both ends of each control: at least ``share`` of all rows."""
    return [(name, _outermost(t, share)) for name, t in _directions(data, None, "both", None)]


def _directions(data: Dataset, control, end, direction):
    """Name and coordinate (N,) that grows outwards, for each end."""
    # Rows without any value are no data.
    there = np.asarray(data.mask.any(axis=1))
    used = data.controls[there]
    scaled = np.where(there[:, None], (data.controls - used.mean(0)) / used.std(0), np.nan)
    if direction is not None:
        d = np.asarray(direction, float)
        if control is not None or d.shape != (data.n_controls,) or not np.isfinite(d).all() or not d.any():
            raise InputError(
                f"direction of shape {d.shape}: give {data.n_controls} finite numbers, not all 0, and no control beside"
            )
        return [(f"direction ({', '.join(f'{x:g}' for x in d)})", scaled @ (d / np.linalg.norm(d)))]
    if control is not None and control not in data.control_names:
        raise InputError(f"no control is called '{control}'; there are {', '.join(data.control_names)}")
    names = data.control_names if control is None else (control,)
    signs = {"upper": 1.0, "lower": -1.0}
    return [
        (f"{side} end of {name}", signs[side] * scaled[:, data.control_names.index(name)])
        for name in names
        for side in (signs if end == "both" else (end,))
    ]


def _outermost(t: np.ndarray, share: float) -> np.ndarray:
    """Mask (N,) of at least this share of the rows: those with the largest t, and all that tie; not those with NaN."""
    there = np.sort(t[~np.isnan(t)])
    count = max(1, math.ceil(share * len(there) - 1e-9))
    return t >= there[-count] - 1e-9 * np.ptp(there)


def _left_out(posterior, method, key, plan, skipped, levels) -> LeftOut:
    """Run the refits of a plan: titles, masks (N, Q) of what is left out, distances (N,)."""
    data, method, probabilities = posterior.data, as_method(method), probabilities_of(levels)
    refits, parts, skipped = [], [], list(skipped)
    for (title, left, distance), k in zip(plan, jax.random.split(key, max(len(plan), 1)), strict=False):
        left = left & data.mask
        rows = np.flatnonzero(left.any(axis=1))
        if not rows.size:
            skipped.append(f"{title}: there are no data in them")
            continue
        try:
            found = refit_without(posterior, left, method, k)
        except InputError as error:
            skipped.append(f"{title}: {error}")
            continue
        except BayesPMMError as error:
            refits.append(Refit(title, "failed", (str(error),), tuple(rows.tolist())))
            outside = without(posterior, left).extrapolated(data.controls[rows])
            predicted = None
        else:
            refits.append(Refit(title, found.status, found.reasons, tuple(rows.tolist())))
            outside = found.posterior.extrapolated(data.controls[rows])
            predicted = _predicted(found, data, rows, probabilities)
        i, q = np.nonzero(left[rows])
        columns = {
            "refit": np.full(len(i), len(refits) - 1),
            "row": rows[i],
            "output": q,
            "value": data.values[rows[i], q],
            "distance": distance[rows[i]],
            "extrapolated": outside[i, q],
        }
        for name in ("log_density", "pit", "z", "crps", "quantiles"):
            tail = (len(probabilities),) if name == "quantiles" else ()
            columns[name] = np.full((len(i), *tail), np.nan) if predicted is None else predicted[name][i, q]
        parts.append(columns)
    if not parts:
        raise InputError(
            f"nothing could be left out ({'; '.join(skipped)}); give more rows or a smaller share"
        )
    columns = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    columns["quantiles"] = columns["quantiles"].T
    return LeftOut(data, tuple(refits), tuple(skipped), **columns, probabilities=probabilities)


def _predicted(
    found: Fit, data: Dataset, rows: np.ndarray, probabilities: tuple[float, ...]
) -> dict[str, np.ndarray]:
    """Scores (n, Q) and quantiles (n, Q, K) of the rows' values; where there is none, NaN."""
    y = data.values[rows]
    mean, sd, w = mixture(found, data.controls[rows], data.errors[rows])
    # A missing cell has no error, and without a floor its normal would have no width.
    sd = np.where(np.isnan(y), 1.0, sd)
    centre = np.average(mean, axis=0, weights=w)
    variance = np.average((mean - centre) ** 2 + sd**2, axis=0, weights=w)
    noise = np.asarray(jax.random.normal(stream(found.key, "left out"), mean.shape))
    draws = mean + sd * noise
    return {
        "log_density": scores.log_score(mean, y, sd=sd, weights=w),
        "pit": scores.pit(mean, y, sd=sd, weights=w),
        "z": (y - centre) / np.sqrt(variance),
        "crps": scores.crps(draws, y, weights=w),
        "quantiles": np.moveaxis(scores.quantiles(draws, probabilities, w), 0, -1),
    }
