"""Simulation-based calibration of the posterior: small models, and wrong ones that must be rejected.

    python studies/sbc.py --datasets 200 --out sbc [--cases 2x2 3x3] [--seed 0]

Writes CASE.nc for each case, sbc.png and sbc.md into the folder. Data sets run in portions that are saved, so the
same command goes on where it was stopped.
"""

import argparse
import contextlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import numpyro
import xarray as xr

from bayes_pmm import gauge
from bayes_pmm.calibration import Uniformity, labels, ranks, sbc, uniformity
from bayes_pmm.data import Dataset
from bayes_pmm.fit import Fit, fit
from bayes_pmm.inference import NUTS, Manifold
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MANIFOLD = tuple((n, z) for n in (2, 3) for z in (1e-2, 1e-4, 1e-6, 1e-8))
OUTSIDE = np.array([[2.0], [4.0]])
PORTION = 40
SAMPLER = {"n_ranks": 50, "warmup": 400, "draws": 490}
NUTS_SETTINGS = {"target_accept": 0.95, "max_tree_depth": 9}


@dataclass(frozen=True)
class Case:
    """One run: the posterior, what generates the data, and what is wrong with the posterior's density."""

    posterior: Posterior
    right: bool = True
    generator: Posterior | None = None
    wrong: Callable = contextlib.nullcontext
    sampler: str = "nuts"
    given: bool = False

    @cached_property
    def fitted(self) -> Fit | None:
        """Fit of the data, whose posterior is tested instead of the prior; the same one for all portions."""
        if not self.given:
            return None
        chosen = NUTS if self.sampler == "nuts" else Manifold
        found = fit(self.posterior, chosen(chains=4, draws=1000), key=0, controls=OUTSIDE)
        if found.status != "ok":
            raise SystemExit(f"the fit whose posterior is to be tested is {found.status}: {found.reasons}")
        return found

    def run(self, key, n_datasets, **options) -> xr.DataTree:
        with self.wrong():
            return sbc(
                self.posterior,
                key=key,
                n_datasets=n_datasets,
                controls=OUTSIDE,
                generator=self.generator,
                sampler=self.sampler,
                given=self.fitted,
                **{**SAMPLER, **(NUTS_SETTINGS if self.sampler == "nuts" else {}), **options},
            )


def dataset(levels: int, points: int = 6, error: float | None = None, missing=()) -> Dataset:
    """Controls, names, errors and missing cells of the simulated data; the values only set the units.

    All levels have nearly the same mean, so that the unit of the floors is that of the levels too.
    """
    c = np.linspace(-1, 1, points)
    y = np.stack([0.1 * k + c for k in range(levels)], axis=1)
    for cell in missing:
        y[cell] = np.nan
    errors = None if error is None else np.full(y.shape, error)
    return Dataset(c[:, None], y, errors, ("c",), tuple(f"E{k}" for k in range(levels)))


def model(data: Dataset, dim: int, field: str = "real", floor: bool = True) -> Posterior:
    """Posterior with the package's default prior of the matrices."""
    pmm = PMM(data.output_names, dim=dim, field=field)
    # The default floor scale, 0.05, makes nearly exact data: posteriors too thin to sample in hundreds.
    return Posterior(data, pmm, noise=Noise(floor=floor, floor_scale=0.5))


def exact(dim: int, error: float) -> Posterior:
    """Posterior of one level fewer than ``dim``, with small known errors."""
    return model(dataset(dim - 1, error=error), dim, floor=False)


def of_outputs(
    outputs, field: str = "real", missing=(), floor: bool = False, error: float = 1e-4
) -> Posterior:
    """Posterior of 2 × 2 matrices with outputs of other kinds than levels, and small known errors."""
    data = dataset(len(outputs), error=error, missing=missing)
    return Posterior(data, PMM(outputs, dim=2, field=field), noise=Noise(floor=floor, floor_scale=0.01))


@contextlib.contextmanager
def missing_power_of_tau():
    """The gaps' density without the powers of tau that level repulsion brings with it."""
    right = gauge.gap_log_density

    def wrong(gaps, tau, field):
        n = gaps.shape[-1] + 1
        return right(gaps, tau, field) + gauge.DYSON_INDEX[field] * n * (n - 1) / 2 * jnp.log(tau)

    with mock.patch.object(gauge, "gap_log_density", wrong):
        yield


def cases() -> dict[str, Case]:
    """All cases by name."""
    known = model(dataset(2, error=0.3), 2, floor=False)
    half = model(dataset(2, error=0.15), 2, floor=False)
    gaps = dataset(2, error=0.3, missing=[(1, 0), (2, 1), (3, 1), (5, 0)])
    return {
        "2x2": Case(model(dataset(1), 2)),
        "3x3": Case(model(dataset(2), 3)),
        "complex": Case(model(dataset(2), 2, "complex")),
        "known": Case(model(gaps, 2)),
        "half-noise": Case(half, right=False, generator=replace(half, data=known.data)),
        "tau-power": Case(known, right=False, wrong=missing_power_of_tau),
        "2x2-8": Case(model(dataset(1, points=8), 2)),
        "3x3-8": Case(model(dataset(2, points=8), 3)),
        **{f"manifold-{n}x{n}-{z:.0e}": Case(exact(n, z), sampler="manifold") for n, z in MANIFOLD},
        "manifold-expectation": Case(of_outputs(["E0", "<0|A|0>"]), sampler="manifold"),
        "manifold-transition": Case(of_outputs(["E1-E0", "|<0|A|1>|^2"], "complex"), sampler="manifold"),
        "manifold-mixed": Case(
            of_outputs(["E0", "E1"], missing=[(1, 0), (2, 1), (3, 1)], floor=True), sampler="manifold"
        ),
        "given-2x2": Case(known, given=True),
        "given-manifold": Case(exact(2, 1e-4), sampler="manifold", given=True),
    }


WHAT = {
    "2x2": "real 2×2, one level, learned floor, 6 points",
    "3x3": "real 3×3, two levels, learned floors, 6 points",
    "complex": "complex 2×2, two levels, learned floors, 6 points",
    "known": "real 2×2, two levels, known errors and learned floors, 4 of 12 cells missing",
    "half-noise": "wrong: half of the true noise assumed",
    "tau-power": "wrong: gap density without τ^(−βn(n−1)/2)",
    "2x2-8": "real 2×2, one level, learned floor, 8 points",
    "3x3-8": "real 3×3, two levels, learned floors, 8 points",
    **{
        f"manifold-{n}x{n}-{z:.0e}": f"Manifold, real {n}×{n}, {n - 1} levels, known errors {z:.0e}, 6 points"
        for n, z in MANIFOLD
    },
    "manifold-expectation": "Manifold, real 2×2, a level and an expectation value, known errors 1e-04, 6 points",
    "manifold-transition": "Manifold, complex 2×2, a line and its strength, known errors 1e-04, 6 points",
    "manifold-mixed": "Manifold, real 2×2, two levels, known errors 1e-04 and floors, 3 of 12 cells missing",
    "given-2x2": "given data: real 2×2, two levels, known errors, 6 points",
    "given-manifold": "given data: Manifold, real 2×2, one level, known errors 1e-04, 6 points",
}


def ranked(tree: xr.DataTree) -> xr.Dataset:
    """Group of the ranks."""
    return next(group for name, group in tree.children.items() if name != "sbc_stats").to_dataset()


def row(name: str, tree: xr.DataTree, test: Uniformity, right: bool) -> str:
    """One line of the table."""
    names = labels(ranked(tree))
    statistics = tree["sbc_stats"].to_dataset()
    worst = int(np.argmin(test.adjusted))
    verdict = "uniform" if test.uniform else "rejected"
    if test.uniform != right:
        verdict = f"**{verdict}**"
    draws = float(statistics["draws"].sum())
    cells = [
        name,
        WHAT[name],
        statistics.sizes["draw"],
        len(names),
        f"{test.chi2.min():.2g}",
        f"{test.smooth.min():.2g}",
        f"{test.adjusted.min():.2g} ({names[worst]})",
        verdict,
        f"{tree.attrs['ess_mean']:.0f} of {tree.attrs['n_ranks'] - 1}",
        f"{100 * tree.attrs['ess_short']:.2g}",
        f"{100 * float(statistics['divergences'].sum()) / draws:.2g}",
        f"{tree.attrs['seconds']:.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


COLUMNS = (
    "case",
    "model",
    "data sets",
    "quantities",
    "min p χ²",
    "min p smooth",
    "min adjusted p (quantity)",
    "verdict",
    "worst mean ESS of needed",
    "ESS short, % of sets",
    "divergent, %",
    "seconds",
)
HEADER = f"| {' | '.join(COLUMNS)} |\n|" + "---|" * len(COLUMNS)


def details(tree: xr.DataTree, test: Uniformity) -> str:
    """One line per quantity."""
    names = labels(ranked(tree))
    rows = zip(names, test.chi2, test.smooth, test.adjusted, strict=True)
    lines = [f"| {n} | {a:.3f} | {b:.3f} | {c:.3f} |" for n, a, b, c in rows]
    return "\n".join(["| quantity | p χ² | p smooth | adjusted |\n|---|---|---|---|", *lines])


def band(n: int, n_ranks: int, probability: float = 0.99, simulations: int = 2000) -> np.ndarray:
    """Half-width of the simultaneous band of one ECDF of n uniform ranks, at (r + 1)/n_ranks."""
    x = np.arange(1, n_ranks) / n_ranks
    r = np.random.default_rng(0).integers(0, n_ranks, size=(simulations, n))
    counts = np.stack([np.bincount(s, minlength=n_ranks) for s in r]).cumsum(1)[:, :-1] / n
    width = np.sqrt(x * (1 - x) / n)
    return np.quantile(np.max(np.abs(counts - x) / width, axis=1), probability) * width


def plot(trees: dict[str, xr.DataTree], path: Path) -> None:
    """ECDF of the ranks minus the uniform one: a row per case, a column per kind of quantity."""
    kinds = ("output inside", "output outside", "floor", "scale", "log likelihood")
    figure, axes = plt.subplots(
        len(trees),
        5,
        figsize=(13, 2.1 * len(trees) + 0.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for line, (name, tree) in zip(axes, trees.items(), strict=True):
        L, r = tree.attrs["n_ranks"], ranks(tree)
        x = np.arange(1, L) / L
        half = band(len(r), L)
        group = ranked(tree)
        added = group["added"].values.astype(bool)
        columns = {}
        for kind, variable, chosen in zip(
            kinds,
            ("output", "output", "floor", "scale", "log_likelihood"),
            (~added, added, ..., ..., ...),
            strict=True,
        ):
            if variable in group:
                columns[kind] = group[variable].values[0].reshape(len(r), -1)[:, chosen]
        for axis, kind in zip(line, kinds, strict=True):
            axis.fill_between(x, -half, half, color="0.88", lw=0)
            axis.axhline(0, color="0.6", lw=0.6)
            for column in columns.get(kind, np.zeros((0, 0))).T:
                counts = np.bincount(column, minlength=L).cumsum()[:-1] / len(column)
                axis.plot(x, counts - x, lw=0.9, alpha=0.8)
            if kind not in columns:
                axis.text(0.5, 0, "none", ha="center", va="center", color="0.5")
            axis.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(name)
    for axis, kind in zip(axes[0], kinds, strict=True):
        axis.set_title(kind, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("rank / number of ranks")
    figure.suptitle("ECDF of ranks − uniform; grey: 99 % simultaneous band of one line", fontsize=11)
    figure.savefig(path, dpi=70)
    plt.close(figure)


def portions(case: Case, name: str, key, args) -> xr.DataTree:
    """Run a case portion by portion, or take up those that are there."""
    parts = []
    for i, first in enumerate(range(0, args.datasets, PORTION)):
        n = min(PORTION, args.datasets - first)
        path = args.out / f"{name}-{args.seed}-{first}-{n}.part.nc"
        if not path.exists():
            began = time.perf_counter()
            tree = case.run(jax.random.fold_in(key, i), n, progress=report)
            tree.attrs["seconds"] = time.perf_counter() - began
            tree.to_netcdf(path.with_suffix(".partial"), engine="h5netcdf")
            path.with_suffix(".partial").replace(path)
        parts.append(xr.load_datatree(path, engine="h5netcdf"))
    whole = joined(parts)
    whole.to_netcdf(args.out / f"{name}.nc", engine="h5netcdf")
    return whole


def joined(parts: list[xr.DataTree]) -> xr.DataTree:
    """One tree of all data sets."""
    groups = {}
    for name in parts[0].children:
        whole = xr.concat([p[name].to_dataset() for p in parts], "draw", data_vars="minimal")
        groups[name] = whole.assign_coords(draw=np.arange(whole.sizes["draw"]))
    ess, kept = groups["sbc_stats"]["ess"], parts[0].attrs["n_ranks"] - 1
    mean, short = float(ess.mean("draw").min()), float((ess.min("quantity") < kept).mean())
    attrs = parts[0].attrs | {
        "ess_mean": mean,
        "ess_short": short,
        "thinned_enough": int(mean >= kept and short <= 0.05),
        "seconds": sum(float(p.attrs["seconds"]) for p in parts),
    }
    groups[next(g for g in groups if g != "sbc_stats")].attrs = attrs
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("sbc"))
    parser.add_argument("--cases", nargs="+", choices=list(WHAT), default=list(WHAT))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    args.out.mkdir(parents=True, exist_ok=True)
    everything = cases()
    trees, table, parts = {}, [], []
    for name in args.cases:
        key = jax.random.fold_in(jax.random.key(args.seed), list(WHAT).index(name))
        trees[name] = portions(everything[name], name, key, args)
        test = uniformity(ranks(trees[name]), trees[name].attrs["n_ranks"])
        table.append(row(name, trees[name], test, everything[name].right))
        parts.append(f"### {name}\n\n{details(trees[name], test)}\n")
        print(f"\n{parts[-1]}", flush=True)
    plot(trees, args.out / "sbc.png")
    versions = f"Python {platform.python_version()}, JAX {jax.__version__}, NumPyro {numpyro.__version__}."
    summary = "\n".join([HEADER, *table])
    print(summary, versions, sep="\n\n")
    (args.out / "sbc.md").write_text("\n".join([summary, "", versions, "", *parts]), encoding="utf-8")


def report(stage: str, done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        print(f"\r{stage} {done}/{total}", end="", flush=True)


if __name__ == "__main__":
    main()
