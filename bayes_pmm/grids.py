"""New controls as users ask for them: a product grid, a file's columns, or the rows left out of a fit."""

import os
import re
from collections.abc import Sequence

import numpy as np

from bayes_pmm.columns import shown
from bayes_pmm.conditions import parse_number
from bayes_pmm.errors import InputError
from bayes_pmm.tables import Cells, read_table

__all__ = ["controls_from_at", "parse_grid", "read_grid"]

MAX_GRID_POINTS = 1_000_000


def parse_grid(text: str, control_names: Sequence[str]) -> np.ndarray:
    """Read a product grid.

    Parameters
    ----------
    text : str
        For each control NAME=LO:HI:COUNT, ends included, or NAME=VALUE, separated by commas, in any order.
    control_names : sequence of str
        The order of the result's columns.

    Returns
    -------
    ndarray, shape (K, p)
        The first control varies slowest.

    Raises
    ------
    InputError
        Naming the piece at fault, or where there are more than 1,000,000 points.

    Examples
    --------
    >>> parse_grid("a=0:1:3,b=2", ["a", "b"]).tolist()
    [[0.0, 2.0], [0.5, 2.0], [1.0, 2.0]]
    """
    option = f"grid {shown(text)}"
    names = ", ".join(shown(name) for name in control_names)
    axes: dict[str, tuple[float, float, int]] = {}
    for piece in text.split(","):
        name, equals, numbers = (part.strip() for part in piece.rpartition("="))
        axis = _axis(numbers.split(":"))
        if not equals or not name or axis is None:
            raise InputError(
                f"{option}: {shown(piece.strip())} is not NAME=LO:HI:COUNT or NAME=VALUE with finite "
                f"numbers and a whole COUNT; write it as in 'g=0:3:61'"
            )
        if name not in control_names:
            raise InputError(f"{option}: there is no control {shown(name)}; the controls are {names}")
        if name in axes:
            raise InputError(f"{option}: the control {shown(name)} is given twice; give it once")
        low, high, count = axis
        if count < 1 or (count == 1) != (low == high):
            raise InputError(
                f"{option}: {shown(piece.strip())} asks for {count} points from {low!r} to {high!r}; "
                f"give a COUNT of at least 2 and two different ends, or one value, '{shown(name)}={low!r}'"
            )
        axes[name] = axis
    for name in control_names:
        if name not in axes:
            raise InputError(f"{option}: the control {shown(name)} is missing; give every control of {names}")
    size = 1
    for _, _, count in axes.values():
        size *= count
    if size > MAX_GRID_POINTS:
        raise InputError(
            f"{option}: the grid has {size:.3g} points, more than {MAX_GRID_POINTS:,}; lower the counts"
            if size < 10**15
            else f"{option}: the grid has more than {MAX_GRID_POINTS:,} points; lower the counts"
        )
    lines = [_spaced(*axes[name]) for name in control_names]
    return np.stack([axis.ravel() for axis in np.meshgrid(*lines, indexing="ij")], axis=1)


def read_grid(path: str | os.PathLike[str], control_names: Sequence[str]) -> np.ndarray:
    """Read controls from a file.

    Parameters
    ----------
    path : path-like
        See `read_table`; the columns may stand in any order, and others are not looked at.
    control_names : sequence of str
        The order of the result's columns.

    Returns
    -------
    ndarray, shape (K, p)
        In the order of the file's rows.

    Raises
    ------
    InputError
        Where the file cannot be read, or a control is missing or not a finite number.
    """
    table = read_table(path)
    cells = Cells(shown(path, 200), table)
    for name in control_names:
        cells.check_column(name)
    return np.array([[cells.finite(row, name) for name in control_names] for row in range(len(table.rows))])


def controls_from_at(at: str, control_names: Sequence[str], rest: np.ndarray | None) -> np.ndarray:
    """Return the controls that ``--at`` asks for.

    Parameters
    ----------
    at : str
        "rest", a grid as in `parse_grid`, or the path of a file as in `read_grid`.
    control_names : sequence of str
        The order of the result's columns.
    rest : ndarray, shape (K, p), or None
        Controls of the rows that ``--where`` excluded; None if there was none.

    Returns
    -------
    ndarray, shape (K, p)

    Raises
    ------
    InputError
        Where there is no rest, or the grid or the file is at fault.
    """
    at = at.strip()
    if at == "rest":
        if rest is None:
            raise InputError(
                "--at rest: no --where was given, so there is no rest; give --where, a grid or a file"
            )
        if len(rest) == 0:
            raise InputError("--at rest: --where excluded no row; give another --where, a grid or a file")
        return rest
    # A file's path may hold a "=", a grid is hardly the name of a file.
    if os.path.isfile(at):
        return read_grid(at, control_names)
    if "=" in at:
        return parse_grid(at, control_names)
    raise InputError(
        f"--at {shown(at, 200)}: no such file; give the path of a table, a grid as in "
        f"'{','.join(f'{shown(name)}=0:1:11' for name in control_names)}', or rest"
    )


def _axis(texts: list[str]) -> tuple[float, float, int] | None:
    """Return lowest, highest and count of one control of a grid, or None where it is malformed."""
    texts = [text.strip() for text in texts]
    if len(texts) == 1:
        value = parse_number(texts[0])
        return None if value is None else (value, value, 1)
    # More digits than that are too many points, and Python refuses to convert thousands of digits.
    if len(texts) != 3 or not re.fullmatch(r"[0-9]{1,18}", texts[2]):
        return None
    low, high = parse_number(texts[0]), parse_number(texts[1])
    return None if low is None or high is None else (low, high, int(texts[2]))


def _spaced(low: float, high: float, count: int) -> np.ndarray:
    # Twice the halves, since the distance of two large numbers of opposite signs may overflow.
    return 2 * np.linspace(low / 2, high / 2, count)
