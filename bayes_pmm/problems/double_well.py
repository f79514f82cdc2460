"""A particle in a well that splits into two."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, level_outputs, line

__all__ = ["double_well", "hamiltonian"]

_DROPPED = 6


def hamiltonian(quartic: float = 0.5, tilt: float = 0.05, states: int = 70) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(k) = p²/2 + f x + q x⁴ + k x²/2, in the oscillator states of p² + x².

    Parameters
    ----------
    quartic
        q > 0.
    tilt
        f, by which the two wells differ.
    states
        Oscillator states before the top 6 are dropped, so that H(k) is the projection of the full Hamiltonian.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (states - 6, states - 6).
    """
    if not quartic > 0:
        raise InputError(f"quartic is {quartic}; give a positive number")
    kept = states - _DROPPED
    ladder = np.sqrt(np.arange(1.0, states) / 2)
    x = np.diag(ladder, 1) + np.diag(ladder, -1)
    x2 = x @ x
    h0 = np.diag(np.arange(states) + 0.5) - x2 / 2 + tilt * x + quartic * x2 @ x2
    return h0[:kept, :kept], x2[:kept, :kept] / 2


def double_well(
    levels: int = 2, points: int = 10, quartic: float = 0.5, tilt: float = 0.05, states: int = 70
) -> Problem:
    """Return the lowest levels in a quartic well against the stiffness k, extrapolated downwards.

    Training k from 2 to -2, outside to -6: the single well becomes two, and the two lowest levels a tunnelling
    pair that only the tilt keeps apart.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    quartic, tilt, states
        As in `hamiltonian`.
    """
    matrices = hamiltonian(quartic, tilt, states)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="double_well",
        summary=f"quartic well that splits in two, p²/2 + {tilt:.3g} x + {quartic:.3g} x⁴ + k x²/2",
        control_names=("k",),
        outputs=level_outputs(levels, len(matrices[0])),
        solve=solve,
        train=line(2.0, -2.0, points),
        outside=line(-2.4, -6.0, 10),
        matrices=matrices,
    )
