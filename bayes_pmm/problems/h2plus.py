"""One electron and two nuclei: the hydrogen molecular ion and its relatives."""

from collections.abc import Sequence

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, beyond, level_outputs, line

__all__ = ["h2plus", "scaled_energies"]

_SIZE = 24  # functions in each coordinate
_ITERATIONS = 50


def scaled_energies(
    separation: np.ndarray, charges: tuple[float, float] = (1.0, 1.0), state: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Return R²E of a σ state, E the electronic energy, in atomic units.

    In spheroidal coordinates ξ = (r1 + r2)/R and η = (r1 - r2)/R, R²(ξ² - η²) times Schrödinger's equation
    reads (A(ε) + B(ε)) ψ = 0 with ε = R²E,

        A = -2 ∂_ξ (ξ² - 1) ∂_ξ - 2R(Z1 + Z2) ξ - ε ξ²,
        B = -2 ∂_η (1 - η²) ∂_η - 2R(Z2 - Z1) η + ε η²,

    so that ε is the root of a_i(ε) + b_j(ε), eigenvalues of A and B. The sum falls everywhere, since its
    derivative is ⟨η²⟩ - ⟨ξ²⟩ < 0, and Newton's method finds the root. A is written down in 24 Laguerre
    functions of decay √(-ε/2), B in 24 Legendre polynomials.

    Parameters
    ----------
    separation
        R > 0, shape (N,).
    charges
        Z1 and Z2.
    state
        (i, j), the numbers of nodes in ξ and η: (0, 0) is 1sσ, (0, 1) is 2pσ, (1, 0) is 2sσ, (0, 2) is 3dσ.

    Returns
    -------
    np.ndarray
        Shape (N,). E is right to 1e-11 for 0.4 ≤ R ≤ 10, charges 1 and 1 to 2, and states without nodes in ξ;
        to 1e-8 for those with one or two nodes and R ≥ 0.5. Below, R = 0.1 costs two digits.

    Raises
    ------
    InputError
        If a separation or charge is not positive, or no bound state is found.

    References
    ----------
    Bates, Ledsham, Stewart, Phil. Trans. R. Soc. A 246, 215 (1953).
    """
    r = np.asarray(separation, dtype=np.float64)
    if not np.all(r > 0) or not min(charges) > 0:
        raise InputError("a separation or a charge is not positive; give positive ones")
    n = np.arange(_SIZE + 1.0)
    t = np.diag(2 * n + 1) - np.diag(n[1:], 1) - np.diag(n[1:], -1)
    derivative = (np.diag(n[1:], -1) - np.eye(len(n)) - np.diag(n[1:], 1)) / 2  # t d/dt of e^{-t/2} L_n(t)
    t2, slope2 = (t @ t)[:-1, :-1], (derivative.T @ derivative)[:-1, :-1]
    t1 = t[:-1, :-1]
    slope1 = np.diag(n[:-1] + 0.5) - t1 / 4
    ladder = n[1:] / np.sqrt(4 * n[1:] ** 2 - 1)
    eta = np.diag(ladder, 1) + np.diag(ladder, -1)
    eta, eta2 = eta[:-1, :-1], (eta @ eta)[:-1, :-1]
    turning = np.diag(n[:-1] * (n[:-1] + 1))
    unit = np.eye(_SIZE)

    r3 = r[:, None, None]
    epsilon = -(r**2) * sum(charges) ** 2 / (2 * (sum(state) + 1) ** 2)
    for _ in range(_ITERATIONS):
        e3 = epsilon[:, None, None]
        decay = np.sqrt(-e3 / 2)
        xi = unit + t1 / (2 * decay)
        xi2 = unit + t1 / decay + t2 / (4 * decay**2)
        radial = 2 * (slope2 + 4 * decay * slope1) - 2 * r3 * sum(charges) * xi - e3 * xi2
        angular = 2 * turning - 2 * r3 * (charges[1] - charges[0]) * eta + e3 * eta2
        (a, u), (b, v) = np.linalg.eigh(radial), np.linalg.eigh(angular)
        u, v = u[:, :, state[0]], v[:, :, state[1]]
        fall = np.einsum("Ni,ij,Nj->N", v, eta2, v) - np.einsum("Ni,Nij,Nj->N", u, xi2, u)
        step = -(a[:, state[0]] + b[:, state[1]]) / fall
        if np.all(np.abs(step) <= 1e-11 * np.abs(epsilon)):
            return epsilon + step
        # Newton's step may leave the bound states.
        epsilon = np.where(epsilon + step < 0, epsilon + step, epsilon / 4)
    raise InputError(f"no bound state {state} was found for charges {charges}; give other charges")


def h2plus(levels: int = 2, points: int = 10, charges: Sequence[float] = (1.0, 1.0)) -> Problem:
    """Return R²E of the states 1sσ, 2pσ of one electron and two nuclei, E electronic, in atomic units.

    In coordinates scaled by R the Hamiltonian times R² is T + R·V: affine in R, with an infinite matrix.
    Training R ∈ [0.5, 4], outside to 8: hard, since the molecule turns into an atom and an ion there.

    Parameters
    ----------
    levels
        One or two.
    points
        Training points.
    charges
        Z1 and Z2 of the nuclei; (1, 1) is H₂⁺ and (1, 2) is HeH²⁺.

    Raises
    ------
    InputError
        If the charges are not two positive numbers.
    """
    if len(charges) != 2 or not min(charges) > 0:
        raise InputError(f"charges is {charges}; give two positive numbers")
    outputs = level_outputs(levels, 2)
    pair = (float(charges[0]), float(charges[1]))

    def solve(controls: np.ndarray) -> np.ndarray:
        return np.stack([scaled_energies(controls[:, 0], pair, (0, j)) for j in range(levels)], axis=1)

    return Problem(
        name="h2plus",
        summary=f"one electron, nuclei of charge {pair[0]:g} and {pair[1]:g}: R²E of 1s and 2p sigma (a.u.)",
        control_names=("R",),
        outputs=outputs,
        solve=solve,
        train=line(0.5, 4.0, points),
        outside=beyond(4.0, 8.0, 10),
    )
