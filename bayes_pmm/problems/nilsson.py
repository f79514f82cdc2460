"""Nilsson's model: a nucleon in a deformed oscillator with spin-orbit force."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["hamiltonian", "nilsson"]


def hamiltonian(
    kappa: float = 0.06, mu: float = 0.4, projection: float = 0.5, parity: int = 1, shells: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(δ) in units of ħω₀, in the sector of projection Ω and parity.

        H(δ) = (p² + r²)/2 - (δ/3)(2z² - x² - y²) - κ [2 l·s + μ (l² - N(N + 3)/2)].

    The couplings of shells N and N ± 2 are kept.

    Parameters
    ----------
    kappa, mu
        κ and μ.
    projection
        Ω = 1/2, 3/2, ..., of l + s on the axis of symmetry.
    parity
        1 or -1, that of N.
    shells
        The highest N of the basis.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (d, d).

    References
    ----------
    Nilsson, Mat. Fys. Medd. Dan. Vid. Selsk. 29, no. 16 (1955).
    """
    if parity not in (1, -1) or projection < 0.5 or projection % 1 != 0.5:
        raise InputError(f"parity is {parity} and projection {projection}; give 1 or -1, and 1/2, 3/2, ...")
    # Quanta of both senses of rotation and along the axis, and twice the spin's projection.
    states = [
        (right, left, along, spin)
        for right in range(shells + 1)
        for left in range(shells + 1 - right)
        for along in range(shells + 1 - right - left)
        for spin in (1, -1)
        if right - left + spin / 2 == projection and (-1) ** (right + left + along) == parity
    ]
    if not states:
        raise InputError(
            f"shells is {shells}; no state of projection {projection} and this parity, give more"
        )
    place = {state: a for a, state in enumerate(states)}
    h0, h1 = np.zeros((len(states),) * 2), np.zeros((len(states),) * 2)
    for (right, left, along, spin), a in place.items():
        n = right + left + along
        turn = right - left
        h1[a, a] += -(2 * along + 1 - (right + left + 1)) / 3
        pair = (right + 1, left + 1, along, spin)
        if pair in place:
            h1[place[pair], a] += np.sqrt((right + 1) * (left + 1)) / 3
            h1[a, place[pair]] = h1[place[pair], a]
        double = (right, left, along + 2, spin)
        if double in place:
            h1[place[double], a] -= np.sqrt((along + 1) * (along + 2)) / 3
            h1[a, place[double]] = h1[place[double], a]
        h0[a, a] += n + 1.5 - kappa * (turn * spin - mu * n * (n + 3) / 2)
        # l² = l_z² + l_z + l₋l₊, and 2 l·s = 2 l_z s_z + l₊s₋ + l₋s₊
        for target, amplitude in _raised(right, left, along).items():
            for back, second in _lowered(*target).items():
                b = place[(*back, spin)]
                h0[b, a] -= kappa * mu * amplitude * second
            if spin == 1:
                b = place[(*target, -1)]
                h0[b, a] -= kappa * amplitude
                h0[a, b] -= kappa * amplitude
        h0[a, a] -= kappa * mu * (turn**2 + turn)
    return h0, h1


def nilsson(
    levels: int = 3,
    points: int = 10,
    kappa: float = 0.06,
    mu: float = 0.4,
    projection: float = 0.5,
    parity: int = 1,
    shells: int = 8,
) -> Problem:
    """Return the lowest single-particle levels of one sector of Nilsson's model against the deformation δ.

    Training δ ∈ [-0.1, 0.15], outside to 0.4: levels of one sector avoid each other as the shells mix. Without
    spin-orbit force H is an anisotropic oscillator with ω_z² = 1 - 4δ/3 and ω_⊥² = 1 + 2δ/3.

    Parameters
    ----------
    levels
        How many of the lowest levels.
    points
        Training points.
    kappa, mu, projection, parity, shells
        As in `hamiltonian`.
    """
    matrices = hamiltonian(kappa, mu, projection, parity, shells)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    sign = "+" if parity == 1 else "-"
    return Problem(
        name="nilsson",
        summary=f"Nilsson levels {round(2 * projection)}/2{sign} against deformation, in units of the oscillator",
        control_names=("deformation",),
        outputs=level_outputs(levels, len(matrices[0])),
        solve=solve,
        train=line(-0.1, 0.15, points),
        outside=beyond(0.15, 0.4, 10),
        matrices=matrices,
    )


def _raised(right: int, left: int, along: int) -> dict[tuple[int, int, int], float]:
    """Return l₊ = √2 (a_R† a_z - a_z† a_L) on a state: target to amplitude."""
    result = {}
    if along:
        result[right + 1, left, along - 1] = np.sqrt(2.0 * along * (right + 1))
    if left:
        result[right, left - 1, along + 1] = -np.sqrt(2.0 * left * (along + 1))
    return result


def _lowered(right: int, left: int, along: int) -> dict[tuple[int, int, int], float]:
    """Return l₋ = √2 (a_z† a_R - a_L† a_z) on a state: target to amplitude."""
    result = {}
    if right:
        result[right - 1, left, along + 1] = np.sqrt(2.0 * right * (along + 1))
    if along:
        result[right, left + 1, along - 1] = -np.sqrt(2.0 * along * (left + 1))
    return result
