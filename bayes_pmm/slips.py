"""What in a user's table is likely a slip, and no model would say: columns exchanged, a digit too many, another unit.

Where no matrix could give the data they are refused; where it is only unlikely, a warning says so.
"""

import itertools
import warnings
from collections.abc import Iterator

import numpy as np

from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.hull import inside_hull
from bayes_pmm.outputs import Difference, Level, Output, output_named
from bayes_pmm.scatter import scatter_of

__all__ = [
    "check_constants",
    "check_errors",
    "check_exchange",
    "check_order",
    "check_strengths",
    "check_typos",
]

TOO_LARGE = 20.0
"""Known errors so many times the scatter of the data about a polynomial are likely in another unit. A judgement."""

EXCHANGED = 4.0
"""Levels that lie the wrong way round by more than so many times the scatter of their distance were mistyped."""

FAR_OFF = 3.0
"""A value so many ranges of all others away from them, at a place between them, is likely a slip. A judgement."""

ALIKE = 0.05
"""Levels that agree within their errors and these shares of their variation are likely a degenerate pair."""


def check_errors(data: Dataset) -> None:
    """Errors in another unit than the data make bands that are far too wide, and nothing else would say so."""
    if not data.rms_errors.any():
        return
    with np.errstate(over="ignore"):  # numbers whose squares do not fit are refused afterwards
        spread = np.nanstd(data.values, axis=0)
    for q in np.flatnonzero(data.rms_errors > spread):
        rows = data.mask[:, q]
        left = scatter_of(data.controls[rows], data.values[rows, q])
        # What a polynomial leaves of constants is rounding, and says nothing of a unit.
        smallest = 1e-9 * np.abs(data.values[rows, q]).max()
        if left > smallest and data.rms_errors[q] > TOO_LARGE * left:
            warnings.warn(
                f"the known errors of {data.output_names[q]} ({data.rms_errors[q]:.2g}) are"
                f" {data.rms_errors[q] / left:.2g} times what its data scatter about a polynomial: check their unit",
                stacklevel=4,
            )


def check_constants(data: Dataset) -> None:
    """Warn of an output that is exactly the same in all rows: long sampling would say no more than the column does."""
    for name, column, error in zip(data.output_names, data.values.T, data.rms_errors, strict=True):
        y = column[~np.isnan(column)]
        with np.errstate(over="ignore"):
            width = np.ptp(y)
        if len(y) > 2 and width <= 1e-12 * np.abs(y).max() and error == 0:
            others = " and fit the others alone" if data.n_outputs > 1 else ""
            what, offset = f"is {y[0]:g} in all {len(y)} rows", ""
            # Less than that is what a solver's own rounding leaves of a constant.
            if width > 1e-14 * np.abs(y).max():
                what = f"varies by {width:.2g} about {y[0]:g}, which is lost in rounding"
                offset = "subtract an offset; "
            warnings.warn(
                f"column {name} {what}: {offset}if no control moves it, leave it out{others}; as a part of the model it"
                " takes long to sample, and may keep the rest from converging",
                stacklevel=4,
            )


def check_strengths(data: Dataset, outputs: tuple[Output, ...]) -> None:
    """Warn of a strength that is plainly negative in the mean: its sign is wrong, or the column another one."""
    for q, output in enumerate(outputs):
        y = data.values[data.mask[:, q], q]
        if output.kind == "transition" and len(y) > 2:
            with np.errstate(over="ignore"):
                error = np.std(y) / np.sqrt(len(y))
            if y.mean() < -2 * error < 0:
                warnings.warn(
                    f"column {data.output_names[q]} is {y.mean():.2g} in the mean, and a strength ({output}) is never"
                    " negative: check its sign and the column",
                    stacklevel=4,
                )


def check_exchange(data: Dataset) -> None:
    """Warn where a control is called like a level and no output is: the two were likely exchanged."""
    named = [n for n in data.control_names if output_named(n) is not None]
    if named and not any(output_named(n) is not None for n in data.output_names):
        warnings.warn(
            f"the control {named[0]} is called like an output, and no output is: if controls and outputs were"
            " exchanged, give the controls first",
            stacklevel=4,
        )


def check_typos(data: Dataset, outputs: tuple[Output, ...]) -> None:
    """Warn of a level or line far from all others at a place between them: a digit too many makes the band useless."""
    for q, output in enumerate(outputs):
        rows = np.flatnonzero(data.mask[:, q])
        if output.kind not in ("level", "difference") or len(rows) < 5:
            continue
        y = data.values[rows, q]
        i = int(np.argmax(np.abs(y - np.median(y))))
        others = np.delete(y, i)
        low, high = others.min(), others.max()
        with np.errstate(over="ignore"):
            beyond = max(low - y[i], y[i] - high)
        # Constants differ by rounding, and by their errors.
        least = max(FAR_OFF * (high - low), 1e-3 * abs(np.median(y)), 10 * data.errors[rows[i], q])
        if not beyond > least:
            continue
        width = np.ptp(data.controls[rows], axis=0)
        c = data.controls[rows] / np.where(width > 0, width, 1.0)
        # At the rim of the data a value may be like no other, as 1/L is.
        if inside_hull(np.delete(c, i, axis=0), c[i : i + 1])[0]:
            place = ", ".join(
                f"{n} = {v:g}" for n, v in zip(data.control_names, data.controls[rows[i]], strict=True)
            )
            warnings.warn(
                f"column {data.output_names[q]} is {y[i]:g} at {place}, and lies between {low:g} and {high:g} in all"
                " other rows: if this is a slip, correct it or leave the cell empty; it widens the band everywhere",
                stacklevel=4,
            )


def check_order(data: Dataset, outputs: tuple[Output, ...]) -> None:
    """Levels are counted by energy: columns that are plainly the other way round would be fitted as noise.

    Raises
    ------
    InputError
        If a level or line lies above another that it cannot be above in every row, or a line has the wrong sign.

    Warns
    -----
    UserWarning
        If it does so in some rows, or two levels agree within their errors in all.
    """
    for q, output in enumerate(outputs):
        if isinstance(output, Difference) and (output.upper < 0) == (output.lower < 0):
            sign = 1.0 if output.upper > output.lower else -1.0
            values = sign * data.values[data.mask[:, q], q]
            if values.max() < 0 and -values.mean() > 3 * data.rms_errors[q]:
                other = Difference(output.lower, output.upper)
                raise InputError(
                    f"column {data.output_names[q]} is {'negative' if sign > 0 else 'positive'} in every row, and"
                    f" {output} never is, because levels are counted by energy; write {other}"
                )
    for q, p, sign_q, sign_p in _ordered(outputs):
        both = data.mask[:, q] & data.mask[:, p]
        if not both.any():
            continue
        small, large = sign_q * data.values[both, q], sign_p * data.values[both, p]
        above, known = small - large, np.hypot(data.errors[both, q], data.errors[both, p])
        names = f"column {data.output_names[q]} (output {outputs[q]})", f"column {data.output_names[p]}"
        beyond_noise = above.mean() > 3 * np.sqrt(np.mean(known**2) / len(known))
        if above.min() > 0 and above.mean() > 0.1 * np.std([small, large]) and beyond_noise:
            raise InputError(
                f"{names[0]} lies above {names[1]} (output {outputs[p]}) in all {both.sum()} rows that have both, but"
                " levels are counted by energy: exchange the two"
            )
        # Noise may exchange levels that nearly touch; their distance then scatters as much as they are exchanged by.
        # Where it is smooth but for its sign, two values of a row were mistyped.
        with np.errstate(over="ignore"):
            smooth = EXCHANGED * scatter_of(data.controls[both], np.abs(above))
            apart, error = np.sqrt(np.mean(above**2)), np.sqrt(np.mean(known**2))
            alike = apart <= max(2 * error, 1e-9 * np.std(small)) and apart < ALIKE * np.std(small)
        wrong = np.flatnonzero(both)[above > np.maximum(3 * known, smooth)]
        if wrong.size:
            place = ", ".join(
                f"{n} = {c:g}" for n, c in zip(data.control_names, data.controls[wrong[0]], strict=True)
            )
            warnings.warn(
                f"{names[0]} lies above {names[1]} (output {outputs[p]}) in {wrong.size} of {both.sum()} rows, first at"
                f" {place}: levels are counted by energy, so exchange the two values there; otherwise the row is fitted"
                " as noise",
                stacklevel=4,
            )
        if outputs[q].kind == "level" and both.sum() >= 3 and alike:
            warnings.warn(
                f"{names[0]} and {names[1]} agree within their errors in all {both.sum()} rows: if a symmetry makes the"
                " pair degenerate (Kramers, say), the model does not know and pushes the two apart outside the data;"
                f" fit {outputs[q]} alone, with the values of both as rows",
                stacklevel=4,
            )


def _ordered(outputs: tuple[Output, ...]) -> Iterator[tuple[int, int, float, float]]:
    """Pairs of outputs q, p of which the first is never above the second, whatever the matrices, with their signs."""
    spans = [_span(o) for o in outputs]
    for (q, a), (p, b) in itertools.permutations(enumerate(spans), 2):
        if a is None or b is None or outputs[q].kind != outputs[p].kind:
            continue
        (low, high, sign), (lower, higher, other) = a, b
        # A line is part of another if its ends are between those of it, counted from the same end of the spectrum.
        part = (
            low < lower
            if outputs[q].kind == "level"
            else lower <= low and high <= higher and (low, high) != (lower, higher)
        )
        if part and (low < 0) == (lower < 0):
            yield q, p, sign, other


def _span(output: Output) -> tuple[int, int, float] | None:
    """Lower and upper level of an output and its sign, counted from one end of the spectrum; None for all others."""
    if isinstance(output, Level):
        return output.index, output.index, 1.0
    if not isinstance(output, Difference) or (output.upper < 0) != (output.lower < 0):
        return None
    sign = 1.0 if output.upper > output.lower else -1.0
    return min(output.levels), max(output.levels), sign
