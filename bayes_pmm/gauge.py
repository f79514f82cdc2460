r"""The reference gauge, its density, its discrete remainder, and invariants.

All outputs are unchanged by M_l → V M_l V†, O → V O V†, and so are the ensemble priors. The reference gauge
diagonalises the first primary matrix; with basis functions that vanish at the reference control c_ref that is
M(c_ref). Its eigenvalues then carry the joint density of the ensemble (level repulsion is the Jacobian) and
all other matrices keep their ensemble. In the complex case the remaining phases are fixed by making row 0 of
the first other matrix real and positive off the diagonal. What remains is discrete: the signs of the basis
vectors (real) or complex conjugation (complex).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from scipy.linalg import helmert

__all__ = [
    "canonical_signs",
    "eigenvalue_log_density",
    "ensemble_variance",
    "fix",
    "gap_log_density",
    "levels_from_gaps",
    "sign_patterns",
    "traceless_basis",
    "traces",
]

DYSON_INDEX = {"real": 1, "complex": 2}


def traceless_basis(n: int) -> np.ndarray:
    """Orthonormal basis (n, n-1) of the diagonals with trace zero (Helmert's)."""
    return helmert(n).T if n > 1 else np.zeros((1, 0))


def ensemble_variance(tau, field: str):
    """Variance s² of a diagonal element: 2τ² for the orthogonal, τ² for the unitary ensemble."""
    return 2 * tau**2 if field == "real" else tau**2


def eigenvalue_log_density(eigenvalues: jax.Array, tau: jax.Array, field: str) -> jax.Array:
    r"""Normalised log density of the ascending eigenvalues of the orthogonal or unitary ensemble.

    .. math::
        β Σ_{i<j} \log|λ_i − λ_j| − Σ λ²/(2s²) − (n + βn(n−1)/2) \log s − (n/2) \log 2π
        − Σ_{j=1}^n [\ln Γ(1+jβ/2) − \ln Γ(1+β/2)] + \ln n!

    Parameters
    ----------
    eigenvalues : array (..., n)
        Strictly ascending.
    tau : array (...)
        Scale: the standard deviation of a real off-diagonal element, root mean square modulus of a complex
        one.
    field : {"real", "complex"}

    References
    ----------
    Mehta, Random Matrices, chapter 3.
    """
    n, beta = eigenvalues.shape[-1], DYSON_INDEX[field]
    s2 = ensemble_variance(tau, field)
    upper = np.triu_indices(n, 1)
    gaps = jnp.abs(eigenvalues[..., upper[1]] - eigenvalues[..., upper[0]])
    j = np.arange(1, n + 1)
    constant = np.sum(gammaln(1 + j * beta / 2) - gammaln(1 + beta / 2)) - gammaln(n + 1.0)
    return (
        beta * jnp.sum(jnp.log(gaps), axis=-1)
        - jnp.sum(eigenvalues**2, axis=-1) / (2 * s2)
        - (n + beta * n * (n - 1) / 2) * jnp.log(s2) / 2
        - n / 2 * np.log(2 * np.pi)
        - constant
    )


def levels_from_gaps(gaps: jax.Array) -> jax.Array:
    """Ascending levels (..., n) of mean zero from their gaps (..., n-1)."""
    levels = jnp.concatenate([jnp.zeros_like(gaps[..., :1]), jnp.cumsum(gaps, axis=-1)], axis=-1)
    return levels - jnp.mean(levels, axis=-1, keepdims=True)


def gap_log_density(gaps: jax.Array, tau: jax.Array, field: str) -> jax.Array:
    """Log density of the gaps (..., n-1) between eigenvalues: the mean is independent N(0, s²/n)."""
    n = gaps.shape[-1] + 1
    mean_log_norm = -0.5 * jnp.log(2 * np.pi * ensemble_variance(tau, field) / n)
    # (gaps, mean) -> eigenvalues has unit Jacobian.
    return eigenvalue_log_density(levels_from_gaps(gaps), tau, field) - mean_log_norm


def fix(matrices: jax.Array, field: str) -> jax.Array:
    """Matrices in the reference gauge.

    Parameters
    ----------
    matrices : array (K, n, n)
        Primary matrices, then secondary ones; the first is the reference.
    field : {"real", "complex"}

    Returns
    -------
    array (K, n, n)
        The first is diagonal and ascending; if complex, row 0 of the second is real and non-negative off the
        diagonal. Outputs are unchanged.
    """
    w, V = jnp.linalg.eigh(matrices[0])
    rotated = V.conj().T @ matrices @ V
    rotated = rotated.at[0].set(jnp.diag(w).astype(matrices.dtype))
    if field == "complex" and matrices.shape[0] > 1:
        row = rotated[1, 0].at[0].set(1.0)
        phase = jnp.where(jnp.abs(row) > 0, row / jnp.abs(row), 1.0)
        rotated = phase[None, :, None] * rotated * phase.conj()[None, None, :]
    return rotated


def canonical_signs(matrices: jax.Array) -> jax.Array:
    """Choose the representative of the discrete remainder: one of its images, the same for all of them.

    Real: signs of the basis vectors such that row 0 of the second matrix is non-negative off the diagonal.
    Complex: conjugated if needed so that the imaginary part of the (1, 2) element of the second matrix (or,
    for n = 2, the (0, 1) element of the third) is non-negative.

    Parameters
    ----------
    matrices : array (K, n, n)
        In the reference gauge.
    """
    if matrices.shape[0] == 1 or matrices.shape[-1] == 1:
        return matrices
    if jnp.iscomplexobj(matrices):
        if matrices.shape[-1] > 2:
            pivot = matrices[1, 1, 2].imag
        elif matrices.shape[0] > 2:
            pivot = matrices[2, 0, 1].imag
        else:
            return matrices
        return jnp.where(pivot < 0, matrices.conj(), matrices)
    signs = jnp.where(matrices[1, 0] < 0, -1.0, 1.0).at[0].set(1.0)
    return signs[None, :, None] * matrices * signs[None, None, :]


def sign_patterns(n: int) -> np.ndarray:
    """All 2^(n-1) sign patterns (2^(n-1), n) of the basis vectors with the first one positive."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n - 1)[None, :]) & 1
    return np.concatenate([np.ones((len(bits), 1)), 1.0 - 2.0 * bits], axis=1)


def traces(matrices: Sequence[jax.Array] | jax.Array, highest: int = 3) -> jax.Array:
    """Invariants tr(M^k)/n for k = 1…highest of matrices (..., n, n): (..., highest).

    Only such traces of M(c) can be expected to mix between chains: many inequivalent matrices share all
    outputs.
    """
    M = jnp.asarray(matrices)
    n = M.shape[-1]
    power, values = M, []
    for _ in range(highest):
        values.append(jnp.real(jnp.trace(power, axis1=-2, axis2=-1)) / n)
        power = power @ M
    return jnp.stack(values, axis=-1)
