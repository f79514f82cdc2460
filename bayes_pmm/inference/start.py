r"""Starting points: Levenberg–Marquardt from many prior draws while the noise is annealed down.

Optimising at the final noise ends in saddles with couplings exactly 0, so every start follows a path of noises.
The optimisation runs in the ensemble without growth and dilations, where the prior is an isotropic normal in hermitian
coordinates (and the reference matrix placed by the levels in use, if the prior says so) and no gauge gets in the way:
each start minimises the misfit plus its distance to its own prior draw, and the result is then brought to the
reference gauge. Along the path the noise floor with the largest Laplace evidence is kept.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm import gauge, hermitian, spectrum
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference.compiled import compiled
from bayes_pmm.inference.least_squares import log_determinant, minimise
from bayes_pmm.inference.protocol import at_least
from bayes_pmm.inference.sensitivity import outputs_and_cotangents
from bayes_pmm.inference.threads import one_blas_thread, workers
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import in_range

__all__ = ["AnnealedStarts", "Basin", "Starts", "check_starts"]

PORTION = 12
"""Starts that one thread optimises one after the other, at most."""

CLOSE = 3.0
"""Basins within this of the best log evidence each get a chain, as far as there are chains."""

GOOD = 10.0
"""Starts within this of the best log evidence are as good as it: Laplace at an optimum is no better than that."""


@dataclass(frozen=True)
class Basin:
    """Starts that share their outputs at the training controls within the noise.

    Parameters
    ----------
    count : int
        Number of starts that ended here.
    misfit : float
        Mean square of residual over noise of its best start.
    log_evidence : float
        Laplace estimate of its best start: to rank, not to quote.
    chains : int
        Number of chains that start here.
    """

    count: int
    misfit: float
    log_evidence: float
    chains: int = 0


@dataclass(frozen=True, eq=False)
class Starts:
    """Starting points, best first.

    Parameters
    ----------
    sites : list of dict
        One per chain: values of all latent sites.
    basins : tuple of Basin
        Best first.
    ensemble : tuple of dict
        All starts that fit about as well as the best: a first look at the posterior's widths.
    """

    sites: list[dict]
    basins: tuple[Basin, ...]
    ensemble: tuple[dict, ...] = ()

    def find(self, posterior: Posterior, key: jax.Array, chains: int) -> "Starts":  # noqa: ARG002
        """The best of these, so that a method may be given starts that were found before.

        Raises
        ------
        InputError
            If there are fewer than chains.
        """
        if len(self.sites) < chains:
            raise InputError(
                f"starts: {len(self.sites)} were found, too few for {chains} chains; find as many as chains, or use"
                " fewer chains"
            )
        return replace(self, sites=self.sites[:chains])


@dataclass(frozen=True)
class AnnealedStarts:
    """Annealed multi-start least squares.

    Parameters
    ----------
    candidates : int
        Number of prior draws to start from.
    stages : int
        Number of noises from ``first`` down to ``last``, in units of each output's spread.
    steps : int
        Levenberg–Marquardt steps per stage at most.
    first, last : float
        Ends of the path.
    least : float
        The path goes on down to here in ``late_stages`` larger steps.
    late_stages : int

    Raises
    ------
    InputError
        If a number is too small, or not whole, or the noises do not fall.
    """

    candidates: int = 48
    stages: int = 14
    steps: int = 12
    first: float = 0.3
    last: float = 1e-3
    least: float = 1e-9
    late_stages: int = 12

    def __post_init__(self):
        at_least(self, candidates=1, stages=1, steps=1, late_stages=0)
        ends = (self.first, self.last, self.least)
        if not (in_range(*ends) and self.first >= self.last >= self.least):
            raise InputError(
                f"noises of the search: first = {self.first}, last = {self.last} and least = {self.least} must fall and"
                " stay positive"
            )

    def find(self, posterior: Posterior, key: jax.Array, chains: int) -> Starts:
        """Starting points for a number of chains.

        Raises
        ------
        BayesPMMError
            If no start reached a finite fit.
        """
        path = np.geomspace(self.first, self.last, self.stages)
        # Below, the optimum only has to be followed.
        path = np.append(path, np.geomspace(self.last, self.least, 1 + self.late_stages)[1:])
        if not posterior.noise.floor:
            path = np.append(path, 0.0)
        keys = jax.random.split(key, self.candidates)
        matrices, scale, floor, evidence, misfit, fitted = _anneal(
            posterior, keys, jnp.asarray(path), self.steps
        )
        finite = np.isfinite(evidence)
        if not finite.any():
            raise BayesPMMError(
                "no starting point reached a finite fit; check the data for outliers and their errors for sizes of"
                " another order, or widen the prior's scales"
            )
        order = np.argsort(np.where(finite, -evidence, np.inf))[: finite.sum()]
        groups = _basins(order, fitted, floor, posterior)
        good = [i for i in order if evidence[i] > evidence[order[0]] - GOOD]
        # The best of each basin that fits as well comes first, then all others by their evidence.
        heads = [g[0] for g in groups if evidence[g[0]] > evidence[order[0]] - CLOSE]
        queue = [*heads, *(i for i in good if i not in heads)]
        chosen = [queue[i % len(queue)] for i in range(chains)]
        basins = tuple(
            Basin(len(g), float(misfit[g[0]]), float(evidence[g[0]]), sum(i in g for i in chosen))
            for g in groups
        )
        convert = jax.jit(lambda m, s, f: _sites(posterior, m, s, f))
        ensemble = tuple(convert(matrices[i], scale[i], floor[i]) for i in good)
        sites = [ensemble[good.index(i)] for i in chosen]
        return Starts(sites, basins, ensemble)


def _anneal(posterior: Posterior, keys: jax.Array, path: jax.Array, steps: int) -> tuple:
    """From prior draws to optima: matrices, scale, floor, Laplace evidence, misfit and fitted outputs of each."""
    prior = posterior.matrix_prior
    n, K, field = prior.n, prior.n_matrices, prior.field
    size = hermitian.size(n, field)
    rows, cols = np.nonzero(posterior.data.mask)
    _, spreads = prior.hyperparameters()

    placing = np.array(prior.seen) if prior.prior.centre == "seen" else None

    def matrices(x, scale):
        s2, v = gauge.ensemble_variance(scale, field), prior.prior.shift_sd**2
        plain = hermitian.to_matrix(x[:, :size] * jnp.sqrt(s2)[:, None], n, field)
        shift = jnp.sqrt(v) * x[:, size]
        if placing is not None:
            mean = spectrum.levels(plain[:1])[0, placing].mean()
            shift = shift.at[0].set(jnp.sqrt(v + s2[0] / n) * x[0, size] - mean)
        return plain + shift[:, None, None] * jnp.eye(n)[None]

    def one(key, path, arrays):
        k1, k2 = jax.random.split(key)
        post = posterior.with_arrays(arrays)
        medians, _ = post.matrix_prior.hyperparameters()
        scale = jnp.asarray(medians) * jnp.exp(jnp.asarray(spreads) * jax.random.normal(k1, (K,)))
        x0 = jax.random.normal(k2, (K * (size + 1),))
        spread, shift, unit = (jnp.asarray(arrays["scaling"][k])[cols] for k in ("spread", "shift", "scale"))
        y, error = arrays["y"][rows, cols], arrays["error"][rows, cols]
        phi = post.scaling.coefficients(post.pmm.basis, arrays["c"])

        def fitted(x):
            """Outputs (M,) of the observed cells in the model's units, and their Jacobian (M, P)."""
            M, pull = jax.vjp(lambda x: matrices(x.reshape(K, size + 1), scale), x)
            f, cotangents = outputs_and_cotangents(post.pmm, M, phi, rows, cols)
            return f, jax.vmap(lambda G: pull(G)[0])(cotangents)

        def stage(x, level):
            # The data's distance from the outputs' own zero first: energies may be large and their spread small.
            sigma = jnp.sqrt(error**2 + (level * spread) ** 2) / unit

            def residuals(x):
                f, J = fitted(x)
                return (f - (y - shift) / unit) / sigma, J / sigma[:, None]

            x = minimise(residuals, x, x0, steps)
            r, A = residuals(x)
            # Laplace with the Gauss-Newton Hessian, prior normal(0, 1) on x.
            evidence = -0.5 * (r @ r + x @ x + log_determinant(A)) - jnp.sum(jnp.log(sigma * unit))
            return x, (x, r * sigma * unit + y, jnp.mean(r**2), evidence)

        _, (xs, fs, misfits, evidences) = jax.lax.scan(stage, x0, path)
        evidences = jnp.where(jnp.isfinite(evidences), evidences, -jnp.inf)
        best = jnp.argmax(evidences) if posterior.noise.floor else len(path) - 1
        floor = (
            jnp.maximum(path[best], path[-1]) * jnp.asarray(post.scaling.spread)
            + 2 * post.scaling.least_floor
        )
        M = matrices(xs[best].reshape(K, size + 1), scale)
        return M, scale, floor, evidences[best], misfits[best], fs[best]

    # The data are arguments, so that other data of the same shapes find the compiled program.
    arrays = jax.tree.map(jnp.asarray, posterior.arrays)
    if jax.default_backend() != "cpu":
        program, _ = compiled(jax.vmap(one, in_axes=(0, None, None)), keys, path, arrays)
        return program(keys, path, arrays)
    # One start after the other, so that none waits for the slowest of a batch. The keys go in as plain numbers, which
    # NumPy cuts: each operation of JAX on them would be compiled for itself.
    kind = jax.random.key_impl(keys)
    numbers = np.asarray(jax.random.key_data(keys))
    portion = lambda numbers, path, arrays: jax.lax.map(
        lambda k: one(k, path, arrays), jax.random.wrap_key_data(numbers, impl=kind)
    )
    # Portions of one length, filled up with starts that are thrown away, share one compiled function.
    count = -(-len(keys) // PORTION)
    length = -(-len(keys) // count)
    filled = np.concatenate([numbers, numbers[: count * length - len(keys)]])
    filled = filled.reshape(count, length, *numbers.shape[1:])
    program, _ = compiled(portion, filled[0], path, arrays)
    run = lambda k: jax.tree.map(np.asarray, program(k, path, arrays))
    with one_blas_thread(), ThreadPoolExecutor(workers(count, program)) as pool:
        found = list(pool.map(run, filled))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(keys)], *found)


def _basins(
    order: np.ndarray, fitted: np.ndarray, floor: np.ndarray, posterior: Posterior
) -> list[list[int]]:
    """Group starts, best first, whose outputs at the training data agree within the noise of the group's best."""
    rows, cols = np.nonzero(posterior.data.mask)
    known = posterior.data.errors[rows, cols]
    groups: list[list[int]] = []
    for i in order:
        for group in groups:
            sigma = np.sqrt(known**2 + floor[group[0]][cols] ** 2)
            if np.sqrt(np.mean(((fitted[i] - fitted[group[0]]) / sigma) ** 2)) < 2.0:
                group.append(int(i))
                break
        else:
            groups.append([int(i)])
    return groups


def _sites(posterior: Posterior, matrices: np.ndarray, scale: np.ndarray, floor: np.ndarray) -> dict:
    sites = posterior.matrix_prior.sites(jnp.asarray(matrices), jnp.asarray(scale))
    if posterior.noise.floor:
        sites["floor"] = jnp.asarray(floor)
    return sites


def check_starts(starts: Any) -> None:
    """Check the ``starts`` among a method's settings, before anything is computed.

    Raises
    ------
    InputError
        For what cannot find any.
    """
    if not hasattr(starts, "find"):
        number = starts if isinstance(starts, int) else 96
        raise InputError(
            f"starts = {starts!r}: give a search, such as bp.AnnealedStarts(candidates={number})"
        )
