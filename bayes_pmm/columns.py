"""Columns of numbers from whatever users have them in: tables, mappings, Series, arrays; by name where there is one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayes_pmm.errors import InputError

__all__ = ["check_same_rows", "columns_by_name", "named_columns", "numbers", "shown"]


def shown(text: object, limit: int = 60) -> str:
    r"""Return a name or path as it can stand inside a one-line message.

    Parameters
    ----------
    text : object
        Anything whose ``str`` is to be shown.
    limit : int
        Longest text that is shown in full.

    Returns
    -------
    str
        The text itself where it is printable, else its ``repr``; shortened in the middle where it is long.

    Examples
    --------
    >>> shown("E0"), shown("a\nb"), shown("")
    ('E0', "'a\\nb'", "''")
    """
    plain = str(text)
    result = plain if plain.isprintable() and plain == plain.strip() != "" else repr(plain)
    if len(result) > limit:
        result = f"{result[: limit // 2]}...{result[-(limit // 2 - 3) :]}"
    return result


def columns_by_name(
    table: Any, names: Sequence[str], what: str = "controls", *, any_series: bool = False
) -> np.ndarray:
    """Return numbers from whatever a user has them in; where the columns have names, these decide and not their order.

    Parameters
    ----------
    table : Any
        A DataFrame, a mapping from name to column or number, a structured array, a Series, or plain numbers.
    names : sequence of str
        The columns that are wanted, in this order; others are not looked at.
    what : str
        What the numbers are, for messages.
    any_series : bool
        Take a Series whatever its name.

    Returns
    -------
    ndarray of float
        Shape (N, len(names)) where the columns have names, else the shape that was given.

    Raises
    ------
    InputError
        Where a column is missing, is there twice or has another length than the rest, where a Series has another name,
        or for anything but numbers.

    Examples
    --------
    >>> columns_by_name({"h": [0.0, 1.0], "J": 2.0, "note": "x"}, ["J", "h"]).tolist()
    [[2.0, 0.0], [2.0, 1.0]]
    """
    if isinstance(table, str):
        raise InputError(
            f"{what}: {shown(table)} is text; give numbers, an array or a table with the columns"
            f" {', '.join(map(shown, names))}"
        )
    structure: Any = getattr(getattr(table, "dtype", None), "names", None)
    present = list(table) if isinstance(table, Mapping) else list(structure or getattr(table, "columns", ()))
    # A DataFrame of a bare array numbers its columns.
    if not any(isinstance(name, str) for name in present):
        own = getattr(table, "name", None)
        if isinstance(own, str) and own and own not in names and not any_series:
            raise InputError(
                f"{what}: the column is called {shown(own)} where {', '.join(map(shown, names))} is wanted; rename it,"
                " or give its bare numbers (.to_numpy()) if it is meant"
            )
        return numbers(table, what)
    columns = []
    for name in names:
        count = present.count(name)
        if count != 1:
            fault = "is missing" if count == 0 else f"is there {count} times"
            raise InputError(
                f"{what}: the column {shown(name)} {fault}; the table has {', '.join(map(shown, present[:30]))}"
            )
        columns.append(np.atleast_1d(numbers(table[name], f"{what}: column {shown(name)}")))
    try:
        columns = list(np.broadcast_arrays(*columns))
    except ValueError:
        columns = []
    if not columns or columns[0].ndim > 1:
        raise InputError(
            f"{what}: the columns {', '.join(map(shown, names))} differ in length or are no columns; give each as many"
            " numbers, or one for all rows"
        )
    return np.stack(columns, axis=1)


def named_columns(table: Any, what: str) -> Any:
    """Columns by name: a mapping or a table as it is, and a single column that has a name.

    Raises
    ------
    InputError
        If it is neither a mapping nor a table, nor a column that has a name.
    """
    # An xarray Dataset that has but coordinates, such as ds[["g"]] of a dimension g.
    if hasattr(table, "data_vars") and len(table) == 0:
        return {name: table[name] for name in table.coords}
    if isinstance(table, Mapping) or hasattr(table, "columns"):
        return table
    name = getattr(table, "name", None)
    if isinstance(name, str):
        return {name: table}
    raise InputError(
        f"{what}: {type(table).__name__} has no names of columns; give {{'name': values}}, or a table such as"
        " df[['name']]"
    )


def check_same_rows(*tables: Any) -> None:
    """Refuse tables whose rows have other labels, or another order of them: they would be paired by their position.

    Raises
    ------
    InputError
        If the labels differ.
    """
    first = None
    for table in tables:
        for column in table.values() if isinstance(table, Mapping) else [table]:
            labels = _row_labels(column)
            if labels is None:
                continue
            if first is not None and len(first) == len(labels) and not first.equals(labels):
                raise InputError(
                    f"rows have different labels: {shown(str(list(first[:3])), 40)}, ... and"
                    f" {shown(str(list(labels[:3])), 40)}, ...; bring the tables into one order, or give bare numbers"
                    " (.to_numpy()) if they belong together as they stand"
                )
            first = labels if first is None else first


def _row_labels(column: Any) -> Any:
    """Index of a Series, a DataFrame or an xarray column; None for what has none."""
    dims: Any = getattr(column, "dims", ())
    if hasattr(column, "indexes") and dims:
        return column.indexes.get(next(iter(dims)))
    labels = getattr(column, "index", None)
    return labels if hasattr(labels, "equals") else None


def numbers(values: ArrayLike, what: str) -> np.ndarray:
    """Return a float64 copy; refuse text, complex numbers and what has no rectangular shape.

    Raises
    ------
    InputError
        If there is anything but real numbers in a rectangular array.
    """
    try:
        if np.ma.isMaskedArray(values):
            values = np.ma.filled(np.ma.asarray(values).astype(float), np.nan)
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError
        # Python reads "1_000" as a thousand and "0.5 " as a half; nobody knows what a table's text means.
        if array.dtype.kind == "O":
            if any(isinstance(x, str | bytes) for x in array.flat):
                raise TypeError
            # pandas' mark of a missing value, which is no number.
            gaps = [type(x).__name__ == "NAType" for x in array.flat]
            array = np.where(np.reshape(gaps, array.shape), np.nan, array)
        return np.array(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what}: expected real numbers in a rectangular array; {_remedy(values)}") from None


def _remedy(values: ArrayLike) -> str:
    """What to do about values that are no numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        return "give columns of one length"
    if array.dtype.kind in "mM":
        return "times are numbers once a unit is chosen, such as (t - t0) / np.timedelta64(1, 's')"
    if array.dtype.kind == "c":
        return "these are complex; give their real parts (.real)"
    if text := [x for x in array.flat if isinstance(x, str | bytes)]:
        return f"there is text, such as {shown(str(text[0]))}; convert it first, for example with pandas.to_numeric"
    return "convert or correct them first"
