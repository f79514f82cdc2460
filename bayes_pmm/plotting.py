"""Pictures: bands against controls, data against the posterior predictive, chains of the worst output.

All are matplotlib ``Figure`` objects that pyplot does not know of: notebooks show them, and their own ``savefig`` saves
them.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bayes_pmm.bands import KINDS, Bands
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.errors import InputError, status_lines
from bayes_pmm.fit import Fit, as_fit
from bayes_pmm.inference.protocol import floors_of
from bayes_pmm.predict import check_exact, combinations

__all__ = ["legend_below", "panels", "plot_bands", "plot_chains", "plot_residuals", "readable"]

Drawn = TypeVar("Drawn", Figure, Axes)

MAX_CURVES = 6
"""Curves in one panel where there are several controls."""

LETTER = 0.07
"""About the inches that a small letter takes."""


def plot_bands(
    fit: Fit,
    bands: Bands,
    exact: Any = None,
    control: str | None = None,
    *,
    outputs: str | Sequence[str] | None = None,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Bands with the data, one panel per output.

    Parameters
    ----------
    fit : Fit
    bands : Bands
    exact : array (N, Q), optional
        Exact values at the bands' controls, in the order of their rows, drawn as a line or crosses; for one output also
        (N,).
    control : str, optional
        Horizontal axis, with several controls. If it is not given, points that do not form a grid are drawn in their
        order, and a grid along the control with the most values.
    outputs : str or sequence of str, optional
        Columns to draw, in this order; all if not given.
    axes : Axes, or sequence or array of Axes, optional
        Panels of a figure of your own, as many as outputs. Each gets its own legend, and the status (without the
        reasons) as its title where that is not ok.

    Returns
    -------
    Figure
        The one that the axes belong to, or a new one. With one control: the latent bands of all levels, the widest
        predictive band dotted, data with known errors; where the output is extrapolated the background is grey, hatched
        where the band is doubtful. With several controls on a grid: medians and the widest latent band against one of
        them, a curve for each value of the others, at most 6, dotted outside the data and hatched where doubtful; the
        data have the colour of their own value. With scattered points: the widest latent interval of each, coloured by
        whether it is outside the data or doubtful, without the data. A status that is not ok is written over the
        picture.

    Raises
    ------
    InputError
        If there is no such control or output, the exact values do not fit the bands, or there are more or fewer axes
        than outputs.
    """
    data = as_fit(fit).posterior.data
    _check_same(fit, bands)
    if control is not None and control not in data.control_names:
        raise InputError(f"no control is called '{control}'; there are {', '.join(data.control_names)}")
    if exact is not None:
        exact = check_exact(exact, bands.output_names, len(bands.controls))
    names = (
        bands.output_names if outputs is None else [outputs] if isinstance(outputs, str) else list(outputs)
    )
    if unknown := [name for name in names if name not in bands.output_names]:
        raise InputError(f"no output is called '{unknown[0]}'; there are {', '.join(bands.output_names)}")
    figure, places = panels(len(names)) if axes is None else _own_panels(axes, names)
    j = None if control is None else data.control_names.index(control)
    curves = None if data.n_controls == 1 else _grid_curves(bands.controls, j, data.controls)
    for ax, name in zip(places, names, strict=True):
        q = bands.output_names.index(name)
        truth = None if exact is None else exact[:, q]
        if data.n_controls == 1:
            ax.set_xlabel(data.control_names[0])
            _curve(ax, fit, bands, q, truth)
        elif curves is not None:
            ax.set_xlabel(data.control_names[curves.along])
            _family(ax, fit, bands, q, curves, truth)
        elif control is not None:
            x = bands.controls[:, j]
            ax.set_xlabel(control)
            _points(ax, bands, q, x, np.argsort(x, kind="stable"), truth)
        else:
            x = np.arange(len(bands.controls))
            ax.set_xlabel(f"prediction point: {', '.join(data.control_names)}")
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.xaxis.set_major_formatter(FuncFormatter(partial(_controls_of_point, bands.controls)))
            _points(ax, bands, q, x, x, truth)
        ax.set_ylabel(name)
    if axes is None:
        legend_below(figure)
        _mark_status(figure, bands.status, bands.reasons)
        return readable(figure)
    for ax in places:
        entries = _entries([ax])
        ax.legend(entries.values(), entries.keys(), fontsize="small", frameon=False)
        _mark_status(ax, bands.status, bands.reasons)
        readable(ax)
    return figure


def _own_panels(axes: Any, names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Figure and panels that a user brought."""
    places = list(np.ravel(np.asarray(axes, dtype=object)))
    if strange := [ax for ax in places if not isinstance(ax, Axes)]:
        raise InputError(
            f"axes: {type(strange[0]).__name__} is no matplotlib Axes; give those of plt.subplots"
        )
    if len(places) != len(names):
        raise InputError(
            f"axes: {len(places)} were given for {len(names)} outputs ({', '.join(names)}); give one for each, or name"
            " the outputs by outputs="
        )
    return places[0].figure, places


def _check_same(fit: Fit, bands: Bands) -> None:
    """Bands of another fit would be drawn over these data, under the wrong names."""
    data, same = fit.posterior.data, True
    try:
        combinations(fit.posterior, bands.output_names)
    except InputError:
        same = False
    if bands.control_names != data.control_names or not same:
        raise InputError(
            f"the bands of {', '.join(bands.output_names)} against {', '.join(bands.control_names)} are not of this fit"
            f" of {', '.join(data.output_names)} against {', '.join(data.control_names)}; give fit.predict(controls)"
        )


def _data_of(fit: Fit, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Controls (n, p), values and errors (n,) of what a panel shows; of a line where both its parts were observed."""
    data, (_, (coefficients,)) = fit.posterior.data, combinations(fit.posterior, name)
    parts = np.flatnonzero(coefficients)
    seen = data.mask[:, parts].all(axis=1)
    values = data.values[seen][:, parts] @ coefficients[parts]
    return data.controls[seen], values, np.sqrt(np.sum(data.errors[seen][:, parts] ** 2, axis=1))


def _controls_of_point(controls: np.ndarray, place: float, _position: int) -> str:
    """Label of a prediction point: its controls."""
    i = round(place)
    return ", ".join(f"{c:.3g}" for c in controls[i]) if 0 <= i < len(controls) else ""


class Picture(Figure):
    """A figure that notebooks show, whether or not pyplot has been told about them."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=self.dpi)
        return buffer.getvalue()


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Figure with a panel for each of ``count`` outputs, up to three side by side, as few as possible left empty."""
    columns = count if count <= 3 else 3 if count % 3 == 0 else 2
    rows = -(-count // columns)
    figure = Picture(figsize=((5.2 if columns < 3 else 4.3) * columns, 3.4 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def legend_below(figure: Figure) -> None:
    """One legend below all panels, each label once; inside them no place is always free."""
    entries = _entries(figure.axes)
    # And the line or patch before it.
    column = 0.5 + LETTER * max(map(len, entries), default=0)
    columns = max(1, min(len(entries), int(figure.get_figwidth() / column)))
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(entries) // columns))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        fontsize="small",
        frameon=False,
        ncols=columns,
    )


def _entries(axes: Sequence[Axes]) -> dict[str, Artist]:
    """Each label once, with its first handle."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return entries


def readable(drawn: Drawn) -> Drawn:
    """The same, with texts such as "a$b^$" as they stand: names of columns need not be what TeX would understand."""
    parser = MathTextParser("path")
    for text in drawn.findobj(Text):
        try:
            for line in text.get_text().splitlines():
                parser.parse(line)
        except ValueError:
            text.set_parse_math(False)
    return drawn


def _curve(ax: Axes, fit: Fit, bands: Bands, q: int, exact: np.ndarray | None) -> None:
    """Bands of output q against the only control; a limit such as 1/L → 0 beside them."""
    trained, values, error = _data_of(fit, bands.output_names[q])
    trained = trained[:, 0]
    order = np.argsort(bands.controls[:, 0], kind="stable")
    finite = np.isfinite(bands.controls[order, 0])
    limit, order = order[~finite], order[finite]
    ax.errorbar(
        trained,
        values,
        yerr=error if error.any() else None,
        fmt="o",
        ms=4,
        color="black",
        label="data",
        zorder=5,
    )
    if len(limit):
        ends = np.concatenate([bands.controls[order, 0], trained])
        edge = ends.max() + 0.08 * np.ptp(ends)
        _points(ax, bands, q, np.full(len(bands.controls), edge), limit[:1], exact)
        ax.annotate("∞", (edge, 0), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    x = bands.controls[order, 0]
    if len(np.unique(x)) < 2:
        if len(order):
            _points(ax, bands, q, bands.controls[:, 0], order, exact)
        return
    shades = np.linspace(0.2, 0.35, len(bands.levels))
    for level, shade in zip(bands.levels[::-1], shades, strict=True):
        low, high = (end[order, q] for end in bands.interval(level))
        label = f"{100 * level:g} % latent"
        ax.fill_between(x, low, high, color="C0", alpha=shade, lw=0, label=label)
    ax.plot(x, bands.quantile(0.5)[order, q], color="C0", lw=1.2, label="median")
    widest = bands.levels[-1]
    latent, predictive = (np.stack([end[order, q] for end in bands.interval(widest, kind)]) for kind in KINDS)
    # In units of the band: data may come in any unit.
    if np.max(np.abs(predictive - latent)) > 1e-3 * np.max(latent[1] - latent[0]):
        ax.plot(x, predictive[0], ":", color="C0", lw=0.9, label=f"{100 * widest:g} % predictive")
        ax.plot(x, predictive[1], ":", color="C0", lw=0.9)
    if exact is not None:
        ax.plot(x, exact[order], "--", color="C3", lw=1.2, label="exact")
    # Grey begins where the data end, and not at a point of the prediction grid.
    # Of a line it begins where one of its levels ends; without a row that has both, there is no inside.
    first, last = (trained.min(), trained.max()) if len(trained) else (x[-1], x[-1])
    for lo, hi in ((x[0], min(first, x[-1])), (max(last, x[0]), x[-1])):
        if lo < hi:
            ax.axvspan(lo, hi, color="0.5", alpha=0.1, lw=0, label="outside the data")
    # A span of its own for each run of doubtful points: hatches of many small spans would not line up.
    doubtful = bands.doubtful[order, q]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], doubtful, [False]]).astype(int)))
    for i, j in zip(edges[::2], edges[1::2], strict=True):
        lo, hi = x[max(i - 1, 0)], x[min(j, len(x) - 1)]
        # Only points outside are doubted.
        lo, hi = (max(lo, last), hi) if x[i] > last else (lo, min(hi, first))
        label = _doubtful(bands, q)
        ax.axvspan(lo, hi, facecolor="none", edgecolor="0.75", hatch="//", lw=0, zorder=0, label=label)


@dataclass(frozen=True)
class _Curves:
    """Prediction controls that form a grid, as curves.

    Parameters
    ----------
    along : int
        Control on the horizontal axis.
    others : array (K, p - 1)
        Values of the other controls.
    rows : array (K, n)
        Rows of the controls on each curve, ascending along it.
    of : int
        Number of curves that the grid has; these may be fewer.
    """

    along: int
    others: np.ndarray
    rows: np.ndarray
    of: int


def _grid_curves(controls: np.ndarray, along: int | None, trained: np.ndarray) -> _Curves | None:
    """Curves of a product grid of controls (N, p), or None if it is not one; of many those nearest to the data."""
    sizes = [len(np.unique(column)) for column in controls.T]
    if len(np.unique(controls, axis=0)) != len(controls) or np.prod(sizes) != len(controls):
        return None
    along = int(np.argmax(sizes)) if along is None else along
    if sizes[along] < 2:
        return None
    rest = np.delete(controls, along, axis=1)
    rows = np.lexsort((controls[:, along], *rest.T[::-1])).reshape(-1, sizes[along])
    others, of = rest[rows[:, 0]], len(rows)
    # More would hide each other. First the one at each of the data's own values, and the rest evenly.
    if of > MAX_CURVES:
        # A curve at the limit 1/L → 0 is infinitely far from all data.
        finite = np.isfinite(rest)
        unit = np.max(rest, axis=0, where=finite, initial=-np.inf)
        unit = unit - np.min(rest, axis=0, where=finite, initial=np.inf)
        unit = np.where(unit > 0, unit, 1.0)
        own = np.unique(np.delete(trained, along, axis=1), axis=0)
        apart = np.linalg.norm((others[:, None] - own[None]) / unit, axis=2)
        nearest = np.unique(np.argmin(apart, axis=0))
        if len(nearest) > MAX_CURVES - 2:
            nearest = nearest[np.linspace(0, len(nearest) - 1, MAX_CURVES - 2).round().astype(int)]
        evenly = np.linspace(0, of - 1, MAX_CURVES).round().astype(int).tolist()
        ends = [evenly[0], evenly[-1]]
        chosen = sorted(list(dict.fromkeys([*ends, *nearest.tolist(), *evenly]))[:MAX_CURVES])
        rows, others = rows[chosen], others[chosen]
    return _Curves(along, others, rows, of)


def _family(ax: Axes, fit: Fit, bands: Bands, q: int, curves: _Curves, exact: np.ndarray | None) -> None:
    """Bands of output q on a grid, a curve for each value of the other controls."""
    data = fit.posterior.data
    names = np.delete(data.control_names, curves.along)
    widest = bands.levels[-1]
    low, high = bands.interval(widest)
    middle = bands.quantile(0.5)
    places, observed, _ = _data_of(fit, bands.output_names[q])
    trained = np.delete(places, curves.along, axis=1)
    colors: list[Any]
    marks: Any
    # With one other control its value sets the colour, of curves and data alike.
    if len(names) == 1:
        values, own = curves.others[:, 0], trained[:, 0]
        # Of all rows, so that a colour means the same in every panel.
        every = np.concatenate([values, np.delete(data.controls, curves.along, axis=1)[:, 0]])
        every = every[np.isfinite(every)]
        unit = Normalize(every.min(), every.max()) if len(every) else Normalize()
        # The brightest end of the map cannot be seen on white.
        shade = lambda v: colormaps["viridis"](0.9 * unit(v))
        # Infinity is no end of the map, which would look like the largest number.
        colors, marks = [shade(v) if np.isfinite(v) else "C1" for v in values], shade(own)
    else:
        colors, marks = [f"C{k}" for k in range(len(curves.rows))], "0.6"
    # A limit such as 1/L → 0 is the same point on all curves, and stands beside them.
    along = bands.controls[curves.rows[0], curves.along]
    limits = curves.rows[:, np.flatnonzero(~np.isfinite(along))[:1]]
    curves = replace(curves, rows=curves.rows[:, np.isfinite(along)])
    beside = np.full(len(limits), np.nan)
    if limits.size:
        ends = np.concatenate([along[np.isfinite(along)], places[:, curves.along]])
        beside = ends.max() + np.ptp(ends) * (0.08 + 0.015 * np.arange(len(limits)))
        ax.annotate("∞", (beside.mean(), 0), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    for color, others, rows, limit, edge in zip(
        colors, curves.others, curves.rows, limits, beside, strict=True
    ):
        x = bands.controls[rows, curves.along]
        for i in limit:
            whiskers = [[middle[i, q] - low[i, q]], [high[i, q] - middle[i, q]]]
            ax.errorbar([edge], [middle[i, q]], yerr=whiskers, fmt=".", color=color, lw=1, ms=3)
            if exact is not None:
                ax.plot([edge], [exact[i]], "x", color="C3", ms=4)
        ax.fill_between(x, low[rows, q], high[rows, q], color=color, alpha=0.2, lw=0)
        label = ", ".join(f"{n} = {v:.4g}" for n, v in zip(names, others, strict=True))
        inside = np.where(bands.extrapolated[rows, q], np.nan, middle[rows, q])
        ax.plot(x, middle[rows, q], ":", color=color, lw=1.2)
        ax.plot(x, inside, color=color, lw=1.6, label=label)
    ax.scatter(
        places[:, curves.along],
        observed,
        s=16,
        c=marks,
        edgecolors="black",
        linewidths=0.5,
        zorder=5,
    )
    # What all curves have in common is explained in grey.
    for color, label in _marks(names, own, shade) if len(names) == 1 else [("0.7", "data")]:
        ax.plot([], [], "o", ms=4, mfc=color, mec="black", mew=0.5, label=label)
    some = "" if len(curves.rows) == curves.of else f", {len(curves.rows)} of {curves.of} curves"
    ax.fill_between([], [], [], color="0.4", alpha=0.3, lw=0, label=f"{100 * widest:g} % latent{some}")
    ax.plot([], [], ":", color="0.4", lw=1.2, label="outside the data")
    for rows in curves.rows:
        x, doubtful = bands.controls[rows, curves.along], bands.doubtful[rows, q]
        if doubtful.any():
            lower, upper = (np.where(doubtful, end[rows, q], np.nan) for end in (low, high))
            label = _doubtful(bands, q)
            ax.fill_between(x, lower, upper, facecolor="none", edgecolor="0.6", hatch="//", lw=0, label=label)
        if exact is not None:
            ax.plot(x, exact[rows], "--", color="C3", lw=1.0, label="exact")


def _marks(names: np.ndarray, own: np.ndarray, shade: Callable) -> list[tuple[Any, str]]:
    """Colours of data and what they stand for: each value of the other control, or the range of many."""
    found = np.unique(own)
    if len(found) <= MAX_CURVES:
        return [(shade(v), f"data, {names[0]} = {v:.4g}") for v in found]
    return [("0.7", f"data, {names[0]} = {found[0]:.4g} (dark) to {found[-1]:.4g} (bright)")]


def _points(
    ax: Axes, bands: Bands, q: int, x: np.ndarray, order: np.ndarray, exact: np.ndarray | None
) -> None:
    widest = bands.levels[-1]
    lo, hi = (end[order, q] for end in bands.interval(widest))
    mid = bands.quantile(0.5)[order, q]
    outside, doubtful = bands.extrapolated[order, q], bands.doubtful[order, q]
    for chosen, color, label in (
        (~outside, "C0", f"{100 * widest:g} % latent"),
        (outside & ~doubtful, "0.45", f"{100 * widest:g} % latent, outside the data"),
        (doubtful, "C1", f"{100 * widest:g} % latent, {_doubtful(bands, q)}"),
    ):
        if chosen.any():
            yerr = np.stack([mid - lo, hi - mid])[:, chosen]
            ax.errorbar(
                x[order][chosen], mid[chosen], yerr=yerr, fmt=".", color=color, lw=1, ms=3, label=label
            )
    if exact is not None:
        ax.plot(x[order], exact[order], "x", color="C3", ms=4, label="exact")


def _doubtful(bands: Bands, q: int) -> str:
    """For a legend: which doubts an output has."""
    return f"doubtful ({', '.join(name for name, where in bands.doubts.items() if where[:, q].any())})"


def plot_residuals(fit: Fit) -> Figure:
    """Training data minus posterior mean, in units of the noise, per output: should scatter like N(0, 1).

    Against the control if there is one, else by the rows of the data.
    """
    fit = as_fit(fit)
    data = fit.posterior.data
    mean = np.average(fit.sample(data.controls, kind="model").mean(1), axis=0, weights=fit.weights)
    floors = floors_of(fit.posterior, fit.draws)
    floor = np.average(np.mean(floors**2, axis=1), axis=0, weights=fit.weights)
    r = (data.values - mean) / np.sqrt(floor + data.errors**2)
    figure = Picture(figsize=(5.2, 3.0), layout="constrained")
    ax = figure.subplots()
    ax.axhspan(-2, 2, color="0.5", alpha=0.15, lw=0, label="±2: 95 % of the residuals of a right model")
    ax.axhline(0, color="0.4", lw=0.8)
    one = data.n_controls == 1
    x = data.controls[:, 0] if one else np.arange(data.n_rows)
    # Side by side, or the outputs of a row would hide each other.
    apart = 0.01 * np.ptp(x)
    for q, name in enumerate(data.output_names):
        ax.plot(x + apart * (q - (data.n_outputs - 1) / 2), r[:, q], "o", ms=4, label=name)
    ax.set_xlabel(data.control_names[0] if one else "row of the data")
    ax.set_ylabel("(data - mean) / noise")
    legend_below(figure)
    _mark_status(figure, fit.status, fit.reasons)
    return readable(figure)


def plot_chains(fit: Fit) -> Figure:
    """Draws of the training output with the largest R-hat, chain by chain, and their ranks."""
    fit = as_fit(fit)
    data = fit.posterior.data
    model = fit.sample(data.controls, kind="model")
    rhat, ess = rhat_and_ess(model) if model.shape[1] >= 4 else (np.zeros(model.shape[2:]), None)
    row, q = np.unravel_index(np.nanargmax(np.where(np.isnan(rhat), -1, rhat)), rhat.shape)
    figure = Picture(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draws = model[:, :, row, q]
    ranks = draws.ravel().argsort().argsort().reshape(draws.shape)
    for i, (chain, rank) in enumerate(zip(draws, ranks, strict=True)):
        left.plot(chain, lw=0.5, color=f"C{i}")
        right.hist(rank, bins=20, range=(0, ranks.size), histtype="step", color=f"C{i}", label=f"chain {i}")
    place = ", ".join(
        f"{name} = {c:.4g}" for name, c in zip(data.control_names, data.controls[row], strict=True)
    )
    left.set(xlabel="draw", ylabel=f"{data.output_names[q]} at {place}")
    title = (
        "worst output" if ess is None else f"worst output: R-hat {rhat[row, q]:.4f}, ESS {ess[row, q]:.0f}"
    )
    # Above both panels: a long number at the top of the axis, such as 1e-6+4.2, is where a title of the left one is.
    figure.suptitle("\n".join([*status_lines(fit.status, fit.reasons), title]), fontsize="small", wrap=True)
    right.axhline(draws.shape[1] / 20, color="0.4", lw=0.8)
    right.set(xlabel="rank among all chains", ylabel="draws")
    right.legend(fontsize="small", frameon=False, ncols=2)
    return readable(figure)


def _mark_status(drawn: Figure | Axes, status: str, reasons: tuple[str, ...]) -> None:
    if status == "ok":
        return
    if isinstance(drawn, Axes):
        # One line: above the panels of others there may be no room for more.
        drawn.set_title(f"{status.upper()}: see bands.reasons", color="C3", fontsize="small")
    else:
        text = f"{status.upper()}: {reasons[0] if reasons else ''}"
        drawn.suptitle(text, color="C3", fontsize="small", wrap=True)
