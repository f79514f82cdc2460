"""Pictures that judge bands: PIT values, coverage against level, left-out points with what was predicted."""

from collections.abc import Mapping

import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from bayes_pmm.convergence import import_arviz
from bayes_pmm.errors import InputError
from bayes_pmm.plotting import Picture, panels, readable
from bayes_pmm.scores import Scores, reliability
from bayes_pmm.validation import LeftOut

__all__ = ["ecdf_band", "plot_left_out", "plot_pit", "plot_reliability"]


def ecdf_band(count: int, prob: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simultaneous band of the empirical distribution function of independent uniform values.

    Parameters
    ----------
    count : int
        Number of values.
    prob : float
        Probability that the whole function lies within.

    Returns
    -------
    at, low, high : array (K,)

    References
    ----------
    Säilynoja, Bürkner, Vehtari, Stat. Comput. 32, 32 (2022), arXiv:2103.10522; computed by ArviZ.
    """
    az = import_arviz()
    if hasattr(az, "psislw"):
        from arviz.stats.ecdf_utils import ecdf_confidence_band

        at = np.linspace(0, 1, 101)
        low, high = ecdf_confidence_band(count, at, at, prob, "optimized")
    else:
        from arviz_stats.ecdf_utils import ecdf_pit

        middles = (np.arange(count) + 0.5) / count
        at, _, low, high = ecdf_pit(middles, prob, 2000, rng=np.random.default_rng(0))
    return at, low, high


def plot_pit(pits: ArrayLike | Mapping[str, ArrayLike], prob: float = 0.95) -> Figure:
    """Distribution function of PIT values minus the uniform one, with a simultaneous band for independent values.

    A hump at the left and a hollow at the right (values at both ends too often) is a band that is too narrow; the
    reverse one that is too wide; a hump or hollow alone is a shift.

    Parameters
    ----------
    pits : array, or mapping from label to array
        From :func:`~bayes_pmm.scores.pit`, ``LeftOut.pit``, ``Scores.pits``, or ranks divided by their number. NaN is
        left out.
    prob : float

    Returns
    -------
    Figure
        One panel per label. Values of one curve share their errors, and then the band is too narrow.
    """
    groups = _groups(pits)
    figure = Picture(figsize=(4.6 * len(groups), 3.4), layout="constrained")
    axes = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for ax, (label, u) in zip(axes, groups.items(), strict=True):
        at, low, high = ecdf_band(len(u), prob)
        ax.fill_between(at, low - at, high - at, color="0.5", alpha=0.2, lw=0, label=f"{100 * prob:g} % band")
        x = np.concatenate([[0.0], np.repeat(np.sort(u), 2), [1.0]])
        y = np.concatenate([[0.0], np.repeat(np.arange(len(u) + 1), 2)[1:-1] / len(u), [1.0]])
        ax.plot(x, y - x, color="C0", lw=1.3, label=f"{len(u)} values")
        ax.axhline(0, color="0.4", lw=0.8)
        ax.set(xlabel="PIT", xlim=(0, 1), title=label)
        ax.legend(fontsize="small", frameon=False)
    axes[0].set_ylabel("ECDF - uniform")
    return readable(figure)


def plot_reliability(scores: Scores | Mapping[str, ArrayLike]) -> Figure:
    """Coverage of central intervals against their level.

    Parameters
    ----------
    scores : Scores, or mapping from label to PIT values
        From :func:`~bayes_pmm.scores.judge`, drawn inside and outside.

    Returns
    -------
    Figure
        Bars are 90 % binomial intervals around the level as of independent values: too short where the values share
        their errors, as those of one curve do. Below the diagonal bands are too narrow.
    """
    if isinstance(scores, Scores):
        found = {"inside": scores.pits[~scores.outside], "outside": scores.pits[scores.outside]}
        groups = _groups({k: v for k, v in found.items() if np.any(~np.isnan(v))})
    else:
        groups = _groups(scores)
    levels = np.linspace(0.05, 0.95, 19)
    figure = Picture(figsize=(4.4, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color="0.4", lw=0.8)
    for i, (label, u) in enumerate(groups.items()):
        low, high = scipy.stats.binom.ppf([[0.05], [0.95]], len(u), levels) / len(u)
        ax.vlines(levels + 0.006 * i, low, high, color=f"C{i}", alpha=0.25, lw=3)
        ax.plot(
            levels,
            reliability(u, levels),
            "o-",
            ms=3,
            lw=1.2,
            color=f"C{i}",
            label=f"{label}, {len(u)} values",
        )
    ax.set(xlabel="level of the interval", ylabel="share of values inside", xlim=(0, 1), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    ax.legend(fontsize="small", frameon=False)
    return readable(figure)


def plot_left_out(left: LeftOut, control: str | None = None) -> Figure:
    """Left-out data with the predictive bands of the refits that had not seen them.

    Parameters
    ----------
    left : LeftOut
    control : str, optional
        Horizontal axis; the first control if not given.

    Returns
    -------
    Figure
        One panel per output: all data in black, and for each refit the median with the intervals (50 % and 90 %, unless
        other levels were asked for) of the data that it did not see, side by side where several refits predicted the
        same row. A refit that is not ok
        says so in the legend.

    Raises
    ------
    InputError
        If there is no such control.
    """
    data = left.data
    if control is not None and control not in data.control_names:
        raise InputError(f"no control is called '{control}'; there are {', '.join(data.control_names)}")
    j = 0 if control is None else data.control_names.index(control)
    figure, axes = panels(data.n_outputs)
    figure.set_figheight(figure.get_figheight() + 0.25 * len(left.refits))
    for q, (ax, name) in enumerate(zip(axes, data.output_names, strict=True)):
        _left_out_panel(ax, left, q, data.controls[:, j])
        ax.set(xlabel=data.control_names[j], ylabel=name)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize="small", frameon=False
    )
    return readable(figure)


def _left_out_panel(ax: Axes, left: LeftOut, q: int, x: np.ndarray) -> None:
    step = 0.012 * np.ptp(x)
    for r, refit in enumerate(left.refits):
        chosen = (left.refit == r) & (left.output == q)
        # The data stay at their controls; refits that predicted one row stand beside each other.
        earlier = [len(set(left.refit[(left.refit < r) & (left.row == i)])) for i in left.row[chosen]]
        at = x[left.row[chosen]] + step * (1 + np.array(earlier))
        quantiles = left.quantiles[:, chosen]
        label = refit.name + ("" if refit.status == "ok" else f" ({refit.status})")
        # From the widest interval to the narrowest, which is drawn the thickest.
        pairs = len(quantiles) // 2
        for k in range(pairs):
            lw, alpha = (1.2, 1.0) if k == 0 else (1.2 + 2.3 * k / (pairs - 1), 0.6)
            ax.vlines(at, quantiles[k], quantiles[-1 - k], color=f"C{r}", lw=lw, alpha=alpha)
        ax.plot(at, quantiles[pairs], "_", ms=7, color=f"C{r}", label=label)
    seen = left.data.mask[:, q]
    error = left.data.errors[seen, q]
    ax.errorbar(
        x[seen],
        left.data.values[seen, q],
        yerr=error if error.any() else None,
        fmt="o",
        ms=3.5,
        color="black",
        label="data",
        zorder=5,
    )


def _groups(pits: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Finite values by label."""
    given = pits if isinstance(pits, Mapping) else {"": pits}
    groups = {}
    for label, values in given.items():
        u = np.asarray(values, float).ravel()
        u = u[~np.isnan(u)]
        if not len(u) or u.min() < 0 or u.max() > 1:
            raise InputError(
                f"PIT values{' ' + label if label else ''}: give numbers from 0 to 1, at least one"
            )
        groups[label] = u
    return groups
