r"""Eigenvalues and eigenvectors of Hermitian matrices, with a stated policy for their derivatives.

Let :math:`M = V\,\mathrm{diag}(\lambda)\,V^\dagger` with ascending levels and :math:`X = V^\dagger\,dM\,V`.
Then

.. math:: d\lambda_k = X_{kk}, \qquad dv_k = \sum_{j \ne k} v_j \frac{X_{jk}}{\lambda_k - \lambda_j}, \qquad
          d^2\lambda_k = 2 \sum_{j \ne k} \frac{|X_{jk}|^2}{\lambda_k - \lambda_j}.

The quotients have no limit where levels meet. Neighbouring levels closer than
``DEGENERACY`` · n · eps · max|λ| cannot be told apart from rounding and form a *degenerate group*; what
happens to the quotients inside a group is the policy:

===============================  ==================================  =================================
quantity                         while gaps are open                 inside a degenerate group
===============================  ==================================  =================================
`levels`, first derivative       exact                               finite; one choice for a single
                                                                     level, exact for the group's sum
`levels`, second derivative      exact                               NaN
`eigh`, first derivative of V    exact                               couplings inside the group are 0;
                                                                     exact for the group's projector
`eigh`, second derivative        exact                               NaN
`directional_derivatives`        exact                               exact
===============================  ==================================  =================================

A NaN stays with the levels concerned in forward mode (``jax.jacfwd(jax.jacfwd(f))``). With reverse mode in
the composition (``jax.hessian``) it spreads to all second derivatives of that matrix, since zero times NaN is
NaN.

All functions read only the Hermitian part (M + M†)/2 of their arguments, so a derivative in a direction that
is not Hermitian equals that in its Hermitian part. They accept leading axes and work under ``jit``, ``vmap``,
``jvp`` and ``grad``, in the precision of their input.

References
----------
Kasim, Derivatives of partial eigendecomposition of a real symmetric matrix for degenerate cases,
arXiv:2011.04366. Kato, Perturbation Theory for Linear Operators, chapter 2 (one-sided derivatives).
"""

from typing import Any

import jax
import jax.numpy as jnp

from bayes_pmm.errors import InputError

__all__ = ["DEGENERACY", "directional_derivatives", "eigh", "levels"]

DEGENERACY = 8.0
"""Neighbouring levels within this times n · eps · max|λ| are degenerate: twice the largest splitting by
rounding seen in random matrices with exact pairs of levels (3.9 at n = 2, 0.3 at n = 64; both precisions)."""


def levels(M: Any) -> jax.Array:
    """Eigenvalues of a Hermitian matrix, ascending.

    The first derivative is Re v_k† dM v_k and always finite; see the module's table for degenerate groups and
    second derivatives. Value and gradient together cost one diagonalisation.

    Parameters
    ----------
    M : array_like, shape (..., n, n)
        Real symmetric or complex Hermitian matrices; only their Hermitian part is read.

    Returns
    -------
    jax.Array, shape (..., n)
        Real eigenvalues, ascending.

    Raises
    ------
    InputError
        If the last two axes are not square.

    Examples
    --------
    >>> print(levels([[0.0, 1.0], [1.0, 0.0]]))
    [-1.  1.]
    """
    return _levels(_hermitian_part(M))


def eigh(M: Any) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and eigenvectors of a Hermitian matrix, ascending.

    The derivative of the eigenvectors has no component along themselves (the diagonal of V† dV is zero) and
    none inside a degenerate group. Whatever does not depend on the phases of the vectors, such as ``<k|O|k>``
    or ``|<i|O|j>|²``, therefore has a finite first derivative everywhere. It is exact while gaps are open; at
    degeneracy it is exact for sums over whole groups, such as ``tr(P O)``, and lacks the mixing within the
    group for single vectors, which are arbitrary there. Second derivatives are NaN at degeneracy.

    Parameters
    ----------
    M : array_like, shape (..., n, n)
        Real symmetric or complex Hermitian matrices; only their Hermitian part is read.

    Returns
    -------
    w : jax.Array, shape (..., n)
        Real eigenvalues, ascending, with the derivatives of `levels`.
    V : jax.Array, shape (..., n, n)
        Orthonormal eigenvectors in the columns. Their phases are arbitrary.

    Raises
    ------
    InputError
        If the last two axes are not square.
    """
    return _eigh_dropped(_hermitian_part(M))


def directional_derivatives(M: Any, dM: Any, tol: Any = None) -> jax.Array:
    """One-sided derivatives at t = 0+ of the ascending levels of M + t dM, exact also at degeneracy.

    In each degenerate group they are the ascending eigenvalues of P dM P, with P the projector on the group.
    Runs one diagonalisation of `M` and n further ones of size n. Meant for values: its own derivative with
    respect to `M` is NaN at degeneracy.

    Parameters
    ----------
    M, dM : array_like, shape (..., n, n)
        Matrices and directions; only their Hermitian parts are read. Leading axes broadcast.
    tol : float, optional
        Absolute gap up to which neighbouring levels of `M` count as degenerate. By default
        ``DEGENERACY`` · n · eps · max|λ|; give a larger one if `M` itself is known less precisely.

    Returns
    -------
    jax.Array, shape (..., n)
        Derivative of each level, in the order of `levels`.

    Raises
    ------
    InputError
        If the last two axes are not square or the shapes do not broadcast.

    Examples
    --------
    >>> print(directional_derivatives([[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [2.0, 0.0]]))
    [-2.  2.]
    """
    M, dM = _hermitian_part(M), _hermitian_part(dM)
    if M.shape[-1] != dM.shape[-1]:
        msg = f"Expected a matrix and a direction of the same size, got {M.shape} and {dM.shape}."
        raise InputError(msg)
    shape = jnp.broadcast_shapes(M.shape, dM.shape)
    dM = jnp.broadcast_to(dM, shape)
    w, V = _eigh_strict(jnp.broadcast_to(M, shape))
    same = _same_group(w, tol)
    X = _hermitian_part(_adjoint(V) @ dM @ V)
    # For each level the block of its group, with the rest moved above the block's spectrum: levels of
    # different groups may coincide in X and mix. With a shift of the size of X rounding stays relative to X.
    inside = same[..., :, :, None] & same[..., :, None, :]
    above = 2 * jax.lax.stop_gradient(jnp.sqrt(jnp.sum(jnp.abs(X) ** 2, axis=(-2, -1), keepdims=True)))
    others = jnp.where(same, 0, jnp.broadcast_to(above, (*shape[:-1], 1)))
    eye = _eye(len(shape) + 1, shape[-1])
    blocks = jnp.where(inside, X[..., None, :, :], 0) + others[..., :, :, None] * eye
    position = jnp.sum(jnp.tril(same, -1), axis=-1)
    return jnp.take_along_axis(levels(blocks), position[..., None], axis=-1)[..., 0]


def _eigh_plain(H: jax.Array) -> tuple[jax.Array, jax.Array]:
    w, V = jnp.linalg.eigh(H, symmetrize_input=False)
    if H.shape[-1] == 2:
        # LAPACK passes over a NaN on the diagonal there; of larger matrices all its levels are NaN.
        w = jnp.where(jnp.isnan(H).any(axis=(-2, -1))[..., None], jnp.nan, w)
    return w, V


@jax.custom_jvp
def _levels(H: jax.Array) -> jax.Array:
    return _eigh_plain(H)[0]


@_levels.defjvp
def _levels_jvp(primals: tuple, tangents: tuple) -> tuple:
    # The vectors must be the strict ones: a second derivative that lacks couplings would be finite and wrong.
    w, V = _eigh_strict(primals[0])
    return w, _diagonal(V, tangents[0] @ V)


@jax.custom_jvp
def _eigh_dropped(H: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _eigh_plain(H)


@_eigh_dropped.defjvp
def _eigh_dropped_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _eigh_jvp(primals[0], tangents[0], inside_group=0.0)


@jax.custom_jvp
def _eigh_strict(H: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _eigh_plain(H)


@_eigh_strict.defjvp
def _eigh_strict_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _eigh_jvp(primals[0], tangents[0], inside_group=jnp.nan)


def _eigh_jvp(H: jax.Array, dH: jax.Array, inside_group: float) -> tuple:
    """First-order perturbation theory, with `inside_group` for the quotients 1/(λ_k − λ_j) of one group."""
    w, V = _eigh_strict(H)
    dHV = dH @ V
    same = _same_group(w, None)
    gap = w[..., None, :] - w[..., :, None]
    quotient = jnp.where(same, inside_group, 1 / jnp.where(same, 1, gap))
    quotient = jnp.where(_eye(quotient.ndim, w.shape[-1]), 0, quotient)
    return (w, V), (_diagonal(V, dHV), V @ (quotient * (_adjoint(V) @ dHV)))


def _diagonal(V: jax.Array, dHV: jax.Array) -> jax.Array:
    return jnp.sum(V.conj() * dHV, axis=-2).real


def _same_group(w: jax.Array, tol: Any) -> jax.Array:
    """Boolean (..., n, n): whether two ascending levels are linked by gaps of at most `tol`."""
    w = jax.lax.stop_gradient(w)
    if tol is None:
        eps = jnp.finfo(w.dtype).eps
        tol = DEGENERACY * w.shape[-1] * eps * jnp.max(jnp.abs(w), axis=-1, keepdims=True)
    opened = jnp.cumsum(jnp.diff(w, axis=-1) > tol, axis=-1)
    group = jnp.concatenate([jnp.zeros_like(w[..., :1], dtype=opened.dtype), opened], axis=-1)
    return group[..., :, None] == group[..., None, :]


def _eye(ndim: int, n: int) -> jax.Array:
    return jnp.eye(n, dtype=bool).reshape((1,) * (ndim - 2) + (n, n))


def _adjoint(M: jax.Array) -> jax.Array:
    return jnp.swapaxes(M, -1, -2).conj()


def _hermitian_part(M: Any) -> jax.Array:
    M = jnp.asarray(M)
    if not jnp.issubdtype(M.dtype, jnp.inexact):
        M = M.astype(jnp.result_type(float))
    if M.ndim < 2 or M.shape[-1] != M.shape[-2]:
        msg = f"Expected square matrices of shape (..., n, n), got {M.shape}."
        raise InputError(msg)
    return 0.5 * (M + _adjoint(M))
