"""What was computed or measured: controls, outputs and their errors, checked once and never changed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bayes_pmm.columns import check_same_rows, columns_by_name, named_columns, numbers, shown
from bayes_pmm.errors import InputError
from bayes_pmm.hull import inside_hull

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Controls, outputs and their errors, in the user's units.

    Every array is copied, checked and made read-only. Tables with named columns (a DataFrame) are read by these names.

    Parameters
    ----------
    controls : array_like, shape (N, p)
        Finite; no control may have the same value in every row that has an output.
    values : array_like, shape (N, Q)
        One column per output; NaN marks a missing datum.
    errors : array_like, shape (N, Q), or None
        Standard deviations of the values. A column of zeros, or None, says that no error is known for that
        output; otherwise an error must be positive and finite wherever its output has a value. Elsewhere it
        is not looked at and stored as 0.
    control_names, output_names : sequence of str
        Names of the columns; no name twice.
    source : str, optional
        Where the data come from, for messages (a file name).
    row_labels : sequence of str, optional
        What to call the rows in messages ("line 7"); "row i", counted from 0, if not given.

    Raises
    ------
    InputError
        Where any of this does not hold, there is no row, an output has no value at all, or a value is infinite.
    """

    controls: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    control_names: tuple[str, ...]
    output_names: tuple[str, ...]
    source: str | None = None
    row_labels: tuple[str, ...] | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            controls: Any,
            values: Any,
            errors: Any,
            control_names: Iterable[str],
            output_names: Iterable[str],
            source: str | None = None,
            row_labels: Iterable[str] | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        check_same_rows(self.controls, self.values, self.errors)
        # A text is one name, and no list of letters.
        for kind in ("control_names", "output_names"):
            names = getattr(self, kind)
            set_field(self, kind, (names,) if isinstance(names, str) else tuple(names))
        if self.row_labels is not None:
            set_field(self, "row_labels", tuple(self.row_labels))
        # Tables with names are read by these, as `predict` reads them: by position h could become J in silence.
        controls = columns_by_name(self.controls, self.control_names, f"{self._place()}controls")
        set_field(self, "controls", controls)
        values = columns_by_name(self.values, self.output_names, f"{self._place()}outputs")
        set_field(self, "values", values)
        none_known = np.zeros(np.shape(self.values))
        given = none_known
        if self.errors is not None:
            given = columns_by_name(self.errors, self.output_names, f"{self._place()}errors")
        set_field(self, "errors", given)
        self._check_shapes()
        self._check_names()
        self._check_values()
        self._check_errors()
        self._check_controls()
        set_field(self, "errors", np.where(self.mask, self.errors, 0.0))
        for array in (self.controls, self.values, self.errors):
            array.setflags(write=False)

    def __repr__(self) -> str:
        def line(name: str, column: np.ndarray, known: bool) -> str:
            there = column[~np.isnan(column)]
            gaps = len(column) - len(there)
            return (
                f"  {shown(name)}: {there.min():.6g} to {there.max():.6g}"
                + (f", {gaps} missing" if gaps else "")
                + (", errors known" if known else "")
            )

        missing = self.values.size - self.n_observed
        return "\n".join(
            [
                f"Dataset{'' if self.source is None else f' from {shown(self.source)}'}: {self.n_rows} rows,"
                f" {self.n_observed} data" + (f" ({missing} missing)" if missing else ""),
                " controls",
                *(line(n, c, False) for n, c in zip(self.control_names, self.controls.T, strict=True)),
                " outputs",
                *(
                    line(n, y, e.any())
                    for n, y, e in zip(self.output_names, self.values.T, self.errors.T, strict=True)
                ),
            ]
        )

    @classmethod
    def from_columns(
        cls,
        controls: Any,
        outputs: Any,
        errors: Any = None,
    ) -> Dataset:
        """Build a dataset from named columns.

        Parameters
        ----------
        controls, outputs : mapping from name to array_like, shape (N,), DataFrame, or Series with a name
            One entry per column, in the order in which they are to stand.
        errors : mapping from output name to float or array_like, shape (N,), or one float for all outputs, optional
            Outputs that it does not name have no known error.

        Returns
        -------
        Dataset

        Raises
        ------
        InputError
            Where columns differ in length, an error belongs to no output, or `Dataset` finds a fault.

        Warns
        -----
        UserWarning
            Where there are fewer rows than outputs, which may mean a transposed table.

        Examples
        --------
        >>> data = Dataset.from_columns({"g": [0.0, 0.5, 1.0]}, {"E0": [0.5, 0.7, 0.8]}, {"E0": 0.01})
        >>> data.n_rows, data.output_names
        (3, ('E0',))
        """
        controls, outputs = named_columns(controls, "controls"), named_columns(outputs, "outputs")
        check_same_rows(controls, outputs, errors)
        named_errors: Any = {}
        if isinstance(errors, Real):
            named_errors = dict.fromkeys(outputs, float(errors))
        elif errors is not None:
            named_errors = named_columns(errors, "errors")
        # By their lengths: a DataFrame has no truth value.
        if len(controls) == 0 or len(outputs) == 0:
            raise InputError("no controls or no outputs were given; give at least one column of each")
        unknown = [name for name in named_errors if name not in outputs]
        if unknown:
            names = ", ".join(shown(name) for name in outputs)
            raise InputError(f"error {shown(unknown[0])}: there is no such output; the outputs are {names}")
        columns = {}
        for kind, mapping in (("control", controls), ("output", outputs)):
            for name, column in mapping.items():
                columns[kind, name] = numbers(column, f"{kind} {shown(name)}")
        n_rows = max((column.size for column in columns.values() if column.ndim == 1), default=0)
        for name, column in named_errors.items():
            value = numbers(column, f"error of {shown(name)}")
            columns["error", name] = np.full(n_rows, value) if value.ndim == 0 else value
        for (kind, name), column in columns.items():
            if column.shape != (n_rows,):
                raise InputError(
                    f"{kind} {shown(name)}: expected {n_rows} numbers as in the longest column, "
                    f"got shape {column.shape}; "
                    + ("give it flat (.ravel())" if column.ndim > 1 else "give every column the same length")
                )
        nothing = np.zeros(n_rows)
        return cls(
            controls=np.stack([columns["control", name] for name in controls], axis=1),
            values=np.stack([columns["output", name] for name in outputs], axis=1),
            errors=np.stack([columns.get(("error", name), nothing) for name in outputs], axis=1),
            control_names=tuple(controls),
            output_names=tuple(outputs),
        ).not_transposed()

    @property
    def mask(self) -> np.ndarray:
        """True where a value was observed, shape (N, Q)."""
        return ~np.isnan(self.values)

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return self.controls.shape[0]

    @property
    def n_controls(self) -> int:
        """Number of controls p."""
        return self.controls.shape[1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs Q."""
        return self.values.shape[1]

    @property
    def n_observed(self) -> int:
        """Number of observed values."""
        return int(self.mask.sum())

    @property
    def rms_errors(self) -> np.ndarray:
        """Root mean square of each output's known errors over its observed values, shape (Q,); else 0."""
        largest = self.errors.max(axis=0)
        scale = np.where(largest > 0, largest, 1.0)
        return scale * np.sqrt(np.sum((self.errors / scale) ** 2, axis=0) / self.mask.sum(axis=0))

    def to_dataframe(self) -> pd.DataFrame:
        """Controls, outputs and known errors (``error NAME``), one row per row, as a pandas DataFrame."""
        import pandas as pd

        columns = [*zip(self.control_names, self.controls.T, strict=True)]
        columns += zip(self.output_names, self.values.T, strict=True)
        known = zip(self.output_names, self.errors.T, strict=True)
        columns += [(f"error {name}", error) for name, error in known if error.any()]
        return pd.DataFrame(dict(columns))

    def control_columns(self, rows: ArrayLike, taken: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of the rows' controls for a table: a control whose name is taken there is called "control NAME"."""
        columns = self.controls[np.asarray(rows)].T
        names = [f"control {n}" if n in taken else n for n in self.control_names]
        return dict(zip(names, columns, strict=True))

    def select(self, rows: ArrayLike | slice) -> Dataset:
        """Return the dataset of some rows.

        Parameters
        ----------
        rows : array_like of int or bool, or slice
            Row numbers, or a mask of shape (N,).

        Returns
        -------
        Dataset

        Raises
        ------
        InputError
            For rows that are not there, and where those left do not make a dataset (an output without a value, a
            constant control).
        """
        try:
            index = np.arange(self.n_rows)[rows if isinstance(rows, slice) else np.asarray(rows)]
        except (IndexError, ValueError):
            index = np.zeros((0, 0), int)
        if index.ndim != 1:
            raise InputError(
                f"rows: expected row numbers from 0 to {self.n_rows - 1}, or a mask of {self.n_rows} truth values"
            )
        labels = [f"row {i}" for i in range(self.n_rows)] if self.row_labels is None else self.row_labels
        return Dataset(
            self.controls[index],
            self.values[index],
            self.errors[index],
            self.control_names,
            self.output_names,
            self.source,
            tuple(labels[i] for i in index),
        )

    def extrapolated(self, new_controls: ArrayLike) -> np.ndarray:
        """Tell where new controls lie outside the training controls, output by output.

        Parameters
        ----------
        new_controls : array_like, shape (K, p)
            Finite; columns with names are found by these, see `columns_by_name`.

        Returns
        -------
        ndarray of bool, shape (K, Q)
            True outside the convex hull of the rows in which the output was observed. Points of the hull's
            boundary, within 1e-9 of the range of each control, are inside.

        Raises
        ------
        InputError
            Where the shape is not (K, p) or an entry is not finite.
        """
        points = columns_by_name(new_controls, self.control_names, "new controls")
        if points.ndim != 2 or points.shape[1] != self.n_controls:
            raise InputError(
                f"new controls: expected shape (K, {self.n_controls}), got {points.shape}; "
                f"give one column for each of {self._listed(self.control_names)}"
            )
        if not np.isfinite(points).all():
            row, column = np.argwhere(~np.isfinite(points))[0]
            raise InputError(
                f"new controls: row {row}, column {shown(self.control_names[column])}: "
                f"{points[row, column]} is not a finite number; correct or remove the row"
            )
        # Halves keep the range of numbers near the largest float from overflowing.
        low, high = self.controls.min(axis=0) / 2, self.controls.max(axis=0) / 2
        span = high - low
        trained = (self.controls / 2 - low) / span
        # A far point may overflow to infinity, and infinity is outside like any far point.
        with np.errstate(over="ignore"):
            wanted = np.clip((points / 2 - low) / span, -1e6, 1e6)
        result = np.empty((len(points), self.n_outputs), dtype=bool)
        done: dict[bytes, np.ndarray] = {}
        for output, observed in enumerate(self.mask.T):
            key = observed.tobytes()
            if key not in done:
                done[key] = ~inside_hull(trained[observed], wanted)
            result[:, output] = done[key]
        return result

    def _place(self, row: int | None = None, column: str | None = None) -> str:
        """Return the "FILE: line L, column C: " that a message begins with."""
        where = []
        if row is not None:
            where.append(f"row {row}" if self.row_labels is None else self.row_labels[row])
        if column is not None:
            where.append(f"column {shown(column)}")
        file = "" if self.source is None else f"{shown(self.source, 200)}: "
        return file + (", ".join(where) + ": " if where else "")

    @staticmethod
    def _listed(names: Sequence[str]) -> str:
        return ", ".join(shown(name) for name in names)

    def _check_shapes(self) -> None:
        p, q = len(self.control_names), len(self.output_names)
        if p == 0 or q == 0:
            raise InputError(
                f"{self._place()}no {'controls' if p == 0 else 'outputs'} were given; name at least one"
            )
        if self.controls.ndim != 2 or self.controls.shape[1] != p:
            raise InputError(
                f"{self._place()}controls: expected shape (N, {p}) for {self._listed(self.control_names)}, "
                f"got {self.controls.shape}; give one column per control"
            )
        for what, array in (("outputs", self.values), ("errors", self.errors)):
            if array.shape != (self.n_rows, q):
                raise InputError(
                    f"{self._place()}{what}: expected shape ({self.n_rows}, {q}) for "
                    f"{self._listed(self.output_names)}, got {array.shape}; give one column per output "
                    f"and one row per row of the controls"
                )
        if self.row_labels is not None and len(self.row_labels) != self.n_rows:
            raise InputError(
                f"{self._place()}row_labels: expected {self.n_rows}, got {len(self.row_labels)}; "
                f"give one per row"
            )
        if self.n_rows == 0:
            raise InputError(f"{self._place()}there are no rows (0); give at least one")

    def not_transposed(self) -> Dataset:
        """Return the dataset itself.

        Warns
        -----
        UserWarning
            If it has fewer rows than outputs, which may mean a transposed table.
        """
        if self.n_rows < self.n_outputs:
            warnings.warn(
                f"{self._place()}fewer rows ({self.n_rows}) than outputs ({self.n_outputs}); if rows and columns are"
                " interchanged, transpose the table",
                stacklevel=3,
            )
        return self

    def _check_names(self) -> None:
        names = self.control_names + self.output_names
        for name in names:
            if not isinstance(name, str) or not name:
                raise InputError(
                    f"{self._place()}column {name!r}: a name must be a text that is not empty; rename it, for example"
                    " with df.columns = ['g']"
                )
            if names.count(name) > 1:
                raise InputError(
                    f"{self._place(column=name)}the name is used twice; give each control and output its own"
                )

    def _check_values(self) -> None:
        for row, column in np.argwhere(np.isinf(self.values)):
            raise InputError(
                f"{self._place(row, self.output_names[column])}the value is infinite; correct it, "
                f"or leave it out (NaN) if it is missing"
            )
        for column in np.flatnonzero(~self.mask.any(axis=0)):
            raise InputError(
                f"{self._place(column=self.output_names[column])}every value is missing; give at least one, "
                f"or leave this output out"
            )

    def _check_errors(self) -> None:
        for column, name in enumerate(self.output_names):
            rows = np.flatnonzero(self.mask[:, column])
            errors = self.errors[rows, column]
            if np.all(errors == 0):
                continue
            for row, error in zip(rows, errors, strict=True):
                if np.isfinite(error) and error > 0:
                    continue
                what = "is missing" if np.isnan(error) else f"is {float(error)!r}"
                raise InputError(
                    f"{self._place(int(row), name)}the error of this value {what}; an error must be positive and "
                    f"finite wherever its output has a value, or 0 in the whole column if none is known"
                )

    def _check_controls(self) -> None:
        for row, column in np.argwhere(~np.isfinite(self.controls)):
            value = self.controls[row, column]
            what = "is missing" if np.isnan(value) else "is infinite"
            raise InputError(
                f"{self._place(row, self.control_names[column])}the control {what}; give a finite number or "
                f"remove the row"
            )
        used = self.controls[self.mask.any(axis=1)]
        for column, name in enumerate(self.control_names):
            # Halves keep the range of numbers near the largest float from overflowing.
            if np.ptp(used[:, column] / 2) < np.finfo(float).tiny:
                raise InputError(
                    f"{self._place(column=name)}the control is constant ({float(used[0, column])!r} in every "
                    f"row with an output), so nothing can be learned about it; leave it out, or add rows"
                )
