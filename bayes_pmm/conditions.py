"""Comparisons of columns with numbers, as users write them."""

import operator
import re
from typing import NamedTuple

import numpy as np

from bayes_pmm.columns import shown
from bayes_pmm.errors import InputError

__all__ = ["Condition", "parse_number", "parse_where"]

# Stricter than float(), which takes "1_000" and digits of every script.
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMPARISON = re.compile(r"(?P<name>.*?\S)\s*(?P<sign><=|>=|==|!=|<|>)(?P<number>[^<>=!]*)", re.DOTALL)
_COMPARE = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}


class Condition(NamedTuple):
    """One comparison of a column with a number."""

    column: str
    sign: str
    number: float

    def holds(self, value: float) -> bool:
        """Return whether a value of the column satisfies the comparison."""
        return _COMPARE[self.sign](value, self.number)


def parse_where(text: str) -> list[Condition]:
    """Read comparisons of columns with numbers, joined by ``and``.

    Parameters
    ----------
    text : str
        Such as "c3>-4 and c1<=0"; the comparisons are ``<=``, ``>=``, ``<``, ``>``, ``==`` and ``!=``.

    Returns
    -------
    list of Condition

    Raises
    ------
    InputError
        Naming the piece that is no comparison.

    Examples
    --------
    >>> parse_where("c3>-4 and c1 <= 0")
    [Condition(column='c3', sign='>', number=-4.0), Condition(column='c1', sign='<=', number=0.0)]
    """
    conditions = []
    for piece in re.split(r"(?:^|(?<=\s))and(?=\s|$)", text):
        found = _COMPARISON.fullmatch(piece.strip())
        number = None if found is None else parse_number(found["number"].strip())
        if found is None or number is None:
            raise InputError(
                f"--where {shown(text)}: {shown(piece.strip())} is not a comparison; write COLUMN, one of "
                f"{' '.join(_COMPARE)}, and a number, and join comparisons with 'and', as in 'g>0 and g<=1'"
            )
        conditions.append(Condition(found["name"], found["sign"], number))
    return conditions


def parse_number(text: str) -> float | None:
    """Return the finite number that a text is, or None.

    Examples
    --------
    >>> parse_number("-1e3"), parse_number("1_000"), parse_number("inf")
    (-1000.0, None, None)
    """
    if not NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if np.isfinite(number) else None
