"""The XXZ chain with open ends in a random field."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["hamiltonian", "xxz"]


def hamiltonian(
    bonds: Sequence[float] = (1.0,) * 7, fields: Sequence[float] = (0.0,) * 8, up: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1)/N of H(Δ) = Σ_i J_i (Sx_i Sx_{i+1} + Sy_i Sy_{i+1} + Δ Sz_i Sz_{i+1}) + Σ_i h_i Sz_i.

    Parameters
    ----------
    bonds
        J_i, N - 1 numbers.
    fields
        h_i, N numbers.
    up
        How many spins point up, which H conserves.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (d, d), d = N! / (up! (N - up)!), in the order of ``itertools.combinations``.
    """
    sites = len(fields)
    if len(bonds) != sites - 1 or not 0 < up < sites:
        raise InputError(
            f"there are {len(bonds)} bonds, {sites} fields and {up} spins up; give one bond less than fields, and "
            f"0 < up < {sites}"
        )
    states = [frozenset(state) for state in combinations(range(sites), up)]
    place = {state: a for a, state in enumerate(states)}
    h0, h1 = np.zeros((len(states),) * 2), np.zeros((len(states),) * 2)
    for state, a in place.items():
        s = [0.5 if i in state else -0.5 for i in range(sites)]
        h0[a, a] = np.dot(fields, s)
        for i, bond in enumerate(bonds):
            h1[a, a] += bond * s[i] * s[i + 1]
            if s[i] != s[i + 1]:
                h0[place[state ^ {i, i + 1}], a] += bond / 2
    return h0 / sites, h1 / sites


def xxz(
    levels: int = 2,
    points: int = 10,
    bonds: Sequence[float] = (1.0,) * 7,
    fields: Sequence[float] = (0.31, -0.24, 0.05, 0.42, -0.37, 0.18, -0.46, 0.11),
    up: int = 4,
) -> Problem:
    """Return the lowest levels per site of an XXZ chain in a random field against the anisotropy Δ.

    Training Δ ∈ [-0.5, 0.8], outside to 2.5: from nearly free fermions into the antiferromagnet, in which two
    levels come close.

    Parameters
    ----------
    levels
        How many of the lowest levels with this number of spins up.
    points
        Training points.
    bonds, fields, up
        As in `hamiltonian`.
    """
    matrices = hamiltonian(bonds, fields, up)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="xxz",
        summary=f"XXZ chain of {len(fields)} spins in a random field, levels per site, against the anisotropy",
        control_names=("anisotropy",),
        outputs=level_outputs(levels, len(matrices[0])),
        solve=solve,
        train=line(-0.5, 0.8, points),
        outside=beyond(0.8, 2.5, 10),
        matrices=matrices,
    )
