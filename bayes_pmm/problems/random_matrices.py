"""Random Hamiltonians with weak and strong coupling."""

import numpy as np

from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["hamiltonian", "random_strong", "random_weak"]

_WEAK, _STRONG = 0.4, 1.0


def hamiltonian(coupling: float, seed: int = 0, dim: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return H_0 = diag(linspace(0, 6, n)) + 0.4 A and H_1 = coupling · B.

    A = (X + Xᵀ)/(2√(2n)) and B = (X′ + X′ᵀ)/√(2n), X and X′ of independent standard normal numbers, so that
    the spectrum of B fills [-2, 2] for large n.

    Parameters
    ----------
    coupling
        Scale of H_1.
    seed
        Seed of X and X′, drawn in this order.
    dim
        n.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (n, n).
    """
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((dim, dim)), rng.standard_normal((dim, dim))
    a, b = (x + x.T) / (2 * np.sqrt(2 * dim)), (y + y.T) / np.sqrt(2 * dim)
    return np.diag(np.linspace(0.0, 6.0, dim)) + 0.4 * a, coupling * b


def random_weak(levels: int = 2, points: int = 10, seed: int = 0, dim: int = 40) -> Problem:
    """Return a random Hamiltonian whose coupling is weak (0.4): training c ∈ [0, 1], outside to 2.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    seed
        Seed of the two matrices.
    dim
        Their dimension n.
    """
    return _problem("random_weak", _WEAK, levels, points, seed, dim)


def random_strong(levels: int = 2, points: int = 10, seed: int = 0, dim: int = 40) -> Problem:
    """Return a random Hamiltonian whose coupling is strong (1): training c ∈ [0, 1], outside to 2.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    seed
        Seed of the two matrices, the same ones as those of `random_weak` but for the coupling.
    dim
        Their dimension n.
    """
    return _problem("random_strong", _STRONG, levels, points, seed, dim)


def _problem(name: str, coupling: float, levels: int, points: int, seed: int, dim: int) -> Problem:
    matrices = hamiltonian(coupling, seed, dim)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name=name,
        summary=f"random {dim}x{dim} Hamiltonian, coupling {coupling:g}",
        control_names=("c",),
        outputs=level_outputs(levels, dim),
        solve=solve,
        train=line(0.0, 1.0, points),
        outside=beyond(1.0, 2.0, 10),
        matrices=matrices,
    )
