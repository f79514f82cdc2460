r"""Penalised least squares: Levenberg–Marquardt for ½‖r(x)‖² + ½‖x − x₀‖², any numbers of residuals and unknowns.

A step δ minimises ‖A δ + r‖² + ‖δ + x − x₀‖² + λ‖δ‖² with A = ∂r/∂x (M × P). With μ = 1 + λ and
ε = δ + (x − x₀)/μ this is ‖A ε + s‖² + μ‖ε‖², s = r − A (x − x₀)/μ, and its solution lies in the row space of A.
With fewer residuals than unknowns it therefore has only M unknowns z: Aᵀ = Q Bᵀ, ε = Q z. All of it goes through
QR: normal equations would have the square of the condition number, and A is of the size of 1/σ.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

__all__ = ["log_determinant", "minimise"]

ENOUGH = 1e-3
"""Relative decrease of the objective below which an accepted step is the last."""


def minimise(
    residuals: Callable[[jax.Array], tuple[jax.Array, jax.Array]], x: jax.Array, x0: jax.Array, steps: int
) -> jax.Array:
    """Local minimum from x, after ``steps`` steps at most; x itself where nothing better was found.

    Parameters
    ----------
    residuals : callable
        x (P,) -> r (M,) and its Jacobian (M, P).
    x, x0 : array (P,)
        Start, and centre of the penalty.
    steps : int
    """

    def objective(r, x):
        return 0.5 * (r @ r + (x - x0) @ (x - x0))

    def unfinished(carry):
        *_, done, count = carry
        return ~done & (count < steps)

    def step(carry):
        x, r, A, damping, _, count = carry
        delta = _step(A, r, x - x0, 1.0 + damping)
        value, there = objective(r, x), x + delta
        r_there, A_there = residuals(there)
        gained = value - objective(r_there, there)
        promised = value - objective(r + A @ delta, there)
        # NaN compares false: a step out of the domain is refused.
        better = gained > 0.01 * promised
        damping = jnp.where(gained > 0.75 * promised, damping / 3.5, damping)
        damping = jnp.where(gained > 0.25 * promised, damping, damping * 4.0)
        done = better & (gained < ENOUGH * value)
        x, r, A = (jnp.where(better, a, b) for a, b in zip((there, r_there, A_there), (x, r, A), strict=True))
        return x, r, A, damping, done, count + 1

    begin = (x, *residuals(x), jnp.ones((), x.dtype), jnp.asarray(False), jnp.asarray(0))
    return jax.lax.while_loop(unfinished, step, begin)[0]


def log_determinant(A: jax.Array) -> jax.Array:
    """Log det(1 + A Aᵀ) of A (M, P)."""
    _, B = _row_space(A)
    R = jnp.linalg.qr(jnp.concatenate([B, jnp.eye(B.shape[1], dtype=A.dtype)]), mode="r")
    return 2 * jnp.sum(jnp.log(jnp.abs(jnp.diagonal(R))))


def _step(A: jax.Array, r: jax.Array, d: jax.Array, mu: jax.Array) -> jax.Array:
    Q, B = _row_space(A)
    s = r - A @ d / mu
    root = jnp.sqrt(mu) * jnp.eye(B.shape[1], dtype=A.dtype)
    q, R = jnp.linalg.qr(jnp.concatenate([B, root]))
    z = jax.scipy.linalg.solve_triangular(R, q[: len(r)].T @ s)
    return -(z if Q is None else Q @ z) - d / mu


def _row_space(A: jax.Array) -> tuple[jax.Array | None, jax.Array]:
    """Q (P, K) and B (M, K) with A = B Qᵀ, K = min(M, P); Q is None for the identity."""
    if A.shape[0] >= A.shape[1]:
        return None, A
    Q, R = jnp.linalg.qr(A.T)
    return Q, R.T
