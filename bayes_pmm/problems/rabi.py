"""The quantum Rabi model: a two-level system and a mode, beyond the rotating-wave approximation."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["hamiltonian", "rabi"]


def hamiltonian(
    splitting: float = 0.7, kerr: float = 0.0, parity: int = 1, photons: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(g) = a†a + χ a†a(a†a - 1) + Δ σz + g σx (a + a†), energies in units of the mode.

    In the sector of one parity Π = σz (-1)^{a†a} the photon number labels the states, σz = Π (-1)^{a†a}.

    Parameters
    ----------
    splitting
        Δ, half the two-level system's splitting.
    kerr
        χ ≥ 0, the mode's anharmonicity.
    parity
        Π = 1 or -1.
    photons
        The size of the basis.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (photons, photons).
    """
    if parity not in (1, -1) or kerr < 0:
        raise InputError(f"parity is {parity} and kerr is {kerr}; give a parity of 1 or -1 and kerr >= 0")
    n = np.arange(float(photons))
    ladder = np.sqrt(n[1:])
    h0 = np.diag(n + kerr * n * (n - 1) + splitting * parity * (-1) ** n)
    return h0, np.diag(ladder, 1) + np.diag(ladder, -1)


def rabi(
    levels: int = 2,
    points: int = 10,
    splitting: float = 0.7,
    kerr: float = 0.0,
    parity: int = 1,
    photons: int = 60,
) -> Problem:
    """Return the lowest levels of one parity of the quantum Rabi model against the coupling g.

    Training g ∈ [0, 0.6], outside to 1.4: from weak coupling to the deep strong one, in which the levels of
    Δ = 0, n - g², are approached and touched again and again.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    splitting, kerr, parity, photons
        As in `hamiltonian`.

    References
    ----------
    Braak, Phys. Rev. Lett. 107, 100401 (2011).
    """
    matrices = hamiltonian(splitting, kerr, parity, photons)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="rabi",
        summary=f"quantum Rabi model, parity {parity:+d}, in units of the mode's frequency",
        control_names=("g",),
        outputs=level_outputs(levels, photons),
        solve=solve,
        train=line(0.0, 0.6, points),
        outside=beyond(0.6, 1.4, 10),
        matrices=matrices,
    )
