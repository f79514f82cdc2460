"""NUTS: NumPyro's kernel, one thread a chain or all in a batch, in chunks that can be saved and taken up again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.hmc import HMCState, hmc
from numpyro.infer.util import ParamInfo

from bayes_pmm.errors import InputError
from bayes_pmm.inference.chains import Segment, batches, chunk_for, collect, run_chains
from bayes_pmm.inference.protocol import Draws, Progress, at_least, silent
from bayes_pmm.inference.start import AnnealedStarts, Starts, check_starts
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import in_range

__all__ = ["NUTS"]

COST = 1e-7
"""Seconds of a gradient for each entry of the matrices of all rows, n² for each row. Of one core of its own, measured
within a factor of 2 for 10 and 100 rows and n = 4 to 14."""


PILOT = 100
"""Draws of the warm-up that the pilot sees: the step size is adapted by then, and the metric still that of the model's
own coordinates, so their number of steps tells how stiff the posterior is."""


@dataclass(frozen=True, kw_only=True)
class NUTS:
    """No-U-turn sampler with a dense mass matrix.

    Parameters
    ----------
    chains, warmup, draws : int
        Number of chains, and of warm-up and kept draws of each.
    target_accept : float
        Acceptance that the step size is adapted to.
    max_tree_depth : int
        At most 2**max_tree_depth - 1 leapfrog steps a draw.
    dense_mass : bool
        Full mass matrix rather than its diagonal.
    thin : int
        Transitions for each kept draw, in sampling only. ``n_steps`` is of all of them, ``diverging`` of any, and other
        statistics are of the last.
    batched : bool, optional
        All chains in one batch rather than one thread a chain; by default on anything but a CPU. In a batch each
        draw takes as long as the longest of the chains' trees.
    starts : AnnealedStarts or Starts
        How the chains' starting points are found.
    pilot : callable, optional
        Called with the statistics (chain, draw) of the first ``PILOT`` draws of the warm-up; what it raises ends the
        run.

    Raises
    ------
    InputError
        If a number is too small, or not whole, or out of its range.
    """

    chains: int = 4
    warmup: int = 1000
    draws: int = 1000
    target_accept: float = 0.95
    max_tree_depth: int = 10
    dense_mass: bool = True
    thin: int = 1
    batched: bool | None = None
    starts: AnnealedStarts | Starts = field(default_factory=AnnealedStarts)
    pilot: Callable[[dict[str, np.ndarray]], None] | None = field(default=None, repr=False)

    def __post_init__(self):
        at_least(self, chains=1, warmup=1, draws=4, max_tree_depth=1, thin=1)
        check_starts(self.starts)
        if not (in_range(self.target_accept) and self.target_accept < 1):
            raise InputError(f"target_accept = {self.target_accept!r} must lie between 0 and 1")

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
        start = [posterior.unconstrain(s) for s in found.sites]
        z, stats, seconds = self._sample(posterior, start, key_run, progress, checkpoint)
        constrain = jax.jit(jax.vmap(jax.vmap(posterior.constrain)))
        sites = {k: np.asarray(v) for k, v in constrain(z).items()}
        info = {
            "sampler": "nuts",
            "chains": self.chains,
            "warmup": self.warmup,
            "draws": self.draws,
            "thin": self.thin,
            "seconds": seconds,
            "basins": [vars(b) for b in found.basins],
            "max_tree_depth": self.max_tree_depth,
        }
        return Draws(sites, stats, info)

    def _sample(self, posterior, start, key, progress, checkpoint):
        arrays = jax.tree.map(jnp.asarray, posterior.arrays)

        def potential(z, arrays):
            args = (arrays[k] for k in ("c", "y", "error"))
            return posterior.with_arrays(arrays).potential(z, *args)

        value_and_grad = jax.jit(jax.value_and_grad(potential))
        init, step = hmc(
            potential_fn_gen=lambda arrays: lambda z: potential(z, arrays),
            algo="NUTS",
        )

        def initial(z, chain_key):
            value, grad = value_and_grad(z, arrays)
            return init(
                ParamInfo(z, value, grad),
                self.warmup,
                step_size=0.1,
                dense_mass=self.dense_mass,
                target_accept_prob=self.target_accept,
                trajectory_length=None,
                max_tree_depth=self.max_tree_depth,
                model_args=(arrays,),
                rng_key=chain_key,
            )

        def chunk(state, count, shared, arrays):  # noqa: ARG001
            def transition(_, at: _At) -> _At:
                state = step(at.state, (arrays,), {})
                return _At(state, at.diverging | state.diverging, at.n_steps + state.num_steps)

            def draw(at: _At) -> _At:
                times = jnp.where(at.state.i < self.warmup, 1, self.thin)
                return jax.lax.fori_loop(0, times, transition, _At.at(at.state))

            at, kept = collect(draw, _record, _At.at(state), count)
            return at.state, kept

        states = [initial(z, k) for z, k in zip(start, jax.random.split(key, self.chains), strict=True)]
        dearest = self.thin * _dearest(posterior.data.n_rows, posterior.dim, self.max_tree_depth)
        pilot = self.pilot
        first = PILOT if pilot is not None and self.warmup > PILOT else 0
        chunk_draws = chunk_for(dearest)
        segments = [
            *([Segment(first, chunk=chunk_draws)] if first else []),
            Segment(self.warmup + self.draws - first, discard=self.warmup - first, chunk=chunk_draws),
        ]

        def meet(k, shared, records):  # noqa: ARG001
            if pilot is not None:
                pilot(records[1])
            return shared

        records, seconds = run_chains(
            segments,
            states,
            (),
            chunk,
            arrays,
            meet=meet,
            batched=batches(self.batched),
            progress=progress,
            checkpoint=checkpoint,
        )
        z, stats = jax.tree.map(lambda *chains: np.stack(chains), *records)
        return z, stats, seconds


def _dearest(rows: int, dim: int, max_tree_depth: int) -> float:
    """Seconds of a draw with the most steps, by ``COST``."""
    return COST * rows * dim**2 * 2**max_tree_depth


class _At(NamedTuple):
    """A chain between two kept draws: NumPyro's state, and what happened since the draw before."""

    state: HMCState
    diverging: jax.Array
    n_steps: jax.Array

    @classmethod
    def at(cls, state: HMCState) -> "_At":
        return cls(state, jnp.zeros_like(state.diverging), jnp.zeros_like(state.num_steps))


def _record(at: _At) -> tuple[dict, dict]:
    state = at.state
    stats = {
        "lp": -state.potential_energy,
        "energy": state.energy,
        "diverging": at.diverging,
        "acceptance_rate": state.accept_prob,
        "n_steps": at.n_steps,
        "step_size": state.adapt_state.step_size,
    }
    return state.z, stats
