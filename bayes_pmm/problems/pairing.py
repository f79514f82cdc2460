"""The pairing (Richardson) model on a picket fence."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["hamiltonian", "pairing"]


def hamiltonian(
    size: int = 8, energies: Sequence[float] | np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(g) = Σ_p ε_p n_p - g Σ_pq P†_p P_q at half filling, without broken pairs.

    Each of the P levels p = 1, ..., P holds two particles, P†_p creates both; P/2 pairs. The sum over p, q
    includes p = q.

    Parameters
    ----------
    size
        P, even.
    energies
        The P energies ε_p of one particle, by default the picket fence p - 1.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (d, d), d = P! / (P/2)!², in the order of ``itertools.combinations``.
    """
    if size < 2 or size % 2:
        raise InputError(f"size is {size}; half filling needs an even number of levels")
    energies = np.arange(float(size)) if energies is None else np.asarray(energies, dtype=np.float64)
    if energies.shape != (size,):
        raise InputError(f"energies has shape {energies.shape}; give {size} numbers, one per level")
    states = [frozenset(state) for state in combinations(range(size), size // 2)]
    place = {state: i for i, state in enumerate(states)}
    h0 = np.diag([2.0 * energies[list(state)].sum() for state in states])
    h1 = -(size // 2) * np.eye(len(states))
    for state, i in place.items():
        for q in state:
            for p in set(range(size)) - state:
                h1[place[state - {q} | {p}], i] -= 1
    return h0, h1


def pairing(
    levels: int = 2, points: int = 10, size: int = 8, energies: Sequence[float] | np.ndarray | None = None
) -> Problem:
    """Return the pairing model at half filling: training g ∈ [-0.5, 0.5], outside to 1.5.

    Perturbation theory around g = 0 breaks down where attraction turns the normal state into the superfluid
    one.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    size
        The number P of levels of the picket fence, even.
    energies
        The P energies of one particle where they are not the picket fence.

    References
    ----------
    Richardson, Phys. Lett. 3, 277 (1963).
    """
    matrices = hamiltonian(size, energies)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="pairing",
        summary=f"pairing model, {size} {'equidistant ' if energies is None else ''}levels at half filling",
        control_names=("g",),
        outputs=level_outputs(levels, len(matrices[0])),
        solve=solve,
        train=line(-0.5, 0.5, points),
        outside=beyond(0.5, 1.5, 10),
        matrices=matrices,
    )
