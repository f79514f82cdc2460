"""Pictures of the extrapolation study, from the lines.

    python -m studies.extrapolation.picture results.jsonl FOLDER [--ours pmm] [--noise 1e-2] [--hamiltonian 1]

FOLDER/reliability.png: coverage of the central intervals against their probability, for every method.
FOLDER/families.png: truth, data, our band and the best general method's, one panel a family.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayes_pmm import scores
from studies.extrapolation import lines
from studies.extrapolation.run import task_of
from studies.extrapolation.table import GROUPS, Results

OURS, OTHER = "C0", "C1"
LEVELS = np.linspace(0.05, 0.95, 19)
COLUMNS = 4
COLOURS = colormaps["tab20"]


def reliability(results: Results, noise: float) -> Figure:
    """Coverage outside against the probability of the interval; the diagonal is right."""
    groups = [g for g in GROUPS if results.rows(results.ours, g, noise)]
    figure = Figure(figsize=(1.6 + 3.8 * len(groups), 4.0), layout="constrained")
    for ax, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        ax.plot([0, 1], [0, 1], color="0.6", lw=1)
        for i, name in enumerate([results.ours, *results.general, *results.matrix_models]):
            if rows := results.rows(name, group, noise):
                covered = scores.reliability(np.concatenate([np.ravel(r["pit"]) for r in rows]), LEVELS)
                style = {"lw": 2.5, "zorder": 3} if name == results.ours else {"lw": 1.1}
                dashes = "--" if name in results.matrix_models else "-"
                ax.plot(LEVELS, covered, dashes, color=COLOURS(i), label=name, **style)
        count = len(results.rows(results.ours, group, noise))
        ax.set(
            xlabel="probability of the central interval",
            title=f"{group}: {count} tasks",
            xlim=(0, 1),
            ylim=(0, 1.02),
        )
    figure.axes[0].set_ylabel("coverage outside the data")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right", fontsize="small", frameon=False)
    return figure


def _band(ax, x: np.ndarray, row: dict, q: int, color: str) -> None:
    low, high, mean = (np.asarray(row[k])[:, q] for k in ("q05", "q95", "mean"))
    order = np.argsort(x)
    ax.fill_between(x[order], low[order], high[order], color=color, alpha=0.25, lw=0)
    ax.plot(x[order], mean[order], color=color, lw=1)


def _curves(ax, task, ours: dict, best: dict | None, shown: range) -> list[np.ndarray]:
    """One control: data, truth and bands against it; what the panel has to show."""
    centre, unit = np.nanmean(task.data.values, axis=0), np.asarray(task.spread)
    x, order = task.controls[:, 0], np.argsort(task.controls[:, 0])
    for q in shown:
        if best is not None:
            _band(ax, x, best, q, OTHER)
        _band(ax, x, ours, q, OURS)
        ax.plot(x[order], np.asarray(ours["truth"])[order, q], "k--", lw=1)
    data = ((task.data.values - centre) / unit)[:, list(shown)]
    ax.plot(task.data.controls[:, 0], data, "k.", ms=4)
    ax.set_xlabel(task.data.control_names[0], fontsize="small", labelpad=1)
    return [np.asarray(ours[k])[:, list(shown)] for k in ("truth", "q05", "q95")] + [data[~np.isnan(data)]]


def _errors(ax, ours: dict, best: dict | None, shown: range) -> list[np.ndarray]:
    """Several controls: bands less the exact values against the distance; what the panel has to show."""
    x = np.asarray(ours["distance"])
    kept = []
    for shift, row, color in ((-0.006, best, OTHER), (0.006, ours, OURS)):
        if row is not None:
            ends = [np.subtract(row[k], row["truth"])[:, list(shown)] for k in ("q05", "q95")]
            for low, high in zip(*(e.T for e in ends), strict=True):
                ax.vlines(x + shift * np.ptp(x), low, high, color=color, alpha=0.6, lw=1.5)
            kept = ends
    ax.axhline(0, color="k", ls="--", lw=1)
    ax.set_xlabel("distance; band less exact value", fontsize="small", labelpad=1)
    return kept


def _panel(ax, results: Results, ours: dict) -> None:
    task, best = task_of(ours["task"]), results.best(ours["task"])
    shown = range(min(2, task.data.n_outputs))
    draw = partial(_curves, ax, task) if task.data.n_controls == 1 else partial(_errors, ax)
    # A rival's band may be orders of magnitude wider than anything else, and does not set the limits.
    near = np.concatenate([np.ravel(v) for v in draw(ours, best, shown)])
    margin = 0.15 * np.ptp(near)
    ax.set_ylim(near.min() - margin, near.max() + margin)
    rival = "" if best is None else f", {best['method']}"
    ax.set_title(f"{ours['family']}{rival}", fontsize="small")
    ax.tick_params(labelsize="x-small")


def families(results: Results, noise: float, hamiltonian: int) -> Figure:
    """One panel for each family: the two lowest outputs, less their training mean, in units of the spread."""
    rows = [
        r for g in GROUPS for r in results.rows(results.ours, g, noise) if r["hamiltonian"] == hamiltonian
    ]
    height = -(-len(rows) // COLUMNS)
    figure = Figure(figsize=(3.1 * COLUMNS, 2.5 * height), layout="constrained")
    axes = figure.subplots(height, COLUMNS, squeeze=False).ravel()
    for ax, row in zip(axes, rows, strict=False):
        _panel(ax, results, row)
    for ax in axes[len(rows) :]:
        ax.set_axis_off()
    handles = [
        Line2D([], [], color="k", ls="--", label="exact"),
        Line2D([], [], color="k", marker=".", ls="", label="data"),
        Patch(color=OURS, alpha=0.4, label=f"{results.ours}, 90 %"),
        Patch(color=OTHER, alpha=0.4, label="best general method of the task, 90 %"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize="small", frameon=False)
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Write both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ours", default="pmm")
    parser.add_argument("--noise", type=float, default=1e-2)
    parser.add_argument("--hamiltonian", type=int, default=1)
    args = parser.parse_args(arguments)
    results = Results(lines.read(args.results), args.ours)
    if not any(results.rows(args.ours, group, args.noise) for group in GROUPS):
        sys.exit(f"{args.results}: no finished line of {args.ours} at noise {args.noise:g}")
    args.folder.mkdir(parents=True, exist_ok=True)
    reliability(results, args.noise).savefig(args.folder / "reliability.png", dpi=110)
    families(results, args.noise, args.hamiltonian).savefig(args.folder / "families.png", dpi=110)


if __name__ == "__main__":
    main()
