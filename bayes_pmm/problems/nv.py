"""Resonance lines of nitrogen-vacancy centres in a magnetic field."""

from collections.abc import Sequence

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, line

__all__ = ["AXES", "GYROMAGNETIC_RATIO", "ZERO_FIELD_SPLITTING", "hamiltonian", "nv"]

ZERO_FIELD_SPLITTING = 2.87  # GHz
GYROMAGNETIC_RATIO = 0.02803  # GHz/mT
AXES = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3.0)

_S_X = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / np.sqrt(2.0)
_S_Z = np.diag([1.0, 0.0, -1.0])


def hamiltonian(axis: Sequence[float], direction: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of H(B) = D S_z² + γ B·S of one spin-1 centre, in GHz and GHz/mT.

    The part of the field across the axis is turned onto x, which does not change the levels and makes the
    matrices real.

    Parameters
    ----------
    axis, direction
        The centre's axis and the field's direction, each of shape (3,) and of any length but zero.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (3, 3), for the field's magnitude B in mT.
    """
    a = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    d = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    along, across = a @ d, np.linalg.norm(np.cross(a, d))
    return ZERO_FIELD_SPLITTING * _S_Z @ _S_Z, GYROMAGNETIC_RATIO * (along * _S_Z + across * _S_X)


def nv(
    direction: Sequence[float] = (1.0, 0.12, 0.05),
    points: int = 10,
    resolved: tuple[float, float] = (5.0, 6.5),
) -> Problem:
    """Return the eight lines of an ensemble of nitrogen-vacancy centres against the field's magnitude.

    Each of the four crystal axes has a spin-1 Hamiltonian D S_z² + γ B·S with D = 2.87 GHz, γ = 28.03 GHz/T,
    and two lines, the differences E1 - E0 and E2 - E0 of *its own* three levels. The eight lines, sorted at
    each field, are the columns f1, ..., f8 in GHz. Training B from 3 to 14.5 mT, outside 16 to 27 mT.

    The expressions ``E1-E0``, ..., ``E8-E0`` read them as the lines of **one** matrix with nine levels and a
    common lowest one. This is phenomenological: the nine levels are diag(0, the four pairs of lines), a
    matrix whose entries are not affine in B, since the lowest levels of the four axes differ. No small affine
    PMM is exact.

    `observed` mimics a measurement: at low field the lines overlap, and only the two inner ones, then the
    four inner ones, then all are resolved. `measured_sd` is 1 MHz: ``dataset(noise=None,
    known_errors=True)``.

    Parameters
    ----------
    direction
        Of the field, in the crystal's frame; generic by default, so that no two axes are equivalent.
    points
        Training points.
    resolved
        Fields in mT below which two, and below which four, of the lines are resolved.

    Raises
    ------
    InputError
        If the direction is not three numbers, not all zero.
    """
    if np.shape(direction) != (3,) or not np.linalg.norm(direction) > 0:
        raise InputError(f"direction is {direction}; give three numbers, not all zero")
    pairs = [hamiltonian(axis, direction) for axis in AXES]

    def solve(controls: np.ndarray) -> np.ndarray:
        lines = []
        for h0, h1 in pairs:
            w = np.linalg.eigvalsh(h0 + controls[:, :, None] * h1)
            lines.append(w[:, 1:] - w[:, :1])
        return np.sort(np.concatenate(lines, axis=1), axis=1)

    def observed(controls: np.ndarray) -> np.ndarray:
        needed = np.array([resolved[1], resolved[1], resolved[0], -np.inf])
        return controls >= np.concatenate([needed, needed[::-1]])

    return Problem(
        name="nv",
        summary="eight lines (GHz) of nitrogen-vacancy centres against the magnetic field",
        control_names=("B_mT",),
        outputs={f"f{k}": f"E{k}-E0" for k in range(1, 9)},
        solve=solve,
        train=line(3.0, 14.5, points),
        outside=line(16.0, 27.0, 12),
        observed=observed,
        measured_sd=1e-3,
    )
