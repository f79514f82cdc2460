"""One line of JSON for each task and method: everything that tables and pictures need, in units of the spread."""

import json
from pathlib import Path

import numpy as np

from bayes_pmm import scores
from bayes_pmm.errors import InputError
from studies.extrapolation.forecast import Forecast

ENDS = (0.05, 0.95)
DIGITS = 5


def scored(task, forecast: Forecast) -> dict:
    """Scores of a forecast at every outside point.

    Returns
    -------
    dict
        ``distance`` (K,); ``truth``, ``mean``, ``sd``, ``q05``, ``q95`` (K, Q), less the mean of the training data;
        ``pit``, ``crps`` (of the draws' own distribution), ``error`` (absolute, of the median), and ``flags``,
        ``doubts`` (flags by reason) and ``strengths`` of the doubts where the method gave any. Values in units of the
        task's spread, to five digits.

    Raises
    ------
    InputError
        If the draws have the wrong shape or are not finite, or an output has no spread.
    """
    draws, w = np.asarray(forecast.draws, float), forecast.weights
    if draws.shape[1:] != task.truth.shape or not np.isfinite(draws).all():
        raise InputError(
            f"draws of shape {draws.shape}, finite: {bool(np.isfinite(draws).all())}; cannot be scored"
        )
    unit = np.asarray(task.spread)
    if not np.all(unit > 0):
        raise InputError("an output of the task has no spread to measure errors with")
    centre = np.nanmean(task.data.values, axis=0)
    draws, truth = (draws - centre) / unit, (task.truth - centre) / unit
    low, middle, high = scores.quantiles(draws, (ENDS[0], 0.5, ENDS[1]), w)
    mean = np.average(draws, axis=0, weights=w)
    values = {
        "distance": task.distance,
        "truth": truth,
        "mean": mean,
        "sd": np.sqrt(np.average((draws - mean) ** 2, axis=0, weights=w)),
        "q05": low,
        "q95": high,
        "pit": scores.pit(draws, truth, weights=w),
        "crps": scores.crps(draws, truth, fair=False, weights=w),
        "error": np.abs(middle - truth),
    }
    result = {k: rounded(v) for k, v in values.items()}
    if forecast.flags is not None:
        result["flags"] = np.asarray(forecast.flags, int).tolist()
        result["doubts"] = {k: np.asarray(v, int).tolist() for k, v in forecast.doubts.items()}
        result["strengths"] = {k: rounded(v, 3) for k, v in forecast.strengths.items()}
    return result


def rounded(values: np.ndarray, digits: int = DIGITS) -> list:
    """Nested lists of floats with so many significant digits."""
    values = np.asarray(values, float)
    return [rounded(v, digits) for v in values] if values.ndim else float(f"{values:.{digits}g}")


def read(path: Path) -> dict[tuple[str, str], dict]:
    """Lines by (task, method), a later line for an earlier one; a last line that was cut off is left out."""
    if not path.exists():
        return {}
    found = {}
    text = path.read_text(encoding="utf-8").split("\n")
    for i, line in enumerate(text):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if i == len(text) - 1:
                break
            raise InputError(
                f"{path}: line {i + 1} is damaged; remove it, and its cell is run again"
            ) from None
        found[row["task"], row["method"]] = row
    return found


def write(path: Path, row: dict) -> None:
    """Append a line at once; begins on a new line even where an earlier run was cut off within one."""
    with path.open("ab+") as file:
        file.seek(0, 2)
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                # What stands there cannot be read; it is dropped, as reading would have done.
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write((json.dumps(row) + "\n").encode())
        file.flush()
