"""The zoo in plain text: its families, the Hamiltonians of one, and the table of a task."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from bayes_pmm.problems.base import Problem
from bayes_pmm.problems.draws import FAMILIES
from bayes_pmm.problems.zoo import NOISES, Task, parameters, task

__all__ = ["families_table", "hamiltonians_table", "task_csv", "task_text"]


def families_table() -> str:
    """Return a table of the families: what a task of each has, and its standard problem in words."""
    rows = [("family", "controls", "outputs", "basis", "points", "exact dim", "standard problem")]
    for family, known in FAMILIES.items():
        standard = task(f"{family}/0/{NOISES[0]}")
        rows.append(
            (
                family,
                ", ".join(standard.problem.control_names),
                _outputs(standard.problem),
                standard.basis,
                str(known.points),
                "-" if standard.exact_dim is None else str(standard.exact_dim),
                standard.problem.summary,
            )
        )
    return _aligned(rows)


def hamiltonians_table(family: str, count: int = 9) -> str:
    """Return a table of a family's first Hamiltonians: regions of the controls, distances, parameters.

    Parameters
    ----------
    family
        One of `bayes_pmm.problems.families`.
    count
        How many.

    Raises
    ------
    InputError
        If there is no such family.
    """
    rows = [("index", "training", "outside", "distance", "parameters")]
    for index in range(count):
        found = task(f"{family}/{index}/{NOISES[0]}")
        rows.append(
            (
                str(index),
                _region(found.problem.control_names, found.problem.train),
                _region(found.problem.control_names, found.controls),
                f"{found.distance.min():.2f}..{found.distance.max():.2f}",
                ", ".join(f"{name}={_short(value)}" for name, value in parameters(family, index).items())
                or "standard",
            )
        )
    return f"drawn: {FAMILIES[family].drawn}\n" + _aligned(rows)


def task_text(found: Task) -> str:
    """Return what a task is, in a few lines."""
    problem = found.problem
    missing = found.data.values.size - found.data.n_observed
    return "\n".join(
        [
            f"{found.name}: {problem.summary}",
            f"outputs {_outputs(problem)}, basis {found.basis}"
            + ("" if found.exact_dim is None else f", exact with dim {found.exact_dim}"),
            f"{found.data.n_rows} training points, {_region(problem.control_names, problem.train)}"
            + (f", {missing} data missing" if missing else ""),
            f"{len(found.controls)} points outside, {_region(problem.control_names, found.controls)}, "
            f"at distances {found.distance.min():.2f} to {found.distance.max():.2f}",
        ]
    )


def task_csv(found: Task) -> str:
    """Return a task as a table: training rows first, then those outside.

    Columns are the controls; one per output with the data, empty outside and where a datum is missing; one
    ``exact_OUTPUT`` each with the exact value; and ``distance``, 0 for training rows. Floats are written by repr.
    """
    problem = found.problem
    data = np.concatenate([found.data.values, np.full(found.truth.shape, np.nan)])
    columns = np.concatenate(
        [
            np.concatenate([problem.train, found.controls]),
            data,
            np.concatenate([problem.exact(problem.train), found.truth]),
            np.concatenate([np.zeros(len(problem.train)), found.distance])[:, None],
        ],
        axis=1,
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(problem.outputs)
    writer.writerow([*problem.control_names, *names, *(f"exact_{name}" for name in names), "distance"])
    writer.writerows(["" if np.isnan(x) else repr(x) for x in row] for row in columns.tolist())
    return text.getvalue()


def _outputs(problem: Problem) -> str:
    expressions = list(problem.outputs.values())
    return ", ".join(expressions if len(expressions) <= 4 else [*expressions[:2], "...", expressions[-1]])


def _region(names: Sequence[str], controls: np.ndarray) -> str:
    # From the first to the last row: a region may run downwards.
    if controls.shape[1] == 1:
        return f"{names[0]} {controls[0, 0]:.3g}..{controls[-1, 0]:.3g}"
    ends = zip(names, controls.min(axis=0), controls.max(axis=0), strict=True)
    return ", ".join(f"{name} {low:.3g}..{high:.3g}" for name, low, high in ends)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + " ".join(map(_short, value)) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )
