"""Variational inference: NumPyro's SVI with full-rank, low-rank and flow guides, reported with Pareto k."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoIAFNormal, AutoLowRankMultivariateNormal, AutoMultivariateNormal
from numpyro.optim import ClippedAdam

from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference.importance import FlatPosterior, against_exact, weighed_draws
from bayes_pmm.inference.protocol import Draws, Method, Progress, at_least, check_exact, silent
from bayes_pmm.inference.start import AnnealedStarts, Starts, check_starts
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import in_range, stream

__all__ = ["GUIDES", "Variational"]

CHUNK = 250
"""Steps between progress reports."""

GUIDES = {
    "full": lambda model, init: AutoMultivariateNormal(model, init_loc_fn=init, init_scale=0.3),
    "low-rank": lambda model, init: AutoLowRankMultivariateNormal(model, init_loc_fn=init, init_scale=0.3),
    "flow": lambda model, init: AutoIAFNormal(model, init_loc_fn=init),
}


@dataclass(frozen=True, kw_only=True)
class Variational:
    r"""Stochastic variational inference around the best annealed start.

    The guide lives in coordinates u with x = x₀ + L u, x₀ the start and L Lᵀ the inverse Hessian there (its
    eigenvalues in modulus and at least 1): one learning rate then suits directions that the data fix to 1e-6
    and directions that only the prior holds.

    Parameters
    ----------
    guide : {"full", "low-rank", "flow"}
        Normal with a full covariance, with one of low rank plus diagonal, or an inverse autoregressive flow.
    steps : int
        Optimiser steps.
    draws, chains : int
        The draws are independent; they are arranged as (chains, draws) like those of other methods.
    particles : int
        Draws of the guide per step.
    learning_rate : float
        First step size of Adam; it falls to 1 % of it along the way.
    starts : AnnealedStarts or Starts
        How the starting point is found.
    exact : Method, optional
        An exact sampler to be run as well; ``info["against_exact"]`` then says how the approximation differs.

    Raises
    ------
    InputError
        If there is no such guide, or a number is too small, not whole or out of its range, or ``exact`` is no method.
    """

    guide: str = "full"
    steps: int = 5000
    draws: int = 1000
    chains: int = 4
    particles: int = 8
    learning_rate: float = 0.02
    starts: AnnealedStarts | Starts = field(default_factory=AnnealedStarts)
    exact: Method | None = None

    def __post_init__(self):
        if self.guide not in GUIDES:
            raise InputError(f"guide '{self.guide}' is unknown; use {', '.join(map(repr, GUIDES))}")
        at_least(self, steps=1, draws=4, chains=1, particles=1)
        check_starts(self.starts)
        check_exact(self.exact)
        if not in_range(self.learning_rate):
            raise InputError(f"learning_rate = {self.learning_rate!r} must be positive")

    def run(
        self,
        posterior: Posterior,
        key: jax.Array,
        *,
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Draws:
        """Fit the guide and draw from it; see :class:`~bayes_pmm.inference.protocol.Method`.

        ``checkpoint`` is left to ``exact``: the approximation is short, and repeating it with its key gives the same
        draws.
        ``info`` holds ``pareto_k`` of posterior over guide and ``elbo``, the lower bound on the log evidence.

        Raises
        ------
        BayesPMMError
            If the posterior is not finite at the start or the ELBO stops being finite.
        """
        key_start, key_fit, key_draw = jax.random.split(key, 3)
        progress("starts", 0, 1)
        found = self.starts.find(posterior, key_start, 1)
        progress("starts", 1, 1)
        flat = FlatPosterior.at(posterior, found.sites[0])
        if self.guide == "flow" and flat.size < 2:
            raise InputError("guide 'flow' needs at least two unknowns; use 'full'")
        whiten = _whitening(flat)
        guide, params, skipped, seconds = self._fit(flat, whiten, key_fit, progress)
        base, transform = guide.get_base_dist(), guide.get_transform(params)
        log_volume = jnp.linalg.slogdet(whiten)[1]

        def draw(key):
            e = base.sample(key)
            u = transform(e)
            log_q = base.log_prob(e) - transform.log_abs_det_jacobian(e, u) - log_volume
            return flat.start + whiten @ u, log_q

        drawn = weighed_draws(
            flat,
            draw,
            key_draw,
            self.chains,
            self.draws,
            name=f"variational ({self.guide})",
            remedy="take more steps or a smaller learning rate, or use NUTS",
        )
        info = {
            "sampler": "variational",
            "guide": self.guide,
            "chains": self.chains,
            "warmup": 0,
            "draws": self.draws,
            "steps": self.steps,
            "skipped_steps": skipped,
            "seconds": seconds + drawn.info["seconds"],
            "basins": [vars(b) for b in found.basins],
        }
        if self.exact is not None:
            key_exact = stream(key, "exact")
            info["against_exact"] = against_exact(
                posterior, drawn, self.exact, key_exact, progress=progress, checkpoint=checkpoint
            )
        return Draws(drawn.sites, drawn.stats, drawn.info | info)

    def _fit(self, flat: FlatPosterior, whiten: jax.Array, key: jax.Array, progress: Progress):
        """Guide, its parameters, number of steps skipped as not finite, and seconds."""
        # Compiled once: NumPyro's initialisation would run it operation by operation.
        log_density = jax.jit(lambda u: flat.log_density(flat.start + whiten @ u))

        def model():
            u = numpyro.sample("u", dist.ImproperUniform(constraints.real_vector, (), (flat.size,)))
            # The log density traces the posterior's own model, whose sites are not this model's.
            with handlers.block():
                value = log_density(u)
            numpyro.factor("posterior", value)

        rate = lambda i: self.learning_rate * 0.01 ** (i / self.steps)
        guide = GUIDES[self.guide](model, init_to_value(values={"u": jnp.zeros(flat.size)}))
        svi = SVI(model, guide, ClippedAdam(rate), Trace_ELBO(num_particles=self.particles))
        state = svi.init(key)

        def chunk(state, count):
            def body(_, carry):
                # A step at an exact degeneracy may have no gradient; it is skipped and counted.
                state, skipped = carry
                state, loss = svi.stable_update(state)
                return state, skipped + ~jnp.isfinite(loss)

            return jax.lax.fori_loop(0, count, body, (state, jnp.asarray(0)))

        compiled = jax.jit(chunk).lower(state, jnp.asarray(0)).compile()
        began, done, skipped = time.perf_counter(), 0, 0
        while done < self.steps:
            count = min(CHUNK, self.steps - done)
            state, bad = compiled(state, jnp.asarray(count))
            done, skipped = done + count, skipped + int(bad)
            if int(bad) > count // 2:
                raise BayesPMMError(
                    f"variational ({self.guide}): the ELBO was not finite in {int(bad)} of {count} steps"
                    f" before step {done}, because the guide reaches where the model has no density; use a"
                    f" smaller learning rate than {self.learning_rate}, more particles than {self.particles},"
                    " or NUTS"
                )
            progress("variational", done, self.steps)
        return guide, svi.get_params(state), skipped, time.perf_counter() - began


def _whitening(flat: FlatPosterior) -> jax.Array:
    """Matrix L (d, d) with L Lᵀ about the covariance at the start."""
    f = flat.log_density
    value, gradient, H = jax.jit(lambda x: (f(x), jax.grad(f)(x), -jax.hessian(f)(x)))(flat.start)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        raise BayesPMMError(
            "variational: the posterior or its gradient is not finite at the best starting point; check the"
            " data for outliers, or try another key"
        )
    if not np.isfinite(H).all():
        # Second derivatives do not exist at degenerate levels; the optimiser then finds all widths itself.
        return 0.1 * jnp.eye(flat.size)
    curvature, V = jnp.linalg.eigh((H + H.T) / 2)
    return V / jnp.sqrt(jnp.maximum(jnp.abs(curvature), 1.0))[None, :]
