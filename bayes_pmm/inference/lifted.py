r"""The posterior lifted to a manifold, where its geometry does not depend on the size of the noise.

A datum is y = f(u) + σ(u) η with η ~ N(0, 1). Instead of a density in u, which is a thin curved sheet of width σ,
sample (u, η) under their prior on the manifold f(u) + σ(u) η − y = 0 (Au, Graham, Thiery 2023). Everything is in
units of each output's spread; u = L x with the metric's factor L, and q = (x, η).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bayes_pmm.inference.constrained import Target
from bayes_pmm.inference.sensitivity import outputs_and_cotangents
from bayes_pmm.posterior import Posterior

__all__ = ["Lifted"]


@dataclass(frozen=True, eq=False)
class Lifted:
    """Posterior as a constrained density in q = (x, η), x (D,) and η (M,) for M observed data.

    Parameters
    ----------
    posterior : Posterior
    unravel : callable
        From a vector u (D,) to the dict of unconstrained sites.
    size : int
        D.
    """

    posterior: Posterior
    unravel: Any
    size: int

    @classmethod
    def of(cls, posterior: Posterior, sites: dict) -> "Lifted":
        """Lifted posterior; ``sites`` are unconstrained values of any draw, for their shapes."""
        flat, unravel = ravel_pytree(sites)
        return cls(posterior, unravel, flat.size)

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (M,) and columns (M,) of the observed data."""
        rows, cols = np.nonzero(self.posterior.data.mask)
        return rows, cols

    def target(self, L: jax.Array, arrays: dict) -> Target:
        """Target in q for the metric's factor L (D, D) and the posterior's arrays."""
        D, post = self.size, self.posterior.with_arrays(arrays)
        rows, cols = self.cells
        spread, shift, scale = (
            jnp.asarray(getattr(post.scaling, k))[cols] for k in ("spread", "shift", "scale")
        )
        # The data's distance from the outputs' own zero first: energies may be large and their spread small.
        y = (jnp.asarray(arrays["y"])[rows, cols] - shift) / spread
        known = jnp.asarray(arrays["error"])[rows, cols] / spread
        unit = scale / spread
        phi = post.scaling.coefficients(post.pmm.basis, arrays["c"])

        def pieces(x):
            """Matrices (K, n, n) and σ (M,)."""
            sites = post.constrain(self.unravel(L @ x))
            floor = sites["floor"][cols] / spread if post.noise.floor else jnp.zeros_like(known)
            return post.matrix_prior.assemble(sites), jnp.sqrt(known**2 + floor**2)

        def constraint(q):
            eta = q[D:]
            (matrices, sigma), pull = jax.vjp(pieces, q[:D])
            f, cotangent = outputs_and_cotangents(post.pmm, matrices, phi, rows, cols)
            cotangent = unit.reshape(-1, 1, 1, 1) * cotangent
            J = jax.vmap(lambda G, e: pull((G, e))[0])(cotangent, jnp.diag(eta))
            return unit * f + sigma * eta - y, jnp.concatenate([J, jnp.diag(sigma)], axis=1)

        def potential(q):
            return 0.5 * jnp.sum(q[D:] ** 2) - post.log_prior(self.unravel(L @ q[:D]))

        def tolerance(q):
            matrices, sigma = pieces(q[:D])
            size = jnp.max(jnp.abs(unit)) * jnp.max(jnp.abs(matrices))
            return jnp.maximum(1e-7, 100 * jnp.finfo(q.dtype).eps * size / jnp.min(sigma))

        # Compiled functions inside a compiled one are traced once, however often a step calls them.
        return Target(jax.jit(potential), jax.jit(constraint), jax.jit(tolerance))

    def lift(self, u: jax.Array, L: jax.Array, arrays: dict) -> jax.Array:
        """Point q of the manifold above u (D,)."""
        x = jax.scipy.linalg.solve_triangular(L, u, lower=True)
        target = self.target(L, arrays)
        zero = jnp.concatenate([x, jnp.zeros(len(self.cells[0]))])
        r, J = target.constraint(zero)
        return jnp.concatenate([x, -r / jnp.diagonal(J[:, self.size :])])

    def log_density(self, u: jax.Array, arrays: dict) -> jax.Array:
        """Log of prior times likelihood at u (D,), Jacobian of the transforms included."""
        a = (arrays[k] for k in ("c", "y", "error"))
        return -self.posterior.with_arrays(arrays).potential(self.unravel(u), *a)
