"""Outputs of the observed data and how they change with the matrices, at the cost of one diagonalisation a control."""

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm import spectrum
from bayes_pmm.model import PMM

__all__ = ["outputs_and_cotangents"]


def outputs_and_cotangents(
    pmm: PMM, matrices: jax.Array, phi: jax.Array, rows: np.ndarray, cols: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """Outputs (M,) of the observed cells in the model's units, and their cotangents (M, K, n, n).

    Row by row: an output at one control depends on the matrices through M(c) alone, so the costly part is one
    small matrix per control instead of all matrices for each datum.
    """
    primary, secondary = matrices[: phi.shape[1]], matrices[phi.shape[1] :]
    vectors = any(o.needs_vectors for o in pmm.outputs)

    def row(M, secondary):
        w, V = spectrum.eigh(M) if vectors else (spectrum.levels(M), None)
        named = dict(zip(pmm.operators, secondary, strict=True))
        return jnp.stack([o.value(w, V, named) for o in pmm.outputs])

    def one(M):
        f, pull = jax.vjp(row, M, secondary)
        return f, *jax.vmap(pull)(jnp.eye(len(pmm.outputs)))

    f, G, G_secondary = jax.vmap(one)(pmm.matrix(primary, phi))
    cotangent = phi[rows][:, :, None, None] * G[rows, cols][:, None]
    return f[rows, cols], jnp.concatenate([cotangent, G_secondary[rows, cols]], axis=1)
