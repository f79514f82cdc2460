"""Two symmetry sectors whose levels cross exactly."""

import numpy as np

from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["crossings", "hamiltonian", "sectors"]


def sectors(seed: int | None = None) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return ((A_0, A_1), (B_0, B_1)), two pencils A(c) and B(c) of shape (2, 2) that do not couple.

    Parameters
    ----------
    seed
        None gives the standard pencils. Otherwise normal numbers of standard deviation 0.15 are added to their
        elements, again and again until the lowest levels of the two sectors cross between c = 0.2 and 0.8.
    """
    a = np.array([[0.0, 0.3], [0.3, 1.6]]), np.diag([1.2, -0.4])
    b = np.array([[0.9, 0.25], [0.25, 2.0]]), np.diag([-0.8, 0.5])
    if seed is None:
        return a, b
    rng = np.random.default_rng(seed)
    while True:
        drawn = [tuple(m + _symmetric(rng) for m in pencil) for pencil in (a, b)]
        ground = [affine_levels(pencil, line(0.2, 0.8, 2), 1)[:, 0] for pencil in drawn]
        if np.prod(ground[0] - ground[1]) < 0:
            return drawn[0], drawn[1]


def hamiltonian(seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(c) = A(c) ⊕ B(c), two block-diagonal matrices of shape (4, 4)."""
    (a0, a1), (b0, b1) = sectors(seed)
    zero = np.zeros((2, 2))
    return np.block([[a0, zero], [zero, b0]]), np.block([[a1, zero], [zero, b1]])


def crossings(levels: int = 3, points: int = 12, seed: int | None = None) -> Problem:
    """Return the sorted levels of two sectors; E0 and E1 meet inside the training region, each with a kink.

    Training c ∈ [0, 1], outside to 2. A PMM must set the couplings between the sectors to zero exactly, and
    the derivative of a single sorted level does not exist where two of them meet.

    Parameters
    ----------
    levels
        How many of the four levels.
    points
        Training points.
    seed
        Of the sectors' elements; None gives the standard ones.
    """
    matrices = hamiltonian(seed)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="crossings",
        summary="two symmetry sectors whose levels cross exactly",
        control_names=("c",),
        outputs=level_outputs(levels, 4),
        solve=solve,
        train=line(0.0, 1.0, points),
        outside=beyond(1.0, 2.0, 10),
        exact_dim=4,
        matrices=matrices,
    )


def _symmetric(rng: np.random.Generator) -> np.ndarray:
    x = 0.15 * rng.standard_normal((2, 2))
    return np.triu(x) + np.triu(x, 1).T
