"""Manifold: constrained Hamiltonian Monte Carlo on the lifted posterior, for any noise down to rounding."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bayes_pmm.errors import InputError
from bayes_pmm.inference.chains import Segment, batches, chunk_for, collect, run_chains
from bayes_pmm.inference.compiled import compiled
from bayes_pmm.inference.constrained import Info, sweep
from bayes_pmm.inference.lifted import Lifted
from bayes_pmm.inference.protocol import Draws, Progress, at_least, silent
from bayes_pmm.inference.start import AnnealedStarts, Starts, check_starts
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import in_range

__all__ = ["Averaging", "Manifold", "step_seconds"]

WINDOWS = (0.1, 0.2, 0.3, 0.4)
"""Shares of the warm-up; a metric is estimated at the end of each but the last, which only tunes the step size."""

FIRST_STEP, FIRST_STEPS = 0.05, 8
FEWEST_STEPS, MOST_STEPS = 4, 64

COST = 3e-7
"""Seconds of a step for each entry of the Jacobian, M (M + D) for M data and D unknowns. Of one core of its own,
measured within a factor of 2 for M = 20 to 300 and n = 4 to 14."""

SMALL = 0.25
"""Share of the draws that end with small steps; see :func:`~bayes_pmm.inference.constrained.sweep`."""


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """Constrained HMC on the manifold {f(θ) + σ(θ) η = y}, whose steps do not shrink as the noise falls.

    Parameters
    ----------
    chains, warmup, draws : int
        Number of chains, and of warm-up and kept draws of each.
    target_accept : float
        What the step size is adapted to: mean acceptance less the share of failed steps.
    trajectory : float
        Length of a trajectory in units of the posterior's own width; the number of steps follows from it. What other
        lengths cost is in docs/studies/sampling.md, "Trajectory length".
    thin : int
        Transitions for each kept draw, in sampling only. ``n_steps`` is of all of them, other statistics of
        the last.
    batched : bool, optional
        All chains in one batch rather than one thread a chain; by default on anything but a CPU. The law is the
        same, the digits are not.
    starts : AnnealedStarts or Starts
        How the chains' starting points are found.
    pilot : callable, optional
        Called with the statistics (chain, draw) of the second window of the warm-up; what it raises ends the run.

    Raises
    ------
    InputError
        If a number is too small, or not whole, or out of its range.
    """

    chains: int = 4
    warmup: int = 500
    draws: int = 1000
    target_accept: float = 0.8
    trajectory: float = 5.0
    thin: int = 1
    batched: bool | None = None
    starts: AnnealedStarts | Starts = field(default_factory=AnnealedStarts)
    pilot: Callable[[dict[str, np.ndarray]], None] | None = field(default=None, repr=False)

    def __post_init__(self):
        at_least(self, chains=1, warmup=10, draws=4, thin=1)
        check_starts(self.starts)
        if not (in_range(self.target_accept) and self.target_accept < 1):
            raise InputError(f"target_accept = {self.target_accept!r} must lie between 0 and 1")
        if not in_range(self.trajectory):
            raise InputError(f"trajectory = {self.trajectory!r} must be positive and finite")

    def run(
        self,
        posterior: Posterior,
        key: jax.Array,
        *,
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Draws:
        """Draw from the posterior; see :class:`~bayes_pmm.inference.protocol.Method`."""
        key_start, key_run = jax.random.split(key)
        progress("starts", 0, 1)
        found = self.starts.find(posterior, key_start, self.chains)
        progress("starts", 1, 1)
        # One compiled function and NumPy around it: operations outside of one are compiled each for itself.
        flat = jax.jit(lambda sites: ravel_pytree(posterior.unconstrain(sites))[0])
        rows = np.stack([flat(sites) for sites in (*found.sites, *found.ensemble)])
        start, ensemble = rows[: len(found.sites)], rows[len(found.sites) :]
        shapes = jax.eval_shape(posterior.unconstrain, found.sites[0])
        lifted = Lifted.of(posterior, {k: np.zeros(v.shape, v.dtype) for k, v in shapes.items()})
        L = _first_factor(ensemble if found.ensemble else start)
        u, stats, seconds = self._sample(lifted, start, L, key_run, progress, checkpoint)
        constrain = jax.jit(jax.vmap(jax.vmap(lambda u: posterior.constrain(lifted.unravel(u)))))
        sites = {k: np.asarray(v) for k, v in constrain(u).items()}
        info = {
            "sampler": "manifold",
            "chains": self.chains,
            "warmup": self.warmup,
            "draws": self.draws,
            "thin": self.thin,
            "seconds": seconds,
            "basins": [vars(b) for b in found.basins],
            "failed_steps_share": float(stats["failed_steps"].mean(axis=1).max()),
        }
        return Draws(sites, stats, info)

    def _sample(self, lifted: Lifted, start, L, key, progress, checkpoint):
        arrays = jax.tree.map(jnp.asarray, lifted.posterior.arrays)

        def chunk(state: _State, count, shared: _Shared, arrays):
            target = lifted.target(shared.L, arrays)
            fresh = Averaging.at(shared.log_step)
            averaging = jax.tree.map(
                lambda a, b: jnp.where(state.segment == shared.segment, a, b), state.averaging, fresh
            )
            at = _At(state.key, target.at(lifted.lift(state.u, shared.L, arrays)), averaging, _no_info())

            def transition(_, at: _At) -> _At:
                key, k = jax.random.split(at.key)
                log_step = jnp.where(shared.adapting, at.averaging.log_step, shared.log_step)
                point, info = sweep(target, k, at.point, jnp.exp(log_step), shared.steps, SMALL)
                return _At(key, point, at.averaging.update(self.target_accept, info), info)

            def step(at: _At) -> _At:
                return jax.lax.fori_loop(0, shared.thin, transition, at)

            def record(at: _At):
                stats = {
                    "acceptance_rate": at.info.acceptance,
                    "energy": at.info.energy,
                    "failed_steps": at.info.failed,
                    "newton_iterations": at.info.newton,
                    "n_steps": shared.steps * shared.thin,
                    "step_size": jnp.exp(jnp.where(shared.adapting, at.averaging.log_step, shared.log_step)),
                }
                return shared.L @ at.point.q[: lifted.size], stats, at.averaging.log_mean

            at, kept = collect(step, record, at, count)
            u = shared.L @ at.point.q[: lifted.size]
            return _State(at.key, u, at.averaging, shared.segment), kept

        def meet(k, shared, records):
            u, stats, log_mean = records
            if k == 2 and self.pilot is not None:
                self.pilot(stats)
            log_step = np.median(log_mean[:, -1])
            steps = np.clip(np.ceil(self.trajectory / np.exp(log_step)), FEWEST_STEPS, MOST_STEPS)
            adapting = k < len(WINDOWS)
            L = _factor(u[:, u.shape[1] // 3 :], shared.L) if adapting else shared.L
            return _Shared(
                jnp.asarray(L),
                jnp.asarray(log_step),
                jnp.asarray(int(steps)),
                jnp.asarray(adapting),
                jnp.asarray(k),
                jnp.asarray(1 if adapting else self.thin),
            )

        lengths = np.diff(np.round(np.cumsum((0.0, *WINDOWS)) * self.warmup).astype(int))
        costs = [_dearest(lifted.posterior.data.n_observed, lifted.size, thin) for thin in (1, self.thin)]
        segments = [
            *(Segment(int(n), chunk=chunk_for(costs[0])) for n in lengths),
            Segment(self.draws, chunk=chunk_for(costs[1])),
        ]
        shared = _Shared(
            jnp.asarray(L),
            jnp.asarray(np.log(FIRST_STEP)),
            jnp.asarray(FIRST_STEPS),
            jnp.asarray(True),
            jnp.asarray(0),
            jnp.asarray(1),
        )
        keys = jax.random.split(key, self.chains)
        states = [
            _State(k, jnp.asarray(u), Averaging.at(shared.log_step), jnp.asarray(-1))
            for k, u in zip(keys, start, strict=True)
        ]
        records, seconds = run_chains(
            segments,
            states,
            shared,
            chunk,
            arrays,
            meet=meet,
            batched=batches(self.batched),
            progress=progress,
            checkpoint=checkpoint,
        )
        u, stats, _ = jax.tree.map(lambda *chains: np.stack(chains), *records)
        stats["lp"] = _log_densities(lifted, u, arrays)
        return u, stats, seconds


class Averaging(NamedTuple):
    """Dual averaging of the log step size (Hoffman and Gelman 2014), with the mean that is used in the end."""

    log_step: jax.Array
    log_mean: jax.Array
    error: jax.Array
    updates: jax.Array
    centre: jax.Array

    @classmethod
    def at(cls, log_step: jax.Array) -> "Averaging":
        zero = jnp.zeros_like(log_step)
        return cls(log_step, log_step, zero, zero, log_step + np.log(2.0))

    def update(self, target: float, info: Info) -> "Averaging":
        # A failed step turns back, so a share of failures costs about as much as a share of rejections.
        score = jnp.maximum(info.acceptance - info.failed, 0.0)
        updates = self.updates + 1
        error = self.error + (target - score - self.error) / (updates + 10)
        log_step = self.centre - jnp.sqrt(updates) / 0.05 * error
        weight = updates**-0.75
        return Averaging(
            log_step, weight * log_step + (1 - weight) * self.log_mean, error, updates, self.centre
        )


class _Shared(NamedTuple):
    """What the chains share in a segment: metric's factor (D, D), step size, steps, transitions for each draw."""

    L: jax.Array
    log_step: jax.Array
    steps: jax.Array
    adapting: jax.Array
    segment: jax.Array
    thin: jax.Array


class _State(NamedTuple):
    """A chain between chunks: u (D,) in unconstrained sites; the rest of its point follows from it."""

    key: jax.Array
    u: jax.Array
    averaging: Averaging
    segment: jax.Array


class _At(NamedTuple):
    """A chain inside a chunk."""

    key: jax.Array
    point: Any
    averaging: Averaging
    info: Info


def step_seconds(data: int, unknowns: int) -> float:
    """Seconds of one core that a step takes, by ``COST``, with its share of the small steps."""
    return COST * data * (data + unknowns) * (1 + SMALL)


def _dearest(data: int, size: int, thin: int) -> float:
    """Seconds of a draw with the most steps, by ``COST``."""
    return step_seconds(data, size) * thin * MOST_STEPS


def _no_info() -> Info:
    zero = jnp.zeros(())
    return Info(zero, zero, zero, zero)


def _log_densities(lifted: Lifted, u: np.ndarray, arrays: dict) -> np.ndarray:
    density = lambda u, arrays: jax.lax.map(lambda x: lifted.log_density(x, arrays), u, batch_size=100)
    flat = u.reshape(-1, u.shape[-1])
    program, _ = compiled(density, flat, arrays)
    return np.asarray(program(flat, arrays)).reshape(u.shape[:2])


def _first_factor(u: np.ndarray) -> np.ndarray:
    """Metric's factor (D, D) before there are draws: widths from the optima u (S, D) where there are enough."""
    D = u.shape[1]
    return np.diag(np.maximum(u.std(0), 1e-3)) if len(u) >= 8 else np.eye(D)


def _factor(u: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Cholesky factor (D, D) of the draws' covariance, shrunk to its diagonal: u (chain, draw, D).

    A single draw has none; then it is the previous one.
    """
    D = u.shape[-1]
    u = u.reshape(-1, D)
    if len(u) < 2:
        return previous
    S = np.cov(u, rowvar=False).reshape(D, D)
    weight = len(u) / (len(u) + 10 * D)
    S = weight * S + (1 - weight) * np.diag(np.diag(S))
    return np.linalg.cholesky(S + 1e-12 * np.eye(D))
