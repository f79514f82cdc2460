"""Bosons that hop along a few wells and repel each other."""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["bose_hubbard", "hamiltonian"]


def hamiltonian(
    bosons: int = 4, wells: Sequence[float] = (0.0, 0.1, -0.15, 0.2)
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1)/N of H(U) = -Σ_i (b†_{i+1} b_i + h.c.) + Σ_i ε_i n_i + (U/2) Σ_i n_i (n_i - 1).

    The chain is open, and energies are in units of the hopping.

    Parameters
    ----------
    bosons
        N.
    wells
        ε_i, one per site.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (d, d), d = (N + L - 1)! / (N! (L - 1)!) for L wells.
    """
    if bosons < 1 or len(wells) < 2:
        raise InputError(f"there are {bosons} bosons in {len(wells)} wells; give at least 1 in 2")
    states = [
        tuple(chosen.count(i) for i in range(len(wells)))
        for chosen in combinations_with_replacement(range(len(wells)), bosons)
    ]
    place = {state: a for a, state in enumerate(states)}
    occupied = np.array(states, dtype=np.float64)
    h0 = np.diag(occupied @ np.asarray(wells, dtype=np.float64))
    for state, a in place.items():
        for i in range(len(wells) - 1):
            if state[i]:
                moved = (*state[:i], state[i] - 1, state[i + 1] + 1, *state[i + 2 :])
                h0[place[moved], a] -= np.sqrt(state[i] * (state[i + 1] + 1))
                h0[a, place[moved]] = h0[place[moved], a]
    return h0 / bosons, np.diag((occupied * (occupied - 1)).sum(axis=1)) / (2 * bosons)


def bose_hubbard(
    levels: int = 2, points: int = 10, bosons: int = 4, wells: Sequence[float] = (0.0, 0.1, -0.15, 0.2)
) -> Problem:
    """Return the lowest levels per boson of a Bose-Hubbard chain against the repulsion U.

    Training U ∈ [0, 3], outside to 10: from a superfluid to one boson per well.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    bosons, wells
        As in `hamiltonian`.
    """
    matrices = hamiltonian(bosons, wells)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="bose_hubbard",
        summary=f"Bose-Hubbard chain, {bosons} bosons in {len(wells)} wells, levels per boson, in units of t",
        control_names=("U",),
        outputs=level_outputs(levels, len(matrices[0])),
        solve=solve,
        train=line(0.0, 3.0, points),
        outside=beyond(3.0, 10.0, 10),
        matrices=matrices,
    )
