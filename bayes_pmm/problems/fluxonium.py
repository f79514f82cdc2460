"""A fluxonium: a Josephson junction shunted by a large inductance."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_lines, beyond, line

__all__ = ["PERIOD", "fluxonium", "hamiltonian"]

PERIOD = 1.0  # flux quantum
_STATES = 80


def hamiltonian(
    josephson: float = 4.0, charging: float = 1.0, inductive: float = 1.0, kept: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (H_0, H_1, H_2) of H(Φ) = H_0 + cos(2πΦ) H_1 + sin(2πΦ) H_2 in GHz, Φ in flux quanta.

        H(Φ) = 4E_C n² + E_L φ²/2 - E_J cos(φ - 2πΦ),

    in the oscillator states of E_J = 0. Cosine and sine are functions of the matrix φ of 80 states.

    Parameters
    ----------
    josephson, charging, inductive
        E_J, E_C and E_L.
    kept
        How many of the 80 states are kept, in the interior of which cosine and sine are accurate.

    Returns
    -------
    tuple of np.ndarray
        Three real matrices of shape (kept, kept).
    """
    ladder = np.sqrt(np.arange(1.0, _STATES) / 2) * (8 * charging / inductive) ** 0.25
    x, v = np.linalg.eigh(np.diag(ladder, 1) + np.diag(ladder, -1))
    cosine, sine = (((v * f(x)) @ v.T)[:kept, :kept] for f in (np.cos, np.sin))
    h0 = np.sqrt(8 * charging * inductive) * np.diag(np.arange(kept) + 0.5)
    return h0, -josephson * cosine, -josephson * sine


def fluxonium(
    lines: int = 2,
    points: int = 10,
    josephson: float = 4.0,
    charging: float = 1.0,
    inductive: float = 1.0,
) -> Problem:
    """Return the lowest lines (GHz) of a fluxonium against the flux through its loop.

    Training Φ from 0 to 0.3 flux quanta, outside to 0.5, the sweet spot, where the lowest line is smallest and
    has no slope. The Hamiltonian is affine in cos(2πΦ) and sin(2πΦ), the basis ``fourier:1:1.0``, and not in
    the flux. `measured_sd` is 1 MHz.

    Parameters
    ----------
    lines
        How many of E1 - E0, E2 - E0, ...
    points
        Training points.
    josephson, charging, inductive
        As in `hamiltonian`.

    Raises
    ------
    InputError
        If an energy is not positive or there are not so many lines.

    References
    ----------
    Manucharyan, Koch, Glazman, Devoret, Science 326, 113 (2009).
    """
    if not min(josephson, charging, inductive) > 0:
        raise InputError("josephson, charging or inductive is not positive; give positive energies")
    if not 1 <= lines <= 8:
        raise InputError(f"lines is {lines}; give 1 to 8")
    matrices = hamiltonian(josephson, charging, inductive)

    def solve(controls: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * controls
        return affine_lines(matrices, np.concatenate([np.cos(angle), np.sin(angle)], axis=1), lines)

    return Problem(
        name="fluxonium",
        summary="lines (GHz) of a fluxonium against flux",
        control_names=("flux",),
        outputs={f"f{k}": f"E{k}-E0" for k in range(1, lines + 1)},
        solve=solve,
        train=line(0.0, 0.3, points),
        outside=beyond(0.3, 0.5, 10),
        measured_sd=1e-3,
        basis=f"fourier:1:{PERIOD!r}",
    )
