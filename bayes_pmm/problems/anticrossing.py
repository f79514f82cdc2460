"""A cavity and a flux-tuned qubit: two branches that avoid each other."""

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, line

__all__ = ["CAVITY", "PERIOD", "anticrossing", "hamiltonian"]

PERIOD = 3.0  # mA per flux quantum
CAVITY = 7.0  # GHz


def hamiltonian(
    coupling: float = 0.03, qubit: float = 7.6, swing: float = 1.2
) -> tuple[np.ndarray, np.ndarray]:
    """Return (M_0, M_1) of M(I) = M_0 + cos(2πI/3 mA) M_1 in GHz, shape (2, 2) each.

    The first state is the cavity's photon at 7 GHz, the second the qubit's excitation at `qubit` + `swing`
    cos(2πI/3 mA), by default 7.6 + 1.2 cos(2πI/3 mA), which meets the cavity at I = 1 mA and 2 mA; `coupling`
    is half their smallest distance.
    """
    return np.array([[CAVITY, coupling], [coupling, qubit]]), np.diag([0.0, swing])


def anticrossing(
    coupling: float = 0.03, visible: float = 0.1, qubit: float = 7.6, swing: float = 1.2
) -> Problem:
    """Return the two branches (GHz) of a cavity and a qubit against the current (mA) of the coil.

    A spectrometer that drives the cavity sees a branch where its photon part |⟨cavity|k⟩|² is larger than
    `visible` (the mask `observed`): the lower branch away from, the upper branch between the two crossings,
    both branches only near them. So the two columns are filled at different controls, as in a long table.
    Training I < 1.1 mA, the first crossing; outside the rest, up to 2.8 mA, with the second. `measured_sd` is
    3 MHz.

    Exact with n = 2 in the Fourier basis 1, cos(2πI/3 mA), not in an affine one.

    Parameters
    ----------
    coupling
        In GHz, positive.
    visible
        Smallest photon part that is seen, between 0 and 1/2: at least one branch is seen at every current.
    qubit, swing
        Mean and amplitude of the qubit's excitation in GHz. The default controls follow the default crossings.

    Raises
    ------
    InputError
        If the coupling is not positive or `visible` is out of range.
    """
    if not coupling > 0:
        raise InputError(f"coupling is {coupling}; give a positive number")
    if not 0 <= visible < 0.5:
        raise InputError(f"visible is {visible}; give a number from 0 to below 0.5")
    h0, h1 = hamiltonian(coupling, qubit, swing)

    def wave(controls: np.ndarray) -> np.ndarray:
        return np.cos(2 * np.pi * controls / PERIOD)

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels((h0, h1), wave(controls), 2)

    def observed(controls: np.ndarray) -> np.ndarray:
        _, v = np.linalg.eigh(h0 + wave(controls)[:, :, None] * h1)
        return v[:, 0, :] ** 2 > visible

    return Problem(
        name="anticrossing",
        summary="avoided crossing of a cavity and a qubit (GHz) against current",
        control_names=("I_mA",),
        outputs={"lower": "E0", "upper": "E1"},
        solve=solve,
        train=np.concatenate([line(0.0, 0.9, 10), line(0.94, 1.09, 16)]),
        outside=np.concatenate([line(1.15, 1.85, 8), line(1.91, 2.09, 13), line(2.2, 2.8, 7)]),
        exact_dim=2,
        observed=observed,
        measured_sd=3e-3,
        basis=f"fourier:1:{PERIOD!r}",
    )
