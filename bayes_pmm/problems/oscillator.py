"""The anharmonic oscillator."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import (
    Problem,
    affine_levels,
    affine_levels_and_expectation,
    beyond,
    level_outputs,
    line,
)

__all__ = ["hamiltonian", "oscillator", "position_squared"]

_DROPPED = 6


def hamiltonian(states: int = 60, stiffness: float = 1.0, tilt: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(g) = H_0 + g H_1 = p²/2 + k x²/2 + f x + g x⁴ in the basis of k = 1, f = g = 0.

    Parameters
    ----------
    states
        Oscillator states in which x is written down. x⁴ is wrong in the last four of them, and the top 6 are
        dropped, so that H(g) is the projection of the full Hamiltonian and its levels are upper bounds.
    stiffness
        k.
    tilt
        f.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (states - 6, states - 6).
    """
    kept = states - _DROPPED
    x = _position(states)
    x2 = x @ x
    h0 = np.diag(np.arange(kept) + 0.5) + (stiffness - 1) / 2 * x2[:kept, :kept] + tilt * x[:kept, :kept]
    return h0, (x2 @ x2)[:kept, :kept]


def position_squared(states: int = 60) -> np.ndarray:
    """Return x² in the basis of `hamiltonian`, shape (states - 6, states - 6)."""
    kept = states - _DROPPED
    x = _position(states)
    return (x @ x)[:kept, :kept]


def oscillator(
    levels: int = 2,
    points: int = 10,
    states: int = 60,
    observable: bool = False,
    stiffness: float = 1.0,
    tilt: float = 0.0,
) -> Problem:
    """Return the anharmonic oscillator H = p²/2 + k x²/2 + f x + g x⁴, with k = 1 and f = 0 by default.

    Training g ∈ [0, 1], outside to 3. The levels at g < 0 do not exist (the series in g has radius of
    convergence zero), which is why g = 0 is the edge of the training region.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    states
        Oscillator states before the top 6 are dropped.
    observable
        Whether ⟨x²⟩ of the ground state is one more output, ``<0|x2|0>``.
    stiffness
        k > 0. Without a tilt another k is a change of units: E(k, g) = √k E(1, g/k^(3/2)).
    tilt
        f. It breaks the reflection symmetry.

    Raises
    ------
    InputError
        If the stiffness is not positive.
    """
    if not stiffness > 0:
        raise InputError(f"stiffness is {stiffness}; give a positive number")
    matrices = hamiltonian(states, stiffness, tilt)
    outputs = level_outputs(levels, len(matrices[0]))

    if observable:
        outputs["x2"] = "<0|x2|0>"
        x2 = position_squared(states)

        def solve(controls: np.ndarray) -> np.ndarray:
            return affine_levels_and_expectation(matrices, x2, controls, levels)
    else:

        def solve(controls: np.ndarray) -> np.ndarray:
            return affine_levels(matrices, controls, levels)

    return Problem(
        name="oscillator",
        summary="anharmonic oscillator p²/2 + x²/2 + g x⁴"
        if (stiffness, tilt) == (1, 0)
        else f"anharmonic oscillator p²/2 + {stiffness:.3g} x²/2 + {tilt:.3g} x + g x⁴",
        control_names=("g",),
        outputs=outputs,
        solve=solve,
        train=line(0.0, 1.0, points),
        outside=beyond(1.0, 3.0, 10),
        matrices=matrices,
    )


def _position(states: int) -> np.ndarray:
    lowering = np.diag(np.sqrt(np.arange(1.0, states)), 1)
    return (lowering + lowering.T) / np.sqrt(2.0)
