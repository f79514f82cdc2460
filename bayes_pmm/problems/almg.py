"""The anharmonic Lipkin-Meshkov-Glick model."""

from typing import Literal

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

__all__ = ["almg", "hamiltonian", "occupation"]


def hamiltonian(size: int = 100, alpha: float = -0.6) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1)/N of the model, even-parity states.

    With spin S = N/2 and n̂ = S + S_z,

        H(ξ) = (1 - ξ) n̂ + (α/2S) n̂(n̂ + 1) + (2ξ/S)(S² - S_x²).

    Parameters
    ----------
    size
        N, even.
    alpha
        The anharmonicity α.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (N/2 + 1, N/2 + 1): n̂ = 0, 2, ..., N.
    """
    _check(size)
    s = size / 2
    m = np.arange(-s, s + 1)
    ladder = np.sqrt(s * (s + 1) - m[:-1] * (m[:-1] + 1))
    s_x = (np.diag(ladder, 1) + np.diag(ladder, -1)) / 2
    n = m + s
    h0 = np.diag(n + alpha / (2 * s) * n * (n + 1))
    h1 = -np.diag(n) + 2 / s * (s * s * np.eye(size + 1) - s_x @ s_x)
    return h0[::2, ::2] / size, h1[::2, ::2] / size


def occupation(size: int = 100) -> np.ndarray:
    """Return n̂/N in the basis of `hamiltonian`, shape (N/2 + 1, N/2 + 1)."""
    _check(size)
    return np.diag(np.arange(0.0, size + 1, 2) / size)


def almg(
    levels: int = 2,
    points: int = 10,
    size: int = 100,
    alpha: float = -0.6,
    observable: bool = False,
    window: Literal["below", "both"] = "below",
) -> Problem:
    """Return the lowest levels per particle around the second-order transition at ξ = 0.2 (for α = -0.6).

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    size
        N, even.
    alpha
        The anharmonicity α.
    observable
        Whether ⟨n̂⟩/N of the ground state, the order parameter, is one more output, ``<0|n|0>``.
    window
        ``"below"`` trains on ξ ∈ [0, 0.15] and tests to 0.4. ``"both"`` trains on [0, 0.12] and [0.28, 0.4]
        and tests in the gap between them: inside the hull of the training controls, across the transition.

    Raises
    ------
    InputError
        If N is odd or the window has another name.

    References
    ----------
    Cook, Jammooa, Hjorth-Jensen, Lee, Lee, Nat. Commun. 16, 5929 (2025), with N = 1000.
    """
    matrices = hamiltonian(size, alpha)
    outputs = level_outputs(levels, len(matrices[0]))

    if observable:
        outputs["n"] = "<0|n|0>"
        n = occupation(size)

        def solve(controls: np.ndarray) -> np.ndarray:
            return affine_levels_and_expectation(matrices, n, controls, levels)
    else:

        def solve(controls: np.ndarray) -> np.ndarray:
            return affine_levels(matrices, controls, levels)

    if window == "below":
        train, outside = line(0.0, 0.15, points), beyond(0.15, 0.4, 10)
    elif window == "both":
        train = np.concatenate([line(0.0, 0.12, points - points // 2), line(0.28, 0.4, points // 2)])
        outside = line(0.12, 0.28, 11)[1:-1]
    else:
        raise InputError(f"window is {window!r}; give 'below' or 'both'")

    return Problem(
        name="almg",
        summary=f"anharmonic Lipkin-Meshkov-Glick model, N = {size}, levels per particle",
        control_names=("xi",),
        outputs=outputs,
        solve=solve,
        train=train,
        outside=outside,
        matrices=matrices,
    )


def _check(size: int) -> None:
    if size < 2 or size % 2:
        raise InputError(f"size is {size}; give an even number of particles")
