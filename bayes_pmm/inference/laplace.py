"""Laplace's approximation: a normal at the unconstrained posterior's mode, reported with its Pareto k."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from bayes_pmm.errors import BayesPMMError
from bayes_pmm.inference.importance import FlatPosterior, against_exact, weighed_draws
from bayes_pmm.inference.mixture import image_signs
from bayes_pmm.inference.protocol import Draws, Method, Progress, at_least, check_exact, silent
from bayes_pmm.inference.start import AnnealedStarts, Starts, check_starts
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import stream

__all__ = ["Laplace"]


@dataclass(frozen=True, kw_only=True)
class Laplace:
    """Normal approximation with the exact Hessian at the mode.

    It often has nothing to offer: a matrix larger than the data need leaves directions in which the posterior
    is no normal, and a learned floor without known errors can have its mode at zero. It then raises, or its
    Pareto k says so.

    Parameters
    ----------
    draws, chains : int
        The draws are independent; they are arranged as (chains, draws) like those of other methods.
    max_iterations : int
        Iterations of the trust-region Newton method that finds the mode.
    starts : AnnealedStarts or Starts
        How the starting point is found.
    exact : Method, optional
        An exact sampler to be run as well; ``info["against_exact"]`` then says how the approximation differs.

    Raises
    ------
    InputError
        If a number is too small, or not whole, or ``exact`` is no method.
    """

    draws: int = 1000
    chains: int = 4
    max_iterations: int = 500
    starts: AnnealedStarts | Starts = field(default_factory=AnnealedStarts)
    exact: Method | None = None

    def __post_init__(self):
        at_least(self, draws=4, chains=1, max_iterations=1)
        check_starts(self.starts)
        check_exact(self.exact)

    def run(
        self,
        posterior: Posterior,
        key: jax.Array,
        *,
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Draws:
        """Find the mode and draw; see :class:`~bayes_pmm.inference.protocol.Method`.

        ``checkpoint`` is left to ``exact``: the approximation is short, and repeating it with its key gives the same
        draws.
        ``info`` holds ``pareto_k`` of posterior over normal, ``elbo``, and Laplace's ``log_evidence``, which counts all
        images of the mode under the discrete gauge.

        Raises
        ------
        BayesPMMError
            If no mode is found, or the Hessian there is not finite, not positive definite, or has a condition number
            above 1e10.
        """
        key_start, key_draw = jax.random.split(key)
        progress("starts", 0, 1)
        found = self.starts.find(posterior, key_start, 1)
        progress("starts", 1, 1)
        flat = FlatPosterior.at(posterior, found.sites[0])
        progress("laplace", 0, 1)
        mode, lp, L, seconds = self._normal_at_mode(flat)
        log_norm = jnp.sum(jnp.log(jnp.diagonal(L))) - flat.size / 2 * np.log(2 * np.pi)

        def draw(key):
            e = jax.random.normal(key, (flat.size,))
            x = mode + jax.scipy.linalg.solve_triangular(L, e, lower=True, trans=1)
            return x, log_norm - 0.5 * e @ e

        remedy = "use NUTS"
        drawn = weighed_draws(flat, draw, key_draw, self.chains, self.draws, name="laplace", remedy=remedy)
        progress("laplace", 1, 1)
        info = {
            "sampler": "laplace",
            "chains": self.chains,
            "warmup": 0,
            "draws": self.draws,
            "seconds": seconds + drawn.info["seconds"],
            "basins": [vars(b) for b in found.basins],
            "log_evidence": float(lp - log_norm + np.log(len(image_signs(posterior)))),
        }
        if self.exact is not None:
            key_exact = stream(key, "exact")
            info["against_exact"] = against_exact(
                posterior, drawn, self.exact, key_exact, progress=progress, checkpoint=checkpoint
            )
        return Draws(drawn.sites, drawn.stats, drawn.info | info)

    def _normal_at_mode(self, flat: FlatPosterior) -> tuple[jax.Array, float, jax.Array, float]:
        """Mode (d,), log density there, Cholesky factor (d, d) of the Hessian, and seconds."""
        loss = lambda x: -flat.log_density(x)
        value_and_grad = jax.jit(jax.value_and_grad(loss)).lower(flat.start).compile()
        hessian = jax.jit(jax.hessian(loss)).lower(flat.start).compile()

        def finite_hessian(x):
            H = np.asarray(hessian(jnp.asarray(x)))
            if not np.isfinite(H).all():
                raise BayesPMMError(
                    "laplace: the Hessian is not finite, because two levels are degenerate, where second"
                    " derivatives of a level do not exist; use NUTS"
                )
            return (H + H.T) / 2

        def both(x):
            value, gradient = value_and_grad(jnp.asarray(x))
            return float(value), np.asarray(gradient)

        began = time.perf_counter()
        result = scipy.optimize.minimize(
            both,
            np.asarray(flat.start),
            jac=True,
            hess=finite_hessian,
            method="trust-exact",
            options={"maxiter": self.max_iterations, "gtol": 1e-8},
        )
        H = finite_hessian(result.x)
        widths = np.linalg.eigvalsh(H)
        gradient = both(result.x)[1]
        if not widths[0] > 1e-10 * widths[-1]:
            raise BayesPMMError(
                "laplace: the Hessian at the mode is not safely positive definite (eigenvalues"
                f" {widths[0]:.1e} to {widths[-1]:.1e}), because data and prior do not fix every direction to second"
                " order, or some of them far better than others; use NUTS, or a smaller dim"
            )
        # Newton's decrement is the distance to the mode in units of the posterior's own width.
        decrement = float(gradient @ np.linalg.solve(H, gradient))
        if not decrement < 1e-4:
            raise BayesPMMError(
                f"laplace: no mode found in {result.nit} iterations (still {np.sqrt(decrement):.1e} standard"
                " deviations away), because the posterior has a thin curved ridge or grows without bound as"
                " the noise floor goes to 0; use NUTS, or give known errors"
            )
        L = jnp.asarray(np.linalg.cholesky(H))
        return jnp.asarray(result.x), -result.fun, L, time.perf_counter() - began
