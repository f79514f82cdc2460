"""A proton and a neutron in an oscillator basis, against the strengths of attraction and repulsion."""

import numpy as np
from scipy.special import eval_genlaguerre, gammaln, roots_genlaguerre

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels_and_expectation, level_outputs

__all__ = ["HBAR2_PER_MASS", "deuteron", "hamiltonian", "radius_squared"]

HBAR2_PER_MASS = 41.47  # MeV fm², ħ²/m of the nucleon
_ATTRACTION, _REPULSION = (-178.0, 0.639), (200.0, 1.487)  # MeV, fm⁻²
_NODES = 160


def hamiltonian(
    states: int = 30, frequency: float = 20.0, ranges: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (T, V_1, V_2) of H(C, D) = T + C V_1 + D V_2 in MeV, for the relative motion with l = 0.

    At C = D = 1 the potential is Minnesota's for the triplet, V_1(r) = -178 MeV exp(-0.639 r²/fm²) and
    V_2(r) = 200 MeV exp(-1.487 r²/fm²).

    Parameters
    ----------
    states
        Oscillator states, up to 60.
    frequency
        ħω in MeV.
    ranges
        Factors of the two ranges.

    Returns
    -------
    tuple of np.ndarray
        Three matrices of shape (states, states).

    References
    ----------
    Thompson, LeMere, Tang, Nucl. Phys. A 286, 53 (1977).
    """
    if not 2 <= states <= 60:
        raise InputError(f"states is {states}; give 2 to 60")
    n = np.arange(states)
    side = -np.sqrt(n[1:] * (n[1:] + 0.5))
    # ⟨r²⟩ has the same elements with the other sign beside the diagonal, so p² and r² add up to the oscillator.
    kinetic = frequency / 2 * (np.diag(2 * n + 1.5) - np.diag(side, 1) - np.diag(side, -1))
    y, weight = roots_genlaguerre(_NODES, 0.5)
    log_norm = 0.5 * (gammaln(n + 1) - gammaln(n + 1.5))
    functions = eval_genlaguerre(n[:, None], 0.5, y) * np.exp(log_norm)[:, None]
    functions = functions * np.sqrt(weight)
    r2 = _length_squared(frequency) * y
    potentials = []
    for (depth, inverse), factor in zip((_ATTRACTION, _REPULSION), ranges, strict=True):
        shape = depth * np.exp(-inverse * r2 / factor**2)
        potentials.append((functions * shape) @ functions.T)
    return kinetic, potentials[0], potentials[1]


def radius_squared(states: int = 30, frequency: float = 20.0) -> np.ndarray:
    """Return (r/2)² in fm², whose expectation value is the square of the matter radius: (states, states)."""
    n = np.arange(states)
    side = -np.sqrt(n[1:] * (n[1:] + 0.5))
    return _length_squared(frequency) / 4 * (np.diag(2 * n + 1.5) + np.diag(side, 1) + np.diag(side, -1))


def deuteron(
    levels: int = 2,
    points: int = 16,
    states: int = 30,
    frequency: float = 20.0,
    ranges: tuple[float, float] = (1.0, 1.0),
) -> Problem:
    """Return the lowest levels (MeV) and the squared radius (fm²) of a deuteron against two strengths (C, D).

    H = T + C V_1 + D V_2 with an attraction V_1 and a repulsion V_2; the deuteron lies at C = D = 1. E0 is bound
    where C is large enough, the other levels stand for the continuum. Training C ∈ [1, 1.3] and D ∈ [0.7, 1.2],
    outside C to 1.6. The radius grows without end towards small C, where the deuteron unbinds.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points: C equally spaced, D by the golden ratio.
    states, frequency, ranges
        As in `hamiltonian`.
    """
    matrices = hamiltonian(states, frequency, ranges)
    r2 = radius_squared(states, frequency)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels_and_expectation(matrices, r2, controls, levels)

    i = np.arange(points)
    golden = (0.5 + i * 0.6180339887498949) % 1
    ahead, sideways = np.meshgrid([1.36, 1.42, 1.48, 1.54, 1.6], [0.8, 0.95, 1.1], indexing="ij")
    return Problem(
        name="deuteron",
        summary="deuteron in an oscillator basis: levels (MeV) and squared radius (fm²)",
        control_names=("C", "D"),
        outputs={**level_outputs(levels, states), "r2": "<0|r2|0>"},
        solve=solve,
        train=np.stack([1 + 0.3 * i / (points - 1), 0.7 + 0.5 * golden], axis=1),
        outside=np.stack([ahead.ravel(), sideways.ravel()], axis=1),
    )


def _length_squared(frequency: float) -> float:
    # b² = ħ/(μω) with the reduced mass μ = m/2
    return 2 * HBAR2_PER_MASS / frequency
