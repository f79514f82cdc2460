"""The periodic transverse-field Ising chain."""

from collections.abc import Sequence

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["hamiltonian", "ising"]


def hamiltonian(
    sites: int = 8, bonds: Sequence[float] | np.ndarray | None = None, second: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1)/N of H(g) = -Σ_i J_i σz_i σz_{i+1} - J′ Σ_i σz_i σz_{i+2} - g Σ_i σx_i on a ring.

    In the sector Π_i σx_i = +1.

    Parameters
    ----------
    sites
        N, at least 3.
    bonds
        The N couplings J_i, by default 1.
    second
        The coupling J′ of next neighbours.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (2^(N-1), 2^(N-1)), in the basis in which every σx_i is diagonal.
    """
    if sites < 3:
        raise InputError(f"sites is {sites}; a ring needs at least 3")
    bonds = np.ones(sites) if bonds is None else np.asarray(bonds, dtype=np.float64)
    if bonds.shape != (sites,):
        raise InputError(f"bonds has shape {bonds.shape}; give {sites} numbers, one per site")
    bits = (np.arange(2**sites)[:, None] >> np.arange(sites)) & 1
    even = np.flatnonzero(bits.sum(axis=1) % 2 == 0)
    place = np.full(2**sites, -1)
    place[even] = np.arange(len(even))
    h0 = np.zeros((len(even), len(even)))
    for i in range(sites):
        for step, coupling in ((1, bonds[i]), (2, second)):
            flipped = even ^ (1 << i) ^ (1 << (i + step) % sites)
            h0[place[flipped], place[even]] -= coupling
    h1 = -np.diag((1.0 - 2 * bits[even]).sum(axis=1))
    return h0 / sites, h1 / sites


def ising(
    levels: int = 2,
    points: int = 10,
    sites: int = 8,
    bonds: Sequence[float] | np.ndarray | None = None,
    second: float = 0.0,
) -> Problem:
    """Return the lowest levels per site of the periodic transverse-field Ising chain, even sector.

    Training g ∈ [0, 0.8], outside to 1.6, through the crossover at g = 1 that becomes a transition for N → ∞.
    The ground state is E0/N = -(1/N) Σ_k √(1 + g² - 2g cos k) with k = (2j + 1)π/N (free fermions).

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    sites
        N, at least 3.
    bonds
        The N couplings of neighbours, by default 1. Other couplings move the crossover.
    second
        The coupling of next neighbours. The free fermions are those of `bonds` 1 and `second` 0.
    """
    matrices = hamiltonian(sites, bonds, second)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="ising",
        summary=f"transverse-field Ising ring of {sites} sites, even sector, levels per site",
        control_names=("g",),
        outputs=level_outputs(levels, len(matrices[0])),
        solve=solve,
        train=line(0.0, 0.8, points),
        outside=beyond(0.8, 1.6, 10),
        matrices=matrices,
    )
