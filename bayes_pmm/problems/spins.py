"""Non-interacting spins in a field."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, beyond, line

__all__ = ["collective", "hamiltonian", "small", "spins"]


def hamiltonian(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(c) = (1/2N) Σ_i (σz_i + c σx_i), N = `size`, shape (2^N, 2^N) each."""
    states = np.arange(2**size)
    h0, h1 = np.zeros((2**size, 2**size)), np.zeros((2**size, 2**size))
    for i in range(size):
        h0[states, states] += 1 - 2 * ((states >> i) & 1)
        h1[states, states ^ (1 << i)] += 1
    return h0 / (2 * size), h1 / (2 * size)


def collective(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) in the sector of largest total spin S = N/2, where H(c) = (S_z + c S_x)/N.

    Shape (N + 1, N + 1) each. The ground state of the full space lies in this sector.
    """
    s = size / 2
    m = np.arange(-s, s + 1)
    ladder = np.sqrt(s * (s + 1) - m[:-1] * (m[:-1] + 1))
    return np.diag(m) / size, (np.diag(ladder, 1) + np.diag(ladder, -1)) / (2 * size)


def small(field: float = 1.0, angle: float = np.pi / 2) -> tuple[np.ndarray, np.ndarray]:
    """Return the PMM that is exact for every N: M(c) = (f σz + c (cos θ σz + sin θ σx))/2, shape (2, 2) each."""
    along, across = np.cos(angle) / 2, np.sin(angle) / 2
    return np.diag([field / 2, -field / 2]), np.array([[along, across], [across, -along]])


def spins(size: int = 100, points: int = 5, field: float = 1.0, angle: float = np.pi / 2) -> Problem:
    """Return N non-interacting spins, H(c) = (1/2N) Σ_i (σz_i + c σx_i), with E0 = -√(1 + c²)/2 for every N.

    With other fields H(c) = (1/2N) Σ_i (f σz_i + c (cos θ σz_i + sin θ σx_i)) and E0 = -√(f² + 2fc cos θ + c²)/2.

    Training c ∈ [0, 1], outside to 3. A 2×2 affine PMM is exact, whereas eigenvector continuation with as
    many snapshots fails as N grows: overlaps of ground states fall like the N-th power of the overlap of one
    spin.

    Parameters
    ----------
    size
        The number of spins N. The level does not depend on it: `hamiltonian` and `collective` do.
    points
        Training points.
    field
        Strength f of the constant field.
    angle
        Angle θ between the constant and the varied field, in radians.

    References
    ----------
    Cook, Jammooa, Hjorth-Jensen, Lee, Lee, Nat. Commun. 16, 5929 (2025).
    """
    if size < 1:
        raise InputError(f"size is {size}; give at least one spin")

    def solve(controls: np.ndarray) -> np.ndarray:
        return -0.5 * np.hypot(field + controls * np.cos(angle), controls * np.sin(angle))

    return Problem(
        name="spins",
        summary=f"{size} non-interacting spins in a field, level per spin",
        control_names=("c",),
        outputs={"E0": "E0"},
        solve=solve,
        train=line(0.0, 1.0, points),
        outside=beyond(1.0, 3.0, 10),
        exact_dim=2,
        matrices=small(field, angle),
    )
