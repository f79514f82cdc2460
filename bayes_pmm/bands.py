"""Bands: what a fit predicts at new controls, as arrays, tables and text."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_pmm.doubts import DOUBTS
from bayes_pmm.errors import InputError, status_lines
from bayes_pmm.files import write_new

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["KINDS", "LEVELS", "QUANTILES", "XARRAY_NAMES", "Bands", "probabilities_of", "quantile_column"]

KINDS = ("latent", "predictive")
LEVELS = (0.5, 0.9)
"""Probabilities of the central intervals that bands hold unless others are asked for."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The ends of these intervals and the median."""

XARRAY_NAMES = (
    *("mean", "sd", "quantile", "extrapolated", "doubtful"),
    *("kind", "probability", "output", "doubt", "point"),
)
"""Names in :meth:`Bands.to_xarray`, which no control can have."""

_SHOWN = 8
"""Rows of the table that a notebook shows."""


def probabilities_of(levels: float | Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Probabilities of the quantiles that central intervals need: their ends and the median, ascending.

    Parameters
    ----------
    levels : float or sequence of float
        Probabilities of the intervals, between 0 and 1.

    Raises
    ------
    InputError
        If there is no level, or one is not a probability.

    Examples
    --------
    >>> probabilities_of((0.68, 0.95))
    (0.025, 0.16, 0.5, 0.84, 0.975)
    """
    try:
        given = np.atleast_1d(np.asarray(levels, float)).ravel()
    except (TypeError, ValueError):
        given = np.zeros(0)
    if not len(given) or not np.all((given > 0) & (given < 1)):
        raise InputError(
            f"levels = {levels!r}: a level is the probability of an interval, between 0 and 1; give one or more,"
            " such as levels=(0.68, 0.95)"
        )
    # Rounded, so that 0.05 is the lower end of the level 0.9.
    ends = [round(float(p), 12) for level in given for p in ((1 - level) / 2, (1 + level) / 2)]
    return tuple(sorted({0.5, *ends}))


def quantile_column(q: float) -> str:
    """Name of a quantile's column in tables.

    Examples
    --------
    >>> quantile_column(0.05), quantile_column(0.025), quantile_column(0.975)
    ('q05', 'q02.5', 'q97.5')
    """
    whole, point, rest = f"{100 * q:.10g}".partition(".")
    return f"q{whole:0>2}{point}{rest}"


@dataclass(frozen=True, eq=False)
class Bands:
    """Posterior bands at new controls, in the user's units.

    Parameters
    ----------
    controls : array (N, p)
    control_names, output_names : tuple of str
    mean, sd : dict of kind to array (N, Q)
    quantiles : dict of kind to array (K, N, Q)
        At the ``probabilities``.
    extrapolated : array (N, Q) of bool
        Outside the convex hull of the rows where the output was observed.
    status : {"ok", "suspect", "failed"}
        Of the fit, or worse where it has not converged at these controls.
    reasons : tuple of str
    doubts : dict of name to array (N, Q) of bool
        Where the band should not be believed, and why: :data:`~bayes_pmm.doubts.DOUBTS`. Only extrapolated points have
        any.
    probabilities : tuple of float (K,)
        Of the quantiles, ascending: the median and the ends of all intervals; by default 0.05, 0.25, 0.5, 0.75, 0.95.
    """

    controls: np.ndarray
    control_names: tuple[str, ...]
    output_names: tuple[str, ...]
    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    quantiles: dict[str, np.ndarray]
    extrapolated: np.ndarray
    status: str = "ok"
    reasons: tuple[str, ...] = ()
    doubts: dict[str, np.ndarray] = field(default_factory=dict)
    probabilities: tuple[float, ...] = QUANTILES

    def __len__(self) -> int:
        """Number of controls."""
        return len(self.controls)

    def __getitem__(self, output: str) -> "Bands":
        """The bands of one output by its name.

        Raises
        ------
        InputError
            If there is no such output.
        """
        if output not in self.output_names:
            raise InputError(f"no output is called {output!r}; there are {', '.join(self.output_names)}")
        q = self.output_names.index(output)
        one = lambda arrays: {name: a[..., q : q + 1] for name, a in arrays.items()}
        return replace(
            self,
            output_names=(output,),
            mean=one(self.mean),
            sd=one(self.sd),
            quantiles=one(self.quantiles),
            extrapolated=self.extrapolated[:, q : q + 1],
            doubts=one(self.doubts),
        )

    @property
    def levels(self) -> tuple[float, ...]:
        """Probabilities of the central intervals that are stored, ascending."""
        return tuple(sorted(round(1 - 2 * p, 12) for p in self.probabilities if p < 0.5))

    @property
    def doubtful(self) -> np.ndarray:
        """Where there is any doubt, (N, Q) of bool."""
        return np.any([np.zeros(self.extrapolated.shape, bool), *self.doubts.values()], axis=0)

    def quantile(self, q: float, kind: str = "latent") -> np.ndarray:
        """One of the stored quantiles, (N, Q).

        Raises
        ------
        InputError
            If it is not stored, or the kind is unknown; the message says how to get it.
        """
        if np.ndim(q) > 0:
            raise InputError(
                f"q = {q!r}: ask for one quantile at a time; bands.quantiles has all that are stored"
            )
        found = np.flatnonzero(np.abs(np.array(self.probabilities) - q) < 1e-9)
        if not len(found):
            advice = "quantiles lie between 0 and 1"
            if 0 < q < 1:
                # The median is there with any level.
                level = round(abs(1 - 2 * q), 12) or 0.9
                advice = f"ask for it with fit.predict(controls, levels=({level:g},))"
            raise InputError(
                f"quantile {q:g} is not stored, only {', '.join(f'{p:g}' for p in self.probabilities)}; {advice}"
            )
        return self.quantiles[_known_kind(kind)][found[0]]

    def interval(self, level: float = 0.9, kind: str = "latent") -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (N, Q) of a stored central interval, such as the one of ``level=0.9``."""
        low, *_, high = probabilities_of(level)
        return self.quantile(low, kind), self.quantile(high, kind)

    @property
    def doubt_lines(self) -> tuple[str, ...]:
        """One line for each kind of doubt that occurs: how many predictions, and what it means."""
        total = int(self.extrapolated.sum())
        return tuple(
            f"{int(where.sum())} of {total} extrapolated predictions are doubtful ({name}): {DOUBTS[name]}"
            for name, where in self.doubts.items()
            if where.any()
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names of the long table."""
        names = tuple(map(quantile_column, self.probabilities))
        rest = ("output", "kind", "mean", "sd", *names, "extrapolated", "doubts", "status")
        return (*(f"control {n}" if n in rest else n for n in self.control_names), *rest)

    def rows(self) -> Iterator[list[Any]]:
        """Rows of the long table, in the order of :attr:`columns`."""
        for i, c in enumerate(self.controls):
            for j, output in enumerate(self.output_names):
                doubts = " ".join(name for name, where in self.doubts.items() if where[i, j])
                for kind in KINDS:
                    numbers = [self.mean[kind][i, j], self.sd[kind][i, j], *self.quantiles[kind][:, i, j]]
                    yield [
                        *map(float, c),
                        output,
                        kind,
                        *map(float, numbers),
                        bool(self.extrapolated[i, j]),
                        doubts,
                        self.status,
                    ]

    def to_csv(self, path: str | Path) -> None:
        """Write the long table, whole or not at all; floats by repr.

        Raises
        ------
        InputError
            If the file exists or cannot be written.
        BayesPMMError
            If the disk is full.
        """
        plain = lambda x: str(x).lower() if isinstance(x, bool) else repr(x) if isinstance(x, float) else x
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([plain(x) for x in row] for row in self.rows())
        write_new(Path(path), text.getvalue())

    def __repr__(self):
        return f"{self._headline}\n{self._head.to_string(index=False)}{self._more}"

    def _repr_html_(self):
        headline = escape(self._headline).replace("\n", "<br>")
        return (
            f"<p>{headline}</p>{self._head.to_html(index=False, border=0)}<p>{escape(self._more.strip())}</p>"
        )

    @property
    def _headline(self) -> str:
        lines = [
            f"Bands of {', '.join(self.output_names)} at {len(self.controls)} controls,"
            f" {int(self.extrapolated.sum())} of {self.extrapolated.size} predictions extrapolated,"
            f" {int(self.doubtful.sum())} doubtful"
        ]
        return "\n".join(lines + status_lines(self.status, self.reasons))

    @property
    def _head(self):
        """The first latent rows of the table, as a DataFrame."""
        import pandas as pd

        place = len(self.control_names) + 1
        latent = [*islice((row for row in self.rows() if row[place] == KINDS[0]), _SHOWN)]
        table = pd.DataFrame(latent, columns=list(self.columns)).drop(columns=[self.columns[place], "status"])
        # As many digits as show two of every sd, whatever the offset of the energies.
        size, sd = table["mean"].abs().max(), table["sd"][table["sd"] > 0].min()
        digits = int(np.clip(np.log10(size / sd) + 3, 6, 16)) if sd > 0 and 0 < size < np.inf else 6
        for name in self.columns[place + 1 : -3]:
            precision = 3 if name == "sd" else digits
            table[name] = [f"{value:.{precision}g}" for value in table[name]]
        return table

    @property
    def _more(self) -> str:
        hidden = self.extrapolated.size - _SHOWN
        return "" if hidden <= 0 else f"\n... and {hidden} more; to_dataframe() has all, predictive bands too"

    def to_xarray(self) -> "xr.Dataset":
        """The bands as an :class:`xarray.Dataset` with ``mean``, ``sd``, ``quantile``, ``extrapolated`` and doubts.

        Dimensions are ``point``, ``output``, ``kind``, ``probability`` and ``doubt``; the controls are coordinates of
        the points.
        """
        import xarray as xr

        names = list(self.doubts)
        doubts = np.reshape([self.doubts[n] for n in names], (len(names), *self.extrapolated.shape))
        return xr.Dataset(
            {
                "mean": (("kind", "point", "output"), np.stack([self.mean[k] for k in KINDS])),
                "sd": (("kind", "point", "output"), np.stack([self.sd[k] for k in KINDS])),
                "quantile": (
                    ("kind", "probability", "point", "output"),
                    np.stack([self.quantiles[k] for k in KINDS]),
                ),
                "extrapolated": (("point", "output"), self.extrapolated),
                "doubtful": (("doubt", "point", "output"), doubts.astype(bool)),
            },
            coords={
                "kind": list(KINDS),
                "probability": list(self.probabilities),
                "output": list(self.output_names),
                "doubt": names,
                **{
                    (f"control {n}" if n in XARRAY_NAMES else n): ("point", c)
                    for n, c in zip(self.control_names, self.controls.T, strict=True)
                },
            },
            attrs={"status": self.status, "reasons": list(self.reasons)},
        )

    def to_dataframe(self) -> "pd.DataFrame":
        """The long table as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=list(self.columns))


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise InputError(f"kind '{kind}' is unknown; use {' or '.join(KINDS)}")
    return kind
