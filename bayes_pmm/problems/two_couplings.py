"""A ground-state energy against two couplings."""

import numpy as np

from bayes_pmm.problems.base import Problem, affine_levels, level_outputs

__all__ = ["hamiltonian", "two_couplings"]


def hamiltonian(dim: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (H_0, H_1, H_2) of H(c1, c3) = H_0 + c1 H_1 + c3 H_2, in MeV.

    H_0 is a ladder of levels with couplings that fall off with the distance on the ladder; H_1 and H_2 are
    smooth on the ladder with random elements that fall off in the same way.

    Parameters
    ----------
    dim
        n.
    seed
        Seed of the random elements.

    Returns
    -------
    tuple of np.ndarray
        Three matrices of shape (n, n).
    """
    rng = np.random.default_rng(seed)
    i = np.arange(dim)
    fall = np.exp(-np.abs(i[:, None] - i[None, :]) / 3.0)

    def noise(scale: float) -> np.ndarray:
        x = rng.standard_normal((dim, dim))
        return scale * fall * (x + x.T) / 2

    h0 = np.diag(12.0 + 1.5 * i) + noise(0.6)
    h1 = np.diag(-1.2 - 0.04 * i) + noise(0.4)
    h2 = np.diag(-1.0 + 0.02 * i) + noise(0.4)
    return h0, h1, h2


def two_couplings(levels: int = 1, points: int = 30, dim: int = 30, seed: int = 0) -> Problem:
    """Return the lowest levels against two couplings, like an energy per particle.

    Controls c1 ∈ [-1, 0] and c3 ∈ [-6, 0] (couplings of three-body forces, in GeV⁻¹), drawn uniformly:
    training c3 > -4, outside c3 ≤ -4. The dimension n is far larger than a PMM's, and no small one is exact.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    dim
        n.
    seed
        Seed of the matrices, and of the controls independently of them.
    """
    matrices = hamiltonian(dim, seed)
    rng = np.random.default_rng([seed, 1])

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="two_couplings",
        summary="ground-state energy against two couplings (c1, c3)",
        control_names=("c1", "c3"),
        outputs=level_outputs(levels, dim),
        solve=solve,
        train=np.stack([-rng.random(points), -4.0 * rng.random(points)], axis=1),
        outside=np.stack([-rng.random(40), -6.0 + 2.0 * rng.random(40)], axis=1),
        matrices=matrices,
    )
