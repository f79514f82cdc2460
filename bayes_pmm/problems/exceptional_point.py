"""Two levels with a pair of exceptional points at complex controls."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["branch_points", "exceptional_point", "hamiltonian"]


def hamiltonian(gap: float = 0.5, tilt: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return (M_0, M_1), shape (2, 2) each, of M(c) = t c + [[c, Δ], [Δ, -c]]; levels t c ± √(c² + Δ²)."""
    return np.array([[0.0, gap], [gap, 0.0]]), np.diag([1.0 + tilt, -1.0 + tilt])


def branch_points(gap: float = 0.5) -> np.ndarray:
    """Return the controls ±iΔ at which both levels and their eigenvectors coalesce: shape (2,), complex."""
    return np.array([1j * gap, -1j * gap])


def exceptional_point(levels: int = 2, points: int = 10, gap: float = 0.5, tilt: float = 0.0) -> Problem:
    """Return the levels ±√(c² + Δ²), which continue to complex c up to the branch points ±iΔ.

    Training c ∈ [-1, 1], outside to 2. A Taylor series around c = 0 converges for |c| < Δ only.

    Parameters
    ----------
    levels
        One or two.
    points
        Training points.
    gap
        Δ > 0, half the smallest distance of the levels on the real axis.
    tilt
        t, a slope that both levels have in common.

    Raises
    ------
    InputError
        If the gap is not positive.
    """
    if not gap > 0:
        raise InputError(f"gap is {gap}; give a positive number")
    matrices = hamiltonian(gap, tilt)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="exceptional_point",
        summary=f"two levels with branch points at c = +-{gap:g}i",
        control_names=("c",),
        outputs=level_outputs(levels, 2),
        solve=solve,
        train=line(-1.0, 1.0, points),
        outside=beyond(1.0, 2.0, 10),
        exact_dim=2,
        matrices=matrices,
    )
