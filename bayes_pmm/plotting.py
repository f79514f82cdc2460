"""Pictures: bands against controls, data against the posterior predictive, chains of the worst output."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.errors import InputError
from bayes_pmm.fit import Fit
from bayes_pmm.predict import Bands

__all__ = ["plot_bands", "plot_chains", "plot_residuals"]


def plot_bands(fit: Fit, bands: Bands, exact: Any = None, control: str | None = None) -> Figure:
    """Bands with the data, one panel per output.

    Parameters
    ----------
    fit : Fit
    bands : Bands
    exact : array (N, Q), optional
        Exact values at the bands' controls, drawn as a line or crosses.
    control : str, optional
        Horizontal axis. With several controls the points are drawn in their order unless this is given.

    Returns
    -------
    Figure
        50 % and 90 % latent bands, the 90 % predictive band dotted, data with known errors; where the output is
        extrapolated the background is grey, hatched where the band is doubtful. A status that is not ok is written
        over the picture.
    """
    data = fit.posterior.data
    if control is not None and control not in data.control_names:
        raise InputError(f"no control is called '{control}'; there are {', '.join(data.control_names)}")
    n = len(bands.output_names)
    columns = min(n, 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    curve = len(data.control_names) == 1
    for q, (ax, name) in enumerate(zip(axes, bands.output_names, strict=False)):
        if curve or control is not None:
            j = 0 if curve else data.control_names.index(control)
            x, order = bands.controls[:, j], np.argsort(bands.controls[:, j], kind="stable")
            ax.set_xlabel(data.control_names[j])
        else:
            x = order = np.arange(len(bands.controls))
            ax.set_xlabel("prediction point")
        drawn = _curve if curve else _points
        drawn(ax, bands, q, x, order, None if exact is None else np.asarray(exact)[:, q])
        if curve:
            seen = data.mask[:, q]
            error = data.errors[seen, q]
            ax.errorbar(
                data.controls[seen, 0],
                data.values[seen, q],
                yerr=error if error.any() else None,
                fmt="o",
                ms=4,
                color="black",
                label="data",
                zorder=5,
            )
        ax.set_ylabel(name)
    for ax in axes[n:]:
        ax.set_visible(False)
    axes[0].legend(fontsize="small", frameon=False)
    _mark_status(figure, bands.status, bands.reasons)
    return figure


def _curve(
    ax: Axes, bands: Bands, q: int, x: np.ndarray, order: np.ndarray, exact: np.ndarray | None
) -> None:
    x = x[order]
    lo, q25, mid, q75, hi = bands.quantiles["latent"][:, order, q]
    ax.fill_between(x, lo, hi, color="C0", alpha=0.2, lw=0, label="90 % latent")
    ax.fill_between(x, q25, q75, color="C0", alpha=0.35, lw=0, label="50 % latent")
    ax.plot(x, mid, color="C0", lw=1.2, label="median")
    plo, *_, phi = bands.quantiles["predictive"][:, order, q]
    if not np.allclose(plo, lo):
        ax.plot(x, plo, ":", color="C0", lw=0.9, label="90 % predictive")
        ax.plot(x, phi, ":", color="C0", lw=0.9)
    if exact is not None:
        ax.plot(x, exact[order], "--", color="C3", lw=1.2, label="exact")
    outside = bands.extrapolated[order, q]
    doubtful = bands.doubtful[order, q]
    for i in np.flatnonzero(outside[1:] | outside[:-1]):
        ax.axvspan(x[i], x[i + 1], color="0.5", alpha=0.1, lw=0)
    # A span of its own for each run of doubtful points: hatches of many small spans would not line up.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], doubtful, [False]]).astype(int)))
    for k, (i, j) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        ax.axvspan(
            x[max(i - 1, 0)] if i else x[0],
            x[min(j - 1, len(x) - 1)],
            facecolor="none",
            edgecolor="0.75",
            hatch="//",
            lw=0,
            zorder=0,
            label="doubtful" if k == 0 else None,
        )


def _points(
    ax: Axes, bands: Bands, q: int, x: np.ndarray, order: np.ndarray, exact: np.ndarray | None
) -> None:
    lo, _, mid, _, hi = bands.quantiles["latent"][:, order, q]
    outside, doubtful = bands.extrapolated[order, q], bands.doubtful[order, q]
    for chosen, color, label in (
        (~outside, "C0", "90 % latent"),
        (outside & ~doubtful, "0.45", "90 % latent, extrapolated"),
        (doubtful, "C1", "90 % latent, doubtful"),
    ):
        if chosen.any():
            yerr = np.stack([mid - lo, hi - mid])[:, chosen]
            ax.errorbar(
                x[order][chosen], mid[chosen], yerr=yerr, fmt=".", color=color, lw=1, ms=3, label=label
            )
    if exact is not None:
        ax.plot(x[order], exact[order], "x", color="C3", ms=4, label="exact")


def plot_residuals(fit: Fit) -> Figure:
    """Training data minus posterior mean, in units of the noise, per output: should scatter like N(0, 1)."""
    data = fit.posterior.data
    mean = np.average(fit.sample(data.controls, kind="model").mean(1), axis=0, weights=fit.weights)
    floor = 0.0
    if fit.posterior.noise.floor:
        floor = np.average(np.mean(fit.draws.sites["floor"] ** 2, axis=1), axis=0, weights=fit.weights)
    r = (data.values - mean) / np.sqrt(floor + data.errors**2)
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.axhspan(-2, 2, color="0.5", alpha=0.15, lw=0)
    ax.axhline(0, color="0.4", lw=0.8)
    for q, name in enumerate(data.output_names):
        ax.plot(np.arange(data.n_rows), r[:, q], "o", ms=4, label=name)
    ax.set_xlabel("row of the data")
    ax.set_ylabel("(data - mean) / noise")
    ax.legend(fontsize="small", frameon=False, ncols=4)
    return figure


def plot_chains(fit: Fit) -> Figure:
    """Draws of the training output with the largest R-hat, chain by chain, and their ranks."""
    data = fit.posterior.data
    model = fit.sample(data.controls, kind="model")
    rhat, ess = rhat_and_ess(model) if model.shape[1] >= 4 else (np.zeros(model.shape[2:]), None)
    row, q = np.unravel_index(np.nanargmax(np.where(np.isnan(rhat), -1, rhat)), rhat.shape)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draws = model[:, :, row, q]
    ranks = draws.ravel().argsort().argsort().reshape(draws.shape)
    for i, (chain, rank) in enumerate(zip(draws, ranks, strict=True)):
        left.plot(chain, lw=0.5, color=f"C{i}")
        right.hist(rank, bins=20, range=(0, ranks.size), histtype="step", color=f"C{i}", label=f"chain {i}")
    left.set(xlabel="draw", ylabel=f"{data.output_names[q]}, row {row}")
    title = (
        "worst output" if ess is None else f"worst output: R-hat {rhat[row, q]:.4f}, ESS {ess[row, q]:.0f}"
    )
    left.set_title(title, fontsize="small")
    right.axhline(ranks.shape[1] / 20, color="0.4", lw=0.8)
    right.set(xlabel="rank among all chains", ylabel="draws")
    right.legend(fontsize="small", frameon=False, ncols=2)
    return figure


def _mark_status(figure: Figure, status: str, reasons: tuple[str, ...]) -> None:
    if status != "ok":
        figure.suptitle(
            f"{status.upper()}: {reasons[0] if reasons else ''}", color="C3", fontsize="small", wrap=True
        )
