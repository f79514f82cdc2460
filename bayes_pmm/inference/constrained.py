r"""Constrained Hamiltonian Monte Carlo on {q : C(q) = 0}: RATTLE with Newton projections, bounces, reversibility.

The target has the density exp(−U(q)) det(J Jᵀ)^(−1/2) with respect to the area of the manifold, J = ∂C/∂q (M × d):
the law of q with density exp(−U) given C(q) = 0 (coarea formula). All linear algebra goes through Jᵀ = Q R:
½ log det(J Jᵀ) = Σ log abs(R_ii), tangent projection p − Q Qᵀ p, and a Newton step solves (J′ Q) μ = C(q′) for
q′ − Q μ. J Jᵀ is never formed; its condition number is the square of that of J.

A step that fails (no convergence, or the way back does not lead back) is replaced by a reversal of the momentum.
The set of points whose step succeeds is mapped by the reversal onto the set of points that such steps reach, so the
composed map is a bijection that preserves volume, and it is its own inverse up to reversals: exact whatever the
share of failures.

References
----------
Lelièvre, Rousset, Stoltz, Hybrid Monte Carlo methods for sampling probability measures on submanifolds,
Numer. Math. 143 (2019). Au, Graham, Thiery, Manifold lifting, JRSS B 85 (2023), arXiv:2003.03950.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Info", "Point", "Target", "project", "rattle", "sweep", "tangent", "transition"]

NEWTON = 12
"""Newton iterations of a projection at most; where it converges it needs three to five."""

LOOSE = 1e-6
"""Tolerance above which a projection takes one Newton step after it has converged."""

COARSE = 0.05
"""Tolerance from which on a step fails: rounding would be as large as the noise, and any point would seem to fit."""

SMALLEST = 1e-3
"""Least factor on the step of a transition with small steps."""


@dataclass(frozen=True)
class Target:
    """What is sampled.

    Parameters
    ----------
    potential : callable
        U: q (d,) -> ().
    constraint : callable
        q (d,) -> C (M,) and its Jacobian J (M, d).
    tolerance : callable
        q (d,) -> length of a Newton step below which the projection has converged: not below rounding. The step
        after it would be quadratically smaller.
    """

    potential: Callable[[jax.Array], jax.Array]
    constraint: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    tolerance: Callable[[jax.Array], jax.Array] = lambda q: jnp.full((), 1e-7, q.dtype)

    def at(self, q: jax.Array) -> "Point":
        """All that a step needs to know at q."""
        (_, J), pull = jax.vjp(self.constraint, q)
        Q, R = jnp.linalg.qr(J.T)
        value, gradient = jax.value_and_grad(self.potential)(q)
        # d Σ log|R_ii| = <J⁺ᵀ, dJ> with J⁺ᵀ = R⁻¹ Qᵀ: one pull-back instead of differentiating the QR.
        W = jax.scipy.linalg.solve_triangular(R, Q.T)
        (bend,) = pull((jnp.zeros(J.shape[0], J.dtype), W))
        volume = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(R))))
        return Point(q, value + volume, gradient + bend, Q, R, self.tolerance(q))


class Point(NamedTuple):
    """A point of the manifold.

    q (d,), value U + ½ log det(J Jᵀ) (), its gradient (d,), Jᵀ = Q R with Q (d, M) and R (M, M), and the tolerance of
    projections from here.
    """

    q: jax.Array
    value: jax.Array
    gradient: jax.Array
    Q: jax.Array
    R: jax.Array
    tolerance: jax.Array


class Info(NamedTuple):
    """Of one transition: acceptance probability, energy, share of failed steps, Newton iterations per projection."""

    acceptance: jax.Array
    energy: jax.Array
    failed: jax.Array
    newton: jax.Array


def tangent(Q: jax.Array, p: jax.Array) -> jax.Array:
    """Component of p (d,) in the tangent space."""
    return p - Q @ (Q.T @ p)


def project(target: Target, q: jax.Array, Q: jax.Array, tolerance: jax.Array) -> tuple:
    """Return to the manifold from q along the columns of Q: point (d,), whether it converged, iterations."""

    def newton(carry):
        q, _, count = carry
        r, J = target.constraint(q)
        mu = jnp.linalg.solve(J @ Q, r)
        return q - Q @ mu, jnp.max(jnp.abs(mu)), count + 1

    def unfinished(carry):
        _, length, count = carry
        # NaN compares false and ends the loop.
        return (length > tolerance) & (length < 1e3) & (count < NEWTON)

    start = (q, jnp.asarray(1.0, q.dtype), jnp.asarray(0))
    end = jax.lax.while_loop(unfinished, newton, start)
    # The square of a loose tolerance may still be many σ: one step more brings the residual to rounding.
    q, length, count = jax.lax.cond(tolerance > LOOSE, newton, lambda carry: carry, end)
    return q, length <= tolerance, count


def rattle(
    target: Target, point: Point, p: jax.Array, step: jax.Array
) -> tuple[Point, jax.Array, jax.Array, jax.Array]:
    """One step of length ``step``.

    Parameters
    ----------
    target : Target
    point : Point
    p : array (d,)
        Momentum, tangent.
    step : array ()

    Returns
    -------
    point, p : as after the step
    ok : bool array ()
        Whether both projections converged and the way back leads back. Otherwise the result is meaningless. Each
        projection has the tolerance of the point that it starts from, so the step back is judged by the same numbers.
    iterations : int array ()
        Newton iterations of both projections.
    """
    half = tangent(point.Q, p - 0.5 * step * point.gradient)
    q, there, count = project(target, point.q + step * half, point.Q, point.tolerance)
    new = target.at(q)
    half = tangent(new.Q, (q - point.q) / step)
    back, returned, count_back = project(target, q - step * half, new.Q, new.tolerance)
    tolerance = jnp.maximum(point.tolerance, new.tolerance)
    ok = there & returned & (jnp.max(jnp.abs(back - point.q)) < 100 * tolerance) & (tolerance < COARSE)
    ok = ok & jnp.isfinite(new.value) & jnp.isfinite(new.gradient).all()
    return new, tangent(new.Q, half - 0.5 * step * new.gradient), ok, count + count_back


def transition(
    target: Target, key: jax.Array, point: Point, step: jax.Array, steps: jax.Array
) -> tuple[Point, Info]:
    """One draw: fresh momentum, ``steps`` steps of a length jittered by 30 %, accept or stay.

    Parameters
    ----------
    target : Target
    key : PRNG key
    point : Point
    step : array ()
    steps : int array ()
    """
    k_momentum, k_step, k_accept = jax.random.split(key, 3)
    p = tangent(point.Q, jax.random.normal(k_momentum, point.q.shape, point.q.dtype))
    before = point.value + 0.5 * p @ p
    length = step * jax.random.uniform(k_step, minval=0.7, maxval=1.3)

    def body(_, carry):
        point, p, failed, count = carry
        new, p_new, ok, iterations = rattle(target, point, p, length)
        point = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, point)
        return point, jnp.where(ok, p_new, -p), failed + ~ok, count + iterations

    zero = jnp.asarray(0)
    end, p, failed, count = jax.lax.fori_loop(0, steps, body, (point, p, zero, zero))
    taken = jnp.maximum(steps, 1)
    ratio = before - end.value - 0.5 * p @ p
    ratio = jnp.where(jnp.isnan(ratio), -jnp.inf, ratio)
    accept = jnp.log(jax.random.uniform(k_accept)) < ratio
    point = jax.tree.map(lambda a, b: jnp.where(accept, a, b), end, point)
    return point, Info(jnp.exp(jnp.minimum(ratio, 0.0)), before, failed / taken, count / (2 * taken))


def sweep(
    target: Target, key: jax.Array, point: Point, step: jax.Array, steps: jax.Array, small: jax.Array | float
) -> tuple[Point, Info]:
    """A transition, and with probability ``small`` another with small steps after it; information on the first.

    Where two ways to reproduce the data meet, as on u v = 0, the manifold of nearly exact data has a corner of radius
    √σ, and every decade of distances from it has about the same share of the probability. No step size is right for all
    of them, so the small one is a factor log-uniform in [:data:`SMALLEST`, 1] of the other. It does not depend on the
    point, so each transition leaves the law as it is.
    """
    k_first, k_second, k_small = jax.random.split(key, 3)
    chance, size = jax.random.uniform(k_small, (2,), point.q.dtype)
    lengths = jnp.stack([step, step * jnp.exp(size * np.log(SMALLEST))])
    counts = jnp.stack([steps, jnp.where(chance < small, steps, 0)])

    # A loop rather than two calls, so that the transition is compiled once.
    def body(point, x):
        return transition(target, x[0], point, x[1], x[2])

    point, info = jax.lax.scan(body, point, (jnp.stack([k_first, k_second]), lengths, counts))
    return point, jax.tree.map(lambda a: a[0], info)
