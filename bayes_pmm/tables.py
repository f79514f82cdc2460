"""Tables that users write -> datasets.

Everything that a user can get wrong ends in an `InputError` of one line,
"FILE: line L, column C: what is wrong; what to do". Columns that no option names are never looked at.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bayes_pmm.columns import shown
from bayes_pmm.conditions import NUMBER, Condition, parse_number, parse_where
from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError

__all__ = ["Cells", "Table", "read_dataset", "read_table"]

_NO_ERROR = "-"
_MISSING = re.compile(r"[+-]?nan|n/?a", re.IGNORECASE)
_COMMENT = "#"
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)


class Table(NamedTuple):
    """The cells of a file as text.

    Attributes
    ----------
    header : list of str
        Column names without surrounding spaces.
    rows : list of list of str
        As many cells in each row as in the header.
    lines : list of int
        The line of the file, counted from 1, on which each row begins.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a comma-separated file in UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path : path-like
        The first line holds the column names; one with "sep=," before it, as spreadsheets write it, is ignored. So are
        lines that begin with #, which are comments, and blank rows at the end.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        Where the file cannot be read, is not text in UTF-8, is empty, has no row below its header, or has a
        row with more or fewer cells than the header.
    """
    file = shown(path, 200)
    records = _records(_text(path, file), file)
    # Spreadsheets keep rows that were once in use as rows of commas.
    while records and not "".join(records[-1][1]).strip():
        records.pop()
    if records and (found := re.fullmatch(r"sep=(.?)", ",".join(records[0][1]).strip(" \r\n"))):
        if found[1] != ",":
            raise InputError(
                f"{file}: line {records[0][0]}: the cells are separated by {found[1]!r}; save the table with commas"
            )
        records.pop(0)
    if not records:
        raise InputError(f"{file}: the file is empty; give a table with a header line and one line per row")
    (line, header), *body = records
    if _is_blank(header):
        raise InputError(f"{file}: line {line}: the line is blank; begin the file with the column names")
    header = [name.strip() for name in header]
    if not body:
        raise InputError(
            f"{file}: there is no row below the header; add the data (lines that begin with {_COMMENT} are comments)"
        )
    for line, cells in body:
        if len(cells) != len(header):
            what = (
                "the line is blank"
                if _is_blank(cells)
                else f"{_count(cells)} where the header has {len(header)}"
            )
            raise InputError(
                f"{file}: line {line}: {what}; "
                + (
                    _separator_hint(header)
                    or "remove or complete the line, and quote cells that hold a comma"
                )
            )
    return Table(header, [cells for _, cells in body], [line for line, _ in body])


def read_dataset(
    path: str | os.PathLike[str],
    controls: Sequence[str] | str,
    outputs: Sequence[str] | str,
    errors: Sequence[str | None] | Mapping[str, str] | str | None = None,
    where: str | None = None,
    long: tuple[str, str] | None = None,
) -> tuple[Dataset, np.ndarray | None]:
    """Read a dataset from a file.

    Parameters
    ----------
    path : path-like
        See `read_table`.
    controls : sequence of str, or str
        Column names; a single text is one name, blanks and commas included.
    outputs : sequence of str, or str
        Column names; in a long table, values of its WHICH column.
    errors : sequence of (str or None), mapping of outputs to names, or str, optional
        The column of each output's errors, "-" or None for an output without, or missing in the mapping. In a long
        table all the errors stand in one column, and one name is enough.
    where : str, optional
        The rows to keep, see `bayes_pmm.conditions.parse_where`. Outputs of the other rows are not looked at.
    long : (str, str), optional
        Names of the column that says which output a row holds and of the column with the value. Each row that
        holds one of `outputs` gives one row of the dataset, in which all other outputs are missing; other
        rows are not looked at.

    Returns
    -------
    dataset : Dataset
        Of the rows that `where` keeps and that have at least one output.
    rest : ndarray, shape (K, p), or None
        Controls of the rows that `where` excludes, in the order of the file; in a long table each point once,
        since there a point takes a row per output. None without `where`.

    Raises
    ------
    InputError
        Where the file, an option or the data are at fault.

    Warns
    -----
    UserWarning
        Where there are fewer rows than outputs, which may mean a transposed table.
    """
    _check_kinds(path, where)
    file = shown(path, 200)
    if isinstance(errors, Mapping):
        wanted = [outputs] if isinstance(outputs, str) else list(outputs)
        if unknown := [name for name in errors if name not in wanted]:
            raise InputError(
                f"{file}: errors: {shown(unknown[0])} is no output; there are {', '.join(wanted)}"
            )
        errors = [errors.get(name) for name in wanted]
    controls, outputs = (
        [name.strip() for name in ([names] if isinstance(names, str) else names)]
        for names in (controls, outputs)
    )
    errors = [errors] if isinstance(errors, str) else errors
    error_columns = _error_columns(file, errors, outputs, long)
    long = None if long is None else (long[0].strip(), long[1].strip())
    _check_roles(file, controls, outputs, error_columns, long)
    conditions = [] if where is None else parse_where(where)
    table = read_table(path)
    cells = Cells(file, table)
    value_columns = outputs if long is None else [long[1]] * len(outputs)
    for name in [*controls, *(long or ()), *value_columns, *filter(None, error_columns)]:
        cells.check_column(name)
    for condition in conditions:
        cells.check_condition(condition)

    rows: Sequence[int] = range(len(table.rows))
    present = {}
    if long is not None:
        which = [cells.text(row, long[0]) for row in rows]
        present = {name: [row for row in rows if which[row] == name] for name in outputs}
        for name in outputs:
            if not present[name]:
                others = ", ".join(shown(other) for other in list(dict.fromkeys(which))[:12])
                raise InputError(
                    f"{file}: column {shown(long[0])}: no row holds the output {shown(name)}; "
                    f"the column holds {others}"
                )
        rows = sorted(row for found in present.values() for row in found)

    points = np.array([[cells.finite(row, name) for name in controls] for row in rows])
    kept = np.array([cells.satisfies(row, conditions) for row in rows])
    if not kept.any():
        raise InputError(f"{file}: condition {shown(where)} keeps no row; correct the condition")
    values = np.full((len(rows), len(outputs)), np.nan)
    sigmas = np.zeros(values.shape)
    for i, row in enumerate(rows):
        if not kept[i]:
            continue
        for j, name in enumerate(outputs):
            if long is not None and which[row] != name:
                continue
            values[i, j] = cells.value(row, value_columns[j])
            if (errors_in := error_columns[j]) is not None and not np.isnan(values[i, j]):
                sigmas[i, j] = cells.positive(row, errors_in)
    observed = ~np.isnan(values)
    for j in map(int, np.flatnonzero(~observed.any(axis=0))):
        scope = "every row" if where is None else "every row that the condition keeps"
        raise InputError(
            f"{file}: column {shown(value_columns[j])}: "
            + ("" if long is None else f"output {shown(outputs[j])} ")
            + f"is missing in {scope}; leave this output out, or give at least one value"
        )
    used = observed.any(axis=1)
    dataset = Dataset(
        points[used],
        values[used],
        sigmas[used],
        tuple(controls),
        tuple(outputs),
        source=str(path),
        row_labels=tuple(f"line {table.lines[row]}" for row, use in zip(rows, used, strict=True) if use),
    ).not_transposed()
    if where is None:
        return dataset, None
    rest = points[~kept]
    if long is not None:
        rest = np.array(list(dict.fromkeys(map(tuple, rest)))).reshape(-1, len(controls))
    return dataset, rest


class Cells:
    """Numbers out of a table, with messages that say where they stand."""

    def __init__(self, file: str, table: Table) -> None:
        self.file = file
        self.table = table

    def check_column(self, name: str) -> None:
        """Refuse a column that the header lacks or names twice."""
        count = self.table.header.count(name)
        if count > 1:
            raise InputError(
                f"{self.file}: line 1, column {shown(name)}: the header names this column {count} times; "
                f"rename or remove all but one"
            )
        if count == 0:
            columns = ", ".join(shown(other) for other in self.table.header[:30])
            more = ", ..." if len(self.table.header) > 30 else ""
            hint = _separator_hint(self.table.header) or "correct the name or the header line"
            if all(parse_number(other) is not None for other in self.table.header):
                hint = f"the header line, the first that does not begin with {_COMMENT}, must hold the column names"
            raise InputError(
                f"{self.file}: there is no column {shown(name)}; {hint}; the columns are {columns}{more}"
            )

    def check_condition(self, condition: Condition) -> None:
        """Refuse a condition on a column that does not exist, with a word on chains such as 0 < g < 1."""
        if condition.column not in self.table.header and re.search(r"\sor\s", condition.column):
            raise InputError(
                f"{self.file}: there is no column {shown(condition.column)}, and 'or' is not known here; select the"
                " rows in the table"
            )
        parts = re.split(r"<=|>=|==|!=|<|>", condition.column)
        if condition.column not in self.table.header and len(parts) > 1:
            raise InputError(
                f"{self.file}: there is no column {shown(condition.column)}; write one comparison per "
                f"'and', the column first, as in 'g>0 and g<1'"
            )
        self.check_column(condition.column)

    def text(self, row: int, name: str) -> str:
        """Return a cell without surrounding spaces."""
        return self.table.rows[row][self.table.header.index(name)].strip()

    def value(self, row: int, name: str) -> float:
        """Return an output: a finite number, or NaN for a missing one: an empty cell, NaN, NA or n/a."""
        return self._number(row, name, ", or leave the cell empty where the output is missing")

    def _number(self, row: int, name: str, otherwise: str = "") -> float:
        text = self.text(row, name)
        if not text or _MISSING.fullmatch(text):
            return float("nan")
        number = parse_number(text)
        if number is None:
            infinite = _INFINITE.fullmatch(text) or NUMBER.fullmatch(text)
            what = "is infinite" if infinite else "is not a number"
            advice = "give a finite number" if infinite else "write a number such as 0.5 or -1e-3"
            if re.fullmatch(r"[+-]?\d+,\d+", text):
                advice = "write a point for the decimal comma"
            elif row == 0 and not infinite:
                advice = f"a line of units is to be removed, or to begin with {_COMMENT}; else {advice}"
            raise InputError(f"{self._place(row, name)}{shown(text)} {what}; {advice}{otherwise}")
        return number

    def finite(self, row: int, name: str) -> float:
        """Return a number that must not be missing."""
        number = self._number(row, name)
        if np.isnan(number):
            raise InputError(
                f"{self._place(row, name)}the cell is empty or NaN, but a control, and a column in "
                f"where, needs a number in every row; fill it in or remove the row"
                + (f", or begin it with {_COMMENT} if it is a line of units" if row == 0 else "")
            )
        return number

    def positive(self, row: int, name: str) -> float:
        """Return an error."""
        number = self._number(row, name)
        if not number > 0:
            what = "is empty or NaN" if np.isnan(number) else f"is {number!r}"
            raise InputError(
                f"{self._place(row, name)}the error {what}; an error must be positive and finite wherever "
                f"its output is given, so correct it, or write - in errors if none is known"
            )
        return number

    def satisfies(self, row: int, conditions: Sequence[Condition]) -> bool:
        """Return whether all conditions hold; each column must be a number even if an earlier one fails."""
        held = [condition.holds(self.finite(row, condition.column)) for condition in conditions]
        return all(held)

    def _place(self, row: int, name: str) -> str:
        return f"{self.file}: line {self.table.lines[row]}, column {shown(name)}: "


def _text(path: str | os.PathLike[str], file: str) -> str:
    """Return the text of a file."""
    try:
        raw = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: the file cannot be read ({reason}); check the path") from None
    advice = "save the table as CSV in UTF-8"
    if b"\0" in raw:
        line = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise InputError(f"{file}: line {line}: there is a NUL byte, so this is no text in UTF-8; {advice}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{file}: line {line}: the text is not UTF-8; {advice}") from None


def _records(text: str, file: str) -> list[tuple[int, list[str]]]:
    """Return the line on which each record begins, and its cells."""
    taken, first = 0, 0

    def lines():
        nonlocal taken, first
        for text_line in io.StringIO(text, newline=""):
            taken += 1
            # Inside a record, a # at the beginning of a line stands in a quoted cell.
            if not first and text_line.lstrip().startswith(_COMMENT):
                continue
            first = first or taken
            yield text_line

    records = []
    try:
        # strict: a quote that is never closed would otherwise swallow the rest of the file.
        for cells in csv.reader(lines(), skipinitialspace=True, strict=True):
            records.append((first, cells))
            first = 0
    except csv.Error as error:
        raise InputError(
            f"{file}: line {first}: the line cannot be read ({error}); check its quotes"
        ) from None
    return records


def _is_blank(cells: list[str]) -> bool:
    return len(cells) <= 1 and not "".join(cells).strip()


def _count(cells: list[str]) -> str:
    return "1 cell" if len(cells) == 1 else f"{len(cells)} cells"


def _separator_hint(header: list[str]) -> str:
    """Return advice where the table seems not to be separated by commas, else an empty text."""
    if len(header) == 1:
        for separator, name in ((";", "semicolons"), ("\t", "tabs")):
            if separator in header[0]:
                return (
                    f"the columns seem to be separated by {name}, so save the table with commas between cells and"
                    " points in numbers"
                )
    return ""


def _check_kinds(path: object, where: object) -> None:
    """Answer what a user of Python may try."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"read_dataset reads a file, and {type(path).__name__} is no path; for a table in memory use"
            " Dataset.from_columns(df[['g']], df[['E0', 'E1']])"
        )
    if where is not None and not isinstance(where, str):
        raise InputError(f"where = {where!r}: give a text, such as 'g <= 1'")


def _error_columns(
    file: str, errors: Sequence[str | None] | None, outputs: list[str], long: tuple[str, str] | None
) -> list[str | None]:
    """Return the column of each output's errors, None where there is none."""
    names = [None if name is None or name.strip() == _NO_ERROR else name.strip() for name in errors or ()]
    if not names:
        return [None] * len(outputs)
    if long is not None and len(names) == 1:
        names = names * len(outputs)
    if len(names) != len(outputs):
        raise InputError(
            f"{file}: errors names {len(names)} columns for {len(outputs)} outputs; give one per output in "
            f"the same order, - for none"
        )
    if long is not None and len(set(names) - {None}) > 1:
        given = ", ".join(shown(name) for name in dict.fromkeys(names) if name is not None)
        raise InputError(f"{file}: errors names {given}, but a long table has one column of errors; give one")
    return names


def _check_roles(
    file: str,
    controls: list[str],
    outputs: list[str],
    error_columns: list[str | None],
    long: tuple[str, str] | None,
) -> None:
    """Refuse a column with two roles, or no control or output at all."""
    if not controls or not outputs:
        what = "controls" if not controls else "outputs"
        raise InputError(f"{file}: {what} names no column; name at least one")
    columns = [*controls, *(outputs if long is None else long)]
    # Outputs of a long table are no columns, but they must not be named twice or like a control.
    for names in (columns, [*controls, *outputs]):
        for name in names:
            if not name:
                raise InputError(f"{file}: an option names a column without a name; remove the empty entry")
            if names.count(name) > 1:
                raise InputError(f"{file}: column {shown(name)}: the options name it twice; name it once")
    for name in error_columns:
        if name in columns:
            raise InputError(
                f"{file}: column {shown(name)}: errors names it, and so does another option; "
                f"give each its own"
            )
        if name == "":
            raise InputError(f"{file}: errors has an empty entry; write - for an output without errors")
