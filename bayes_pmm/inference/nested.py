"""Nested sampling from the prior to the posterior: BlackJAX's slice within Gibbs, a check of other evidences.

It needs no draws of the posterior and starts in all images under the discrete gauge at once. What it loses on the
way, its own error estimate does not show; the share of the images that are still there at the end does.
"""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference.mixture import image_signs
from bayes_pmm.inference.protocol import Progress, at_least, silent
from bayes_pmm.inference.threads import one_blas_thread
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import as_whole, in_range

__all__ = ["NestedRun", "NestedSampling"]

REPLICATES = 200
"""Simulated shrinkages of the prior volume, from whose spread the error follows."""


@dataclass(frozen=True)
class NestedRun:
    """Result of a nested sampling run.

    Parameters
    ----------
    log_z, se : float
        Log evidence and the standard error from the random shrinkage of the prior volume alone.
    steps : int
        Batches of points that were replaced.
    images : int
        Images under the discrete gauge that hold posterior mass at the end, out of :attr:`order`.
    order : int
        Number of images that there are.
    seconds : float
    """

    log_z: float
    se: float
    steps: int
    images: int
    order: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class NestedSampling:
    """Nested sampling with slice-within-Gibbs moves.

    Parameters
    ----------
    live : int
        Number of live points; the error falls with its root, the cost rises with it.
    replaced : int, optional
        Points replaced at a time, in one batch; a quarter of the live ones if not given.
    sweeps : int
        Sweeps over all coordinates for each new point.
    remainder : float
        Ends when the live points' share of the evidence is below exp(−remainder); that share is counted in.
    most_steps : int
        Batches after which it gives up.

    Raises
    ------
    InputError
        If a number is too small, or not whole, or out of its range.

    References
    ----------
    Skilling, Bayesian Analysis 1, 833 (2006); Yallup, Kroupa, Handley, arXiv:2601.23252.
    """

    live: int = 400
    replaced: int | None = None
    sweeps: int = 3
    remainder: float = 3.0
    most_steps: int = 5000

    def __post_init__(self):
        at_least(self, live=20, sweeps=1, most_steps=1)
        if self.replaced is not None and not 1 <= as_whole("replaced", self.replaced) < self.live:
            raise InputError(f"replaced = {self.replaced} must be at least 1 and below live = {self.live}")
        if not in_range(self.remainder):
            raise InputError(f"remainder = {self.remainder!r} must be positive")

    def run(self, posterior: Posterior, key: jax.Array, *, progress: Progress = silent) -> NestedRun:
        """Log evidence of a posterior.

        Raises
        ------
        BayesPMMError
            If the run does not end within ``most_steps``, or meets a likelihood that is not a number.
        """
        import blackjax  # it takes long to import, and most fits do not need it
        from blackjax.ns import utils

        k_prior, k_steps, k_volume, k_draws = jax.random.split(key, 4)
        _, unravel = ravel_pytree(posterior.unconstrain(posterior.prior_sites(k_prior)))
        sampler = blackjax.nsswig(
            lambda x: posterior.log_prior(unravel(x)),
            lambda x: posterior.log_likelihood(unravel(x)),
            num_inner_steps=self.sweeps,
            num_delete=self.replaced or max(self.live // 4, 1),
        )
        draw = jax.jit(jax.vmap(lambda k: ravel_pytree(posterior.unconstrain(posterior.prior_sites(k)))[0]))
        step = jax.jit(sampler.step)
        began = time.perf_counter()
        dead: list[Any] = []
        with one_blas_thread():
            state = jax.jit(sampler.init)(draw(jax.random.split(k_prior, self.live)))
            while not float(state.integrator.logZ_live - state.integrator.logZ) < -self.remainder:
                if len(dead) == self.most_steps or not jnp.isfinite(state.particles.loglikelihood).all():
                    raise BayesPMMError(
                        f"nested sampling: no end after {len(dead)} batches or a likelihood that is not finite; the"
                        " noise is too small for it, or the prior reaches too far"
                    )
                state, info = step(jax.random.fold_in(k_steps, len(dead)), state)
                dead.append(info._replace(update_info=None))
                progress("nested sampling", len(dead), self.most_steps)
        found = utils.finalise(state, dead, update_info=False)
        log_z = jax.scipy.special.logsumexp(utils.log_weights(k_volume, found, shape=REPLICATES), axis=0)
        x = np.asarray(utils.sample(k_draws, found, 1000).position)
        signs = image_signs(posterior)
        flips = np.flatnonzero((signs < 0).any(axis=0))
        return NestedRun(
            float(jnp.mean(log_z)),
            float(jnp.std(log_z)),
            len(dead),
            _images(x[:, flips], signs[:, flips]),
            len(signs),
            time.perf_counter() - began,
        )


def _images(x: np.ndarray, signs: np.ndarray) -> int:
    """Number of images among draws x (S, m) of the coordinates that change sign: which one lies nearest to a draw."""
    if len(signs) == 1:
        return 1
    unit = np.sqrt(np.mean(x**2, axis=0))
    # The draw with the largest smallest element is the one whose images are best told apart.
    centre = x[np.argmax(np.min(np.abs(x) / unit, axis=1))]
    nearest = np.argmax((x / unit) @ (signs * centre / unit).T, axis=1)
    return len(np.unique(nearest))
