"""Simulation-based calibration of a posterior, under its prior or given the data, and tests of the ranks."""

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from numpyro.diagnostics import effective_sample_size
from scipy.special import chdtrc

from bayes_pmm.columns import columns_by_name
from bayes_pmm.data import Dataset
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.fit import Fit, as_fit, as_posterior
from bayes_pmm.inference.protocol import Progress, silent
from bayes_pmm.inference.threads import one_blas_thread, workers
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import as_key, as_whole
from bayes_pmm.simulation import manifold_simulation, nuts_simulation

__all__ = ["Uniformity", "labels", "ranks", "sbc", "uniformity"]


class _Run(NamedTuple):
    """Of one data set, or stacked over all: ranks (K,), their ESS (K,), and what the sampler did."""

    below: np.ndarray
    ess: np.ndarray
    draws: ArrayLike
    divergences: ArrayLike
    n_steps: ArrayLike
    acceptance_rate: ArrayLike


def sbc(
    posterior: Posterior | Fit,
    *,
    key: jax.Array | int | np.integer,
    n_datasets: int = 200,
    controls: ArrayLike | None = None,
    n_ranks: int = 100,
    warmup: int = 500,
    draws: int = 990,
    rounds: int = 8,
    target_accept: float | None = None,
    max_tree_depth: int | None = None,
    sampler: str = "nuts",
    generator: Posterior | None = None,
    given: Fit | None = None,
    progress: Progress = silent,
) -> xr.DataTree:
    """Simulation-based calibration: ranks of the truth among posterior draws, uniform if all is right.

    Without ``given``, over the whole prior. For each data set the sites are drawn from the prior and data from
    the likelihood, at the training controls, with their known errors and missing entries. The posterior given these
    data keeps the stored scaling, so it is exactly the one that belongs to this prior. Ranked are gauge-invariant
    quantities: outputs at the training controls and at ``controls``, the noise floor, the matrices' scales, and the log
    likelihood of the simulated data, which sees errors that functions of the parameters alone do not (Modrák
    et al.).
    Single matrix elements are not ranked: a sampler that stays in one image of the discrete gauge is not
    calibrated there.

    With ``given``, only where the observed data have left the posterior: the truth is a draw of that fit, new data
    are simulated at the same controls, and the posterior given observed *and* new data ranks it. That tests the
    method on the data at hand, where the prior may put little, but also the draws of the fit itself.

    The sampler is compiled once for all data sets and starts at the truth, which is an exact draw from the
    posterior: a correct kernel leaves it there, so deviations measure the density and the kernel, and not the
    search for starting points. The price: that every basin is found is **not** tested.

    Parameters
    ----------
    posterior : Posterior or Fit
        Of a fit its posterior.
    key : PRNG key or int
    n_datasets : int
    controls : array (M, p), optional
        More controls at which outputs are ranked, for example outside the data.
    n_ranks : int
        Number of values of the rank: 0 to the number of kept draws, n_ranks − 1.
    warmup, draws : int
        NUTS draws to adapt with, and to be thinned evenly to n_ranks − 1.
    rounds : int
        A chain goes on for up to ``rounds`` times ``draws``, until the effective sample size of every ranked
        quantity is n_ranks − 1: in the mean over data sets is not enough, since correlated draws in a few of
        them pile up ranks at both ends (Talts et al., algorithm 2).
    target_accept : float, optional
        Of NUTS, 0.9 by default.
    max_tree_depth : int, optional
        Of NUTS, 8 by default. Lower than elsewhere: truncated trees are still exact, and ``thinned_enough`` tells if
        too slow.
    sampler : {"nuts", "manifold"}
        NumPyro's NUTS, or the constrained HMC of :class:`~bayes_pmm.inference.manifold.Manifold` with a fixed metric.
    generator : Posterior, optional
        Draws the truth and the data instead of ``posterior``, with the same sites and shapes, at the controls
        and with the missing entries of ``posterior`` but with its own errors: a negative control, or a study
        of a wrong assumption.
    given : Fit, optional
        Of ``posterior``. Its draws should be many times the data sets, and their weights are obeyed.
    progress : callable

    Returns
    -------
    DataTree
        Group ``prior_sbc``, or ``posterior_sbc`` with ``given``: integer ranks with chain = 1 and draw = data set,
        as simuk gives and ``arviz_plots.plot_ecdf_pit`` takes: ``output`` (chain, draw, sbc_id) with coordinates
        ``sbc_output`` (name), ``controls`` (sbc_id, control), ``added`` (true at ``controls``); ``floor`` (chain, draw,
        floor_id), ``scale`` (chain, draw, scale_id), ``log_likelihood`` (chain, draw).
        Group ``sbc_stats`` (draw): ``ess`` (draw, quantity) before thinning, ``draws``, ``divergences``,
        ``n_steps``, ``acceptance_rate``. Attributes: ``n_ranks``, ``warmup``; ``ess_mean``, the mean over data
        sets for the worst quantity; ``ess_short``, the share of data sets in which some quantity's stayed below
        n_ranks − 1; ``thinned_enough``, 1 if ``ess_mean`` is at least n_ranks − 1 and ``ess_short`` at most 5 %.

    Raises
    ------
    InputError
        For numbers that cannot be used.
    BayesPMMError
        If a ranked quantity was not finite.

    References
    ----------
    Talts et al., arXiv:1804.06788; Modrák et al., arXiv:2211.02383 (choice of the ranked quantities); Säilynoja,
    Schmitt, Bürkner, Vehtari, Posterior SBC, arXiv:2502.03279.
    """
    posterior, key = as_posterior(posterior), as_key(key)
    numbers = {
        "n_datasets": n_datasets,
        "warmup": warmup,
        "draws": draws,
        "n_ranks": n_ranks,
        "rounds": rounds,
    }
    n_datasets, warmup, draws, n_ranks, rounds = (as_whole(name, given) for name, given in numbers.items())
    kept = n_ranks - 1
    if n_datasets < 1 or warmup < 1 or kept < 1 or draws < kept or rounds < 1:
        raise InputError(
            f"n_datasets = {n_datasets}, warmup = {warmup}, n_ranks = {n_ranks}, draws = {draws},"
            f" rounds = {rounds}: use at least 1 data set, warm-up draw and round, 2 ranks, n_ranks - 1 draws"
        )
    generator = None if generator is None else as_posterior(generator)
    given = None if given is None else as_fit(given)
    if generator is not None and generator.data.values.shape != posterior.data.values.shape:
        raise InputError(
            f"generator: its data have shape {generator.data.values.shape} and the posterior's"
            f" {posterior.data.values.shape}; give both the same rows and outputs"
        )
    if given is not None and (other := _differing(given.posterior, posterior)):
        raise InputError(f"given: is a fit with another {other}; pass the posterior that it was fitted with")
    thin = draws // kept
    total = thin * kept
    where = _ranked_controls(posterior, controls)
    generator = generator or posterior
    n_trained, draws_given = len(posterior.data.controls), None
    if given is not None:
        posterior = _twice(posterior)
        draws_given = (given.draws.sites, given.weights)
    length = max(warmup, total)
    if sampler == "nuts":
        accept = 0.9 if target_accept is None else target_accept
        depth = 8 if max_tree_depth is None else max_tree_depth
        start, advance, names = nuts_simulation(
            posterior, generator, where, warmup, length, accept, depth, given=draws_given
        )
    elif sampler == "manifold":
        if (target_accept, max_tree_depth) != (None, None):
            raise InputError(
                "target_accept and max_tree_depth are settings of 'nuts'; leave them out for 'manifold'"
            )
        start, advance, names = manifold_simulation(posterior, generator, where, warmup, length, draws_given)
    else:
        raise InputError(f"sampler '{sampler}' is unknown; use 'nuts' or 'manifold'")
    keys = jax.random.split(key, n_datasets)
    start = jax.jit(start).lower(keys[0]).compile()
    advance = jax.jit(advance).lower(*start(keys[0])[1:], 1).compile()

    def run(i):
        truth, state, y = start(keys[i])
        truth, records = np.asarray(truth), []
        state, _ = advance(state, y, warmup)
        for _ in range(rounds):
            state, record = advance(state, y, total)
            records.append(jax.tree.map(lambda x: np.asarray(x[:total]), record))
            values, diverging, steps, acceptance = map(np.concatenate, zip(*records, strict=True))
            if not (np.isfinite(truth).all() and np.isfinite(values).all()):
                raise BayesPMMError(
                    f"data set {i}: a ranked quantity is not finite; narrow the prior's scales"
                )
            # A quantity that never moved has no autocorrelation: the chain gave one draw of it.
            ess = np.nan_to_num(effective_sample_size(values[None]), nan=1.0)
            if ess.min() >= kept:
                break
        step = thin * len(records)
        below = np.sum(values[step - 1 :: step] < truth[None], axis=0)
        return _Run(below, ess, len(values), diverging.sum(), steps.mean(), acceptance.mean())

    results = [None] * n_datasets
    # LAPACK's own threads would fight with these.
    with one_blas_thread(), ThreadPoolExecutor(workers(n_datasets, start, advance)) as pool:
        futures = {pool.submit(run, i): i for i in range(n_datasets)}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                results[futures[future]] = future.result()
                progress("calibration", done, n_datasets)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    runs = _Run(*map(np.stack, zip(*results, strict=True)))
    below, ess = runs.below, runs.ess
    stats = {name: getattr(runs, name) for name in ("draws", "divergences", "n_steps", "acceptance_rate")}
    mean, short = float(np.min(ess.mean(axis=0))), float(np.mean(ess.min(axis=1) < kept))
    attrs = {
        "n_ranks": n_ranks,
        "warmup": warmup,
        "ess_mean": mean,
        "ess_short": short,
        "thinned_enough": int(mean >= kept and short <= 0.05),
    }
    name = "prior_sbc" if given is None else "posterior_sbc"
    return _tree(name, posterior, below, ess, stats, names, where, n_trained, attrs)


def _twice(posterior: Posterior) -> Posterior:
    """The same posterior with room for a second measurement at every row; the units stay."""
    data = posterior.data
    c, y, error = (np.concatenate([a, a]) for a in posterior.training)
    return replace(posterior, data=Dataset(c, y, error, data.control_names, data.output_names))


def _differing(a: Posterior, b: Posterior) -> str | None:
    """What two posteriors differ in that their densities depend on; None if they are the same."""
    if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a.training, b.training, strict=True)):
        return "data set"
    kinds = {"model": "pmm", "prior": "prior", "noise model": "noise", "scaling": "scaling"}
    return next((kind for kind, name in kinds.items() if getattr(a, name) != getattr(b, name)), None)


def _ranked_controls(posterior: Posterior, controls: ArrayLike | None) -> np.ndarray:
    trained = posterior.data.controls
    if controls is None:
        return trained
    added = columns_by_name(controls, posterior.data.control_names)
    if added.ndim != 2 or added.shape[1] != trained.shape[1] or not np.isfinite(added).all():
        raise InputError(
            f"controls: expected finite numbers of shape (M, {trained.shape[1]}), got {added.shape}"
        )
    return np.concatenate([trained, added])


def _tree(name, posterior, below, ess, stats, names, where, n_trained, attrs):
    data, (M, Q) = posterior.data, (len(where), posterior.data.n_outputs)
    matrices = [f"M{i}" for i in range(posterior.matrix_prior.n_primary)] + list(posterior.pmm.operators)
    free = posterior.matrix_prior.hyperparameters()[1] > 0
    coords = {
        "chain": [0],
        "draw": np.arange(len(below)),
        "sbc_id": np.arange(M * Q),
        "sbc_output": ("sbc_id", np.tile(np.array(data.output_names, str), M)),
        "control": list(data.control_names),
        "controls": (("sbc_id", "control"), np.repeat(where, Q, axis=0)),
        "added": ("sbc_id", np.repeat(np.arange(M) >= n_trained, Q).astype(np.int8)),
    }
    dims = {"output": ("sbc_id",), "log_likelihood": ()}
    if "floor" in names:
        coords["floor_id"], dims["floor"] = list(data.output_names), ("floor_id",)
    if "scale" in names:
        coords["scale_id"] = [m for m, f in zip(matrices, free, strict=True) if f]
        dims["scale"] = ("scale_id",)
    parts = np.split(below, np.cumsum(list(names.values()))[:-1], axis=1)
    variables = {
        k: (("chain", "draw", *dims[k]), (v if dims[k] else v[:, 0]).astype(np.int64)[None])
        for k, v in zip(names, parts, strict=True)
    }
    group = xr.Dataset(variables, coords, attrs)
    statistics = xr.Dataset(
        {"ess": (("draw", "quantity"), ess)} | {k: ("draw", v) for k, v in stats.items()},
        {"draw": coords["draw"], "quantity": labels(group)},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), name: group, "sbc_stats": statistics})


def labels(group: xr.Dataset) -> list[str]:
    """One label for each ranked quantity of the group of ranks, in the order of :func:`ranks`."""
    found = []
    for name in sorted(map(str, group.data_vars)):
        if name == "output":
            places = [", ".join(f"{x:.6g}" for x in np.atleast_1d(c)) for c in group["controls"].values]
            found += [f"{o} at {c}" for o, c in zip(group["sbc_output"].values, places, strict=True)]
        elif group[name].ndim == 2:
            found.append(name)
        else:
            found += [f"{name} {i}" for i in group[f"{name}_id"].values]
    return found


def ranks(tree: xr.DataTree) -> np.ndarray:
    """All ranks of :func:`sbc` side by side: (data sets, quantities)."""
    group = tree["prior_sbc" if "prior_sbc" in tree.children else "posterior_sbc"].to_dataset()
    return np.concatenate(
        [group[k].values.reshape(group.sizes["draw"], -1) for k in sorted(map(str, group.data_vars))], axis=1
    )


@dataclass(frozen=True, eq=False)
class Uniformity:
    """Tests of ranks for uniformity.

    Parameters
    ----------
    chi2, smooth : array (...)
        p-value of each quantity: χ² over bins, and the smooth test (mean and spread of the ranks).
    adjusted : array (...)
        Smaller of the two after Holm's correction for all tests of all quantities, which holds for dependent
        tests too.
    alpha : float
        Probability that ``uniform`` is false although all ranks are uniform: at most this.
    """

    chi2: np.ndarray
    smooth: np.ndarray
    adjusted: np.ndarray
    alpha: float

    @property
    def uniform(self) -> bool:
        """Whether no quantity deviates significantly."""
        return bool(np.min(self.adjusted) >= self.alpha)


def uniformity(ranks: ArrayLike, n_ranks: int, *, bins: int | None = None, alpha: float = 0.01) -> Uniformity:
    """Test ranks for uniformity over 0 … n_ranks − 1.

    Two tests for each quantity: Pearson's χ² over bins, for any shape, and Neyman's smooth test of order 2
    (orthonormal polynomials of the discrete uniform distribution), for what mostly goes wrong: a shift, and
    bands that are too narrow or too wide.

    Parameters
    ----------
    ranks : integer array (S, ...)
        S independent data sets.
    n_ranks : int
    bins : int, optional
        Default: 20 data sets a bin, between 2 and 20 bins.
    alpha : float

    Returns
    -------
    Uniformity

    Raises
    ------
    InputError
        For ranks outside the range, or too few data sets for the χ² distribution to hold (5 a bin).
    """
    r = np.asarray(ranks)
    if r.dtype.kind not in "iu" or r.ndim == 0 or r.size == 0 or r.min() < 0 or r.max() >= n_ranks:
        raise InputError(
            f"ranks must be integers from 0 to n_ranks - 1 = {n_ranks - 1}, one row per data set"
        )
    S = len(r)
    bins = int(np.clip(S // 20, 2, min(20, n_ranks))) if bins is None else bins
    if not 2 <= bins <= n_ranks or 5 * bins > S:
        raise InputError(f"{S} data sets in {bins} bins: use at least 2 bins and 5 data sets a bin")
    bin_of = np.arange(n_ranks) * bins // n_ranks
    expected = np.bincount(bin_of, minlength=bins) * S / n_ranks
    flat = r.reshape(S, -1)
    counts = np.stack([np.bincount(bin_of[column], minlength=bins) for column in flat.T])
    chi2 = chdtrc(bins - 1, np.sum((counts - expected) ** 2 / expected, axis=1))
    order = min(2, n_ranks - 1)
    grid = np.linspace(-1, 1, n_ranks)
    basis = np.linalg.qr(np.vander(grid, order + 1, increasing=True))[0][:, 1:] * np.sqrt(n_ranks)
    smooth = chdtrc(order, np.sum(basis[flat].sum(axis=0) ** 2, axis=1) / S)
    adjusted = _holm(np.concatenate([chi2, smooth])).reshape(2, -1).min(axis=0)
    shape = r.shape[1:]
    return Uniformity(chi2.reshape(shape), smooth.reshape(shape), adjusted.reshape(shape), alpha)


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
