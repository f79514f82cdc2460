"""Decay in time: survival of a state and linear rate equations, as functions of time and control.

Such curves are no outputs of a parametric matrix model here, which predicts levels, their differences,
expectation values and transition strengths. So there is no entry in the registry and no task. The functions give
exact values for work on such outputs.
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import expm

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import affine

__all__ = ["chain", "discrete_state", "linear_evolution", "survival"]


def discrete_state(
    states: int = 60, width: float = 0.05, band: float = 2.0
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return a state in a band of others, a model of decay: ((M_0, M_1), ψ0) of M(c) = M_0 + c M_1.

    State 0 has the energy 0 and couples equally to the others, which lie equally spaced in [-W, W]. At c = 1
    the golden rule gives the decay rate Γ, at other c it gives c² Γ, for Γ ≪ W and times below 2π/spacing.

    Parameters
    ----------
    states
        How many states the band has.
    width
        Γ.
    band
        W.

    Returns
    -------
    tuple
        Two matrices of shape (states + 1, states + 1) and ψ0 of shape (states + 1,).
    """
    if states < 2 or not (width > 0 and band > 0):
        raise InputError("a band needs at least 2 states, and a positive width and band; give these")
    energies = np.linspace(-band, band, states)
    coupling = np.sqrt(width * (energies[1] - energies[0]) / (2 * np.pi))
    m1 = np.zeros((states + 1, states + 1))
    m1[0, 1:] = m1[1:, 0] = coupling
    return (np.diag([0.0, *energies]), m1), np.eye(states + 1)[0]


def survival(
    matrices: Sequence[np.ndarray], state: np.ndarray, controls: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Return the probability ``|⟨ψ0|e^{-i M(c) t}|ψ0⟩|²`` to find the state again, with ħ = 1.

    Parameters
    ----------
    matrices
        p + 1 Hermitian matrices of shape (n, n), M(c) = M_0 + Σ_l c_l M_l.
    state
        ψ0, normalised, shape (n,).
    controls
        Shape (N, p).
    times
        Shape (T,).

    Returns
    -------
    np.ndarray
        Shape (N, T).
    """
    w, v = np.linalg.eigh(affine(matrices, controls))
    weight = np.abs(np.einsum("Nij,i->Nj", v.conj(), state)) ** 2
    phases = np.exp(-1j * w[:, None, :] * np.asarray(times)[None, :, None])
    return np.abs(np.einsum("Nj,NTj->NT", weight, phases)) ** 2


def chain(members: int = 4, base: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Return (M_0, M_1) of a decay chain dx/dt = (M_0 + c M_1) x, in which c is the rate of the first step.

    The member m > 0 decays with the rate `base` · m to the next one, the last one not at all. The columns sum to
    zero, so that nothing is lost, and neither matrix is Hermitian.

    Parameters
    ----------
    members
        How many, at least 2.
    base
        Rate of the second member's decay.

    Returns
    -------
    tuple of np.ndarray
        Two matrices of shape (members, members).
    """
    if members < 2 or not base > 0:
        raise InputError(f"members is {members} and base is {base}; give at least 2 and a positive rate")
    m0, m1 = np.zeros((members, members)), np.zeros((members, members))
    m1[0, 0], m1[1, 0] = -1, 1
    for m in range(1, members - 1):
        m0[m, m], m0[m + 1, m] = -base * m, base * m
    return m0, m1


def linear_evolution(
    matrices: Sequence[np.ndarray], start: np.ndarray, controls: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Return the solution e^{M(c) t} x0 of dx/dt = M(c) x for matrices that need not be Hermitian.

    Parameters
    ----------
    matrices
        p + 1 matrices of shape (n, n), M(c) = M_0 + Σ_l c_l M_l.
    start
        x0, shape (n,).
    controls
        Shape (N, p).
    times
        Shape (T,).

    Returns
    -------
    np.ndarray
        Shape (N, T, n).
    """
    generator = affine(matrices, controls)[:, None] * np.asarray(times, dtype=np.float64)[None, :, None, None]
    return expm(generator) @ start
