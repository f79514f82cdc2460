"""A transmon, tuned by a magnetic flux, coupled to a resonator."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_lines, beyond, line

__all__ = ["PERIOD", "hamiltonian", "transmon"]

PERIOD = 2.0  # flux quanta: the Hamiltonian holds cos(πΦ) and sin(πΦ)
_CHARGES, _PHOTONS = 8, 4


def hamiltonian(
    josephson: float = 20.0,
    charging: float = 0.25,
    resonator: float = 5.0,
    coupling: float = 0.1,
    asymmetry: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (H_0, H_1, H_2) of H(Φ) = H_0 + cos(πΦ) H_1 + sin(πΦ) H_2 in GHz, Φ in flux quanta.

        H(Φ) = 4E_C n² - E_J (cos(πΦ) cos φ + d sin(πΦ) sin φ) + ω a†a + g n (a + a†),

    with charges n = -8, ..., 8 and 0 to 3 photons.

    Parameters
    ----------
    josephson, charging
        E_J of both junctions together, and E_C.
    resonator, coupling
        ω and g.
    asymmetry
        d = (E_J1 - E_J2)/(E_J1 + E_J2) of the two junctions.

    Returns
    -------
    tuple of np.ndarray
        Three Hermitian matrices of shape (68, 68); the last one is imaginary.
    """
    n = np.diag(np.arange(-_CHARGES, _CHARGES + 1.0))
    up = np.diag(np.ones(2 * _CHARGES), -1)
    photons = np.diag(np.arange(float(_PHOTONS)))
    a = np.diag(np.sqrt(np.arange(1.0, _PHOTONS)), 1)
    here, there = np.eye(len(n)), np.eye(_PHOTONS)
    h0 = (
        4 * charging * np.kron(n @ n, there)
        + resonator * np.kron(here, photons)
        + coupling * np.kron(n, a + a.T)
    )
    cosine, sine = (up + up.T) / 2, (up - up.T) / 2j
    return h0, -josephson * np.kron(cosine, there), -josephson * asymmetry * np.kron(sine, there)


def transmon(
    lines: int = 3,
    points: int = 10,
    josephson: float = 20.0,
    charging: float = 0.25,
    resonator: float = 5.0,
    coupling: float = 0.1,
    asymmetry: float = 0.0,
) -> Problem:
    """Return the lowest lines (GHz) of a transmon with a resonator against the flux through its loop.

    Training Φ from 0 to 0.3 flux quanta, outside to 0.44: the transmon comes down through the resonator and
    loses its anharmonic ladder. The Hamiltonian is affine in cos(πΦ) and sin(πΦ), the basis ``fourier:1:2.0``,
    and not in the flux. `measured_sd` is 1 MHz.

    Parameters
    ----------
    lines
        How many of E1 - E0, E2 - E0, ...
    points
        Training points.
    josephson, charging, resonator, coupling, asymmetry
        As in `hamiltonian`.

    Raises
    ------
    InputError
        If an energy is not positive or there are not so many lines.

    References
    ----------
    Koch et al., Phys. Rev. A 76, 042319 (2007).
    """
    if not min(josephson, charging, resonator) > 0:
        raise InputError("josephson, charging or resonator is not positive; give positive energies")
    if not 1 <= lines <= 8:
        raise InputError(f"lines is {lines}; give 1 to 8")
    matrices: tuple[np.ndarray, ...] = hamiltonian(josephson, charging, resonator, coupling, asymmetry)
    if asymmetry == 0:
        matrices = matrices[:2]

    def solve(controls: np.ndarray) -> np.ndarray:
        waves = np.concatenate([np.cos(np.pi * controls), np.sin(np.pi * controls)], axis=1)
        return affine_lines(matrices, waves[:, : len(matrices) - 1], lines)

    return Problem(
        name="transmon",
        summary="lines (GHz) of a transmon coupled to a resonator against flux",
        control_names=("flux",),
        outputs={f"f{k}": f"E{k}-E0" for k in range(1, lines + 1)},
        solve=solve,
        train=line(0.0, 0.3, points),
        outside=beyond(0.3, 0.44, 10),
        measured_sd=1e-3,
        basis=f"fourier:1:{PERIOD!r}",
    )
