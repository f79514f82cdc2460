r"""Approximations against the true posterior: one flat unconstrained vector, its density, and Pareto k.

Variational inference and Laplace return draws of a density q that is not the posterior. What they share is
kept here: the posterior as a function of one vector x of unconstrained sites, and the report on the weights
p(x, y)/q(x), whose tail says whether q can stand for the posterior.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bayes_pmm.convergence import psis, rhat_and_ess
from bayes_pmm.errors import BayesPMMError
from bayes_pmm.inference.protocol import Draws, Method, Progress, outputs_of, silent
from bayes_pmm.posterior import Posterior

__all__ = ["FlatPosterior", "against_exact", "pareto_k", "weighed_draws"]

WEIGHTS = 4000
"""Draws that Pareto k is estimated from, at least."""


@dataclass(frozen=True, eq=False)
class FlatPosterior:
    """Posterior as a function of one vector (d,) of unconstrained sites.

    Parameters
    ----------
    posterior : Posterior
    start : array (d,)
        Unconstrained starting point.
    unravel : callable
        From a vector (d,) to the dict of unconstrained sites.
    """

    posterior: Posterior
    start: jax.Array
    unravel: Callable[[jax.Array], dict]

    @classmethod
    def at(cls, posterior: Posterior, sites: dict) -> "FlatPosterior":
        """Flat posterior that starts at the values of the sites."""
        return cls(posterior, *ravel_pytree(jax.jit(posterior.unconstrain)(sites)))

    @property
    def size(self) -> int:
        """Number d of unconstrained coordinates."""
        return self.start.shape[0]

    def log_density(self, x: jax.Array) -> jax.Array:
        """Log p(x, y), Jacobian of the transforms included; not normalised over x."""
        return -self.posterior.potential(self.unravel(x), *(jnp.asarray(a) for a in self.posterior.training))


def pareto_k(log_weights: np.ndarray) -> float:
    r"""Tail index of importance weights: below 0.5 good, above 0.7 not to be trusted.

    Parameters
    ----------
    log_weights : array (S,)
        log p(x, y) − log q(x) at draws of q, up to a constant.

    Returns
    -------
    float
        Infinite if there are too few finite weights to tell; 0 if all weights agree within rounding.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao, Gabry, Pareto smoothed importance sampling, JMLR 25 (2024).
    """
    w = np.asarray(log_weights, float)
    w = np.where(np.isnan(w), -np.inf, w)
    finite = w[np.isfinite(w)]
    if finite.size < 25 or np.isposinf(w).any():
        return np.inf
    if finite.size == w.size and np.ptp(w) < 1e-6:
        return 0.0
    # A tail of zeros beside one weight that holds everything has no finite index.
    tail = int(min(3 * np.sqrt(w.size), w.size // 5))
    if np.sum(w > w.max() + np.log(np.finfo(float).tiny)) <= tail:
        return np.inf
    return float(psis(w)[1])


def weighed_draws(
    flat: FlatPosterior,
    draw: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    key: jax.Array,
    chains: int,
    draws: int,
    *,
    name: str,
    remedy: str,
) -> Draws:
    """Draws of an approximation; ``info`` has ``pareto_k``, ``elbo`` and ``seconds`` (without compilation).

    Parameters
    ----------
    flat : FlatPosterior
    draw : callable
        From a key to one draw x (d,) and its log density log q(x) ().
    key : jax.Array
    chains, draws : int
        The independent draws are arranged as (chains, draws).
    name, remedy : str
        What the method is called and what to try when it fails, for the error message.

    Raises
    ------
    BayesPMMError
        If the posterior is not finite at some draw.
    """
    total = max(chains * draws, WEIGHTS)

    def one(key):
        x, log_q = draw(key)
        return x, flat.log_density(x), log_q

    keys = jax.random.split(key, total)
    compiled = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=500)).lower(keys).compile()
    began = time.perf_counter()
    x, lp, log_q = jax.block_until_ready(compiled(keys))
    seconds = time.perf_counter() - began
    log_weights = np.asarray(lp - log_q)
    bad = int(np.sum(~np.isfinite(log_weights)))
    if bad:
        raise BayesPMMError(
            f"{name}: the posterior is not finite at {bad} of {total} draws, so the approximation reaches"
            f" where the model has no density; {remedy}"
        )
    count = chains * draws
    constrain = jax.jit(jax.vmap(jax.vmap(lambda x: flat.posterior.constrain(flat.unravel(x)))))
    sites = constrain(x[:count].reshape(chains, draws, -1))
    stats = {"lp": np.asarray(lp), "log_weight": log_weights}
    return Draws(
        {k: np.asarray(v) for k, v in sites.items()},
        {k: v[:count].reshape(chains, draws) for k, v in stats.items()},
        {"pareto_k": pareto_k(log_weights), "elbo": float(log_weights.mean()), "seconds": seconds},
    )


def against_exact(
    posterior: Posterior,
    draws: Draws,
    exact: Method,
    key: jax.Array,
    *,
    progress: Progress = silent,
    checkpoint: Path | None = None,
) -> dict:
    """How an approximation differs from an exact sampler's draws, in the outputs at the training controls.

    Parameters
    ----------
    posterior : Posterior
    draws : Draws
        Of the approximation.
    exact : Method
    key : PRNG key
    progress, checkpoint
        Of the exact sampler's run, which takes far longer than the approximation.

    Returns
    -------
    dict
        ``sampler``; ``shift``, the largest difference of means in the exact standard deviation; ``narrowest`` and
        ``widest``, the extremes over outputs of the ratio of standard deviations, approximate over exact; ``rhat`` and
        ``ess``, the largest and the smallest of the exact outputs.
    """
    reference = exact.run(posterior, key, progress=progress, checkpoint=checkpoint)
    found, true = (outputs_of(posterior, d, posterior.data.controls) for d in (draws, reference))
    (mean, sd), (true_mean, true_sd) = ((o.mean((0, 1)), o.std((0, 1), ddof=1)) for o in (found, true))
    ratio = sd / true_sd
    rhat, ess = rhat_and_ess(true)
    return {
        "sampler": reference.info["sampler"],
        "shift": float(np.max(np.abs(mean - true_mean) / true_sd)),
        "narrowest": float(np.min(ratio)),
        "widest": float(np.max(ratio)),
        "rhat": float(np.nanmax(rhat)),
        "ess": float(np.nanmin(ess)),
    }
