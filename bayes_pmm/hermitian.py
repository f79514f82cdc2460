r"""Real coordinates of Hermitian matrices, isometric.

A real symmetric (``"real"``) or complex Hermitian (``"complex"``) matrix M of size n×n is written as a real
vector x such that :math:`\|x\|_2 = \|M\|_F`. The order of the coordinates is

1. the n diagonal elements,
2. :math:`\sqrt2\,\mathrm{Re}\,M_{ij}` for i < j, row by row,
3. (complex only) :math:`\sqrt2\,\mathrm{Im}\,M_{ij}` for i < j, row by row.

Because the map is an isometry, independent normals of one width on x are the orthogonal or unitary ensemble
on M, and gradients, step sizes and mass matrices mean the same in either form.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.errors import InputError

__all__ = ["FIELDS", "size", "to_coordinates", "to_matrix"]

FIELDS = ("real", "complex")

_ROOT2 = float(np.sqrt(2.0))


def size(n: int, field: str) -> int:
    """Count the real coordinates of an n×n Hermitian matrix.

    Parameters
    ----------
    n : int
        Dimension of the matrix, at least 1.
    field : {"real", "complex"}
        Real symmetric or complex Hermitian.

    Returns
    -------
    int
        n(n+1)/2 for ``"real"``, n² for ``"complex"``.

    Raises
    ------
    InputError
        If the field is unknown or n is not a positive integer.

    Examples
    --------
    >>> size(3, "real"), size(3, "complex")
    (6, 9)
    """
    _check(n, field)
    return n * (n + 1) // 2 if field == "real" else n * n


def to_matrix(x: Any, n: int, field: str) -> jax.Array:
    """Turn coordinates into a Hermitian matrix.

    Parameters
    ----------
    x : array_like, shape (..., size(n, field))
        Real coordinates.
    n : int
        Dimension of the matrix.
    field : {"real", "complex"}
        Real symmetric or complex Hermitian.

    Returns
    -------
    jax.Array, shape (..., n, n)
        Exactly Hermitian, of the precision of `x` (complex for ``"complex"``), with the same norm as `x`.

    Raises
    ------
    InputError
        If the field is unknown, `x` is complex or its last axis has the wrong length.

    Examples
    --------
    >>> print(to_matrix([1.0, 2.0, 2.0**0.5], 2, "real").round(3))
    [[1. 1.]
     [1. 2.]]
    """
    count = size(n, field)
    x = _inexact(x)
    if jnp.iscomplexobj(x):
        msg = f"Expected real coordinates, got {x.dtype}: pass a matrix to `to_coordinates` first."
        raise InputError(msg)
    if x.ndim == 0 or x.shape[-1] != count:
        msg = (
            f"Expected coordinates of shape (..., {count}) for a {field} {n}×{n} matrix, got {x.shape}: "
            "check `n` and `field`."
        )
        raise InputError(msg)
    where_re, where_im, sign_im = _layout(n)
    batch = (1,) * (x.ndim - 1)
    scale = np.where(np.eye(n, dtype=bool), 1.0, 1 / _ROOT2)
    re = x[..., where_re] * jnp.asarray(scale, x.dtype).reshape(*batch, n, n)
    if field == "real":
        return re
    im = x[..., where_im] * jnp.asarray(sign_im / _ROOT2, x.dtype).reshape(*batch, n, n)
    return jax.lax.complex(re, im)


def to_coordinates(M: Any, field: str) -> jax.Array:
    """Turn a Hermitian matrix into coordinates, the inverse of `to_matrix`.

    A matrix that is not Hermitian is replaced by its Hermitian part (M + M†)/2, its orthogonal projection.

    Parameters
    ----------
    M : array_like, shape (..., n, n)
        Hermitian matrix.
    field : {"real", "complex"}
        Real symmetric or complex Hermitian.

    Returns
    -------
    jax.Array, shape (..., size(n, field))
        Real coordinates with the Frobenius norm of `M`.

    Raises
    ------
    InputError
        If the field is unknown, `M` is not square, or a complex matrix is given for ``"real"``.

    Examples
    --------
    >>> print(to_coordinates([[3.0, 0.0], [0.0, 4.0]], "real"))
    [3. 4. 0.]
    """
    M = _inexact(M)
    if M.ndim < 2 or M.shape[-1] != M.shape[-2]:
        msg = f"Expected square matrices of shape (..., n, n), got {M.shape}."
        raise InputError(msg)
    n = M.shape[-1]
    _check(n, field)
    if field == "real" and jnp.iscomplexobj(M):
        msg = 'A complex matrix has no coordinates in the field "real": use "complex", or pass its real part.'
        raise InputError(msg)
    diagonal = jnp.diagonal(M, axis1=-2, axis2=-1).real
    rows, columns = np.triu_indices(n, 1)
    upper = (M[..., rows, columns] + M[..., columns, rows].conj()) / _ROOT2
    if field == "real":
        return jnp.concatenate([diagonal, upper], axis=-1)
    return jnp.concatenate([diagonal, upper.real, upper.imag], axis=-1)


def _check(n: int, field: str) -> None:
    if field not in FIELDS:
        msg = f'Unknown field {field!r}: expected "real" or "complex".'
        raise InputError(msg)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        msg = f"Expected a matrix dimension n of at least 1, got {n!r}."
        raise InputError(msg)


def _inexact(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def _layout(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the coordinate behind each matrix element, real and imaginary, and the sign of the latter."""
    rows, columns = np.triu_indices(n, 1)
    pairs = len(rows)
    where_re = np.diag(np.arange(n))
    where_re[rows, columns] = where_re[columns, rows] = n + np.arange(pairs)
    where_im = np.zeros((n, n), dtype=int)
    where_im[rows, columns] = where_im[columns, rows] = n + pairs + np.arange(pairs)
    sign_im = np.triu(np.ones((n, n)), 1) - np.tril(np.ones((n, n)), -1)
    return where_re, where_im, sign_im
